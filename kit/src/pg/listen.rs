//! LISTEN on a connection of its own: hints that something changed, never the change itself.
//!
//! Behind a pooler in transaction mode nothing arrives; whoever listens also polls. A full queue drops hints, since
//! one hint already says "look".

use std::pin::Pin;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::poll_fn;
use rand::Rng;
use tokio::sync::mpsc;
use tokio_postgres::AsyncMessage;

use super::{Error, Pg};
use crate::run::Shutdown;

/// Hints that may wait to be looked at.
pub const HINTS_MAX: usize = 1024;

const RECONNECT_DELAY_MIN: Duration = Duration::from_millis(200);
const RECONNECT_DELAY_MAX: Duration = Duration::from_secs(5);

/// Something may have changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hint {
    /// A notification's payload.
    Notified(String),
    /// Notifications may have been missed: the connection is new, or the queue was full.
    Missed,
}

impl Pg {
    /// Hints of one notification channel; the future keeps listening until shutdown.
    pub fn listen(
        &self,
        channel: &'static str,
        shutdown: Shutdown,
    ) -> (mpsc::Receiver<Hint>, impl Future<Output = ()> + Send + 'static) {
        let (sender, receiver) = mpsc::channel(HINTS_MAX);
        let pg = self.clone();
        (receiver, async move {
            let mut delay = RECONNECT_DELAY_MIN;
            while let Some(ended) = shutdown.or(pg.listen_once(channel, &sender)).await {
                match ended {
                    Ok(()) => delay = RECONNECT_DELAY_MIN,
                    Err(error) => {
                        tracing::warn!(channel, error = crate::status::chain(&error), "cannot listen");
                        delay = (delay * 2).min(RECONNECT_DELAY_MAX);
                    }
                }
                let jittered = rand::rng().random_range(delay / 2..=delay);
                if shutdown.or(tokio::time::sleep(jittered)).await.is_none() {
                    return;
                }
            }
        })
    }

    /// Listens until the connection ends; an error if it never began.
    async fn listen_once(&self, channel: &str, hints: &mpsc::Sender<Hint>) -> Result<(), Error> {
        let (client, mut connection) = self.config.connect(self.tls.clone()).await?;
        let mut messages = poll_fn(move |context| Pin::new(&mut connection).poll_message(context));
        let listen = format!("LISTEN {channel}");
        let subscribed = client.batch_execute(&listen);
        tokio::pin!(subscribed);
        let mut waiting = true;
        let mut full = false;
        loop {
            let hint = tokio::select! {
                result = &mut subscribed, if waiting => {
                    result?;
                    waiting = false;
                    Hint::Missed
                }
                message = messages.next() => match message {
                    Some(Ok(AsyncMessage::Notification(n))) => Hint::Notified(n.payload().to_owned()),
                    Some(Ok(_)) => continue,
                    Some(Err(error)) if waiting => return Err(error.into()),
                    Some(Err(_)) | None => return Ok(()),
                },
            };
            // After a drop, the next hint that fits says so.
            let hint = if full { Hint::Missed } else { hint };
            full = hints.try_send(hint).is_err();
        }
    }
}
