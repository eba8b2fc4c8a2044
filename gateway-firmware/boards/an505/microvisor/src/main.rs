//! The microvisor.
#![no_std]
#![no_main]

use microvisor::{schedule, supervisor, world};

/// Comes from `reset`.
#[unsafe(no_mangle)]
extern "C" fn microvisor_main() -> ! {
    world::raise();
    schedule::start(supervisor::run)
}
