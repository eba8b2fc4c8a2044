//! Takes its own faults and returns to where they happen, for ever.
#![no_std]
#![no_main]

use core::hint::black_box;

use hostile::Attacker;
use hostile::processor::{SHCSR, set, undefined};
use hostile::vectors;

hostile::application!(attack);

const OWN_FAULTS: u32 = 7 << 16;
/// Of an instruction or two. A loop of nothing but exceptions never lets QEMU 7.2 look at its clock under `-icount`; by
/// the wall's clock it is a storm like any other.
const PAUSE: u32 = 16;

extern "C" fn pause() {
    (0..PAUSE).for_each(|turn| _ = black_box(turn));
}

fn attack(_: &mut Attacker) {
    vectors::all(pause);
    set(SHCSR, OWN_FAULTS);
    undefined()
}
