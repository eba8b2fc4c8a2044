//! Gives up its privilege, and then reaches for registers and calls.
#![no_std]
#![no_main]

use core::arch::asm;

use hostile::Attacker;
use hostile::processor::{SCR, call, poke};

hostile::application!(attack);

const NO_OP: u32 = 27;
const CALLS: u32 = 20_000;

fn attack(_: &mut Attacker) {
    // SAFETY: the application's own privilege.
    unsafe { asm!("msr control, {}", "isb", in(reg) 1) };
    for _ in 0..CALLS {
        call(NO_OP, [0; 4]);
    }
    poke(SCR, 4);
}
