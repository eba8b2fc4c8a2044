//! Time since the first stage started, in microseconds, from timer 1 of the secure dual timer.
//!
//! It may be asked from thread mode and from handlers of any priority; it never goes back. The timer has 32 bits and
//! wraps after 57 minutes, so that it must be asked once in 28 (a supervisor that does not is reset by the watchdog).

use core::sync::atomic::{AtomicU32, Ordering};

use crate::map::register;
use crate::mmio;

const LOAD: u32 = 0x00;
const VALUE: u32 = 0x04;
const CTRL: u32 = 0x08;
const CTRL_ENABLE: u32 = 1 << 7;
const CTRL_PRESCALE_16: u32 = 1 << 2;
const CTRL_32_BIT: u32 = 1 << 1;
/// 2^32 ticks of 0.8 us, less the fraction.
const WRAP_US: u64 = 3_435_973_836;

/// Times that the timer's top bit has changed; its lowest bit is that bit as last seen.
static HALVES: AtomicU32 = AtomicU32::new(0);

/// Starts the timer from zero. Once, by the first stage; a microvisor goes on with the same time.
pub fn start() {
    mmio::write(register::DUAL_TIMER + CTRL, 0);
    mmio::write(register::DUAL_TIMER + LOAD, u32::MAX);
    mmio::write(register::DUAL_TIMER + CTRL, CTRL_ENABLE | CTRL_PRESCALE_16 | CTRL_32_BIT);
}

/// Microseconds since `start`.
pub fn now_us() -> u64 {
    loop {
        let halves = HALVES.load(Ordering::Relaxed);
        let ticks = !mmio::read(register::DUAL_TIMER + VALUE);
        if halves & 1 == ticks >> 31 {
            // `halves` and `ticks` belong together: a preemption between the two of more than half a wrap does not happen.
            return to_us(halves >> 1, ticks);
        }
        // Whoever saw the change first counts it; an exchange that fails was beaten to it.
        let next = halves.wrapping_add(1);
        let _ = HALVES.compare_exchange(halves, next, Ordering::Relaxed, Ordering::Relaxed);
    }
}

/// Four fifths, without a 64-bit division.
fn to_us(wraps: u32, ticks: u32) -> u64 {
    let rest_us = ticks - ticks.div_ceil(5);
    // The fraction of a wrap is 0.8 us.
    u64::from(wraps) * WRAP_US + u64::from(wraps - wraps.div_ceil(5)) + u64::from(rest_us)
}
