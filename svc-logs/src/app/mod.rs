//! Use cases: load, decide in `model`, save, return effects. The only place with transactions.

pub(crate) mod count;
pub(crate) mod crash_memory;
pub(crate) mod crashes;
pub(crate) mod ingest;
pub(crate) mod list;
mod look;
pub(crate) mod sweep;
pub(crate) mod tail;
pub(crate) mod telemetry;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use kit::places::Places;
use tokio::sync::broadcast;
use wire::DeviceId;

use crate::store::Store;

/// Tails one process serves at once.
pub(crate) const TAILS_MAX: usize = 256;
/// Those of one tenant.
pub(crate) const TAILS_OF_TENANT_MAX: usize = 64;
/// Boots kept of one device.
pub(crate) const BOOTS_PER_DEVICE_MAX: usize = 256;
/// Records kept of one device.
pub(crate) const RECORDS_PER_DEVICE_MAX: u64 = 1_000_000;
/// Crash reports kept of one device, the newest.
pub(crate) const CRASHES_PER_DEVICE_MAX: usize = 256;
/// Crashes of one device whose memory is kept, those begun last.
pub(crate) const CRASH_MEMORIES_PER_DEVICE_MAX: usize = 16;
/// Telemetry messages kept of one device, the newest.
pub(crate) const TELEMETRY_PER_DEVICE_MAX: u64 = 100_000;

/// Hints that may wait for a tail; one that missed some looks at the database all the same.
const HINTS_MAX: usize = 1024;

/// What the use cases share.
#[derive(Debug)]
pub(crate) struct App {
    store: Store,
    /// Devices log records were just stored for, by this process.
    stored: broadcast::Sender<DeviceId>,
    /// The same of telemetry.
    telemetry_stored: broadcast::Sender<DeviceId>,
    tails: Arc<Places>,
}

impl App {
    pub(crate) fn new(store: Store) -> Self {
        let (stored, _) = broadcast::channel(HINTS_MAX);
        let (telemetry_stored, _) = broadcast::channel(HINTS_MAX);
        Self { store, stored, telemetry_stored, tails: Places::new("TAILS", TAILS_MAX, TAILS_OF_TENANT_MAX) }
    }
}
