//! Forgets what is too old or too much, a little at a time, in one process at a time.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use kit::Shutdown;
use kit::pg::Scope;
use rand::Rng;

use super::{App, BOOTS_PER_DEVICE_MAX, RECORDS_PER_DEVICE_MAX};
use crate::error::Error;
use crate::store::expiry;

/// Between two sweeps, with jitter so that replicas do not meet.
const PERIOD: Duration = Duration::from_secs(60);

/// How long things are kept.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Retention {
    pub(crate) records: Duration,
    pub(crate) crashes: Duration,
    pub(crate) telemetry: Duration,
}

/// Sweeps until shutdown. A failed sweep is tried again next time.
pub(crate) async fn run(app: Arc<App>, retention: Retention, shutdown: Shutdown) {
    loop {
        let wait = rand::rng().random_range(PERIOD / 2..PERIOD * 3 / 2);
        if shutdown.or(tokio::time::sleep(wait)).await.is_none() {
            return;
        }
        let swept = shutdown.or(sweep(&app, retention)).await;
        match swept {
            None => return,
            Some(Ok(0)) => {}
            Some(Ok(deleted)) => tracing::info!(deleted, "forgot what was old"),
            Some(Err(error)) => tracing::warn!(error = kit::status::chain(&error), "sweep failed"),
        }
    }
}

/// Repeats bounded steps until nothing is left to forget.
async fn sweep(app: &App, retention: Retention) -> Result<u64, Error> {
    let mut deleted = 0;
    loop {
        let step = app.forget(SystemTime::now(), retention, RECORDS_PER_DEVICE_MAX).await?;
        if step == 0 {
            return Ok(deleted);
        }
        deleted += step;
    }
}

impl App {
    /// One step; how many rows went. 0 also while another process is at it.
    pub(crate) async fn forget(
        &self,
        now: SystemTime,
        retention: Retention,
        records_max: u64,
    ) -> Result<u64, Error> {
        let tx = self.store.tx(Scope::Every).await?;
        if !expiry::take_turn(&tx).await? {
            return Ok(0);
        }
        let before = |kept| now.checked_sub(kept).unwrap_or(SystemTime::UNIX_EPOCH);
        let mut deleted = expiry::older_than(&tx, before(retention.records)).await?;
        deleted += expiry::beyond_records(&tx, records_max).await?;
        deleted += expiry::beyond_boots(&tx, BOOTS_PER_DEVICE_MAX, records_max).await?;
        deleted += expiry::crashes_older_than(&tx, before(retention.crashes)).await?;
        deleted += expiry::telemetry_older_than(&tx, before(retention.telemetry)).await?;
        tx.commit().await?;
        Ok(deleted)
    }
}
