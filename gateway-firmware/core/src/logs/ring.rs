//! The ring: records in their wire form, oldest first, over memory the board lends.
//!
//! A record lies as it travels, as one `records` field of `LogUp`, so a batch is a slice of the ring. The oldest make
//! room for the newest: the end of a story says more than its beginning, and the service learns what is missing. The
//! application's records have their share of the ring and push out nothing but each other. Where
//! the ring stands is written beside the records after every change (`kept`), for the boot after this one.

use core::fmt;

use wire::limits::{LOG_BATCH_RECORDS_MAX, LOG_TEXT_BYTES_MAX};
use wire::msg::{EnumValue, LogLevel, LogRecord, LogSource, Message as _};

use super::kept::{Head, KEPT_HEAD_BYTES};
use crate::device::BootId;
use crate::mutation::mutated;

/// Bytes of the microvisor's own records, at most.
pub const NOTE_BYTES_MAX: usize = 160;
/// Bytes of a record in the ring, at most: its text, and two numbers, two enums, keys and lengths.
const RECORD_BYTES_MAX: usize = LOG_TEXT_BYTES_MAX + 40;
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
    /// Bytes of the application's records held.
    app_used: usize,
}

/// Where a record finds room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Room {
    /// The oldest give way.
    Whole,
    /// In the application's share, where its oldest give way.
    OfApp,
    /// Where nothing is.
    Spare,
}

/// Records `first..=last`, encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Batch<'r> {
    pub first: u64,
    pub last: u64,
    /// The newest sequence that was dropped, as far as this batch reaches: what lies beyond it and is held will still come.
    pub lost_up_to: u64,
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
            app_used: 0,
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
            app_used: 0,
        };
        // What was dropped before is counted before.
        let known = last.max(ring.lost_up_to);
        if known + 1 < ring.next {
            ring.count_lost(ring.next - 1, ring.next - 1 - known);
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
        let room = if source == LogSource::App { Room::OfApp } else { Room::Whole };
        self.push_into(room, uptime_us, level, source, text);
    }

    fn push_into(&mut self, room: Room, uptime_us: u64, level: LogLevel, source: LogSource, text: &str) {
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
        self.keep(&record, room);
        self.save();
    }

    /// Whether the longest record of the application's has room without any being dropped.
    pub fn app_has_room(&self) -> bool {
        let needed = RECORD_BYTES_MAX.min(self.app_share());
        self.app_used + needed <= self.app_share() && self.used() + needed <= self.bytes.len()
    }

    /// Bytes the application's records may take: three quarters.
    fn app_share(&self) -> usize {
        self.bytes.len() / 4 * 3
    }

    fn keep(&mut self, record: &LogRecord<'_>, room: Room) {
        let is_app = room == Room::OfApp;
        let length = record.encoded_len();
        let needed = 1 + varint_bytes(length) + length;
        if room == Room::Spare && self.used() + needed > self.bytes.len() {
            self.count_lost(self.next - 1, 1);
            return;
        }
        let share = if is_app { self.app_share() } else { self.bytes.len() };
        if needed > share {
            self.count_lost(self.next - 1, 1);
            return;
        }
        while self.used() + needed > self.bytes.len() || is_app && self.app_used + needed > share {
            if is_app && !mutated!(LogShare) {
                if !self.drop_oldest_of_app() {
                    // The microvisor's fill the ring, and stay.
                    self.count_lost(self.next - 1, 1);
                    return;
                }
            } else {
                let oldest = self.first;
                self.pop();
                self.count_lost(oldest, 1);
            }
        }
        if is_app {
            self.app_used += needed;
        }
        if self.is_empty() {
            self.first = record.sequence;
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
        self.note_into(Room::Whole, now_ms, level, text);
    }

    /// The same of what an application can bring about as often as it likes: it pushes out nothing, and is counted where it has no room.
    pub fn note_of_app(&mut self, now_ms: u64, level: LogLevel, text: fmt::Arguments<'_>) {
        self.note_into(Room::Spare, now_ms, level, text);
    }

    fn note_into(&mut self, room: Room, now_ms: u64, level: LogLevel, text: fmt::Arguments<'_>) {
        let mut line = heapless::String::<NOTE_BYTES_MAX>::new();
        // What does not fit is left out, piece by piece.
        let _ = fmt::write(&mut line, text);
        self.push_into(room, now_ms * 1000, level, LogSource::Microvisor, &line);
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
        let (mut end, mut last, mut count) = (self.start, self.first, 0);
        while end < self.end && count < LOG_BATCH_RECORDS_MAX {
            let length = self.entry_bytes(end);
            if end + length - self.start > bytes_max {
                break;
            }
            last = self.entry(end).0;
            end += length;
            count += 1;
        }
        // What is missing at the end travels with the newest record.
        let reach = if end == self.end { u64::MAX } else { last };
        (count > 0).then(|| Batch {
            first: self.first,
            last,
            lost_up_to: self.lost_up_to.min(reach),
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
        let length = self.entry_bytes(self.start);
        if self.entry(self.start).1 {
            self.app_used = self.app_used.saturating_sub(length);
        }
        self.start += length;
        if self.start >= self.end {
            (self.start, self.end) = (0, 0);
        }
        self.first = if self.is_empty() { self.next } else { self.entry(self.start).0 };
    }

    /// Drops the application's oldest record, wherever it lies; false when there is none.
    fn drop_oldest_of_app(&mut self) -> bool {
        let mut at = self.start;
        while at < self.end {
            let (sequence, is_app) = self.entry(at);
            if !is_app {
                at += self.entry_bytes(at);
                continue;
            }
            if at == self.start {
                self.pop();
            } else {
                let length = self.entry_bytes(at);
                self.bytes.copy_within(at + length..self.end, at);
                self.end -= length;
                self.app_used = self.app_used.saturating_sub(length);
            }
            self.count_lost(sequence, 1);
            return true;
        }
        false
    }

    /// Number of the record that begins here, and whether it is the application's.
    fn entry(&self, at: usize) -> (u64, bool) {
        let mut rest = &self.bytes[at + 1..self.end];
        // Cannot fail: nothing but whole records is held.
        LogRecord::decode_length_delimited(&mut rest)
            .map(|record| (record.sequence, record.source == EnumValue::Known(LogSource::App)))
            .unwrap_or_default()
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
        // Those in between were dropped. The first is the first: it is what the head says that is believed.
        let fits = if at == 0 { record.sequence == first } else { record.sequence >= expected };
        if !fits || record.sequence >= next {
            break;
        }
        expected = record.sequence + 1;
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

    /// Everything held: number, and whether it is the application's.
    fn all(ring: &Ring<'_>) -> Vec<(u64, bool)> {
        let (mut at, mut found) = (ring.start, Vec::new());
        while at < ring.end {
            found.push(ring.entry(at));
            at += ring.entry_bytes(at);
        }
        found
    }

    #[test]
    fn the_application_pushes_out_nothing_but_its_own() {
        let mut memory = [0; KEPT_HEAD_BYTES + 1024];
        let mut ring = Ring::new(&mut memory, BOOT);
        ring.note(1, LogLevel::Info, format_args!("a story"));
        for index in 0..1000 {
            ring.push(7, LogLevel::Info, LogSource::App, &std::format!("line {index}"));
            if index % 250 == 0 {
                ring.note(1, LogLevel::Info, format_args!("goes on"));
            }
        }
        let held = all(&ring);
        assert_eq!(held.iter().filter(|(_, is_app)| !is_app).count(), 5);
        assert_eq!((held[0], held.last().copied()), ((1, false), Some((1005, true))));
        assert_eq!(ring.dropped() as usize + held.len(), 1005);
        assert!(!ring.app_has_room());
        ring.stored_up_to(1005);
        assert!(ring.app_has_room());
    }

    #[test]
    fn what_an_application_brings_about_without_end_pushes_out_nothing() {
        let mut memory = [0; KEPT_HEAD_BYTES + 1024];
        let mut ring = Ring::new(&mut memory, BOOT);
        ring.note(1, LogLevel::Error, format_args!("how it began"));
        for index in 0..1000 {
            ring.push(7, LogLevel::Info, LogSource::App, "before it ends");
            ring.note_of_app(1, LogLevel::Warn, format_args!("it ended {index} times"));
        }
        let held = all(&ring);
        assert_eq!(held[0], (1, false));
        assert_eq!(ring.dropped() as usize + held.len(), 2001);
        ring.note(1, LogLevel::Info, format_args!("goes on"));
        assert_eq!(all(&ring).last().copied(), Some((2002, false)));
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
        let mut memory = [0; KEPT_HEAD_BYTES + 3072];
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
        fn every_record_is_held_stored_or_counted_and_only_its_own_kind_pushes_out_the_microvisors(
            steps in proptest::collection::vec((0_usize..700, 0_u64..8, any::<bool>(), any::<bool>()), 1..200),
            size in 8_usize..2000,
        ) {
            let mut memory = std::vec![0; KEPT_HEAD_BYTES + size];
            let mut ring = Ring::new(&mut memory, BOOT);
            let mut stored = 0;
            for (length, ahead, ack, is_app) in steps {
                let (before, dropped, room) = (all(&ring), ring.dropped(), ring.app_has_room());
                if ack {
                    let to = (stored + ahead).min(ring.next_sequence() - 1);
                    ring.stored_up_to(to);
                    stored = stored.max(to);
                    prop_assert!(all(&ring).iter().all(|(sequence, _)| *sequence > to));
                    prop_assert_eq!(ring.dropped(), dropped);
                } else {
                    let number = ring.next_sequence();
                    let source = if is_app { LogSource::App } else { LogSource::Microvisor };
                    ring.push(1, LogLevel::Info, source, &"t".repeat(length));
                    let after = all(&ring);
                    let gone: Vec<_> = before.iter().filter(|entry| !after.contains(entry)).collect();
                    let refused = after.last() != Some(&(number, is_app));
                    prop_assert_eq!(ring.dropped() - dropped, gone.len() as u64 + u64::from(refused));
                    prop_assert!(!is_app || gone.iter().all(|(_, was_app)| *was_app));
                    let promised = is_app && room && ring.app_share() >= RECORD_BYTES_MAX;
                    prop_assert!(!promised || !refused && gone.is_empty());
                }
                prop_assert!(ring.app_used <= ring.app_share());
                if let Some(batch) = ring.batch(4096) {
                    let (held, sent) = (all(&ring), records(batch));
                    prop_assert_eq!(sent[0].0, batch.first);
                    prop_assert_eq!(sent[sent.len() - 1].0, batch.last);
                    // Nothing that is held is called lost, but what is in the batch.
                    let later = held.iter().find(|(sequence, _)| *sequence > batch.last);
                    prop_assert!(later.is_none_or(|(sequence, _)| batch.lost_up_to < *sequence));
                    prop_assert!(held.iter().map(|(sequence, _)| sequence).is_sorted());
                }
            }
            let held = all(&ring);
            prop_assert_eq!(Ring::revive(&mut memory).map(|ring| all(&ring)).unwrap_or_default(), held);
        }
    }
}
