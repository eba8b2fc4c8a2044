//! Asks whoever emulates the machine to end it, by the breakpoint that means such requests.
#![no_std]
#![no_main]

use core::arch::asm;

use hostile::Attacker;

hostile::application!(attack);

/// SYS_EXIT_EXTENDED, SYS_EXIT, SYS_WRITE0.
const REQUESTS: [u32; 3] = [0x20, 0x18, 0x04];

fn attack(it: &mut Attacker) {
    let request = it.pick(&REQUESTS);
    // SAFETY: it faults; where somebody listens, the machine ends, and that is seen.
    unsafe { asm!("bkpt #0xab", inout("r0") request => _, in("r1") 0x2_0026) };
    it.breach(format_args!("somebody heard {request:x}"));
}
