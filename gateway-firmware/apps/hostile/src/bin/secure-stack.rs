//! Has its stack in secure memory, and waits for an interrupt to push there, or pushes itself.
#![no_std]
#![no_main]

use hostile::Attacker;
use hostile::places::{app, secure};
use hostile::processor::{mask, push_on_stack, spin_on_process_stack, spin_on_stack};

hostile::application!(attack);

const AT: u32 = secure::RAM_AT + 0x1000;

fn attack(it: &mut Attacker) {
    match it.start() % 6 {
        0 => spin_on_stack(AT),
        1 => push_on_stack(AT),
        2 => spin_on_process_stack(AT),
        3 => spin_on_stack(app::RAM_AT + app::RAM_BYTES + 0x400),
        4 => spin_on_stack(0xffff_fff8),
        _ => {
            mask();
            spin_on_stack(AT)
        }
    }
}
