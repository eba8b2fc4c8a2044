//! A ring's bookkeeping, beside its records: what a boot whose memory outlived the reset takes up again.
//!
//! ```text
//! | head 0 | head 1 | records ... |
//! ```
//!
//! The heads are written in turn, so that one of them is whole whenever the processor stops. A head says more than is true only of
//! records that were just being moved; whoever revives a ring reads every record and keeps what follows without a gap.

use crate::crc::Crc;
use crate::device::BootId;

/// Bytes of one head.
const HEAD_BYTES: usize = 64;
/// Bytes of a ring's memory that hold no records.
pub const KEPT_HEAD_BYTES: usize = 2 * HEAD_BYTES;
/// "HFL1": another layout gets another number.
const MAGIC: u32 = u32::from_le_bytes(*b"HFL1");

/// Where a ring stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) boot: BootId,
    pub(super) start: u32,
    pub(super) end: u32,
    pub(super) first: u64,
    pub(super) next: u64,
    pub(super) lost_up_to: u64,
    pub(super) dropped: u64,
}

impl Head {
    /// Writes the head in the place of the older one.
    pub(super) fn save(&self, turn: &mut u32, heads: &mut [u8]) {
        *turn = turn.wrapping_add(1);
        let at = (*turn % 2) as usize * HEAD_BYTES;
        if let Some(place) = heads.get_mut(at..at + HEAD_BYTES) {
            place.copy_from_slice(&self.encode(*turn));
        }
    }

    /// The newest whole head, and its turn.
    pub(super) fn load(heads: &[u8]) -> Option<(Head, u32)> {
        let heads = heads.get(..KEPT_HEAD_BYTES)?;
        heads
            .chunks_exact(HEAD_BYTES)
            .filter_map(Self::decode)
            .reduce(|one, other| if other.1.wrapping_sub(one.1) as i32 > 0 { other } else { one })
    }

    fn encode(&self, turn: u32) -> [u8; HEAD_BYTES] {
        let mut bytes = [0; HEAD_BYTES];
        let mut rest = &mut bytes[..];
        let words = [MAGIC, turn, self.boot.counter, self.start, self.end];
        let longs = [self.boot.random, self.first, self.next, self.lost_up_to, self.dropped];
        let mut put = |value: &[u8]| {
            let (place, after) = core::mem::take(&mut rest).split_at_mut(value.len());
            place.copy_from_slice(value);
            rest = after;
        };
        words.iter().for_each(|word| put(&word.to_le_bytes()));
        longs.iter().for_each(|long| put(&long.to_le_bytes()));
        let crc = checksum(&bytes);
        bytes[HEAD_BYTES - 4..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<(Head, u32)> {
        let word = |index: usize| Some(u32::from_le_bytes(*bytes.get(4 * index..)?.first_chunk()?));
        let long = |index: usize| Some(u64::from_le_bytes(*bytes.get(20 + 8 * index..)?.first_chunk()?));
        if word(0)? != MAGIC || word(HEAD_BYTES / 4 - 1)? != checksum(bytes) {
            return None;
        }
        let head = Head {
            boot: BootId { counter: word(2)?, random: long(0)? },
            start: word(3)?,
            end: word(4)?,
            first: long(1)?,
            next: long(2)?,
            lost_up_to: long(3)?,
            dropped: long(4)?,
        };
        Some((head, word(1)?))
    }
}

fn checksum(bytes: &[u8]) -> u32 {
    let mut crc = Crc::new(MAGIC);
    crc.update(&bytes[..HEAD_BYTES - 4]);
    crc.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: Head = Head {
        boot: BootId { counter: 7, random: 0x0102_0304_0506_0708 },
        start: 1,
        end: 2,
        first: 3,
        next: 4,
        lost_up_to: 5,
        dropped: 6,
    };

    #[test]
    fn the_newest_whole_head_counts() {
        let (mut heads, mut turn) = ([0xa5; KEPT_HEAD_BYTES], u32::MAX - 1);
        assert_eq!(Head::load(&heads), None);
        for next in 4..9 {
            Head { next, ..HEAD }.save(&mut turn, &mut heads);
            assert_eq!(Head::load(&heads), Some((Head { next, ..HEAD }, turn)));
        }
        let newest = (turn % 2) as usize * HEAD_BYTES;
        for byte in newest..newest + HEAD_BYTES {
            let mut torn = heads;
            torn[byte] ^= 0x10;
            assert_eq!(Head::load(&torn).map(|(head, _)| head.next), Some(7));
        }
    }

    #[test]
    fn memory_without_room_for_heads_keeps_nothing() {
        let mut turn = 0;
        HEAD.save(&mut turn, &mut [0; 8]);
        assert_eq!(Head::load(&[0; KEPT_HEAD_BYTES - 1]), None);
    }
}
