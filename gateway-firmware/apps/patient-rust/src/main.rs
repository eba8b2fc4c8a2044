//! The patient in Rust: an application to be examined with a debugger, as `apps/patient` is in C.
//!
//! Again and again it does a round of work whose calls, variables and results are always the same: structs, enums with data, slices, a
//! trait object, generics, a closure. Only `ROUNDS` and `TICKS` count on, and nobody but a debugger writes `MODE`.
#![no_std]
#![no_main]

use core::hint::black_box;
use core::sync::atomic::{AtomicU32, Ordering};

use holdfast::{LogBuffer, Status, board};

holdfast::entry!(main);
holdfast::handler!(sys_tick, tick);

/// It executes what is no instruction when `MODE` is this.
const MODE_UNDEFINED: u32 = 1;
/// It panics.
const MODE_PANIC: u32 = 2;

/// What it does between two rounds of work: nothing, or one of the above. Nobody but a debugger writes it: `used` says so to the compiler,
/// which would leave it out otherwise.
#[used]
static MODE: AtomicU32 = AtomicU32::new(0);
/// Rounds of work. Nobody but a debugger reads it.
#[used]
static ROUNDS: AtomicU32 = AtomicU32::new(0);
/// What the last one came to.
#[used]
static RESULT: AtomicU32 = AtomicU32::new(0);
/// Written by an interrupt.
#[used]
static TICKS: AtomicU32 = AtomicU32::new(0);
static LOGS: LogBuffer<1024> = LogBuffer::new();
static TABLE: [u32; 8] = [1, 1, 2, 3, 5, 8, 13, 21];

#[derive(Clone, Copy, Debug)]
struct Sample {
    number: u32,
    value: i32,
    #[expect(dead_code, reason = "for gdb to read")]
    name: &'static str,
    raw: [u8; 4],
}

/// One after the other, as only a pointer finds them.
#[derive(Debug)]
struct Link<'a> {
    sample: Sample,
    next: Option<&'a Link<'a>>,
}

/// Of each kind of variant one.
#[derive(Clone, Copy, Debug)]
enum Shape {
    Nothing,
    Circle { radius: u32 },
    Rectangle(u32, u32),
}

trait Measured {
    fn area(&self) -> u32;
}

impl Measured for Shape {
    #[inline(never)]
    fn area(&self) -> u32 {
        match *self {
            Shape::Nothing => 0,
            Shape::Circle { radius } => 3 * radius * radius,
            Shape::Rectangle(width, height) => width * height,
        }
    }
}

fn tick() {
    TICKS.fetch_add(1, Ordering::Relaxed);
}

#[inline(never)]
fn leaf(a: i32, b: i32) -> i32 {
    let sum = a + b;
    sum * 2
}

#[inline(never)]
fn middle(from: i32, values: &[u32]) -> i32 {
    let mut total = from;
    for value in values {
        total += leaf(total, *value as i32);
    }
    total
}

#[inline(never)]
fn depth(n: u32) -> u32 {
    let kept = black_box([n as u8, 1, 2, 3, 4, 5, 6, 7]);
    if n == 0 { kept[1].into() } else { n + depth(n - 1) }
}

#[inline(never)]
fn walked(first: &Link<'_>) -> u32 {
    let mut sum = 0;
    let mut at = Some(first);
    while let Some(link) = at {
        let Sample { number, value, raw, .. } = link.sample;
        sum += value as u32 + u32::from(raw[number as usize & 3]);
        at = link.next;
    }
    sum
}

#[inline(never)]
fn largest<T: Copy + PartialOrd>(of: &[T]) -> Option<T> {
    let mut best = *of.first()?;
    for one in of {
        if *one > best {
            best = *one;
        }
    }
    Some(best)
}

#[inline(never)]
fn measured(shapes: &[&dyn Measured]) -> u32 {
    shapes.iter().map(|shape| shape.area()).sum()
}

/// One round: the same each time, but for what `ROUNDS` counts.
#[inline(never)]
fn work(round: u32) -> u32 {
    let third = Link { sample: sample(2, "third"), next: None };
    let second = Link { sample: sample(1, "second"), next: Some(&third) };
    let first = Link { sample: sample(0, "first"), next: Some(&second) };
    let circle = black_box(Shape::Circle { radius: 2 });
    let rectangle = black_box(Shape::Rectangle(3, 4));
    // Whoever compiles this knows what comes of it; the processor shall find out.
    let table = black_box(&TABLE);
    let mut sum = middle(black_box(3), &table[..4]) as u32;
    sum += depth(black_box(5));
    sum = sum.wrapping_add(walked(&first));
    sum += measured(&[&circle, &rectangle, &Shape::Nothing]);
    sum += largest(table).unwrap_or_default();
    sum += u32::from(largest(black_box(b"acb")).unwrap_or_default());
    RESULT.store(sum, Ordering::Relaxed);
    ROUNDS.store(round + 1, Ordering::Relaxed);
    sum
}

fn sample(number: u32, name: &'static str) -> Sample {
    Sample { number, value: 100 * number as i32 - 50, name, raw: [1, 2, 3, 4] }
}

#[inline(never)]
fn behave() {
    match MODE.load(Ordering::Relaxed) {
        // SAFETY: it ends the application, as whoever wrote `MODE` wants it to.
        MODE_UNDEFINED => unsafe { core::arch::asm!("udf #7") },
        MODE_PANIC => panic!("it was told to"),
        _ => {}
    }
}

fn start() -> Result<(), Status> {
    holdfast::start_logging(&LOGS)?;
    board::start_sys_tick(holdfast::clock_hz()? / 100);
    let _ = holdfast::log(concat!("patient-rust ", env!("CARGO_PKG_VERSION")));
    holdfast::healthy()
}

fn main() -> ! {
    if let Err(status) = start() {
        panic!("a call answers {status:?}");
    }
    for round in 0.. {
        black_box(work(round));
        behave();
        // Rounds come with the timer, and not as fast as can be.
        board::wait();
    }
    unreachable!("rounds have no end")
}
