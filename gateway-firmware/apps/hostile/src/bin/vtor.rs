//! Has its vectors where they are nobody's, secure or no code, and is interrupted.
#![no_std]
#![no_main]

use hostile::Attacker;
use hostile::places::{app, secure};
use hostile::processor::{VTOR, set, spin, sys_tick};

hostile::application!(attack);

const AT: [u32; 5] =
    [secure::RAM_AT, secure::MICROVISOR_AT, 0x6000_0000, app::RAM_AT + app::RAM_BYTES - 0x400, 0xffff_ff80];

fn attack(it: &mut Attacker) {
    set(VTOR, it.pick(&AT));
    sys_tick(200);
    spin()
}
