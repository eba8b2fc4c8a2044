//! Messages of one channel, a turn at a time: what came in while a transaction was under way is stored in the next.

use std::sync::Arc;
use std::time::Duration;

use kit::mqtt::Incoming;
use tokio::sync::{Mutex, mpsc};

/// Messages stored in one transaction at most.
pub(super) const TURN_MESSAGES_MAX: usize = 256;
/// How long a first message waits for company: a transaction costs as much as dozens of messages, and a line may come this
/// much later.
const TURN_LINGER: Duration = Duration::from_millis(10);

/// One channel's messages, for several workers.
#[derive(Debug, Clone)]
pub(super) struct Queue(Arc<Mutex<mpsc::Receiver<Incoming>>>);

impl Queue {
    pub(super) fn new(incoming: mpsc::Receiver<Incoming>) -> Self {
        Self(Arc::new(Mutex::new(incoming)))
    }

    /// Waits for a message, then a little for others, and takes what is there; empty when the link has ended.
    pub(super) async fn next_turn(&self) -> Vec<Incoming> {
        let mut messages = Vec::new();
        let mut queue = self.0.lock().await;
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
}
