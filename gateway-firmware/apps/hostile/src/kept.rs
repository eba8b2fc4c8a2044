//! What a start tells the next one, in memory that a start does not clear. An attack may spoil it: then the next start is
//! taken for the first.

use core::ptr::{read_volatile, write_volatile};

#[unsafe(link_section = ".noinit")]
static mut KEPT: Kept = Kept { mark: 0, starts: 0, check: 0 };

#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct Kept {
    /// Of which application it is: what ran before may have left its own.
    mark: u32,
    starts: u32,
    check: u32,
}

impl Kept {
    /// Counts a start; how many there were before.
    pub(crate) fn start(name: &str) -> u32 {
        let mark = name
            .bytes()
            .fold(0x811c_9dc5, |sum: u32, byte| (sum ^ u32::from(byte)).wrapping_mul(0x0100_0193));
        // SAFETY: before anything else runs: nobody else uses it.
        let kept = unsafe { read_volatile(&raw const KEPT) };
        let known = kept.mark == mark && kept.check == kept.starts ^ mark;
        let before = if known { kept.starts } else { 0 };
        let starts = before.wrapping_add(1);
        // SAFETY: as above.
        unsafe { write_volatile(&raw mut KEPT, Kept { mark, starts, check: starts ^ mark }) };
        before
    }
}
