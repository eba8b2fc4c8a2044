//! A debugger's hand on the application, without a debugger: for tests under `-icount`, where every run is the same.
//!
//! A supervisor that does nothing else starts one small application in each of its ways to run (`program`), holds it, looks at
//! it, changes it and lets it go on, by the port that the core has for that. What it finds it says on the console: `hold WHAT: ok`
//! or `hold WHAT: WRONG ...`, how long it took to hold each kind, and at last `hold done: N right, M wrong`.
#![no_std]
#![no_main]

mod bench;
mod breakpoints;
mod faults;
mod halts;
mod life;
mod limits;
mod program;

use chip::clock;
use microvisor::{schedule, world};

use bench::Bench;

#[unsafe(no_mangle)]
extern "C" fn microvisor_main() -> ! {
    clock::start();
    world::raise();
    schedule::start(supervisor)
}

extern "C" fn supervisor() -> ! {
    let mut bench = Bench::new();
    limits::run(&mut bench);
    halts::run(&mut bench);
    breakpoints::run(&mut bench);
    faults::run(&mut bench);
    life::run(&mut bench);
    bench.done();
    loop {
        schedule::idle(None);
    }
}
