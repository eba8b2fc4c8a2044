//! Hurts nobody: says what calls cost, in cycles of the core's clock, and what a notification waits for its handler.
//! `cargo dev bench board` runs it where every run is the same.
#![no_std]
#![no_main]

use core::fmt::Write as _;
use core::sync::atomic::{AtomicU32, Ordering};

use abi::structures::NotificationSetup;
use holdfast::board::{Uart, start_sys_tick, stop_sys_tick, sys_tick_left, wait};
use hostile::places::irq;
use hostile::processor::{ISER, call, peek, set};
use hostile::vectors;

holdfast::entry!(main);

const CYCLES: u32 = 0xff_ffff;
/// The shortest of so many is the one that nothing came between.
const TRIES: u32 = 200;
const SETUP: u32 = 16;
const TRIGGER: u32 = 28;
const LOGGING_INIT: u32 = 36;
const TEXT: &[u8; 32] = b"thirty-two bytes of a log's line";
const KIND: &[u8; 10] = b"text/plain";

#[repr(align(1024))]
struct Memory(#[expect(dead_code, reason = "only its address is used")] [u8; 1024]);

static mut LENT: Memory = Memory([0; 1024]);
static mut RING: Memory = Memory([0; 1024]);
static mut WORDS: [u64; 8] = [0; 8];
/// What the SysTick had left when the notification's handler began; 0: it did not yet.
static LEFT: AtomicU32 = AtomicU32::new(0);

extern "C" fn notified() {
    LEFT.store(sys_tick_left(), Ordering::Relaxed);
}

fn main() -> ! {
    let mut console = Uart::start();
    let words = (&raw mut WORDS) as u32;
    call(LOGGING_INIT, [(&raw const LENT) as u32, 1024, 0, 0]);
    let text = TEXT.as_ptr() as u32;
    let calls = [
        ("mvNoOp", 27, [0; 4]),
        ("mvGetMicroseconds", 2, [words, 0, 0, 0]),
        ("mvGetWallTime", 7, [words, 0, 0, 0]),
        ("mvGetSysClk", 3, [words, 0, 0, 0]),
        ("mvGetDeviceId", 5, [words, 34, 0, 0]),
        ("mvGetNetworkReasons", 25, [words, words + 4, 0, 0]),
        ("mvGetWakeReason", 63, [words, 0, 0, 0]),
        ("mvServerLog", 37, [text, TEXT.len() as u32, 0, 0]),
        ("hfHealthy", 128, [0; 4]),
        ("hfTelemetryPublish", 129, [KIND.as_ptr() as u32, KIND.len() as u32, text, TEXT.len() as u32]),
    ];
    for (name, slot, passed) in calls {
        let (cycles, status) = shortest(slot, passed);
        let _ = writeln!(console, "measure {name} takes {cycles} cycles, answers {status}");
    }
    let cycles = latency();
    let _ = writeln!(console, "measure a notification waits {cycles} cycles");
    loop {
        wait();
    }
}

/// Starts the SysTick; what it has left once it counts.
fn started() -> u32 {
    start_sys_tick(CYCLES);
    while sys_tick_left() == 0 {}
    sys_tick_left()
}

/// Of those that are answered best: the cheapest, and what it answered.
fn shortest(slot: u32, passed: [u32; 4]) -> (u32, u32) {
    let (mut cycles, mut answer) = (u32::MAX, u32::MAX);
    for _ in 0..TRIES {
        let before = started();
        let status = call(slot, passed);
        let took = before.saturating_sub(sys_tick_left());
        stop_sys_tick();
        if status <= answer && took > 0 {
            cycles = if status < answer { took } else { cycles.min(took) };
            answer = status;
        }
    }
    (cycles, answer)
}

/// From the call that has the microvisor post a record to the first instruction of its handler, at the longest.
fn latency() -> u32 {
    vectors::all(notified);
    let handle = (&raw mut WORDS) as u32;
    let line = irq::SPARE[0];
    let setup = NotificationSetup { irq: line, buffer: (&raw const RING) as u32, buffer_size: 1024 };
    call(SETUP, [(&raw const setup) as u32, handle, 0, 0]);
    set(ISER + line / 32 * 4, 1 << (line % 32));
    let mut longest = 0;
    for tag in 0..TRIES {
        LEFT.store(0, Ordering::Relaxed);
        let before = started();
        call(TRIGGER, [peek(handle), 1, tag, 0]);
        while LEFT.load(Ordering::Relaxed) == 0 {}
        stop_sys_tick();
        longest = longest.max(before.saturating_sub(LEFT.load(Ordering::Relaxed)));
    }
    longest
}
