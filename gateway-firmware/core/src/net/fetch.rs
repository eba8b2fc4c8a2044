//! The credit of the `layer` channel: which bytes were asked for, and when to ask again.
//!
//! Always holds: one request is outstanding at a time, of at most `LAYER_WINDOW_BYTES_MAX`. A service may answer two
//! requests in any order, and blocks are taken in order only; within one request chunks come in order, so a gap is a
//! loss. Nothing is remembered that the update machine does not know better: it says what is missing, and a lost chunk
//! is simply asked for again.

use wire::Digest;
use wire::limits::LAYER_WINDOW_BYTES_MAX;

use crate::device::Wanted;

/// Silence after which missing bytes are asked for again: doubles from the first to the second.
pub const FETCH_RETRY_MIN_MS: u64 = 2_000;
pub const FETCH_RETRY_MAX_MS: u64 = 60_000;
/// After a request, a gap is not taken for a loss before: it may be what is left of the request before it.
pub const FETCH_GAP_MS: u64 = 250;
/// Wait after the service said that the layer is not for this device, or that it cannot be read just now.
pub const FETCH_PAUSE_MIN_MS: u64 = 100;
pub const FETCH_PAUSE_MAX_MS: u64 = 60_000;

/// One `up/layer` message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    pub digest: Digest,
    pub offset: u32,
    pub length: u32,
}

/// What was asked for.
#[derive(Debug, Clone, Copy, Default)]
pub struct Fetch {
    layer: Option<Digest>,
    /// First byte missing when last looked at.
    missing: u32,
    /// First byte not asked for; `missing` when nothing is outstanding.
    asked_to: u32,
    heard_ms: u64,
    paused_until_ms: u64,
    attempts: u32,
    asked_ms: u64,
    /// Nothing was missing when last looked at.
    idle: bool,
}

impl Fetch {
    /// A new connection: nothing asked for before will come.
    pub fn restart(&mut self) {
        *self = Self::default();
    }

    /// The request to send now, if any. The caller sends it, then calls `asked`.
    ///
    /// What is wanted is looked at only when nothing is outstanding, or nothing came for too long.
    pub fn next(&mut self, now_ms: u64, wanted: impl FnOnce() -> Option<Wanted>) -> Option<Request> {
        if now_ms < self.paused_until_ms {
            return None;
        }
        if self.asked_to > self.missing {
            if now_ms < self.heard_ms + self.patience_ms() {
                return None;
            }
            self.attempts += 1;
        }
        let wanted = wanted();
        self.idle = wanted.is_none();
        let wanted = wanted?;
        if (self.layer, self.missing) != (Some(wanted.layer), wanted.offset) {
            self.attempts = 0;
        }
        (self.layer, self.missing, self.asked_to) = (Some(wanted.layer), wanted.offset, wanted.offset);
        let length = wanted.end.saturating_sub(wanted.offset).min(LAYER_WINDOW_BYTES_MAX as u32);
        (length > 0).then_some(Request { digest: wanted.layer, offset: wanted.offset, length })
    }

    /// The next block was taken.
    pub fn taken(&mut self, now_ms: u64, layer: &Digest, offset: u32, bytes: usize) {
        if self.layer == Some(*layer) && offset == self.missing {
            self.missing = self.missing.saturating_add(bytes as u32);
            self.asked_to = self.asked_to.max(self.missing);
            (self.heard_ms, self.attempts) = (now_ms, 0);
        }
    }

    /// The request was handed to the connection.
    pub fn asked(&mut self, now_ms: u64, request: Request) {
        (self.asked_ms, self.heard_ms) = (now_ms, now_ms);
        self.asked_to = request.offset + request.length;
    }

    /// A block came that is not the next one: when it lies ahead in what was asked for, the next one was lost.
    pub fn out_of_order(&mut self, now_ms: u64, layer: &Digest, offset: u32) {
        let is_ahead = self.layer == Some(*layer) && offset > self.missing && offset < self.asked_to;
        if is_ahead && now_ms >= self.asked_ms + FETCH_GAP_MS {
            self.asked_to = self.missing;
        }
    }

    /// The service refused, or sent what cannot be used; it says how long to wait, or 0.
    pub fn refused(&mut self, now_ms: u64, retry_after_ms: u64) {
        self.attempts += 1;
        let wait_ms =
            retry_after_ms.max(self.patience_ms() / 2).clamp(FETCH_PAUSE_MIN_MS, FETCH_PAUSE_MAX_MS);
        self.paused_until_ms = now_ms + wait_ms;
        self.asked_to = self.missing;
    }

    /// When `next` may change its answer without an event.
    pub fn deadline_ms(&self, now_ms: u64) -> u64 {
        if self.layer.is_none() || self.idle {
            u64::MAX
        } else if now_ms < self.paused_until_ms {
            self.paused_until_ms
        } else if self.asked_to > self.missing {
            self.heard_ms + self.patience_ms()
        } else {
            u64::MAX
        }
    }

    fn patience_ms(&self) -> u64 {
        (FETCH_RETRY_MIN_MS << self.attempts.min(8)).min(FETCH_RETRY_MAX_MS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: u32 = LAYER_WINDOW_BYTES_MAX as u32;
    const BLOCK: u32 = wire::limits::BLOCK_BYTES as u32;
    const SIZE: u32 = 2 * WINDOW + 100;
    const LAYER: Digest = Digest([1; 32]);

    /// Asks for what is missing from `offset` on.
    fn ask(fetch: &mut Fetch, now_ms: u64, offset: u32) -> Option<(u32, u32)> {
        let end = SIZE.min(offset + 2 * WINDOW);
        let request =
            fetch.next(now_ms, || (end > offset).then_some(Wanted { layer: LAYER, offset, end }))?;
        fetch.asked(now_ms, request);
        Some((request.offset, request.length))
    }

    fn take(fetch: &mut Fetch, now_ms: u64, from: u32, to: u32) {
        for offset in (from..to).step_by(BLOCK as usize) {
            fetch.taken(now_ms, &LAYER, offset, (to - offset).min(BLOCK) as usize);
        }
    }

    #[test]
    fn never_more_than_the_window_is_outstanding() {
        let mut fetch = Fetch::default();
        assert_eq!(ask(&mut fetch, 0, 0), Some((0, WINDOW)));
        assert_eq!(ask(&mut fetch, 0, 0), None);
        take(&mut fetch, 0, 0, WINDOW - BLOCK);
        assert_eq!(ask(&mut fetch, 0, WINDOW - BLOCK), None);
        take(&mut fetch, 0, WINDOW - BLOCK, WINDOW);
        assert_eq!(ask(&mut fetch, 0, WINDOW), Some((WINDOW, WINDOW)));
        take(&mut fetch, 0, WINDOW, 2 * WINDOW);
        assert_eq!(ask(&mut fetch, 0, 2 * WINDOW), Some((2 * WINDOW, 100)));
        take(&mut fetch, 0, 2 * WINDOW, SIZE);
        assert_eq!(ask(&mut fetch, 9_999_999, SIZE), None);
        assert_eq!(fetch.deadline_ms(9_999_999), u64::MAX);
    }

    #[test]
    fn silence_asks_again_from_the_first_missing_byte_with_growing_patience() {
        let mut fetch = Fetch::default();
        ask(&mut fetch, 0, 0);
        take(&mut fetch, 1000, 0, BLOCK);
        assert_eq!(ask(&mut fetch, 1000, BLOCK), None);
        assert_eq!(fetch.deadline_ms(1000), 1000 + FETCH_RETRY_MIN_MS);
        let again_ms = 1000 + FETCH_RETRY_MIN_MS;
        assert_eq!(ask(&mut fetch, again_ms, BLOCK), Some((BLOCK, WINDOW)));
        assert_eq!(ask(&mut fetch, again_ms + 2 * FETCH_RETRY_MIN_MS - 1, BLOCK), None);
        assert_eq!(ask(&mut fetch, again_ms + 2 * FETCH_RETRY_MIN_MS, BLOCK), Some((BLOCK, WINDOW)));
        take(&mut fetch, 9_000, BLOCK, 2 * BLOCK);
        assert_eq!(fetch.deadline_ms(9_000), 9_000 + FETCH_RETRY_MIN_MS);
    }

    #[test]
    fn a_gap_asks_again_soon_and_not_for_what_an_earlier_request_left_behind() {
        let mut fetch = Fetch::default();
        ask(&mut fetch, 0, 0);
        fetch.out_of_order(FETCH_GAP_MS - 1, &LAYER, BLOCK);
        assert_eq!(ask(&mut fetch, FETCH_GAP_MS - 1, 0), None);
        fetch.out_of_order(FETCH_GAP_MS, &LAYER, BLOCK);
        assert_eq!(ask(&mut fetch, FETCH_GAP_MS, 0), Some((0, WINDOW)));
        fetch.out_of_order(FETCH_GAP_MS + 1, &LAYER, 2 * BLOCK);
        assert_eq!(ask(&mut fetch, FETCH_GAP_MS + 1, 0), None);
        // A repetition, another layer's block, or one nobody asked for is no gap.
        take(&mut fetch, 1000, 0, 2 * BLOCK);
        fetch.out_of_order(1000, &LAYER, BLOCK);
        fetch.out_of_order(1000, &Digest([2; 32]), 3 * BLOCK);
        fetch.out_of_order(1000, &LAYER, SIZE);
        assert_eq!(ask(&mut fetch, 1000, 2 * BLOCK), None);
    }

    #[test]
    fn a_refusal_pauses_and_then_asks_again() {
        let mut fetch = Fetch::default();
        ask(&mut fetch, 0, 0);
        fetch.refused(10, 5_000);
        assert_eq!(ask(&mut fetch, 5_009, 0), None);
        assert_eq!(fetch.deadline_ms(20), 5_010);
        assert_eq!(ask(&mut fetch, 5_010, 0), Some((0, WINDOW)));
        fetch.refused(6_000, u64::from(u32::MAX));
        assert_eq!(fetch.deadline_ms(6_000), 6_000 + FETCH_PAUSE_MAX_MS);
    }

    #[test]
    fn a_restart_asks_anew_for_whatever_is_wanted_then() {
        let mut fetch = Fetch::default();
        ask(&mut fetch, 0, WINDOW);
        fetch.restart();
        assert_eq!(ask(&mut fetch, 1, BLOCK), Some((BLOCK, WINDOW)));
        let other = || Some(Wanted { layer: Digest([2; 32]), offset: 0, end: 10 });
        fetch.restart();
        assert_eq!(fetch.next(2, other).map(|request| (request.offset, request.length)), Some((0, 10)));
    }
}
