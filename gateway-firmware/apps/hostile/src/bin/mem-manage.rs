//! Has its own MPU allow nothing, stack included; every other time it takes such faults itself.
#![no_std]
#![no_main]

use hostile::Attacker;
use hostile::processor::{MPU_CTRL, MPU_RLAR, MPU_RNR, SHCSR, set, spin};
use hostile::vectors;

hostile::application!(attack);

const OWN_FAULTS: u32 = 7 << 16;

fn attack(it: &mut Attacker) {
    for region in 0..8 {
        set(MPU_RNR, region);
        set(MPU_RLAR, 0);
    }
    if it.start() % 2 == 1 {
        vectors::all(vectors::nothing);
        set(SHCSR, OWN_FAULTS);
    }
    set(MPU_CTRL, 1);
    spin()
}
