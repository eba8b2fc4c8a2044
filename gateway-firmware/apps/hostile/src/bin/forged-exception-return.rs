//! Returns from exceptions that never were: to the secure world, from a thread, a handler, or out of a call.
#![no_std]
#![no_main]

use core::sync::atomic::{AtomicU32, Ordering};

use hostile::Attacker;
use hostile::processor::{call_returning_by, leave_by, spin, sys_tick};
use hostile::vectors;

hostile::application!(attack);

const BY: [u32; 8] =
    [0xffff_fffd, 0xffff_fff9, 0xffff_fff1, 0xffff_fffc, 0xffff_fff8, 0xffff_ffd8, 0xffff_ffa8, 0xffff_ff00];
/// By which the handler is to leave.
static WHICH: AtomicU32 = AtomicU32::new(0);
const NO_OP: u32 = 27;

extern "C" fn leave() {
    leave_by(WHICH.load(Ordering::Relaxed))
}

fn attack(it: &mut Attacker) {
    let by = BY[it.start() / 3 % BY.len()];
    WHICH.store(by, Ordering::Relaxed);
    match it.start() % 3 {
        0 => {
            vectors::all(leave);
            sys_tick(500);
            spin()
        }
        1 => leave_by(by),
        _ => call_returning_by(NO_OP, by),
    }
}
