//! Calls its own supervisor in a storm, and then where no such call can be taken.
#![no_std]
#![no_main]

use core::arch::asm;

use hostile::Attacker;
use hostile::processor::mask;
use hostile::vectors;

hostile::application!(attack);

const STORM: u32 = 1000;

fn supervisor_call() {
    // SAFETY: its handler comes back and changes nothing; masked, it is a fault.
    unsafe { asm!("svc #0") };
}

fn attack(_: &mut Attacker) {
    vectors::all(vectors::nothing);
    (0..STORM).for_each(|_| supervisor_call());
    mask();
    supervisor_call();
}
