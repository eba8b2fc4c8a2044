//! What a start tells the next one, in memory that a start does not clear.

use core::ptr::{read_volatile, write_volatile};

const MAGIC: u32 = 0x5052_4F42;

#[unsafe(link_section = ".noinit")]
static mut KEPT: Kept = Kept { magic: 0, next: 0, right: 0, wrong: 0 };

/// It.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub(crate) struct Kept {
    magic: u32,
    next: u32,
    pub(crate) right: u32,
    pub(crate) wrong: u32,
}

impl Kept {
    fn read() -> Option<Kept> {
        // SAFETY: one thread, no handler: nobody else uses it.
        let kept = unsafe { read_volatile(&raw const KEPT) };
        (kept.magic == MAGIC).then_some(kept)
    }

    fn write(kept: Kept) {
        // SAFETY: as above.
        unsafe { write_volatile(&raw mut KEPT, kept) };
    }

    /// The attempt to make next.
    pub(crate) fn next() -> Option<usize> {
        Kept::read().map(|kept| kept.next as usize)
    }

    /// The attempt that is being made is to be made again.
    pub(crate) fn again() {
        if let Some(next) = Kept::next() {
            Kept::set_next(next.saturating_sub(1));
        }
    }

    pub(crate) fn set_next(next: usize) {
        let (right, wrong) = Kept::counts();
        Kept::write(Kept { magic: MAGIC, next: next as u32, right, wrong });
    }

    /// What was found until now.
    pub(crate) fn counts() -> (u32, u32) {
        Kept::read().map_or((0, 0), |kept| (kept.right, kept.wrong))
    }

    pub(crate) fn set_counts(right: u32, wrong: u32) {
        if let Some(kept) = Kept::read() {
            Kept::write(Kept { right, wrong, ..kept });
        }
    }
}
