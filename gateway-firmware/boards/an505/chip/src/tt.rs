//! The TT instruction: what the processor lets the application at.

use core::arch::asm;

/// Bytes that SAU and MPU tell apart.
pub const GRANULE_BYTES: u32 = 32;
const READABLE: u32 = 1 << 20;
const WRITABLE: u32 = 1 << 21;

fn ask(at: u32) -> u32 {
    let answer;
    // SAFETY: TTA reads no memory; it answers for the application's current privilege.
    unsafe { asm!("tta {}, {}", out(reg) answer, in(reg) at, options(nomem, nostack, preserves_flags)) };
    answer
}

/// The application may read (or write) this granule.
pub fn reachable(at: u32, write: bool) -> bool {
    ask(at) & if write { WRITABLE } else { READABLE } != 0
}

/// The same for every granule of a range that does not wrap. `whole`: nothing in it can differ from its ends.
pub fn all_reachable(at: u32, bytes: u32, write: bool, whole: bool) -> bool {
    let last = at + bytes.saturating_sub(1);
    if whole {
        return reachable(at, write) && reachable(last, write);
    }
    (at / GRANULE_BYTES..=last / GRANULE_BYTES).all(|granule| reachable(granule * GRANULE_BYTES, write))
}
