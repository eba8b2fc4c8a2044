//! Ends sessions that nobody holds and whose time is over, and forgets what is too old; in one process at a time.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use kit::Shutdown;
use kit::pg::Scope;
use rand::Rng;

use super::App;
use crate::error::Error;
use crate::model::EndReason;
use crate::store::{attachments, expiry, sessions};

/// Between two sweeps, with jitter so that replicas do not meet.
const PERIOD: Duration = Duration::from_secs(2);
/// How long those attached to an ended session may be written down as attached: who served them has died.
const STRANDED_AFTER: Duration = Duration::from_secs(60);

/// Sweeps until shutdown. A failed sweep is tried again next time.
pub(crate) async fn run(app: Arc<App>, retention: Duration, shutdown: Shutdown) {
    loop {
        let wait = rand::rng().random_range(PERIOD / 2..PERIOD * 3 / 2);
        if shutdown.or(tokio::time::sleep(wait)).await.is_none() {
            return;
        }
        match shutdown.or(app.sweep(retention)).await {
            None => return,
            Some(Ok(())) => {}
            Some(Err(error)) => tracing::warn!(error = kit::status::chain(&error), "sweep failed"),
        }
    }
}

impl App {
    pub(super) async fn sweep(&self, retention: Duration) -> Result<(), Error> {
        let tx = self.store.tx(Scope::Every).await?;
        if !expiry::take_turn(&tx).await? {
            return Ok(());
        }
        for (id, reason) in expiry::over(&tx).await? {
            attachments::remove_orphans(&tx, id, u32::MAX, EndReason::RelayLost).await?;
            sessions::end(&tx, id, None, reason, "").await?;
        }
        for id in expiry::stranded(&tx, STRANDED_AFTER).await? {
            attachments::remove_orphans(&tx, id, u32::MAX, EndReason::RelayLost).await?;
        }
        expiry::older_than(&tx, retention).await?;
        kit::once::forget(&tx, SystemTime::now()).await?;
        tx.commit().await?;
        Ok(())
    }
}
