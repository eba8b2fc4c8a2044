//! Returns from secure functions that it never called: from a thread, a handler, or out of a call.
#![no_std]
#![no_main]

use hostile::Attacker;
use hostile::processor::{call_returning_by, leave_by, spin, sys_tick};
use hostile::vectors;

hostile::application!(attack);

const BY: [u32; 2] = [0xfeff_ffff, 0xfeff_fffe];
const NO_OP: u32 = 27;

extern "C" fn leave() {
    leave_by(BY[0])
}

fn attack(it: &mut Attacker) {
    match it.start() % 3 {
        0 => {
            vectors::all(leave);
            sys_tick(500);
            spin()
        }
        1 => leave_by(BY[it.start() / 3 % 2]),
        _ => call_returning_by(NO_OP, BY[it.start() / 3 % 2]),
    }
}
