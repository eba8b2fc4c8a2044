//! The secure SysTick, as a timer that fires once.

use crate::map::CLOCK_HZ;
use crate::mmio::write;

const CSR: u32 = 0xE000_E010;
const RVR: u32 = 0xE000_E014;
const CVR: u32 = 0xE000_E018;
const ENABLE: u32 = 1;
const INTERRUPT: u32 = 1 << 1;
const CORE_CLOCK: u32 = 1 << 2;
/// ICSR, and the bit in it that forgets a SysTick that waits.
const ICSR: u32 = 0xE000_ED04;
const PENDSTCLR: u32 = 1 << 25;
const CYCLES_A_US: u32 = CLOCK_HZ / 1_000_000;

/// The longest time it can be set to.
pub const LONGEST_US: u32 = 0xff_ffff / CYCLES_A_US;

/// Fires after `us` microseconds (from 1 to `LONGEST_US`), and then again and again until it is set anew.
pub fn after(us: u32) {
    after_cycles(us.clamp(1, LONGEST_US) * CYCLES_A_US);
}

/// The same, after so many cycles of the core's clock (from 2 to 2^24).
pub fn after_cycles(cycles: u32) {
    write(RVR, cycles - 1);
    write(CVR, 0);
    write(CSR, ENABLE | INTERRUPT | CORE_CLOCK);
    write(ICSR, PENDSTCLR);
}

/// Does not fire.
pub fn stop() {
    write(CSR, 0);
    write(ICSR, PENDSTCLR);
}
