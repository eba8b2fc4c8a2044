//! A microvisor that misbehaves, for tests: everything is the real one's but what its plan says. Whoever makes a bundle of it writes the plan
//! into the image, after its mark.
//!
//! It is a program of its own: nothing of this is in the microvisor that devices get.
#![no_std]
#![no_main]

use core::ptr;

use microvisor::{schedule, supervisor, world};

/// What to do wrong.
#[repr(C)]
struct Plan {
    mark: [u8; 16],
    number: u32,
    from_ms: u32,
}

const HANG: u32 = 1;
const FAULT: u32 = 2;
const LOCK_UP: u32 = 3;
/// Works, with no connection before `from_ms`; all ones: never.
const ONLINE: u32 = 4;

#[used]
static PLAN: Plan = Plan { mark: *b"holdfast trial: ", number: 0, from_ms: 0 };

/// Comes from `reset`.
#[unsafe(no_mangle)]
extern "C" fn microvisor_main() -> ! {
    match plan().0 {
        // The watchdog is running, and nobody feeds it.
        HANG => loop {
            core::hint::spin_loop();
        },
        FAULT => undefined(),
        LOCK_UP => {
            // SAFETY: with faults masked the next one cannot be taken, which is what is wanted.
            unsafe { core::arch::asm!("cpsid f") };
            undefined()
        }
        _ => {}
    }
    world::raise();
    schedule::start(run)
}

extern "C" fn run() -> ! {
    let from_us = match plan() {
        (ONLINE, u32::MAX) => u64::MAX,
        (ONLINE, from_ms) => u64::from(from_ms) * 1000,
        _ => 0,
    };
    supervisor::run_dialing_from(from_us)
}

/// As it stands in the image, which is not what was compiled.
fn plan() -> (u32, u32) {
    // SAFETY: both are initialised, aligned words of a static that nobody writes while this runs.
    unsafe { (ptr::read_volatile(&raw const PLAN.number), ptr::read_volatile(&raw const PLAN.from_ms)) }
}

fn undefined() -> ! {
    // SAFETY: it ends this program, and touches nothing.
    unsafe { core::arch::asm!("udf #0", options(noreturn)) }
}
