//! Embassy beside the microvisor: tasks, timers of 1 kHz, and UART1's interrupt.
//!
//! What is typed comes back as it came; every second the log says how many ticks of 1 kHz there were too few by the microvisor's clock,
//! how often a timer of one tick fired, and how many bytes came back. It says that it works after the first of these lines.
#![no_std]
#![no_main]

mod driver;
mod section;

use core::cell::RefCell;
use core::fmt::Write as _;
use core::future::poll_fn;
use core::mem::ManuallyDrop;
use core::sync::atomic::{AtomicU32, Ordering};
use core::task::{Poll, Waker};

use critical_section::Mutex;
use embassy_executor::raw::Executor;
use embassy_time::{Duration, Ticker};
use holdfast::board::{self, IRQ_UART_RECEIVE, Line, UART_AT, Uart};
use holdfast::{LogBuffer, Status};

holdfast::entry!(main);
holdfast::handler!(uart_receive, received);

const VERSION: &str = env!("CARGO_PKG_VERSION");
/// CMSDK UART: it sends, receives, and interrupts when a byte came.
const UART_RUNS: u32 = 1 | 1 << 1 | 1 << 3;
const UART_RECEIVED: u32 = 1 << 1;
/// Bytes that wait to be sent back.
const TYPED_MAX: usize = 64;

static LOGS: LogBuffer<4096> = LogBuffer::new();
static TYPED: Mutex<RefCell<Typed>> = Mutex::new(RefCell::new(Typed::new()));
/// How often the timer of one tick fired.
static TIMER_FIRED: AtomicU32 = AtomicU32::new(0);
static ECHOED: AtomicU32 = AtomicU32::new(0);

/// Bytes from the interrupt to the task; those without room are lost.
struct Typed {
    bytes: [u8; TYPED_MAX],
    used: usize,
    waiting: Option<Waker>,
}

impl Typed {
    const fn new() -> Self {
        Self { bytes: [0; TYPED_MAX], used: 0, waiting: None }
    }
}

fn received() {
    // SAFETY: the application's own UART: the byte is taken, its interrupt cleared.
    let byte = unsafe {
        board::write(UART_AT + 12, UART_RECEIVED);
        board::read(UART_AT) as u8
    };
    critical_section::with(|token| {
        let mut typed = TYPED.borrow(token).borrow_mut();
        let used = typed.used;
        if let Some(place) = typed.bytes.get_mut(used) {
            *place = byte;
            typed.used += 1;
        }
        if let Some(waker) = typed.waiting.take() {
            waker.wake();
        }
    });
}

/// What was typed since, once there is something.
async fn typed() -> ([u8; TYPED_MAX], usize) {
    poll_fn(|context| {
        critical_section::with(|token| {
            let mut typed = TYPED.borrow(token).borrow_mut();
            if typed.used == 0 {
                typed.waiting = Some(context.waker().clone());
                return Poll::Pending;
            }
            Poll::Ready((typed.bytes, core::mem::take(&mut typed.used)))
        })
    })
    .await
}

#[embassy_executor::task]
async fn echo() {
    loop {
        let (bytes, used) = typed().await;
        for byte in &bytes[..used] {
            // SAFETY: the application's own UART.
            unsafe {
                while board::read(UART_AT + 4) & 1 != 0 {}
                board::write(UART_AT, (*byte).into());
            }
        }
        ECHOED.fetch_add(used as u32, Ordering::Relaxed);
    }
}

#[embassy_executor::task]
async fn every_tick() {
    let mut ticker = Ticker::every(Duration::from_ticks(1));
    loop {
        ticker.next().await;
        TIMER_FIRED.fetch_add(1, Ordering::Relaxed);
    }
}

#[embassy_executor::task]
async fn report() {
    if let Err(status) = report_every_second().await {
        panic!("a call answers {status:?}");
    }
}

async fn report_every_second() -> Result<(), Status> {
    let started_us = holdfast::microseconds()?;
    let before = driver::ticks();
    let mut ticker = Ticker::every(Duration::from_secs(1));
    for second in 1u32.. {
        ticker.next().await;
        let due = (holdfast::microseconds()? - started_us) * embassy_time_driver::TICK_HZ / 1_000_000;
        let lost = due.saturating_sub((driver::ticks() - before).into());
        let (fired, echoed) = (TIMER_FIRED.load(Ordering::Relaxed), ECHOED.load(Ordering::Relaxed));
        let mut line = Line::<128>::new();
        let _ = write!(
            line,
            "embassy {VERSION}: {second} s, {lost} ticks lost, {fired} timers fired, {echoed} bytes echoed"
        );
        let _ = holdfast::log(line.as_str());
        if second == 1 {
            holdfast::healthy()?;
        }
    }
    Ok(())
}

fn main() -> ! {
    if let Err(status) = start() {
        panic!("a call answers {status:?}");
    }
    let executor = ManuallyDrop::new(Executor::new(core::ptr::null_mut()));
    // SAFETY: `main` does not return: what it holds is there for ever.
    let executor: &'static Executor = unsafe { &*core::ptr::from_ref(&*executor) };
    let spawner = executor.spawner();
    spawner.spawn(echo().expect("it is spawned once"));
    spawner.spawn(every_tick().expect("it is spawned once"));
    spawner.spawn(report().expect("it is spawned once"));
    loop {
        // SAFETY: polled here and nowhere else, never from within a task.
        unsafe { executor.poll() };
        section::rest();
    }
}

fn start() -> Result<(), Status> {
    let mut console = Uart::start();
    let _ = writeln!(console, "embassy {VERSION} starts: type something");
    holdfast::start_logging(&LOGS)?;
    // SAFETY: the application's own UART.
    unsafe { board::write(UART_AT + 8, UART_RUNS) };
    board::enable_interrupt(IRQ_UART_RECEIVE);
    driver::start(holdfast::clock_hz()?);
    Ok(())
}
