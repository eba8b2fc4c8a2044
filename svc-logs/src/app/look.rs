//! When to look for what is new of one device: as soon as this process stored something for it, and at least every [`POLL`], for what other
//! replicas stored.

use std::time::Duration;

use tokio::sync::broadcast;
use tokio::time::{Instant, sleep_until};
use wire::DeviceId;

/// How soon what another replica stored is seen.
pub(crate) const POLL: Duration = Duration::from_millis(500);
/// Shortest time between two looks, however much is stored.
const PAUSE_MIN: Duration = Duration::from_millis(50);

#[derive(Debug)]
pub(super) struct Look {
    device: DeviceId,
    hints: broadcast::Receiver<DeviceId>,
    looked: Instant,
}

impl Look {
    /// Of hints subscribed to before anything was read, so that nothing falls between. The first look is at once.
    pub(super) fn new(device: DeviceId, hints: broadcast::Receiver<DeviceId>) -> Self {
        let looked = Instant::now().checked_sub(POLL).unwrap_or_else(Instant::now);
        Self { device, hints, looked }
    }

    /// Until something was stored for the device, or the poll is due.
    pub(super) async fn wait(&mut self) {
        let due = self.looked + POLL;
        loop {
            tokio::select! {
                () = sleep_until(due) => break,
                hint = self.hints.recv() => match hint {
                    Ok(device) if device != self.device => {}
                    // Ours, or too many to know.
                    Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => break,
                    Err(broadcast::error::RecvError::Closed) => sleep_until(due).await,
                }
            }
        }
        sleep_until(self.looked + PAUSE_MIN).await;
        self.looked = Instant::now();
    }
}
