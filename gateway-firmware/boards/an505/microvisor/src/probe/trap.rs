//! The breakpoint at which the application is held when a call of it ends.
//!
//! There is one at most, while a halt is wished for and the application is in a call; it is gone before anything else
//! can be seen: whoever reads or writes the application's memory has it put [`aside`].

use abi::Access;
use abi::memory::owns;
use chip::special::barrier;

use crate::shared::Shared;
use crate::world::REGIONS;

/// BKPT, less its number.
pub(crate) const BREAKPOINT: u16 = 0xbe00;

#[derive(Debug, Clone, Copy)]
struct Trap {
    at: u32,
    /// What was there.
    was: u16,
}

static TRAP: Shared<Option<Trap>> = Shared::new(None);

/// Half of an instruction, in memory of the application's.
pub(super) fn instruction(at: u32) -> Option<u16> {
    let whole = at & 1 == 0 && owns(&REGIONS, at, 2, Access::Read);
    // SAFETY: aligned, in memory of the application's, where no Rust object of ours lies.
    whole.then(|| unsafe { (at as *const u16).read_volatile() })
}

fn put(at: u32, instruction: u16) {
    // SAFETY: of an address that `instruction` read.
    unsafe { (at as *mut u16).write_volatile(instruction) };
    barrier();
}

/// Puts it there, and nowhere else. False: that is not in the application's memory.
pub(crate) fn set(at: u32) -> bool {
    lift();
    let Some(was) = instruction(at) else { return false };
    TRAP.with(|trap| *trap = Some(Trap { at, was }));
    put(at, BREAKPOINT);
    true
}

/// Takes it away, unless the application has put something else there.
pub(crate) fn lift() {
    if let Some(Trap { at, was }) = TRAP.with(Option::take)
        && instruction(at) == Some(BREAKPOINT)
    {
        put(at, was);
    }
}

/// It is there.
pub(crate) fn is_at(at: u32) -> bool {
    TRAP.with(|trap| trap.is_some_and(|trap| trap.at == at))
}

/// Does something without it, by the supervisor: the application does not run meanwhile as far as it is in a call.
pub(super) fn aside<R>(f: impl FnOnce() -> R) -> R {
    let at = TRAP.with(|trap| trap.map(|trap| trap.at));
    lift();
    let result = f();
    if let Some(at) = at {
        set(at);
    }
    result
}
