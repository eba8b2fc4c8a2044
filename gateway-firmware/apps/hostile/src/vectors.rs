//! A vector table of the attacker's own, in which every exception goes to one handler.

use core::cell::UnsafeCell;

use crate::processor::{VTOR, breathe, set};

/// Exceptions of the core, and interrupts.
const VECTORS: usize = 16 + 124;

#[repr(C, align(1024))]
struct Table(UnsafeCell<[u32; VECTORS]>);

// SAFETY: written before it is used, by one thread.
unsafe impl Sync for Table {}

static TABLE: Table = Table(UnsafeCell::new([0; VECTORS]));

/// From now on every exception of the application's is this handler's.
pub fn all(handler: unsafe extern "C" fn()) {
    // SAFETY: the table is not the processor's yet, and nobody else has it.
    unsafe { (*TABLE.0.get()).fill(handler as usize as u32) };
    set(VTOR, TABLE.0.get() as u32);
}

/// A handler that comes back at once, and has done nothing about why it was called.
pub extern "C" fn nothing() {
    breathe();
}
