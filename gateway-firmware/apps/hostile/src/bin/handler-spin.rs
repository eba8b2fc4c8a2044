//! Does nothing for ever in a handler.
#![no_std]
#![no_main]

use hostile::Attacker;
use hostile::processor::{spin, sys_tick};
use hostile::vectors;

hostile::application!(attack);

extern "C" fn stay() {
    spin()
}

fn attack(_: &mut Attacker) {
    vectors::all(stay);
    sys_tick(1000);
    spin()
}
