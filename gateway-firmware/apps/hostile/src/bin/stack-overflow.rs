//! Pushes without end, through all of its memory and on.
#![no_std]
#![no_main]

use core::arch::asm;

use hostile::Attacker;
use hostile::processor::push_on_stack;

hostile::application!(attack);

fn attack(_: &mut Attacker) {
    let sp: u32;
    // SAFETY: reads a register.
    unsafe { asm!("mov {}, sp", out(reg) sp) };
    push_on_stack(sp)
}
