//! When memory of a crash goes: a window of chunks beyond what the service says it has, and nothing before it has said so.
//!
//! A connection begins by asking. What is not answered in time is asked for again, with growing patience, and goes on from the answer: a
//! message that was lost, a service that was exchanged, or one that has less than it said cost time and nothing else. The service's
//! word moves the window and nothing beside: one that lies has what it asks for, one that is silent has a question now and then.

use wire::limits::CRASH_MEMORY_CHUNK_BYTES_MAX;

use super::Name;

/// Bytes sent beyond what the service is known to have.
pub const CRASH_MEMORY_WINDOW_BYTES: u32 = 4 * CRASH_MEMORY_CHUNK_BYTES_MAX as u32;
/// Wait for an answer before it is asked for again: doubles from the first to the second.
pub const CRASH_MEMORY_RETRY_MIN_MS: u64 = 5_000;
pub const CRASH_MEMORY_RETRY_MAX_MS: u64 = 60_000;

/// What to say next: so many bytes from there on; none ask where the service stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chunk {
    pub offset: u32,
    pub bytes: u32,
}

/// The credit of one connection.
#[derive(Debug, Clone, Copy, Default)]
pub struct Upload {
    of: Option<Name>,
    /// What the service said; None: it is to be asked.
    stored: Option<u32>,
    /// First byte not sent yet.
    next: u32,
    attempts: u32,
    retry_at_ms: u64,
}

impl Upload {
    /// A new connection, or nothing to send any more.
    pub fn restart(&mut self) {
        *self = Self::default();
    }

    /// What is due of the memory of this report, which has so many bytes.
    pub fn due(&mut self, now_ms: u64, of: Name, total: u32) -> Option<Chunk> {
        if self.of != Some(of) {
            *self = Self { of: Some(of), ..Self::default() };
        }
        if let Some(stored) = self.stored {
            let end = total.min(stored.saturating_add(CRASH_MEMORY_WINDOW_BYTES));
            if self.next < end {
                let bytes = (end - self.next).min(CRASH_MEMORY_CHUNK_BYTES_MAX as u32);
                return Some(Chunk { offset: self.next, bytes });
            }
        }
        (now_ms >= self.retry_at_ms).then(|| {
            self.stored = None;
            Chunk { offset: 0, bytes: 0 }
        })
    }

    /// That was sent.
    pub fn said(&mut self, now_ms: u64, chunk: Chunk) {
        let wait_ms = (CRASH_MEMORY_RETRY_MIN_MS << self.attempts.min(8)).min(CRASH_MEMORY_RETRY_MAX_MS);
        self.retry_at_ms = now_ms.saturating_add(wait_ms);
        if chunk.bytes == 0 {
            self.attempts = self.attempts.saturating_add(1);
        } else {
            self.next = chunk.offset.saturating_add(chunk.bytes);
        }
    }

    /// The service has so much of it.
    pub fn heard(&mut self, of: Name, stored_up_to: u32) {
        if self.of != Some(of) {
            return;
        }
        match self.stored {
            None => self.next = stored_up_to,
            // An answer that was overtaken.
            Some(stored) if stored_up_to <= stored => return,
            Some(_) => self.next = self.next.max(stored_up_to),
        }
        (self.stored, self.attempts) = (Some(stored_up_to), 0);
    }

    /// When `due` has something to say without an event. What is due and had no room waits for room, and not for a time.
    pub fn deadline_ms(&self, now_ms: u64) -> u64 {
        if self.of.is_some() && self.retry_at_ms > now_ms { self.retry_at_ms } else { u64::MAX }
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use crate::device::BootId;
    use proptest::prelude::*;
    use std::vec::Vec;

    const NAME: Name = Name { boot: BootId { counter: 1, random: 2 }, sequence: 3 };
    const ASK: Chunk = Chunk { offset: 0, bytes: 0 };
    const CHUNK: u32 = CRASH_MEMORY_CHUNK_BYTES_MAX as u32;

    /// All that goes at this time.
    fn goes(upload: &mut Upload, now_ms: u64, total: u32) -> Vec<(u32, u32)> {
        let mut gone = Vec::new();
        while let Some(chunk) = upload.due(now_ms, NAME, total) {
            upload.said(now_ms, chunk);
            gone.push((chunk.offset, chunk.bytes));
        }
        gone
    }

    #[test]
    fn a_connection_asks_first_and_then_fills_a_window() {
        let mut upload = Upload::default();
        assert_eq!(goes(&mut upload, 0, 10_000), [(0, 0)]);
        upload.heard(NAME, 0);
        assert_eq!(goes(&mut upload, 1, 10_000), [0, 1, 2, 3].map(|n| (n * CHUNK, CHUNK)));
        upload.heard(NAME, 2 * CHUNK);
        assert_eq!(goes(&mut upload, 2, 10_000), [4, 5].map(|n| (n * CHUNK, CHUNK)));
        // Answers that were overtaken, and those for others, move nothing.
        upload.heard(NAME, CHUNK);
        upload.heard(Name { sequence: 4, ..NAME }, 9 * CHUNK);
        assert_eq!(goes(&mut upload, 3, 10_000), []);
        upload.heard(NAME, 6 * CHUNK);
        assert_eq!(
            goes(&mut upload, 4, 10_000),
            [(6 * CHUNK, CHUNK), (7 * CHUNK, CHUNK), (8 * CHUNK, CHUNK), (9 * CHUNK, 784)]
        );
    }

    #[test]
    fn it_goes_on_from_where_the_service_stands_wherever_that_is() {
        for stored in [0, 1, CHUNK, 9_999] {
            let mut upload = Upload::default();
            goes(&mut upload, 0, 10_000);
            upload.heard(NAME, stored);
            assert_eq!(goes(&mut upload, 0, 10_000)[0].0, stored);
        }
        // All of it, or more than there is: nothing is left to send.
        for stored in [10_000, u32::MAX] {
            let mut upload = Upload::default();
            goes(&mut upload, 0, 10_000);
            upload.heard(NAME, stored);
            assert_eq!(goes(&mut upload, 0, 10_000), []);
        }
    }

    #[test]
    fn silence_is_answered_by_asking_with_growing_patience() {
        let mut upload = Upload::default();
        let mut asked = Vec::new();
        let mut now_ms = 0;
        for _ in 0..6 {
            assert_eq!(upload.due(now_ms, NAME, 10_000), Some(ASK));
            upload.said(now_ms, ASK);
            let next_ms = upload.deadline_ms(now_ms);
            asked.push(next_ms - now_ms);
            assert_eq!(upload.due(next_ms - 1, NAME, 10_000), None);
            now_ms = next_ms;
        }
        assert_eq!(asked, [5_000, 10_000, 20_000, 40_000, 60_000, 60_000]);
        // A window that is lost: the question, and then what is missing of it.
        upload.heard(NAME, 0);
        assert_eq!(goes(&mut upload, now_ms, 10_000).len(), 4);
        assert_eq!(goes(&mut upload, now_ms + CRASH_MEMORY_RETRY_MIN_MS, 10_000), [(0, 0)]);
        upload.heard(NAME, 3 * CHUNK);
        assert_eq!(goes(&mut upload, now_ms + 6_000, 10_000)[0].0, 3 * CHUNK);
    }

    #[test]
    fn another_report_begins_with_a_question() {
        let mut upload = Upload::default();
        goes(&mut upload, 0, 10_000);
        upload.heard(NAME, CHUNK);
        let other = Name { sequence: 4, ..NAME };
        assert_eq!(upload.due(1, other, 10_000), Some(ASK));
    }

    proptest! {
        /// Whatever the service says, no more than a window goes beyond its last word, and nothing that there is not.
        #[test]
        fn a_service_that_lies_gets_no_more_than_a_window(
            total in 1u32..70_000, words in proptest::collection::vec((any::<u32>(), 0u64..100_000), 0..40),
        ) {
            let (mut upload, mut now_ms, mut most) = (Upload::default(), 0, 0);
            for (stored, wait_ms) in words {
                let gone = goes(&mut upload, now_ms, total);
                prop_assert!(gone.len() <= 5);
                for (offset, bytes) in gone {
                    prop_assert!(offset + bytes <= total && bytes <= CHUNK);
                    prop_assert!(bytes == 0 || u64::from(offset + bytes) <= u64::from(most) + u64::from(CRASH_MEMORY_WINDOW_BYTES));
                }
                upload.heard(NAME, stored);
                most = most.max(stored);
                now_ms += wait_ms;
            }
        }
    }
}
