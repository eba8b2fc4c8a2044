//! Writes its own code while it runs it, and at last all of it.
#![no_std]
#![no_main]

use core::arch::asm;

use hostile::Attacker;
use hostile::places::app;
use hostile::processor::poke;

hostile::application!(attack);

/// `bx lr`, `movs r0, #1`; in memory, the lower half first.
const RETURN: u32 = 0x4770_2001;
const ROUNDS: u32 = 64;
const UNDEFINED: u32 = 0xde00_de00;

fn attack(it: &mut Attacker) {
    let at = app::CODE_AT + app::CODE_BYTES - 0x100;
    poke(at, RETURN);
    // SAFETY: what was just written there takes nothing and gives a number.
    let written: extern "C" fn() -> u32 = unsafe { core::mem::transmute((at | 1) as usize) };
    // SAFETY: barriers.
    unsafe { asm!("dsb", "isb") };
    core::hint::black_box(written());
    if it.round() == ROUNDS {
        (0..0x1_0000).step_by(4).for_each(|offset| poke(app::CODE_AT + offset, UNDEFINED));
    }
}
