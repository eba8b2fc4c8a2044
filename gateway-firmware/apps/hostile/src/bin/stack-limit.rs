//! Sets its own stack limit above its stack, and is interrupted.
#![no_std]
#![no_main]

use core::arch::asm;

use hostile::Attacker;
use hostile::places::app;
use hostile::processor::{spin, sys_tick};

hostile::application!(attack);

fn attack(_: &mut Attacker) {
    sys_tick(5000);
    // SAFETY: the application's own limit; what runs after it does not push.
    unsafe { asm!("msr msplim, {}", in(reg) app::RAM_AT + app::RAM_BYTES) };
    spin()
}
