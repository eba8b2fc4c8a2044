//! Entropy from the other end of a UART: QEMU has no random generator for this board, a real one has it in its place.
//!
//! Reads are bounded in time. A line that is silent, or always says the same, is no entropy.

use gateway_core::ports::{Entropy, EntropyError};

use crate::clock::now_us;
use crate::uart::Uart;

/// Time for one byte, and so for every look between two of them.
const BYTE_MAX_US: u64 = 500_000;
/// Time for all that is asked for at once, however slowly it trickles: half of what the watchdog gives before its warning.
const FILL_MAX_US: u64 = crate::watchdog::HALF_MS as u64 * 1000 / 2;
/// Turns of a loop between two looks: QEMU brings bytes in between accesses to devices, and only if it is left the time.
const LOOK_EVERY: u32 = 20_000;
/// Equal bytes in a row after which a line counts as stuck: one chance in 2^56.
const EQUAL_MAX: u32 = 8;

/// The entropy UART.
#[derive(Debug)]
pub struct EntropyUart {
    uart: Uart,
    last: Option<u8>,
    equal: u32,
}

impl EntropyUart {
    /// Enabled, nothing read yet.
    pub fn new() -> EntropyUart {
        EntropyUart { uart: Uart::entropy(), last: None, equal: 0 }
    }

    fn byte(&mut self, fill_until_us: u64) -> Result<u8, EntropyError> {
        let until_us = fill_until_us.min(now_us() + BYTE_MAX_US);
        loop {
            if let Some(byte) = self.uart.receive() {
                return self.judge(byte);
            }
            if now_us() > until_us {
                return Err(EntropyError);
            }
            (0..LOOK_EVERY).for_each(|_| core::hint::spin_loop());
        }
    }

    /// The repetition count test of NIST SP 800-90B §4.4.1.
    fn judge(&mut self, byte: u8) -> Result<u8, EntropyError> {
        self.equal = if self.last == Some(byte) { self.equal.saturating_add(1) } else { 1 };
        self.last = Some(byte);
        if self.equal < EQUAL_MAX { Ok(byte) } else { Err(EntropyError) }
    }
}

impl Default for EntropyUart {
    fn default() -> Self {
        EntropyUart::new()
    }
}

impl Entropy for EntropyUart {
    fn fill(&mut self, into: &mut [u8]) -> Result<(), EntropyError> {
        let until_us = now_us() + FILL_MAX_US;
        into.iter_mut().try_for_each(|byte| self.byte(until_us).map(|read| *byte = read))
    }
}
