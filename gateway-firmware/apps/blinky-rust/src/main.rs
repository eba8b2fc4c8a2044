//! The LED of a board that has none: a timer says when it changes, the console and the log say what it would show.
//!
//! It says that it works once the LED was on and off again, publishes each change as telemetry, and lets an update that waits be
//! installed when the LED is off: what a bundle made with `--polite` asks it for.
#![no_std]
#![no_main]

use core::fmt::Write as _;
use core::sync::atomic::{AtomicU32, Ordering};

use holdfast::board::{self, Line, TIMERS_AT, Uart};
use holdfast::{
    EVENT_UPDATE_DOWNLOADED, Event, LogBuffer, Notifications, Ring, Source, Status, Subscription,
};

holdfast::entry!(main);
holdfast::handler!(timer0, change);
holdfast::handler!(notification0, told);

const CHANGES_A_SECOND: u32 = 2;
const TIMER0_IRQ: u32 = 3;
/// CMSDK timer: enable, with its interrupt.
const TIMER_RUNS: u32 = 1 | 1 << 3;

static CHANGES: AtomicU32 = AtomicU32::new(0);
static LOGS: LogBuffer<2048> = LogBuffer::new();
static RING: Ring<4> = Ring::new();

fn change() {
    // SAFETY: the application's own timer: its interrupt is cleared.
    unsafe { board::write(TIMERS_AT + 12, 1) };
    CHANGES.fetch_add(1, Ordering::Relaxed);
}

/// The interrupt is enough: it ends the rest of the thread, which looks into the ring.
fn told() {}

fn main() -> ! {
    match run() {
        Ok(()) => panic!("it ends"),
        Err(status) => panic!("a call answers {status:?}"),
    }
}

fn run() -> Result<(), Status> {
    let mut console = Uart::start();
    holdfast::start_logging(&LOGS)?;
    let mut notifications = Notifications::open(board::IRQ_NOTIFICATION, &RING)?;
    let _updates = Subscription::open(Source::Update, notifications.centre(), 0)?;
    board::enable_interrupt(board::IRQ_NOTIFICATION);
    start_timer(holdfast::clock_hz()? / CHANGES_A_SECOND);
    let mut update_waits = false;
    for seen in 0u32.. {
        while CHANGES.load(Ordering::Relaxed) == seen {
            board::wait();
        }
        while let Some(event) = notifications.take() {
            update_waits |= matches!(event, Event::Record(record) if record.event == EVENT_UPDATE_DOWNLOADED);
        }
        let on = seen % 2 == 0;
        holdfast::enable_system_led(on)?;
        let mut line = Line::<64>::new();
        let _ = write!(line, "blinky-rust {}: {}", env!("CARGO_PKG_VERSION"), if on { "on" } else { "off" });
        let _ = writeln!(console, "{}", line.as_str());
        // A message without room is lost, and counted by the microvisor: the next one says as much.
        let _ = holdfast::log(line.as_str());
        let _ = holdfast::publish("text/plain", if on { b"on" } else { b"off" });
        if update_waits && !on {
            let _ = holdfast::log("blinky-rust: an update waits, and may be installed");
            holdfast::restart()?;
            update_waits = false;
        }
        if seen == 1 {
            holdfast::healthy()?;
        }
    }
    Ok(())
}

fn start_timer(cycles: u32) {
    // SAFETY: the application's own timer: reload, count, control.
    unsafe {
        board::write(TIMERS_AT + 8, cycles - 1);
        board::write(TIMERS_AT + 4, cycles - 1);
        board::write(TIMERS_AT, TIMER_RUNS);
    }
    board::enable_interrupt(TIMER0_IRQ);
}
