//! @NAME@: says every second that it is there.
#![no_std]
#![no_main]

use core::sync::atomic::{AtomicU32, Ordering};

use holdfast::board::{start_sys_tick, wait};
use holdfast::{LogBuffer, Status};

holdfast::entry!(main);
holdfast::handler!(sys_tick, tick);

const TICKS_A_SECOND: u32 = 1000;

static TICKS: AtomicU32 = AtomicU32::new(0);
static LOGS: LogBuffer<2048> = LogBuffer::new();

fn tick() {
    TICKS.fetch_add(1, Ordering::Relaxed);
}

fn main() -> ! {
    match run() {
        Ok(()) => panic!("it ends"),
        Err(status) => panic!("a call answers {status:?}"),
    }
}

fn run() -> Result<(), Status> {
    holdfast::start_logging(&LOGS)?;
    start_sys_tick(holdfast::clock_hz()? / TICKS_A_SECOND);
    // Until it says that it works, a new version is on trial; without it the device takes the old one back.
    holdfast::healthy()?;
    for second in 1u32.. {
        // A message without room is lost, and counted: the next one says as much.
        let _ = holdfast::log("@NAME@ is here");
        while TICKS.load(Ordering::Relaxed) < second * TICKS_A_SECOND {
            wait();
        }
    }
    Ok(())
}
