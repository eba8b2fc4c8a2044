//! Faults in the handler of its SysTick, with everything masked.
#![no_std]
#![no_main]

use hostile::Attacker;
use hostile::processor::{mask, mask_faults, spin, sys_tick, undefined};
use hostile::vectors;

hostile::application!(attack);

extern "C" fn fault() {
    mask();
    mask_faults();
    undefined()
}

fn attack(_: &mut Attacker) {
    vectors::all(fault);
    sys_tick(500);
    spin()
}
