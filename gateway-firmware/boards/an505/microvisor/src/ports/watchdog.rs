//! The watchdog, fed at the supervisor's idle point and nowhere else.
//!
//! The core only says that it lives. The supervisor feeds when it has come to rest and the core has said so since the last
//! time: a loop that goes round without the core, or a core that never lets go, ends in a reset.

use core::sync::atomic::{AtomicBool, Ordering};

use gateway_core::ports::Watchdog;

/// The supervisor rests at most so long: a quarter of what the watchdog gives before its warning.
pub(crate) const REST_MAX_US: u64 = chip::watchdog::HALF_MS as u64 * 1000 / 4;

static ALIVE: AtomicBool = AtomicBool::new(false);

/// The core's end of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct IdleWatchdog;

impl Watchdog for IdleWatchdog {
    fn feed(&mut self) {
        ALIVE.store(true, Ordering::Relaxed);
    }
}

/// The supervisor's end of it.
pub(crate) fn feed_if_alive() {
    if ALIVE.swap(false, Ordering::Relaxed) {
        chip::watchdog::feed();
    }
}
