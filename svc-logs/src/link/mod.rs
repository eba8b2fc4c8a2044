//! MQTT in and out: batches of many devices are gathered, stored together, and acknowledged.
//!
//! Nothing waits here for a database that is away: a turn that fails is dropped and counted, and the devices, which were
//! told nothing, send it again. The queue is bounded by bytes, and so is a turn.

mod decode;

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use kit::Shutdown;
use kit::mqtt::{Incoming, Link, PublishError};
use prost::Message;
use proto::device::v1::{BootId, LogDown};
use tokio::sync::{Mutex, mpsc};
use wire::topic::ChannelKind;
use wire::{Channel, DeviceId, Topic};

use crate::app::App;
use crate::app::ingest::{Ack, refused};
use crate::model::Batch;
use crate::model::rate::RateLimit;

/// Bytes of messages that may wait to be stored.
pub(crate) const INCOMING_BYTES_MAX: usize = 16 << 20;
/// Messages stored in one transaction at most.
pub(crate) const TURN_MESSAGES_MAX: usize = 256;
/// How long a first message waits for company: a transaction costs as much as dozens of messages, and a line may come this
/// much later.
const TURN_LINGER: Duration = Duration::from_millis(10);

/// Transactions under way at once: one waits for the disk while another is prepared.
const WORKERS: usize = 2;

type Queue = Arc<Mutex<mpsc::Receiver<Incoming>>>;

/// The tasks that take messages from the queue until shutdown.
pub(crate) fn workers(
    app: Arc<App>,
    link: Link,
    incoming: mpsc::Receiver<Incoming>,
    shutdown: &Shutdown,
) -> Vec<impl Future<Output = ()> + Send + 'static> {
    let queue: Queue = Arc::new(Mutex::new(incoming));
    let rates = Arc::new(std::sync::Mutex::new(RateLimit::default()));
    (0..WORKERS)
        .map(|_| {
            let (app, link, queue, rates, shutdown) =
                (app.clone(), link.clone(), queue.clone(), rates.clone(), shutdown.clone());
            async move {
                while let Some(messages) = shutdown.or(next_turn(&queue)).await {
                    if messages.is_empty() {
                        return;
                    }
                    let batches = admit(messages, &rates);
                    store(&app, &link, batches).await;
                }
            }
        })
        .collect()
}

/// Waits for a message, then a little for others, and takes what is there; empty when the link has ended.
async fn next_turn(queue: &Queue) -> Vec<Incoming> {
    let mut messages = Vec::new();
    let mut queue = queue.lock().await;
    if queue.recv_many(&mut messages, TURN_MESSAGES_MAX).await > 0 {
        tokio::time::sleep(TURN_LINGER).await;
        while messages.len() < TURN_MESSAGES_MAX
            && let Ok(message) = queue.try_recv()
        {
            messages.push(message);
        }
    }
    messages
}

/// Decodes what is well-formed and within its device's rate.
fn admit(messages: Vec<Incoming>, rates: &std::sync::Mutex<RateLimit>) -> Vec<(DeviceId, Batch)> {
    let now = Instant::now();
    let mut rates = rates.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let admitted = messages.into_iter().filter_map(|message| {
        let device =
            message.topic.device_id().filter(|_| message.topic.channel.kind() == ChannelKind::Log)?;
        let batch = match decode::batch(&message.payload) {
            Ok(batch) => batch,
            Err(error) => {
                tracing::debug!(%device, %error, "malformed log message");
                refused("malformed", 1);
                return None;
            }
        };
        if !rates.take(device, batch.records.len(), now) {
            refused("rate", 1);
            return None;
        }
        Some((device, batch))
    });
    admitted.collect()
}

/// Stores a turn together; if something in it cannot be stored, each message by itself.
async fn store(app: &App, link: &Link, batches: Vec<(DeviceId, Batch)>) {
    if batches.is_empty() {
        return;
    }
    match app.ingest(batches.clone(), SystemTime::now()).await {
        Ok(acks) => acknowledge(link, &acks),
        Err(error) if error.is_transient() || batches.len() == 1 => {
            tracing::warn!(
                error = kit::status::chain(&error),
                messages = batches.len(),
                "log messages not stored"
            );
            refused("not_stored", batches.len());
        }
        Err(error) => {
            tracing::warn!(error = kit::status::chain(&error), "storing log messages one by one");
            for batch in batches {
                match app.ingest(vec![batch], SystemTime::now()).await {
                    Ok(acks) => acknowledge(link, &acks),
                    Err(_) => refused("not_stored", 1),
                }
            }
        }
    }
}

fn acknowledge(link: &Link, acks: &[Ack]) {
    for ack in acks {
        let message = LogDown {
            boot: Some(BootId { counter: ack.boot.counter, random: ack.boot.random }),
            stored_up_to: ack.stored_up_to,
            ..LogDown::default()
        };
        let sent = link.publish(&Topic::down(ack.device, Channel::Log), message.encode_to_vec());
        match sent {
            Ok(()) => {}
            // Not told, the device sends the batch again and is told then.
            Err(PublishError::Disconnected | PublishError::Full | PublishError::TooLong) => {
                metrics::counter!("logs_acks_dropped_total").increment(1);
            }
        }
    }
}
