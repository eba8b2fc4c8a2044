//! Has unaligned accesses trapped, and makes one.
#![no_std]
#![no_main]

use core::arch::asm;

use hostile::Attacker;
use hostile::places::app;
use hostile::processor::{CCR, peek, set};

hostile::application!(attack);

const UNALIGN_TRP: u32 = 1 << 3;

fn attack(_: &mut Attacker) {
    set(CCR, peek(CCR) | UNALIGN_TRP);
    let word: u32;
    // SAFETY: it faults; where it would not, it reads code of its own.
    unsafe { asm!("ldr {}, [{}]", out(reg) word, in(reg) app::CODE_AT + 1) };
    core::hint::black_box(word);
}
