//! The application's log: messages wait in memory that it lent, where they begin and end is known here alone.
//!
//! So whatever the application writes into that memory spoils its own text and nothing else. Nothing here reads or writes
//! the memory: a message is one or two [`Piece`]s of it.

use crate::memory::overlap;
use crate::status::Status;

/// Messages that wait at once, at most.
pub const LOG_MESSAGES_MAX: usize = 128;

/// A part of the lent memory. Neither of two wraps, and the second may be empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    pub at: u32,
    pub bytes: u32,
}

/// A message that waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waiting {
    /// When it was logged.
    pub at_ms: u64,
    pub pieces: [Piece; 2],
}

/// The queue.
#[derive(Debug)]
pub struct LentLog {
    /// Zero bytes: nothing was lent.
    lent: Piece,
    /// Where the oldest message begins, and bytes of all.
    first: u32,
    used: u32,
    /// Of each message its length and the lower half of its time; the oldest is at `oldest`.
    lengths: [u16; LOG_MESSAGES_MAX],
    times_ms: [u32; LOG_MESSAGES_MAX],
    oldest: usize,
    count: usize,
}

impl Default for LentLog {
    fn default() -> Self {
        Self::new()
    }
}

impl LentLog {
    pub const fn new() -> Self {
        Self {
            lent: Piece { at: 0, bytes: 0 },
            first: 0,
            used: 0,
            lengths: [0; LOG_MESSAGES_MAX],
            times_ms: [0; LOG_MESSAGES_MAX],
            oldest: 0,
            count: 0,
        }
    }

    /// Memory was lent: `at` and `bytes` were judged. The same again changes nothing; other memory takes its place
    /// once nothing waits any more, and is a `ParameterFault` until then.
    pub fn lend(&mut self, at: u32, bytes: u32) -> Result<(), Status> {
        let lent = Piece { at, bytes };
        if lent == self.lent {
            return Ok(());
        }
        if self.count > 0 {
            return Err(Status::ParameterFault);
        }
        *self = Self { lent, ..Self::new() };
        Ok(())
    }

    pub fn is_lent(&self) -> bool {
        self.lent.bytes > 0
    }

    /// This memory, or a part of it, is lent.
    pub fn overlaps(&self, at: u32, bytes: u32) -> bool {
        self.is_lent() && overlap(self.lent.at, self.lent.bytes, at, bytes)
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Takes room for a message, which is to be written there. None: there is not so much.
    pub fn push(&mut self, bytes: u32, at_ms: u64) -> Option<[Piece; 2]> {
        let length = u16::try_from(bytes).ok()?;
        if bytes > self.lent.bytes - self.used || self.count == LOG_MESSAGES_MAX {
            return None;
        }
        let pieces = self.pieces(self.first + self.used, bytes);
        let mark = (self.oldest + self.count) % LOG_MESSAGES_MAX;
        (self.lengths[mark], self.times_ms[mark]) = (length, at_ms as u32);
        self.used += bytes;
        self.count += 1;
        Some(pieces)
    }

    /// The oldest message, whose place is free once it was read: nobody else may push before.
    pub fn pop(&mut self, now_ms: u64) -> Option<Waiting> {
        if self.count == 0 {
            return None;
        }
        let bytes = u32::from(self.lengths[self.oldest]);
        let ago_ms = (now_ms as u32).wrapping_sub(self.times_ms[self.oldest]);
        let waiting =
            Waiting { at_ms: now_ms.saturating_sub(ago_ms.into()), pieces: self.pieces(self.first, bytes) };
        self.first = (self.first + bytes) % self.lent.bytes;
        self.used -= bytes;
        self.oldest = (self.oldest + 1) % LOG_MESSAGES_MAX;
        self.count -= 1;
        Some(waiting)
    }

    fn pieces(&self, from: u32, bytes: u32) -> [Piece; 2] {
        let from = from % self.lent.bytes;
        let head = bytes.min(self.lent.bytes - from);
        [Piece { at: self.lent.at + from, bytes: head }, Piece { at: self.lent.at, bytes: bytes - head }]
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    const AT: u32 = 0x2820_0000;

    #[test]
    fn nothing_waits_where_nothing_was_lent() {
        let mut log = LentLog::new();
        assert_eq!((log.push(1, 0), log.pop(0), log.is_lent()), (None, None, false));
        assert!(!log.overlaps(0, u32::MAX));
    }

    #[test]
    fn other_memory_is_taken_once_nothing_waits() {
        let mut log = LentLog::new();
        assert_eq!(log.lend(AT, 512), Ok(()));
        log.push(3, 0).expect("room");
        assert_eq!(log.lend(AT, 512), Ok(()));
        assert_eq!(log.lend(AT + 512, 512), Err(Status::ParameterFault));
        assert!(log.overlaps(AT + 511, 1) && !log.overlaps(AT + 512, 1));
        assert!(log.pop(0).is_some());
        assert_eq!(log.lend(AT + 512, 512), Ok(()));
        assert!(!log.overlaps(AT + 511, 1));
    }

    #[test]
    fn a_message_has_the_time_it_was_logged_at_over_the_halves_wrap() {
        let mut log = LentLog::new();
        log.lend(AT, 512).unwrap();
        let logged_ms = u64::from(u32::MAX) - 5;
        log.push(3, logged_ms).expect("room");
        assert_eq!(log.pop(logged_ms + 100).map(|waiting| waiting.at_ms), Some(logged_ms));
    }

    #[test]
    fn as_many_wait_as_are_named() {
        let mut log = LentLog::new();
        log.lend(AT, 8192).unwrap();
        assert!((0..LOG_MESSAGES_MAX).all(|_| log.push(1, 0).is_some()));
        assert_eq!(log.push(1, 0), None);
    }

    proptest! {
        /// A queue beside it, and memory that is written and read as it says: what comes out is what went in.
        #[test]
        fn messages_come_out_whole_and_in_order(
            steps in prop::collection::vec(prop_oneof![(1u32..513).prop_map(Some), Just(None)], 1..300),
        ) {
            const BYTES: usize = 1024;
            let mut log = LentLog::new();
            log.lend(AT, BYTES as u32).unwrap();
            let mut memory = [0u8; BYTES];
            let mut model: VecDeque<(u32, u8)> = VecDeque::new();
            for (number, step) in steps.into_iter().enumerate() {
                let stamp = number as u8;
                match step {
                    Some(bytes) => {
                        let used: u32 = model.iter().map(|(bytes, _)| bytes).sum();
                        let room = bytes <= BYTES as u32 - used && model.len() < LOG_MESSAGES_MAX;
                        let pushed = log.push(bytes, number as u64);
                        prop_assert_eq!(pushed.is_some(), room);
                        if let Some(pieces) = pushed {
                            prop_assert_eq!(pieces[0].bytes + pieces[1].bytes, bytes);
                            for piece in pieces {
                                let from = (piece.at - AT) as usize;
                                memory[from..from + piece.bytes as usize].fill(stamp);
                            }
                            model.push_back((bytes, stamp));
                        }
                    }
                    None => match (log.pop(number as u64), model.pop_front()) {
                        (Some(waiting), Some((bytes, stamp))) => {
                            prop_assert_eq!(waiting.pieces[0].bytes + waiting.pieces[1].bytes, bytes);
                            prop_assert_eq!(waiting.at_ms as u8, stamp);
                            for piece in waiting.pieces {
                                let from = (piece.at - AT) as usize;
                                let text = &memory[from..from + piece.bytes as usize];
                                prop_assert!(text.iter().all(|byte| *byte == stamp));
                            }
                        }
                        (popped, expected) => prop_assert!(popped.is_none() && expected.is_none()),
                    },
                }
                prop_assert_eq!(log.is_empty(), model.is_empty());
            }
        }
    }
}
