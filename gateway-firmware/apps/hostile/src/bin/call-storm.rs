//! Has a handler make calls, as often as it can be interrupted, over a thread that loops in calls.
#![no_std]
#![no_main]

use hostile::Attacker;
use hostile::processor::{call, call_for_ever, sys_tick};
use hostile::vectors;

hostile::application!(attack);

const NO_OP: u32 = 27;
const CALLS: u32 = 8;

extern "C" fn calls() {
    for _ in 0..CALLS {
        call(NO_OP, [0; 4]);
    }
}

fn attack(_: &mut Attacker) {
    vectors::all(calls);
    sys_tick(1500);
    call_for_ever(NO_OP)
}
