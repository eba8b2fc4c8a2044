//! Has its SysTick interrupt every other cycle.
#![no_std]
#![no_main]

use hostile::Attacker;
use hostile::processor::{spin, sys_tick};
use hostile::vectors;

hostile::application!(attack);

fn attack(_: &mut Attacker) {
    vectors::all(vectors::nothing);
    sys_tick(1);
    spin()
}
