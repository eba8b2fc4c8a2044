//! Takes interrupts off by PRIMASK, and does nothing for ever.
#![no_std]
#![no_main]

use hostile::Attacker;
use hostile::processor::{mask, spin};

hostile::application!(attack);

fn attack(_: &mut Attacker) {
    mask();
    spin()
}
