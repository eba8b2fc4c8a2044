//! Takes its own faults and returns to where they happen, for ever.
#![no_std]
#![no_main]

use hostile::Attacker;
use hostile::processor::{SHCSR, set, undefined};
use hostile::vectors;

hostile::application!(attack);

const OWN_FAULTS: u32 = 7 << 16;
fn attack(_: &mut Attacker) {
    vectors::all(vectors::nothing);
    set(SHCSR, OWN_FAULTS);
    undefined()
}
