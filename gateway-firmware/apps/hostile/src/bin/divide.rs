//! Has divisions by zero trapped, and makes one.
#![no_std]
#![no_main]

use core::arch::asm;

use hostile::Attacker;
use hostile::processor::{CCR, peek, set};

hostile::application!(attack);

const DIV_0_TRP: u32 = 1 << 4;

fn attack(_: &mut Attacker) {
    set(CCR, peek(CCR) | DIV_0_TRP);
    // SAFETY: it faults; where it would not, it is zero.
    unsafe { asm!("udiv {0}, {0}, {1}", inout(reg) 1 => _, in(reg) 0) };
}
