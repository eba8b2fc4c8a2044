//! Has floating point, claims a context of it, and calls.
#![no_std]
#![no_main]

use core::arch::asm;

use hostile::Attacker;
use hostile::processor::{call, set, spin, sys_tick};
use hostile::vectors;

hostile::application!(attack);

const NO_OP: u32 = 27;
const CPACR: u32 = 0xe000_ed88;
const FPCCR: u32 = 0xe000_ef34;

fn attack(it: &mut Attacker) {
    set(CPACR, 0xf << 20);
    set(FPCCR, !0);
    vectors::all(vectors::nothing);
    sys_tick(301);
    // SAFETY: the application's own context; vmov s0, r0 and vmov r0, s0.
    unsafe {
        asm!("mrs {0}, control", "orr {0}, #4", "msr control, {0}", "isb", out(reg) _);
    }
    (0..1000).for_each(|_| {
        call(NO_OP, [0; 4]);
    });
    let found: u32;
    // SAFETY: as above.
    unsafe { asm!(".inst.w 0xEE100A10", out("r0") found) };
    if found != 0 {
        it.breach(format_args!("a register of somebody's holds {found:08x}"));
    }
    spin()
}
