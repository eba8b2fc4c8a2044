//! Faults in its own fault handler: a lock-up, were it alone.
#![no_std]
#![no_main]

use hostile::Attacker;
use hostile::processor::{SHCSR, mask_faults, set, undefined};
use hostile::vectors;

hostile::application!(attack);

const OWN_FAULTS: u32 = 7 << 16;

extern "C" fn fault_again() {
    undefined()
}

fn attack(it: &mut Attacker) {
    vectors::all(fault_again);
    set(SHCSR, OWN_FAULTS);
    if it.start() % 2 == 1 {
        mask_faults();
    }
    undefined()
}
