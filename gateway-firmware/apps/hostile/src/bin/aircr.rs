//! Asks the processor to reset the machine, to forget its exceptions, to change whose faults are whose.
#![no_std]
#![no_main]

use hostile::Attacker;
use hostile::processor::{AIRCR, set};

hostile::application!(attack);

const KEY: u32 = 0x05fa_0000;

fn attack(_: &mut Attacker) {
    // SYSRESETREQ, VECTCLRACTIVE, PRIGROUP, SYSRESETREQS, BFHFNMINS and PRIS off, all of it.
    for bits in [1 << 2, 1 << 1, 7 << 8, 1 << 3, 1 << 13, 0, 0xffff] {
        set(AIRCR, KEY | bits);
    }
}
