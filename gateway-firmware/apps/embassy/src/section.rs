//! What embassy needs of the processor: interrupts off for a moment, and a rest until there is something to do.

use core::arch::asm;
use core::sync::atomic::{AtomicBool, Ordering};

struct Primask;

critical_section::set_impl!(Primask);

// SAFETY: one core, and PRIMASK keeps every interrupt of the application's away.
unsafe impl critical_section::Impl for Primask {
    unsafe fn acquire() -> critical_section::RawRestoreState {
        let masked: u32;
        // SAFETY: reads and sets PRIMASK; no access to memory is moved across.
        unsafe { asm!("mrs {}, primask", "cpsid i", out(reg) masked, options(nostack, preserves_flags)) };
        masked
    }

    unsafe fn release(masked: critical_section::RawRestoreState) {
        // SAFETY: puts PRIMASK back as it was.
        unsafe { asm!("msr primask, {}", in(reg) masked, options(nostack, preserves_flags)) };
    }
}

/// A task may go on: set by wakers, in handlers too.
static WOKEN: AtomicBool = AtomicBool::new(false);

/// The executor calls it whenever a task is woken.
#[unsafe(export_name = "__pender")]
fn pend(_context: *mut ()) {
    WOKEN.store(true, Ordering::Release);
}

/// Rests until a task may go on: WFI ends by an interrupt that PRIMASK keeps, so that none is missed in between.
pub(crate) fn rest() {
    while !critical_section::with(|_| {
        let woken = WOKEN.swap(false, Ordering::Acquire);
        if !woken {
            holdfast::board::wait();
        }
        woken
    }) {}
}
