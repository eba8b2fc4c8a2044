//! Logs as fast as it can, as much as a message holds.
#![no_std]
#![no_main]

use holdfast::{LOG_MESSAGE_BYTES_MAX, LogBuffer};
use hostile::Attacker;

hostile::application!(attack);

static LOGS: LogBuffer<8192> = LogBuffer::new();
const TEXT: [u8; LOG_MESSAGE_BYTES_MAX] = [b'x'; LOG_MESSAGE_BYTES_MAX];

fn attack(it: &mut Attacker) {
    if it.round() == 0 {
        let _ = holdfast::start_logging(&LOGS);
    }
    let text = core::str::from_utf8(&TEXT).unwrap_or_default();
    let _ = holdfast::log(&text[..(it.round() as usize % LOG_MESSAGE_BYTES_MAX).max(1)]);
}
