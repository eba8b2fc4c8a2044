//! Takes faults off, too, by FAULTMASK, and does nothing for ever.
#![no_std]
#![no_main]

use hostile::Attacker;
use hostile::processor::{mask, mask_faults, spin};

hostile::application!(attack);

fn attack(_: &mut Attacker) {
    mask();
    mask_faults();
    spin()
}
