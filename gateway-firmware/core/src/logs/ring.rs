//! The ring: records in their wire form, oldest first, over memory the board lends.
//!
//! A record lies as it travels, as one `records` field of `LogUp`, so a batch is a slice of the ring. The oldest make
//! room for the newest: the end of a story says more than its beginning, and the service learns what is missing. Where
//! the ring stands is written beside the records after every change (`kept`), for the boot after this one.

use core::fmt;

use wire::limits::{LOG_BATCH_RECORDS_MAX, LOG_TEXT_BYTES_MAX};
use wire::msg::{EnumValue, LogLevel, LogRecord, LogSource, Message as _};

use super::kept::{Head, KEPT_HEAD_BYTES};
use crate::device::BootId;

/// Bytes of the microvisor's own records, at most.
pub const NOTE_BYTES_MAX: usize = 160;
/// Key of `LogUp.records` on the wire: field 2, length-delimited.
const RECORDS_KEY: u8 = 2 << 3 | 2;

/// Records held back to back, the oldest first.
#[derive(Debug)]
pub struct Ring<'b> {
    boot: BootId,
    heads: &'b mut [u8],
    turn: u32,
    bytes: &'b mut [u8],
    start: usize,
    end: usize,
    /// Of the oldest record held, or of the next one to come.
    first: u64,
    next: u64,
    lost_up_to: u64,
    dropped: u64,
    level: LogLevel,
}

/// Records `first..=last`, encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Batch<'r> {
    pub first: u64,
    pub last: u64,
    /// `LogUp.records` fields, ready to be appended to a message.
    pub records: &'r [u8],
}

impl<'b> Ring<'b> {
    /// An empty ring for this boot. The first `KEPT_HEAD_BYTES` of the memory hold no records.
    pub fn new(memory: &'b mut [u8], boot: BootId) -> Self {
        let (heads, bytes) = memory.split_at_mut(KEPT_HEAD_BYTES.min(memory.len()));
        let turn = Head::load(heads).map_or(0, |(_, turn)| turn);
        let mut ring = Self {
            boot,
            heads,
            turn,
            bytes,
            start: 0,
            end: 0,
            first: 1,
            next: 1,
            lost_up_to: 0,
            dropped: 0,
            level: LogLevel::Info,
        };
        ring.save();
        ring
    }

    /// The count of the boot that left records in this memory.
    pub(super) fn left_by(memory: &[u8]) -> Option<u32> {
        Head::load(memory).filter(|(head, _)| head.start < head.end).map(|(head, _)| head.boot.counter)
    }

    /// The ring that an earlier boot left in this memory, if one did and any record of it waits. What cannot be read
    /// is counted as dropped.
    pub fn revive(memory: &'b mut [u8]) -> Option<Self> {
        let (heads, bytes) = memory.split_at_mut_checked(KEPT_HEAD_BYTES)?;
        let (head, turn) = Head::load(heads)?;
        let (start, end) = (head.start as usize, head.end as usize);
        let (readable, last) = readable(bytes.get(start..end)?, head.first, head.next);
        let mut ring = Self {
            boot: head.boot,
            heads,
            turn,
            bytes,
            start,
            end: start + readable,
            first: head.first,
            next: head.next,
            lost_up_to: head.lost_up_to,
            dropped: head.dropped,
            level: LogLevel::Info,
        };
        if last + 1 != ring.next {
            ring.count_lost(ring.next - 1, ring.next - 1 - last);
        }
        // A gap at the end travels with the last batch, and with nothing at all when there is none.
        (!ring.is_empty()).then_some(ring)
    }

    /// Whose records these are.
    pub fn boot(&self) -> BootId {
        self.boot
    }

    /// Records that are less severe than this are not made, which is no loss.
    pub fn set_level(&mut self, level: LogLevel) {
        if level != LogLevel::Unspecified {
            self.level = level;
        }
    }

    pub fn level(&self) -> LogLevel {
        self.level
    }

    /// Keeps a record; text beyond `LOG_TEXT_BYTES_MAX` is cut at a character.
    pub fn push(&mut self, uptime_us: u64, level: LogLevel, source: LogSource, text: &str) {
        if level as i32 > self.level as i32 {
            return;
        }
        let record = LogRecord {
            sequence: self.next,
            uptime_us,
            level: EnumValue::Known(level),
            source: EnumValue::Known(source),
            text: &text[..text.floor_char_boundary(LOG_TEXT_BYTES_MAX)],
            ..Default::default()
        };
        self.next += 1;
        self.keep(&record);
        self.save();
    }

    fn keep(&mut self, record: &LogRecord<'_>) {
        let length = record.encoded_len();
        let needed = 1 + varint_bytes(length) + length;
        if needed > self.bytes.len() {
            self.forget(self.next);
            self.count_lost(self.next - 1, 1);
            return;
        }
        while self.end - self.start + needed > self.bytes.len() {
            let oldest = self.first;
            self.pop();
            self.count_lost(oldest, 1);
        }
        if self.end + needed > self.bytes.len() {
            self.bytes.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        self.bytes[self.end] = RECORDS_KEY;
        let mut cursor = &mut self.bytes[self.end + 1..self.end + needed];
        // Cannot fail: `needed` was computed for it.
        let _ = record.encode_length_delimited(&mut cursor);
        self.end += needed;
    }

    /// Keeps a record of the microvisor's own; text beyond `NOTE_BYTES_MAX` is left out.
    pub fn note(&mut self, now_ms: u64, level: LogLevel, text: fmt::Arguments<'_>) {
        let mut line = heapless::String::<NOTE_BYTES_MAX>::new();
        // What does not fit is left out, piece by piece.
        let _ = fmt::write(&mut line, text);
        self.push(now_ms * 1000, level, LogSource::Microvisor, &line);
    }

    /// Forgets every record up to this sequence; a sequence never given out is ignored.
    pub fn stored_up_to(&mut self, sequence: u64) {
        if sequence < self.next {
            self.forget(sequence + 1);
            self.save();
        }
    }

    /// The oldest records that fit; nothing when none is held.
    pub fn batch(&self, bytes_max: usize) -> Option<Batch<'_>> {
        let (mut end, mut last) = (self.start, self.first);
        while end < self.end && last - self.first < LOG_BATCH_RECORDS_MAX as u64 {
            let length = self.entry_bytes(end);
            if end + length - self.start > bytes_max {
                break;
            }
            end += length;
            last += 1;
        }
        (last > self.first).then(|| Batch {
            first: self.first,
            last: last - 1,
            records: &self.bytes[self.start..end],
        })
    }

    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Bytes of the records held.
    pub fn used(&self) -> usize {
        self.end - self.start
    }

    /// The newest sequence dropped for want of room; 0 when none was.
    pub fn lost_up_to(&self) -> u64 {
        self.lost_up_to
    }

    /// Records dropped for want of room.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// The sequence the next record gets.
    pub fn next_sequence(&self) -> u64 {
        self.next
    }

    fn forget(&mut self, first: u64) {
        while self.first < first && !self.is_empty() {
            self.pop();
        }
        if self.is_empty() {
            self.first = self.next;
        }
    }

    fn pop(&mut self) {
        self.start += self.entry_bytes(self.start);
        self.first += 1;
        if self.start >= self.end {
            (self.start, self.end) = (0, 0);
        }
    }

    fn count_lost(&mut self, sequence: u64, count: u64) {
        self.lost_up_to = self.lost_up_to.max(sequence);
        self.dropped += count;
    }

    fn save(&mut self) {
        let head = Head {
            boot: self.boot,
            start: self.start as u32,
            end: self.end as u32,
            first: self.first,
            next: self.next,
            lost_up_to: self.lost_up_to,
            dropped: self.dropped,
        };
        head.save(&mut self.turn, self.heads);
    }

    /// Bytes of the entry that begins here: key, length, record.
    fn entry_bytes(&self, at: usize) -> usize {
        let (mut length, mut shift, mut index) = (0, 0, at + 1);
        loop {
            let byte = self.bytes[index];
            length |= usize::from(byte & 0x7f) << shift;
            shift += 7;
            index += 1;
            if byte & 0x80 == 0 {
                return index - at + length;
            }
        }
    }
}

/// How many bytes hold records `first..` in order and whole, and the last of them; at most up to `next`.
fn readable(bytes: &[u8], first: u64, next: u64) -> (usize, u64) {
    let (mut at, mut expected) = (0, first);
    while expected < next {
        let Some(entry) = bytes.get(at..).filter(|entry| entry.first() == Some(&RECORDS_KEY)) else { break };
        let mut rest = &entry[1..];
        let Ok(record) = LogRecord::decode_length_delimited(&mut rest) else { break };
        if record.sequence != expected {
            break;
        }
        expected += 1;
        at = bytes.len() - rest.len();
    }
    (at, expected.saturating_sub(1))
}

fn varint_bytes(value: usize) -> usize {
    if value < 0x80 {
        1
    } else if value < 0x4000 {
        2
    } else {
        3
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;
    use wire::msg::LogUp;

    const BOOT: BootId = BootId { counter: 3, random: 9 };

    fn records(batch: Batch<'_>) -> Vec<(u64, usize)> {
        let message = LogUp::decode(batch.records).unwrap();
        message
            .records
            .iter()
            .map(|record| {
                let record = record.unwrap();
                (record.sequence, record.text.len())
            })
            .collect()
    }

    #[test]
    fn what_was_stored_is_forgotten_and_only_that() {
        let mut memory = [0; KEPT_HEAD_BYTES + 1024];
        let mut ring = Ring::new(&mut memory, BOOT);
        for _ in 0..5 {
            ring.push(7, LogLevel::Info, LogSource::App, "hello");
        }
        assert_eq!(ring.batch(4096).map(|batch| (batch.first, batch.last)), Some((1, 5)));
        ring.stored_up_to(3);
        assert_eq!(records(ring.batch(4096).unwrap()), [(4, 5), (5, 5)]);
        ring.stored_up_to(2);
        ring.stored_up_to(99);
        assert_eq!(ring.batch(4096).map(|batch| (batch.first, batch.last)), Some((4, 5)));
        ring.stored_up_to(5);
        assert!(ring.is_empty());
        ring.push(8, LogLevel::Info, LogSource::App, "next");
        assert_eq!(ring.batch(4096).map(|batch| batch.first), Some(6));
    }

    #[test]
    fn a_full_ring_drops_the_oldest_and_says_which() {
        let mut memory = [0; KEPT_HEAD_BYTES + 256];
        let mut ring = Ring::new(&mut memory, BOOT);
        for _ in 0..100 {
            ring.push(7, LogLevel::Warn, LogSource::App, "0123456789");
        }
        let held = records(ring.batch(4096).unwrap());
        assert_eq!(held.last().unwrap().0, 100);
        assert_eq!(ring.lost_up_to(), held[0].0 - 1);
        assert_eq!(ring.dropped() as usize + held.len(), 100);
    }

    #[test]
    fn text_is_cut_at_its_limit_and_at_a_character() {
        let mut memory = [0; KEPT_HEAD_BYTES + 2048];
        let mut ring = Ring::new(&mut memory, BOOT);
        let long = "é".repeat(LOG_TEXT_BYTES_MAX / 2 + 1);
        ring.push(0, LogLevel::Info, LogSource::App, &long);
        ring.push(0, LogLevel::Info, LogSource::App, &std::format!("x{long}"));
        ring.push(0, LogLevel::Info, LogSource::App, &"x".repeat(LOG_TEXT_BYTES_MAX));
        let lengths: Vec<usize> =
            records(ring.batch(4096).unwrap()).into_iter().map(|(_, length)| length).collect();
        assert_eq!(lengths, [LOG_TEXT_BYTES_MAX, LOG_TEXT_BYTES_MAX - 1, LOG_TEXT_BYTES_MAX]);
    }

    #[test]
    fn a_later_boot_finds_what_was_not_stored() {
        let mut memory = [0; KEPT_HEAD_BYTES + 256];
        let mut ring = Ring::new(&mut memory, BOOT);
        for _ in 0..40 {
            ring.push(7, LogLevel::Info, LogSource::App, "hello");
        }
        let held = records(ring.batch(4096).unwrap());
        let (dropped, lost_up_to) = (ring.dropped(), ring.lost_up_to());
        let ring = Ring::revive(&mut memory).unwrap();
        assert_eq!(records(ring.batch(4096).unwrap()), held);
        assert_eq!((ring.boot(), ring.dropped(), ring.lost_up_to()), (BOOT, dropped, lost_up_to));
        let mut ring = Ring::revive(&mut memory).unwrap();
        ring.stored_up_to(40);
        assert!(Ring::revive(&mut memory).is_none());
        assert!(Ring::revive(&mut [0xff; 512]).is_none());
    }

    #[test]
    fn a_record_larger_than_the_ring_is_counted_as_lost() {
        let mut memory = [0; KEPT_HEAD_BYTES + 16];
        let mut ring = Ring::new(&mut memory, BOOT);
        ring.push(0, LogLevel::Info, LogSource::App, "far too long for this ring");
        assert_eq!((ring.lost_up_to(), ring.dropped(), ring.batch(99)), (1, 1, None));
    }

    #[test]
    fn the_level_filters_before_a_number_is_given() {
        let mut memory = [0; KEPT_HEAD_BYTES + 256];
        let mut ring = Ring::new(&mut memory, BOOT);
        ring.push(0, LogLevel::Debug, LogSource::App, "quiet");
        assert_eq!(ring.next_sequence(), 1);
        ring.set_level(LogLevel::Debug);
        ring.push(0, LogLevel::Debug, LogSource::App, "loud");
        ring.set_level(LogLevel::Unspecified);
        assert_eq!((ring.next_sequence(), ring.level()), (2, LogLevel::Debug));
    }

    #[test]
    fn a_batch_has_at_most_its_records() {
        let mut memory = [0; KEPT_HEAD_BYTES + 8192];
        let mut ring = Ring::new(&mut memory, BOOT);
        for _ in 0..=LOG_BATCH_RECORDS_MAX {
            ring.push(0, LogLevel::Info, LogSource::App, "x");
        }
        assert_eq!(ring.batch(8192).map(|batch| batch.last), Some(LOG_BATCH_RECORDS_MAX as u64));
    }

    proptest! {
        /// Memory may hold anything after a reset: what is revived is whole, and nothing panics.
        #[test]
        fn a_spoiled_ring_is_revived_up_to_the_damage(
            texts in proptest::collection::vec(0_usize..40, 1..30),
            at in 0_usize..1024,
            value in any::<u8>(),
        ) {
            let mut memory = std::vec![0; KEPT_HEAD_BYTES + 1024];
            let mut ring = Ring::new(&mut memory, BOOT);
            for length in &texts {
                ring.push(1, LogLevel::Info, LogSource::App, &"t".repeat(*length));
            }
            // What had no room is gone already.
            let held = ring.batch(4096).map_or(1, |batch| batch.first);
            memory[at] = value;
            if let Some(mut ring) = Ring::revive(&mut memory) {
                let batch = ring.batch(4096).unwrap();
                let (first, last) = (batch.first, batch.last);
                let _ = records(batch);
                prop_assert!((1..=held).contains(&first) && last <= texts.len() as u64);
                ring.stored_up_to(last);
                prop_assert!(ring.is_empty());
            }
        }

        #[test]
        fn every_record_is_held_stored_or_counted(
            steps in proptest::collection::vec((0_usize..700, 0_u64..8, any::<bool>()), 1..200),
            size in 8_usize..2000,
        ) {
            let mut memory = std::vec![0; KEPT_HEAD_BYTES + size];
            let mut ring = Ring::new(&mut memory, BOOT);
            let mut stored = 0;
            for (length, ahead, ack) in steps {
                if ack {
                    let to = (stored + ahead).min(ring.next_sequence() - 1);
                    ring.stored_up_to(to);
                    stored = stored.max(to);
                } else {
                    ring.push(1, LogLevel::Info, LogSource::App, &"t".repeat(length));
                }
                if let Some(batch) = ring.batch(4096) {
                    let held = records(batch);
                    prop_assert_eq!(held[0].0, batch.first);
                    prop_assert_eq!(held.len() as u64, batch.last - batch.first + 1);
                    prop_assert!(batch.first == stored.max(ring.lost_up_to()) + 1);
                }
            }
        }
    }
}
