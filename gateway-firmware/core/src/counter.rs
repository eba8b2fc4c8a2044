//! The monotonic counter in two erase units of flash: the application's floor on boards without a better place.

use crate::pair::{Health, Pair, Payload};
use crate::ports::{Counter, CounterError, Flash};

/// Bytes of a counter's region on a flash with this erase unit.
pub const fn region_bytes(erase_bytes: u32) -> u32 {
    2 * erase_bytes
}

/// A counter at the start of a flash of its own.
#[derive(Debug)]
pub struct FlashCounter<F> {
    flash: F,
}

impl<F: Flash> FlashCounter<F> {
    const PAIR: Pair = Pair { at: 0, kind: *b"HFC1" };

    pub fn new(flash: F) -> Self {
        Self { flash }
    }

    pub fn health(&mut self) -> Health {
        Self::PAIR.read(&mut self.flash).health
    }
}

impl<F: Flash> Counter for FlashCounter<F> {
    /// A counter that was written and cannot be read is an error, never zero: the floor would fall.
    fn value(&mut self) -> Result<u64, CounterError> {
        let found = Self::PAIR.read(&mut self.flash);
        match (found.payload, found.health) {
            (Some(payload), _) => Ok(decode(&payload)),
            (None, Health::Blank) => Ok(0),
            (None, _) => Err(CounterError),
        }
    }

    fn begin_anew(&mut self, at: u64) -> Result<(), CounterError> {
        if self.value().is_ok() {
            return self.raise(at);
        }
        Self::PAIR.put(&mut self.flash, &encode(at)).map_err(|_| CounterError)
    }

    fn raise(&mut self, to: u64) -> Result<(), CounterError> {
        if to <= self.value()? {
            return Ok(());
        }
        Self::PAIR.put(&mut self.flash, &encode(to)).map_err(|_| CounterError)
    }
}

/// The halves lie apart, with zeros between them: `Pair` must not see eight bytes of 0xFF.
fn encode(value: u64) -> Payload {
    let mut payload = [0; 20];
    let [v0, v1, v2, v3, v4, v5, v6, v7] = value.to_le_bytes();
    payload[..4].copy_from_slice(&[v0, v1, v2, v3]);
    payload[8..12].copy_from_slice(&[v4, v5, v6, v7]);
    payload
}

fn decode(payload: &Payload) -> u64 {
    let [v0, v1, v2, v3, _, _, _, _, v4, v5, v6, v7, ..] = *payload;
    u64::from_le_bytes([v0, v1, v2, v3, v4, v5, v6, v7])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_survives_and_never_reads_as_blank_flash() {
        for value in [0, 1, 0x0102_0304_0506_0708, u64::from(u32::MAX), u64::MAX] {
            let payload = encode(value);
            assert_eq!(decode(&payload), value);
            assert!(payload[..16].chunks(8).all(|word| word != [0xff; 8]));
        }
        assert_eq!(
            encode(0x0102_0304_0506_0708),
            [8, 7, 6, 5, 0, 0, 0, 0, 4, 3, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0],
            "frozen"
        );
    }
}
