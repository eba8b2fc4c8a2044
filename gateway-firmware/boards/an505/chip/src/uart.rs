//! CMSDK APB UARTs: the secure console, and bytes from the entropy UART. Every wait is bounded.

use core::fmt;

use crate::map::register;
use crate::mmio;

const DATA: u32 = 0x00;
const STATE: u32 = 0x04;
const STATE_TX_FULL: u32 = 1;
const STATE_RX_FULL: u32 = 1 << 1;
const CTRL: u32 = 0x08;
const CTRL_TX: u32 = 1;
const CTRL_RX: u32 = 1 << 1;
const BAUDDIV: u32 = 0x10;
/// Clock cycles a bit: 115,200 baud at 20 MHz.
const CYCLES_A_BIT: u32 = 174;
/// Looks at a full transmitter before what is left of a line is dropped: a console that nobody reads holds up nothing, and one whose
/// other end is late, as a busy host's is, loses nothing.
const SEND_LOOKS_MAX: u32 = 40_000;

/// One UART.
#[derive(Debug)]
pub struct Uart {
    at: u32,
    /// Something was dropped: the rest is not waited for.
    lost: bool,
}

impl Uart {
    /// The secure console, enabled: a byte written before that would never leave.
    pub fn console() -> Uart {
        mmio::write(register::UART_CONSOLE + BAUDDIV, CYCLES_A_BIT);
        mmio::write(register::UART_CONSOLE + CTRL, CTRL_TX);
        Uart { at: register::UART_CONSOLE, lost: false }
    }

    /// The UART whose other end gives randomness.
    pub(crate) fn entropy() -> Uart {
        mmio::write(register::UART_ENTROPY + BAUDDIV, CYCLES_A_BIT);
        mmio::write(register::UART_ENTROPY + CTRL, CTRL_RX);
        // QEMU looks at the other end again after a byte was taken, not when the receiver is enabled. What was there before
        // is nobody's.
        mmio::read(register::UART_ENTROPY + DATA);
        Uart { at: register::UART_ENTROPY, lost: false }
    }

    /// Sends a byte, or drops it.
    pub fn send(&mut self, byte: u8) {
        let looks = if self.lost { 1 } else { SEND_LOOKS_MAX };
        for _ in 0..looks {
            if mmio::read(self.at + STATE) & STATE_TX_FULL == 0 {
                mmio::write(self.at + DATA, byte.into());
                return;
            }
        }
        self.lost = true;
    }

    /// A byte that has arrived.
    pub(crate) fn receive(&mut self) -> Option<u8> {
        let full = mmio::read(self.at + STATE) & STATE_RX_FULL != 0;
        full.then(|| mmio::read(self.at + DATA) as u8)
    }
}

impl fmt::Write for Uart {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.bytes().for_each(|byte| self.send(byte));
        Ok(())
    }
}
