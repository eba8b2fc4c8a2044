//! The form of one record: a head of 12 bytes, the payload, padding to the write unit.
//!
//! Head, little-endian: key, its complement, payload length (2), sequence (4), checksum (4) over the bank's generation,
//! the head's first 8 bytes and the payload.

use super::{KEYS, Key};
use crate::crc::Crc;

pub(super) const HEAD_BYTES: u32 = 12;

/// A head without its checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    /// Nothing: a key that only another microvisor knows.
    pub(super) key: Option<Key>,
    number: u8,
    pub(super) len: u16,
    pub(super) sequence: u32,
}

impl Head {
    pub(super) fn new(key: Key, len: u16, sequence: u32) -> Head {
        Head { key: Some(key), number: key as u8, len, sequence }
    }

    /// The bytes before the checksum.
    pub(super) fn bytes(self) -> [u8; 8] {
        let [l0, l1] = self.len.to_le_bytes();
        let [s0, s1, s2, s3] = self.sequence.to_le_bytes();
        let key = self.number;
        [key, !key, l0, l1, s0, s1, s2, s3]
    }

    /// The head and the checksum it claims; nothing for bytes that are no head.
    pub(super) fn parse(bytes: [u8; HEAD_BYTES as usize]) -> Option<(Head, u32)> {
        let [key, complement, l0, l1, s0, s1, s2, s3, c0, c1, c2, c3] = bytes;
        if key != !complement {
            return None;
        }
        let head = Head {
            key: Key::ALL.into_iter().find(|it| *it as u8 == key),
            number: key,
            len: u16::from_le_bytes([l0, l1]),
            sequence: u32::from_le_bytes([s0, s1, s2, s3]),
        };
        head.key
            .is_none_or(|key| usize::from(head.len) <= key.bytes_max())
            .then_some((head, u32::from_le_bytes([c0, c1, c2, c3])))
    }

    /// The checksum, payload still to be added.
    pub(super) fn crc(self, generation: u32) -> Crc {
        let mut crc = Crc::new(generation);
        crc.update(&self.bytes());
        crc
    }

    /// Bytes of the whole record on this flash.
    pub(super) fn record_bytes(self, unit: u32) -> u32 {
        record_bytes(usize::from(self.len), unit)
    }
}

/// Bytes a payload of this length takes.
pub(super) const fn record_bytes(len: usize, unit: u32) -> u32 {
    (HEAD_BYTES + len as u32).next_multiple_of(unit)
}

/// Most that every key together can take.
pub(super) const fn live_bytes_max(unit: u32) -> u32 {
    let (mut sum, mut index) = (0, 0);
    while index < KEYS {
        sum += record_bytes(Key::ALL[index].bytes_max(), unit);
        index += 1;
    }
    sum
}
