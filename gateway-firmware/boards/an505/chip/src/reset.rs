//! Resetting the machine on purpose, with the reason left for the next start.

use gateway_core::boot::first::cause_words;
use gateway_core::ports::BootReason;

use crate::{kept, mmio};

const AIRCR: u32 = 0xe000_ed0c;
const AIRCR_KEY: u32 = 0x05fa << 16;
const AIRCR_RESET: u32 = 1 << 2;
/// PRIS, BFHFNMINS, the priority grouping, SYSRESETREQS: what is kept of the register.
const AIRCR_KEPT: u32 = 0x0000_6708;

/// Resets everything, now; the next start is told `reason`.
pub fn now(reason: BootReason) -> ! {
    kept::set_cause(cause_words(reason));
    let kept = mmio::read(AIRCR) & AIRCR_KEPT;
    // SAFETY: a barrier touches nothing; it lets the words above reach memory before the reset.
    unsafe { core::arch::asm!("dsb", options(nostack, preserves_flags)) };
    mmio::write(AIRCR, AIRCR_KEY | kept | AIRCR_RESET);
    loop {
        // Until the reset is there.
        core::hint::spin_loop();
    }
}
