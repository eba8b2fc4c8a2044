//! A call, as registers.

use core::arch::asm;

/// Where the gateway page is. It never moves.
pub const GATEWAY_AT: u32 = 0x1001_0400;

/// Calls a slot: what is in the page is entered, what is not ends the application.
///
/// With interrupts off: a call takes them off itself, but one that comes between the gate and that leaves the call where only
/// the thread that made it may go on. Were threads switched there, and the other made a call too, each would get what is
/// the other's. Whoever runs threads without privilege, which cannot do this, lets one of them call at a time.
///
/// # Safety
///
/// The microvisor is safe from anything passed here; the application is not: pointers among the arguments are good for
/// what the call writes.
#[inline(always)]
pub unsafe fn call(slot: u8, arguments: [u32; 4]) -> u32 {
    let [first, second, third, fourth] = arguments;
    let answer;
    // SAFETY: a veneer keeps the procedure call standard: it changes r0-r3, r12, lr and flags, all said here, and
    // memory, as the caller allows. PRIMASK is put back as it was.
    unsafe {
        asm!(
            "mrs {masked}, primask",
            "cpsid i",
            "blx {veneer}",
            "msr primask, {masked}",
            veneer = in(reg) (GATEWAY_AT + abi::SLOT_BYTES * u32::from(slot)) | 1,
            masked = out(reg) _,
            inout("r0") first => answer,
            inout("r1") second => _,
            inout("r2") third => _,
            inout("r3") fourth => _,
            out("r12") _,
            out("lr") _,
        );
    }
    answer
}
