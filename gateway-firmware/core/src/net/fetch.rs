//! The credit of the `layer` channel: which bytes were asked for, and when to ask again.
//!
//! Always holds: never more than `LAYER_WINDOW_BYTES_MAX` asked for and not received, in two requests, so that the
//! second is on its way while the first arrives. Nothing is remembered that the update machine does not know better:
//! it says what is missing, and a lost chunk is simply asked for again.

use wire::Digest;
use wire::limits::LAYER_WINDOW_BYTES_MAX;

use crate::device::Wanted;

/// Bytes of one request.
pub const REQUEST_BYTES: u32 = (LAYER_WINDOW_BYTES_MAX / 2) as u32;
/// Silence after which missing bytes are asked for again: doubles from the first to the second.
pub const FETCH_RETRY_MIN_MS: u64 = 2_000;
pub const FETCH_RETRY_MAX_MS: u64 = 60_000;
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
    /// First byte not asked for yet.
    asked_to: u32,
    /// First byte missing when last looked at.
    missing: u32,
    heard_ms: u64,
    paused_until_ms: u64,
    attempts: u32,
}

impl Fetch {
    /// A new connection: nothing asked for before will come.
    pub fn restart(&mut self) {
        *self = Self::default();
    }

    /// The next request to send now, if any. The caller sends it, then calls `asked`.
    ///
    /// `wanted` begins at the first missing byte and is a whole window unless the layer ends in it.
    pub fn next(&mut self, now_ms: u64, wanted: Option<Wanted>) -> Option<Request> {
        let wanted = wanted?;
        if self.layer != Some(wanted.layer) || wanted.offset < self.missing || wanted.offset > self.asked_to {
            let paused_until_ms = self.paused_until_ms;
            *self = Self {
                layer: Some(wanted.layer),
                asked_to: wanted.offset,
                paused_until_ms,
                ..Self::default()
            };
            (self.missing, self.heard_ms) = (wanted.offset, now_ms);
        }
        if wanted.offset > self.missing {
            (self.missing, self.heard_ms, self.attempts) = (wanted.offset, now_ms, 0);
        }
        if now_ms < self.paused_until_ms {
            return None;
        }
        if self.asked_to > self.missing && now_ms >= self.heard_ms + self.patience_ms() {
            self.asked_to = self.missing;
            self.attempts += 1;
        }
        let end = wanted.end.min(wanted.offset.saturating_add(LAYER_WINDOW_BYTES_MAX as u32));
        let length = end.saturating_sub(self.asked_to).min(REQUEST_BYTES);
        let layer_ends = wanted.end < wanted.offset.saturating_add(LAYER_WINDOW_BYTES_MAX as u32);
        (length == REQUEST_BYTES || layer_ends && length > 0).then_some(Request {
            digest: wanted.layer,
            offset: self.asked_to,
            length,
        })
    }

    /// The request was handed to the connection.
    pub fn asked(&mut self, now_ms: u64, request: Request) {
        if self.asked_to == self.missing {
            self.heard_ms = now_ms;
        }
        self.asked_to = request.offset + request.length;
    }

    /// A wanted block arrived, at whatever place: the service is alive.
    pub fn heard(&mut self, now_ms: u64) {
        self.heard_ms = now_ms;
    }

    /// The service refused; it says how long to wait, or 0.
    pub fn refused(&mut self, now_ms: u64, retry_after_ms: u64) {
        self.attempts += 1;
        let wait_ms =
            retry_after_ms.max(self.patience_ms() / 2).clamp(FETCH_PAUSE_MIN_MS, FETCH_PAUSE_MAX_MS);
        self.paused_until_ms = now_ms + wait_ms;
        self.asked_to = self.missing;
    }

    /// When `next` may change its answer without an event.
    pub fn deadline_ms(&self, now_ms: u64) -> u64 {
        if self.layer.is_none() {
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
    use wire::limits::BLOCK_BYTES;

    const SIZE: u32 = 5 * REQUEST_BYTES + 100;

    fn wanted(offset: u32) -> Option<Wanted> {
        let end = SIZE.min(offset + LAYER_WINDOW_BYTES_MAX as u32);
        (end > offset).then_some(Wanted { layer: Digest([1; 32]), offset, end })
    }

    fn ask(fetch: &mut Fetch, now_ms: u64, offset: u32) -> Option<(u32, u32)> {
        let request = fetch.next(now_ms, wanted(offset))?;
        fetch.asked(now_ms, request);
        Some((request.offset, request.length))
    }

    #[test]
    fn never_more_than_the_window_is_outstanding() {
        let mut fetch = Fetch::default();
        assert_eq!(ask(&mut fetch, 0, 0), Some((0, REQUEST_BYTES)));
        assert_eq!(ask(&mut fetch, 0, 0), Some((REQUEST_BYTES, REQUEST_BYTES)));
        assert_eq!(ask(&mut fetch, 0, 0), None);
        assert_eq!(ask(&mut fetch, 0, REQUEST_BYTES - BLOCK_BYTES as u32), None);
        assert_eq!(ask(&mut fetch, 0, REQUEST_BYTES), Some((2 * REQUEST_BYTES, REQUEST_BYTES)));
    }

    #[test]
    fn the_last_request_asks_for_what_is_left() {
        let mut fetch = Fetch::default();
        assert_eq!(ask(&mut fetch, 0, 5 * REQUEST_BYTES), Some((5 * REQUEST_BYTES, 100)));
        assert_eq!(ask(&mut fetch, 0, 5 * REQUEST_BYTES), None);
        assert_eq!(ask(&mut fetch, 9_999_999, SIZE), None);
    }

    #[test]
    fn a_lost_chunk_is_asked_for_again_from_the_first_missing_byte() {
        let mut fetch = Fetch::default();
        ask(&mut fetch, 0, 0);
        ask(&mut fetch, 0, 0);
        let missing = BLOCK_BYTES as u32;
        assert_eq!(ask(&mut fetch, 1000, missing), None);
        assert_eq!(fetch.deadline_ms(1000), 1000 + FETCH_RETRY_MIN_MS);
        assert_eq!(ask(&mut fetch, 1000 + FETCH_RETRY_MIN_MS, missing), Some((missing, REQUEST_BYTES)));
        assert_eq!(
            ask(&mut fetch, 1001 + FETCH_RETRY_MIN_MS, missing),
            Some((missing + REQUEST_BYTES, REQUEST_BYTES))
        );
        // Patience grows while nothing comes, and is back once something does.
        assert_eq!(ask(&mut fetch, 2001 + 2 * FETCH_RETRY_MIN_MS, missing), None);
        assert_eq!(ask(&mut fetch, 1001 + 3 * FETCH_RETRY_MIN_MS, missing), Some((missing, REQUEST_BYTES)));
    }

    #[test]
    fn a_refusal_pauses_and_then_asks_again() {
        let mut fetch = Fetch::default();
        ask(&mut fetch, 0, 0);
        fetch.refused(10, 5_000);
        assert_eq!(ask(&mut fetch, 5_009, 0), None);
        assert_eq!(fetch.deadline_ms(20), 5_010);
        assert_eq!(ask(&mut fetch, 5_010, 0), Some((0, REQUEST_BYTES)));
        fetch.refused(6_000, u64::from(u32::MAX));
        assert_eq!(fetch.deadline_ms(6_000), 6_000 + FETCH_PAUSE_MAX_MS);
    }

    #[test]
    fn another_layer_or_a_step_back_starts_anew() {
        let mut fetch = Fetch::default();
        ask(&mut fetch, 0, 3 * REQUEST_BYTES);
        assert_eq!(ask(&mut fetch, 1, REQUEST_BYTES), Some((REQUEST_BYTES, REQUEST_BYTES)));
        let other = Some(Wanted { layer: Digest([2; 32]), offset: 0, end: 10 });
        assert_eq!(fetch.next(2, other).map(|request| (request.offset, request.length)), Some((0, 10)));
    }
}
