//! What tests a board in the factory: its RAM, its timers, its UART and the microvisor's calls, and then its verdict.
//!
//! Each part is a line on the factory's console. The verdict is 0, or the number of the first part that is not as it should be: copy
//! this and add what your board has. With `HOLDFAST_TEST_FAILS` at build time the verdict is that number, as if a part
//! were missing; with `HOLDFAST_TEST_ENDLESS` there is none, as if one never answered.
#![no_std]
#![no_main]

use core::cell::UnsafeCell;
use core::fmt::{self, Write as _};

use holdfast::board::{Line, TIMERS_AT, UART_AT, Uart, read, write};
use holdfast::{LogBuffer, Status};

holdfast::entry!(main);

const FAILS: Option<&str> = option_env!("HOLDFAST_TEST_FAILS");
const ENDS: bool = option_env!("HOLDFAST_TEST_ENDLESS").is_none();

/// Words of RAM that are tested: most of what an application has.
const RAM_WORDS: usize = 96 * 1024;
/// How long a timer is watched.
const WATCHED_US: u64 = 2_000;
/// How long a byte may take to leave: an emulator's may have to wait for a busy host.
const SENT_US: u64 = 500_000;
/// What the two clocks may differ by.
const OFF_US: u64 = 100;

/// RAM that nothing else uses.
#[repr(align(4))]
struct Ram(UnsafeCell<[u32; RAM_WORDS]>);

// SAFETY: `ram` alone uses it, once.
unsafe impl Sync for Ram {}

static RAM: Ram = Ram(UnsafeCell::new([0; RAM_WORDS]));
static LINES: LogBuffer<2048> = LogBuffer::new();

type Part = fn(&mut Line<96>) -> Result<bool, Status>;

/// What is tested, in this order; the verdict is the number of the first that is bad, from 1.
const PARTS: [(&str, Part); 4] = [("ram", ram), ("timers", timers), ("uart", uart), ("calls", calls)];

fn main() -> ! {
    let mut console = Uart::start();
    let _ = writeln!(console, "factory-test {} starts", env!("CARGO_PKG_VERSION"));
    let done = holdfast::start_test_logging(&LINES).and_then(|()| test());
    let _ = writeln!(console, "factory-test ends: {done:?}");
    loop {
        holdfast::board::wait();
    }
}

/// Tests everything, and says so.
fn test() -> Result<(), Status> {
    let mut verdict = 0;
    for (number, (name, part)) in (1..).zip(PARTS) {
        let mut seen = Line::new();
        let good = part(&mut seen)?;
        say(format_args!("{name} {}: {}", if good { "good" } else { "bad" }, seen.as_str()))?;
        if !good && verdict == 0 {
            verdict = number;
        }
    }
    if !ENDS {
        return say(format_args!("waits for a part that does not answer"));
    }
    if let Some(wanted) = FAILS.and_then(|number| number.parse().ok()) {
        verdict = wanted;
    }
    holdfast::testing_complete(verdict)
}

fn say(text: fmt::Arguments<'_>) -> Result<(), Status> {
    let mut line = Line::<128>::new();
    let _ = line.write_fmt(text);
    holdfast::test_log(line.as_str())
}

/// Every word holds its own number, and then its opposite.
fn ram(seen: &mut Line<96>) -> Result<bool, Status> {
    let at = RAM.0.get().cast::<u32>();
    let holds = |mask: u32| {
        // SAFETY: both loops stay in `RAM`, which nobody else uses.
        (0..RAM_WORDS).for_each(|word| unsafe { at.add(word).write_volatile(word as u32 ^ mask) });
        // SAFETY: as above.
        (0..RAM_WORDS).filter(|word| unsafe { at.add(*word).read_volatile() } != *word as u32 ^ mask).count()
    };
    let wrong = holds(0) + holds(!0);
    let _ = write!(seen, "{} bytes, {wrong} wrong words", RAM_WORDS * 4);
    Ok(wrong == 0)
}

/// Both timers count as fast as the microvisor's clock says, which is asked before and after each look: whatever comes between, the
/// microvisor's turns or an emulator that is late, lies between the two.
fn timers(seen: &mut Line<96>) -> Result<bool, Status> {
    const CTRL: u32 = 0;
    const VALUE: u32 = 4;
    const RELOAD: u32 = 8;
    let cycles_a_us = u64::from(holdfast::clock_hz()? / 1_000_000);
    let mut good = true;
    for timer in [TIMERS_AT, TIMERS_AT + 0x1000] {
        // SAFETY: a timer of the application's, without an interrupt.
        unsafe {
            write(timer + RELOAD, u32::MAX);
            write(timer + VALUE, u32::MAX);
            write(timer + CTRL, 1);
        }
        let look = || -> Result<(u64, u32, u64), Status> {
            let before_us = holdfast::microseconds()?;
            // SAFETY: a read without effect.
            let value = unsafe { read(timer + VALUE) };
            Ok((before_us, value, holdfast::microseconds()?))
        };
        let (first_us, from, started_us) = look()?;
        while holdfast::microseconds()? < started_us + WATCHED_US {}
        let (ended_us, to, last_us) = look()?;
        let (least_us, most_us) = (ended_us - started_us, last_us - first_us);
        let counted_us = u64::from(from.wrapping_sub(to)) / cycles_a_us;
        // SAFETY: as it was.
        unsafe { write(timer + CTRL, 0) };
        good &= (least_us.saturating_sub(OFF_US)..=most_us + OFF_US).contains(&counted_us);
        let _ = write!(seen, "{counted_us} us of {least_us} to {most_us} us; ");
    }
    Ok(good)
}

/// The UART keeps its divider, and sends.
fn uart(seen: &mut Line<96>) -> Result<bool, Status> {
    const STATE: u32 = 4;
    const DIVIDER: u32 = 16;
    const DIVIDERS: [u32; 3] = [16, 0x5555, 174];
    let kept = DIVIDERS.into_iter().all(|divider| {
        // SAFETY: the application's own UART; the last one is the one it had.
        unsafe { write(UART_AT + DIVIDER, divider) };
        // SAFETY: as above.
        unsafe { read(UART_AT + DIVIDER) == divider }
    });
    let start_us = holdfast::microseconds()?;
    let mut sent = false;
    while !sent && holdfast::microseconds()? < start_us + SENT_US {
        // SAFETY: a read without effect.
        sent = unsafe { read(UART_AT + STATE) } & 1 == 0;
    }
    let _ = write!(seen, "divider {}, transmitter {}", word(kept), word(sent));
    Ok(kept && sent)
}

/// The microvisor answers, and as a factory's does: there is no server, and nobody's device yet.
fn calls(seen: &mut Line<96>) -> Result<bool, Status> {
    static UNUSED: LogBuffer<512> = LogBuffer::new();
    let answers = [
        holdfast::no_op() == Ok(()),
        holdfast::microseconds()? < holdfast::microseconds()? + 1,
        holdfast::clock_hz()? > 0,
        holdfast::device_id() == Err(Status::Unavailable),
        holdfast::start_logging(&UNUSED) == Err(Status::Unavailable),
        holdfast::log("nobody") == Err(Status::Unavailable),
        holdfast::publish("", b"nobody") == Err(Status::Unavailable),
        holdfast::test_log("") == Err(Status::InvalidBufferSize),
        holdfast::start_test_logging(&LINES) == Ok(()),
        // SAFETY: read only, if at all: it is the microvisor's.
        unsafe { holdfast::raw::call(56, [0x3800_0000, 16, 0, 0]) } == Status::ParameterFault.code(),
    ];
    let right = answers.iter().filter(|right| **right).count();
    let _ = write!(seen, "{right} of {} as they should be", answers.len());
    Ok(right == answers.len())
}

fn word(good: bool) -> &'static str {
    if good { "good" } else { "bad" }
}
