//! The ports that are a line or two: clock, reset, watchdog, and the window of the store flash.

use core::sync::atomic::{AtomicBool, Ordering};

use gateway_core::boot::first::Handover;
use gateway_core::ports::{BootReason, Clock, Reset, Watchdog};

/// The store flash.
pub(crate) const fn store() -> chip::flash::Window {
    chip::flash::Window::store()
}

/// Milliseconds since the first stage started.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BoardClock;

impl Clock for BoardClock {
    fn now_ms(&self) -> u64 {
        chip::clock::now_us() / 1000
    }
}

/// Why this start was, as the first stage found it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BoardReset(BootReason);

impl BoardReset {
    /// Without a handover nothing is known: power was off.
    pub(crate) fn new(handover: Option<&Handover>) -> BoardReset {
        BoardReset(handover.map_or(BootReason::PowerOn, |handover| handover.reason))
    }
}

impl Reset for BoardReset {
    fn reason(&self) -> BootReason {
        self.0
    }
}

/// The core has come by since the watchdog was last fed.
static ALIVE: AtomicBool = AtomicBool::new(false);

/// The core's watchdog port: it marks that the core is alive and feeds nothing.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Feed;

impl Watchdog for Feed {
    fn feed(&mut self) {
        ALIVE.store(true, Ordering::Relaxed);
    }
}

/// Feeds the watchdog if the core has come by. At the supervisor's idle point and nowhere else: a core that hangs does
/// not reach it, a scheduler that idles for ever without the core does not feed.
pub(crate) fn feed_if_alive() {
    if ALIVE.swap(false, Ordering::Relaxed) {
        chip::watchdog::feed();
    }
}
