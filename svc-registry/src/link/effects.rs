//! Carrying out what a use case asked for: at once, a few times, and later by the sweep until it is done.

use std::time::{Duration, SystemTime};

use kit::Shutdown;
use kit::broker::Ended;

use super::Link;
use crate::app::Effect;
use crate::error::Error;

/// Attempts to reach every broker node while a caller waits.
const ATTEMPTS_MAX: u32 = 3;
/// Between attempts.
const RETRY: Duration = Duration::from_millis(200);
/// Between sweeps for what is still to be done.
const SWEEP: Duration = Duration::from_secs(2);
/// Between sweeps for rows that had their time.
const ROWS_SWEEP: Duration = Duration::from_secs(60);

impl Link {
    /// Returns when all is done; an error when it is not, and will be tried again by [`Link::sweep`].
    pub(crate) async fn carry_out(&self, effects: &[Effect]) -> Result<(), Error> {
        for Effect::Disconnect(identity) in effects {
            self.disconnect(identity).await?;
        }
        Ok(())
    }

    async fn disconnect(&self, identity: &str) -> Result<(), Error> {
        for attempt in 1..=ATTEMPTS_MAX {
            match self.control.disconnect(identity).await {
                Ok(ended) => {
                    match ended {
                        Ended::Closed(closed) => tracing::info!(identity, closed, "disconnected"),
                        Ended::Uncounted => tracing::info!(identity, "disconnected"),
                        Ended::NotOnDemand => {
                            tracing::warn!(identity, "the broker ends no connection on demand")
                        }
                    }
                    return self.app.disconnected(identity).await;
                }
                Err(error) if attempt == ATTEMPTS_MAX => {
                    tracing::warn!(identity, error = kit::status::chain(&error), "not disconnected yet");
                }
                Err(_) => tokio::time::sleep(RETRY).await,
            }
        }
        let message = "it is revoked, and no new connection can be made; a broker node does not confirm yet that \
                       the connection is closed, and is asked until it does";
        Err(Error::Unconfirmed(message))
    }

    /// Something was left to be done at once, and nobody waits for it.
    pub(crate) fn hurry(&self) {
        self.due.notify_one();
    }

    /// Until shutdown: finishes what was left, ends leases, forgets old rows.
    pub(crate) async fn sweep(&self, shutdown: Shutdown) {
        let mut rows_due = SystemTime::UNIX_EPOCH;
        loop {
            let now = SystemTime::now();
            self.app.sweep_leases(now).await;
            if let Ok(due) = self.app.disconnects_due().await {
                for identity in due {
                    match shutdown.or(self.disconnect(&identity)).await {
                        Some(Ok(())) => {}
                        // A node is away: the others would wait for it too. Logged; the next round tries again.
                        Some(Err(_)) => break,
                        None => return,
                    }
                }
            }
            if now >= rows_due {
                rows_due = now + ROWS_SWEEP;
                if let Err(error) = self.app.sweep_rows(now).await {
                    tracing::warn!(error = kit::status::chain(&error), "sweep failed");
                }
            }
            if shutdown.or(tokio::time::timeout(SWEEP, self.due.notified())).await.is_none() {
                return;
            }
        }
    }
}
