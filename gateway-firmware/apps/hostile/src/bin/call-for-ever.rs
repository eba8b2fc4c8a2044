//! Has a handler make calls and never return, over a thread that loops in calls.
#![no_std]
#![no_main]

use hostile::Attacker;
use hostile::processor::{call_for_ever, sys_tick};
use hostile::vectors;

hostile::application!(attack);

const NO_OP: u32 = 27;

extern "C" fn calls() {
    call_for_ever(NO_OP)
}

fn attack(_: &mut Attacker) {
    vectors::all(calls);
    sys_tick(301);
    call_for_ever(NO_OP)
}
