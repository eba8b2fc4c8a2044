//! An application that tries what an application must not: the isolation matrix, seen from outside the walls.
//!
//! `matrix` is made from `abi`'s table: every call, every pointer, everything that can be wrong with it. `attempt` has what
//! has to end the application; each is made once, remembered over the restart that follows, and found to have ended it by
//! the next start. What is seen is said on UART1, a line each: `probe WHAT: ok` or `probe WHAT: WRONG ...`, and at last
//! `probe done: N right, M wrong`. It is full of unsafe code, so it lives with the board and not among the examples.
#![no_std]
#![no_main]

mod attempt;
mod calls;
mod hostile;
mod kept;
// By its file: the crate it is in is the secure world's.
#[expect(dead_code, unreachable_pub, reason = "it is the firmware's; an attacker needs some of it")]
#[path = "../../chip/src/map.rs"]
mod map;
mod matrix;
mod report;

use holdfast::board::wait;

use crate::kept::Kept;
use crate::report::Report;

holdfast::entry!(main);
holdfast::handler!(timer0, attempt::in_handler);

const _: () = assert!(holdfast::raw::GATEWAY_AT == crate::map::secure::GATEWAY_AT);
const _: () = assert!(holdfast::board::TIMERS_AT == crate::map::app::TIMERS_AT);
const _: () = assert!(holdfast::board::UART_AT == crate::map::app::UART_AT);

fn main() -> ! {
    let mut report = Report::resume();
    match Kept::next() {
        // The first start.
        None => {
            matrix::run(&mut report);
            Kept::set_next(0);
        }
        Some(next) => {
            if let Some(attempt) = attempt::ALL.get(next.wrapping_sub(1)) {
                report.expect(format_args!("{} ends it", attempt.name), true);
            }
        }
    }
    report.expect(format_args!("unaligned accesses are as after a reset"), hostile::unaligned_works());
    report.expect(format_args!("calls of two threads stay apart"), hostile::threads_stayed_apart());
    while let Some((number, attempt)) = Kept::next().and_then(|next| Some((next, attempt::ALL.get(next)?))) {
        // Noted before: it is not going to come back.
        Kept::set_next(number + 1);
        report.keep();
        (attempt.make)();
        report.expect(format_args!("{} ends it", attempt.name), false);
    }
    report.done();
    let _ = holdfast::healthy();
    loop {
        wait();
    }
}
