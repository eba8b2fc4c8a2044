//! Has a handler that has itself called again, for ever.
#![no_std]
#![no_main]

use hostile::Attacker;
use hostile::processor::{ICSR, PENDSVSET, breathe, poke, set, spin};
use hostile::vectors;

hostile::application!(attack);

extern "C" fn again() {
    poke(ICSR, PENDSVSET);
    breathe();
}

fn attack(_: &mut Attacker) {
    vectors::all(again);
    set(ICSR, PENDSVSET);
    spin()
}
