//! Use cases: load, decide in `model`, save, return effects. The only place with transactions.
//!
//! What this process holds is in [`held`]; `link` asks for what is to be said to devices ([`App::turn`]), `grpc` for what is
//! to be told to those attached ([`attach::Attachment`]), and [`keep`] writes down what became of them.

pub(crate) mod attach;
pub(crate) mod held;
pub(crate) mod keep;
pub(crate) mod sessions;
pub(crate) mod sweep;
mod turns;

use std::sync::Arc;
use std::time::{Duration, Instant};

use kit::places::Places;
use tokio::sync::Notify;
use wire::RelayId;

use crate::model::Moment;
use crate::store::Store;

use held::Sessions;
use turns::Turns;

/// Open sessions of one tenant.
pub(crate) const SESSIONS_OF_TENANT_MAX: u64 = 4096;
/// Open sessions of watchers of one device: as many as its stub serves beside a writer's.
pub(crate) const WATCH_SESSIONS_MAX: u64 = 4;
/// Sessions one process holds.
pub(crate) const SESSIONS_HELD_MAX: usize = 10_000;
/// Streams one process serves, forwarded ones included.
pub(crate) const ATTACHMENTS_MAX: usize = 16_384;
/// Those of one tenant.
pub(crate) const ATTACHMENTS_OF_TENANT_MAX: usize = 8_192;
/// How long a session stays with a process that does not say it is alive.
pub(crate) const LEASE: Duration = Duration::from_secs(5);

/// Where moments begin: longer before the process started than any session lasts, so that a session's past has moments too.
const BEFORE_START: Duration = Duration::from_secs(7 * 24 * 3600);

/// What the use cases share.
#[derive(Debug)]
pub(crate) struct App {
    store: Store,
    /// The name of this process; device topics end with it.
    relay: RelayId,
    /// Where other replicas reach it.
    url: String,
    silence: Duration,
    started: Instant,
    sessions: Sessions,
    turns: Turns,
    /// Something is to be written down.
    changed: Notify,
    places: Arc<Places>,
}

impl App {
    pub(crate) fn new(store: Store, relay: RelayId, url: String, silence: Duration) -> Self {
        Self {
            store,
            relay,
            url,
            silence,
            started: Instant::now(),
            sessions: Sessions::default(),
            turns: Turns::default(),
            changed: Notify::new(),
            places: Places::new("ATTACHMENTS", ATTACHMENTS_MAX, ATTACHMENTS_OF_TENANT_MAX),
        }
    }

    fn now(&self) -> Moment {
        BEFORE_START + self.started.elapsed()
    }
}
