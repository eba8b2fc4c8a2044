//! Asks to be restarted, again and again.
#![no_std]
#![no_main]

use hostile::Attacker;
use hostile::processor::call;

hostile::application!(attack);

const RESTART: u32 = 64;

fn attack(_: &mut Attacker) {
    call(RESTART, [0; 4]);
}
