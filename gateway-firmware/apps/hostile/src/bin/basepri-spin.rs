//! Takes off whatever BASEPRI can, and does nothing for ever.
#![no_std]
#![no_main]

use hostile::Attacker;
use hostile::processor::{mask_down_to, spin};

hostile::application!(attack);

fn attack(_: &mut Attacker) {
    mask_down_to(1);
    spin()
}
