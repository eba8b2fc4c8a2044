//! The secure watchdog: 16 seconds from a feeding to the reset, with an NMI after the first 8. A handshake takes the
//! supervisor four on a machine of 31 million instructions a second that it shares with an application.
//!
//! Started once and locked: no store that goes astray stops or feeds it. The NMI says that the reset comes; nothing but
//! `feed` takes it back.

use crate::map::register;
use crate::mmio;

const LOAD: u32 = 0x000;
const CTRL: u32 = 0x008;
const CTRL_INTERRUPT: u32 = 1;
const CTRL_RESET: u32 = 1 << 1;
const CLEAR: u32 = 0x00c;
const LOCK: u32 = 0xc00;
const UNLOCK: u32 = 0x1acc_e551;

/// From a feeding to the NMI, and from there to the reset.
pub const HALF_MS: u32 = 8000;

/// Starts it.
pub fn start() {
    unlocked(|| {
        mmio::write(register::WATCHDOG + LOAD, crate::map::CLOCK_HZ / 1000 * HALF_MS);
        mmio::write(register::WATCHDOG + CTRL, CTRL_INTERRUPT | CTRL_RESET);
    });
}

/// Begins the 16 seconds anew. The first stage never does; the microvisor's idle point alone may.
pub fn feed() {
    unlocked(|| mmio::write(register::WATCHDOG + CLEAR, 1));
}

fn unlocked(change: impl FnOnce()) {
    mmio::write(register::WATCHDOG + LOCK, UNLOCK);
    change();
    mmio::write(register::WATCHDOG + LOCK, 0);
}
