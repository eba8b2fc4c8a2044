//! Hurts nobody: logs numbered lines as fast as they are taken. `cargo dev bench board` counts those that arrive.
#![no_std]
#![no_main]

use core::fmt::Write as _;

use holdfast::LogBuffer;
use holdfast::board::{Line, Uart, wait};

holdfast::entry!(main);

const LINES: u32 = 500;
static LOGS: LogBuffer<8192> = LogBuffer::new();

fn main() -> ! {
    let mut console = Uart::start();
    let _ = holdfast::start_logging(&LOGS);
    let _ = holdfast::healthy();
    let _ = writeln!(console, "log-lines begins");
    for number in 1..=LINES {
        let mut line = Line::<64>::new();
        let _ = write!(line, "line {number} of {LINES}, as long as lines of a log are, {number:08}");
        // What is full now has room later: nothing is dropped.
        while holdfast::log(line.as_str()).is_err() {
            hostile::processor::breathe();
        }
    }
    let _ = writeln!(console, "log-lines ends");
    loop {
        wait();
    }
}
