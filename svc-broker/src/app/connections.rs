//! The table of connections with the means to end each.
//!
//! Holds: a connection is ended by telling it and waiting until it has left the table; it leaves when its task ends,
//! however that ends. `disconnect` returns when every connection it named is gone.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use tokio::time::timeout;

use crate::model::connect::Refusal;
use crate::model::limits::{Bounds, TAKEOVER_TIMEOUT};
use crate::model::peer::Peer;
use crate::model::seats::{ConnectionId, Seats, Taken};

/// Why a connection is told to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Why {
    /// A newer one has its client id.
    TakenOver,
    /// By `BrokerControlService.Disconnect`: its will is not published.
    Disconnected,
    Shutdown,
}

/// One connection's end, as seen from outside.
#[derive(Debug, Clone)]
pub(crate) struct Ending {
    asked: Arc<watch::Sender<Option<Why>>>,
    gone: watch::Receiver<()>,
}

#[derive(Debug)]
pub(crate) struct Connections {
    bounds: Arc<Bounds>,
    seats: Mutex<Seats<Ending>>,
}

/// A connection's place in the table; dropping it leaves.
#[derive(Debug)]
pub(crate) struct Guest {
    connections: Arc<Connections>,
    id: ConnectionId,
    asked: watch::Receiver<Option<Why>>,
    /// Closed by the drop: whoever waits for this end wakes.
    _gone: watch::Sender<()>,
}

impl Ending {
    fn ask(&self, why: Why) {
        // The first reason stays.
        self.asked.send_if_modified(|asked| asked.is_none() && asked.replace(why).is_none());
    }

    /// False: it took too long.
    async fn gone(mut self) -> bool {
        // The sender never sends: an error says it was dropped.
        timeout(TAKEOVER_TIMEOUT, self.gone.changed()).await.is_ok()
    }
}

impl Connections {
    pub(crate) fn new(bounds: Arc<Bounds>) -> Arc<Self> {
        let seats = Mutex::new(Seats::new(bounds.connections_max));
        Arc::new(Self { bounds, seats })
    }

    /// A place for this certificate's connection, before anybody is asked about it.
    pub(crate) fn enter(self: &Arc<Self>, peer: &Peer) -> Result<Guest, Refusal> {
        let (asked_tx, asked) = watch::channel(None);
        let (gone_tx, gone) = watch::channel(());
        let ending = Ending { asked: Arc::new(asked_tx), gone };
        let id = self
            .lock()
            .enter(&peer.common_name, peer.listener.share(&self.bounds), ending)
            .ok_or(Refusal::Full)?;
        Ok(Guest { connections: self.clone(), id, asked, _gone: gone_tx })
    }

    /// Ends every connection of a certificate name; how many there were.
    pub(crate) async fn disconnect(&self, identity: &str) -> usize {
        let endings = self.lock().stop(identity);
        self.end(endings, Why::Disconnected).await
    }

    pub(crate) async fn shut_down(&self) {
        let endings = self.lock().stop_all();
        self.end(endings, Why::Shutdown).await;
    }

    async fn end(&self, endings: Vec<Ending>, why: Why) -> usize {
        let count = endings.len();
        endings.iter().for_each(|ending| ending.ask(why));
        for ending in endings {
            if !ending.gone().await {
                tracing::error!("a connection did not end when told to");
            }
        }
        count
    }

    /// Client ids here now.
    pub(crate) fn clients(&self) -> Vec<String> {
        self.lock().clients().map(str::to_owned).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Seats<Ending>> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Guest {
    /// Takes the client id, after the connection that holds it has ended.
    pub(crate) async fn take(&self, client: &str) -> Result<(), Refusal> {
        loop {
            let taken = self.connections.lock().take(self.id, client);
            match taken {
                Taken::Seated => return Ok(()),
                Taken::Stopped => return Err(Refusal::Stopped),
                Taken::Foreign => return Err(Refusal::InUse),
                Taken::Held(ending) => {
                    ending.ask(Why::TakenOver);
                    if !ending.gone().await {
                        return Err(Refusal::InUse);
                    }
                }
            }
        }
    }

    /// Returns when the connection is to end.
    pub(crate) async fn asked(&mut self) -> Why {
        match self.asked.wait_for(Option::is_some).await {
            Ok(why) => why.unwrap_or(Why::Shutdown),
            // The sender lives in the table as long as this guest is in it.
            Err(_) => Why::Shutdown,
        }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.connections.lock().leave(self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::peer::{Digests, Listener};
    use std::time::Duration;

    const DEVICE: &str = "dv00000000000000000000000000000001";

    fn peer() -> Peer {
        let digests = Digests { public_key: [0; 32], issuer_key: [0; 32], certificate: [0; 32] };
        Peer::new(Listener::Device, DEVICE, digests).unwrap()
    }

    #[tokio::test]
    async fn a_newcomer_is_seated_only_when_the_old_connection_is_gone() {
        let connections = Connections::new(Arc::default());
        let mut old = connections.enter(&peer()).unwrap();
        old.take(DEVICE).await.unwrap();
        let new = connections.enter(&peer()).unwrap();
        let newcomer = tokio::spawn(async move {
            new.take(DEVICE).await.unwrap();
            new
        });
        assert_eq!(old.asked().await, Why::TakenOver);
        assert!(!newcomer.is_finished());
        drop(old);
        let new = newcomer.await.unwrap();
        assert_eq!(connections.clients(), [DEVICE]);
        drop(new);
        assert!(connections.clients().is_empty());
    }

    #[tokio::test]
    async fn a_disconnect_reaches_a_connection_that_is_still_being_decided() {
        let connections = Connections::new(Arc::default());
        let mut pending = connections.enter(&peer()).unwrap();
        let table = connections.clone();
        let control = tokio::spawn(async move { table.disconnect(DEVICE).await });
        assert_eq!(pending.asked().await, Why::Disconnected);
        assert_eq!(pending.take(DEVICE).await, Err(Refusal::Stopped));
        assert!(!control.is_finished());
        drop(pending);
        assert_eq!(control.await.unwrap(), 1);
        assert_eq!(connections.disconnect(DEVICE).await, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_does_not_end_keeps_its_client_id() {
        let connections = Connections::new(Arc::default());
        let old = connections.enter(&peer()).unwrap();
        old.take(DEVICE).await.unwrap();
        let new = connections.enter(&peer()).unwrap();
        let refused = tokio::time::timeout(Duration::from_secs(60), new.take(DEVICE)).await.unwrap();
        assert_eq!(refused, Err(Refusal::InUse));
    }
}
