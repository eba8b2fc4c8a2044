//! The application's peripherals, when it is over: as after a reset.

use crate::map::app::{TIMERS_AT, TIMERS_BYTES, UART_AT};
use crate::mmio::write;

const TIMER_CTRL: u32 = 0x00;
const TIMER_INTCLEAR: u32 = 0x0c;
const UART_CTRL: u32 = 0x08;
const UART_INTCLEAR: u32 = 0x0c;

/// Stops both timers and the UART, and clears what they ask for. By the alias the application uses: the other is closed.
pub fn quiet() {
    for timer in (TIMERS_AT..TIMERS_AT + TIMERS_BYTES).step_by(0x1000) {
        write(timer + TIMER_CTRL, 0);
        write(timer + TIMER_INTCLEAR, 1);
    }
    write(UART_AT + UART_CTRL, 0);
    write(UART_AT + UART_INTCLEAR, 0xf);
}
