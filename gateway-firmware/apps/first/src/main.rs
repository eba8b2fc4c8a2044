//! The first application: says every second that it is there, and whether the microvisor kept its promise.
//!
//! A SysTick of 1 kHz counts; the microvisor's clock says how many there should have been. What a tick waited for is
//! read from the timer itself, which goes on counting. `HOLDFAST_APP_VERSION` at build time is the version it says, so
//! that an update is seen; with `HOLDFAST_APP_UNWELL` it never says that it works, and is taken back; with
//! `HOLDFAST_APP_BUSY` it never rests: an emulator then has no time to pass by the wall's clock.
#![no_std]
#![no_main]

use core::fmt::Write as _;
use core::sync::atomic::{AtomicU32, Ordering};

use holdfast::board::{Line, Uart, start_sys_tick, sys_tick_left, wait};
use holdfast::{LogBuffer, Status};

holdfast::entry!(main);
holdfast::handler!(sys_tick, tick);

const VERSION: &str = match option_env!("HOLDFAST_APP_VERSION") {
    Some(version) => version,
    None => env!("CARGO_PKG_VERSION"),
};
const HEALTHY: bool = option_env!("HOLDFAST_APP_UNWELL").is_none();
const RESTS: bool = option_env!("HOLDFAST_APP_BUSY").is_none();

const TICKS_A_SECOND: u32 = 1000;

static TICKS: AtomicU32 = AtomicU32::new(0);
/// Cycles a tick: set before the first.
static TICK_CYCLES: AtomicU32 = AtomicU32::new(u32::MAX);
/// The longest that a tick waited for its handler, in cycles.
static WAIT_MAX_CYCLES: AtomicU32 = AtomicU32::new(0);
static LOGS: LogBuffer<4096> = LogBuffer::new();

fn tick() {
    let waited = TICK_CYCLES.load(Ordering::Relaxed).saturating_sub(sys_tick_left());
    WAIT_MAX_CYCLES.fetch_max(waited, Ordering::Relaxed);
    TICKS.fetch_add(1, Ordering::Relaxed);
}

fn main() -> ! {
    let mut console = Uart::start();
    let _ = writeln!(console, "first {VERSION} starts");
    match run(&mut console) {
        Ok(()) => panic!("it ends"),
        Err(status) => panic!("a call answers {status:?}"),
    }
}

fn run(console: &mut Uart) -> Result<(), Status> {
    holdfast::start_logging(&LOGS)?;
    let hz = holdfast::clock_hz()?;
    TICK_CYCLES.store(hz / TICKS_A_SECOND, Ordering::Relaxed);
    start_sys_tick(hz / TICKS_A_SECOND);
    let started_us = holdfast::microseconds()?;
    for second in 1u32.. {
        while TICKS.load(Ordering::Relaxed) < second * TICKS_A_SECOND {
            if RESTS {
                wait();
            }
        }
        let due = (holdfast::microseconds()? - started_us) * u64::from(TICKS_A_SECOND) / 1_000_000;
        let lost = due.saturating_sub(TICKS.load(Ordering::Relaxed).into());
        let wait_us = WAIT_MAX_CYCLES.load(Ordering::Relaxed) / (hz / 1_000_000);
        let mut line = Line::<128>::new();
        let _ = write!(line, "first {VERSION}: {second} s, {lost} ticks lost, the longest wait {wait_us} us");
        let _ = writeln!(console, "{}", line.as_str());
        // What does not fit is lost: the next line says as much as this one.
        let _ = holdfast::log(line.as_str());
        if second == 1 && HEALTHY {
            holdfast::healthy()?;
        }
    }
    Ok(())
}
