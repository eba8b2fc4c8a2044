//! When a batch goes: one outstanding at a time, sent again until it is acknowledged, with growing patience.

use super::ring::Ring;

/// Encoded records of one batch, at most.
pub const LOG_BATCH_BYTES_MAX: usize = 4096;
/// How long a first record waits for company. Where there is no room for more, none comes.
pub const LOG_LINGER_MS: u64 = 500;
/// Wait for an acknowledgement before the batch is sent again: doubles from the first to the second.
pub const LOG_RETRY_MIN_MS: u64 = 5_000;
pub const LOG_RETRY_MAX_MS: u64 = 60_000;

/// What was sent and not yet acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Outstanding {
    last: u64,
    retry_at_ms: u64,
}

/// The credit of the `log` channel.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ship {
    outstanding: Option<Outstanding>,
    attempts: u32,
    linger_until_ms: Option<u64>,
}

impl Ship {
    /// A new connection: what was under way is sent again.
    pub fn restart(&mut self) {
        *self = Self::default();
    }

    /// Whether a batch should be sent now.
    pub fn is_due(&mut self, now_ms: u64, ring: &Ring<'_>) -> bool {
        if ring.is_empty() {
            // Whatever was outstanding is stored, or had no room.
            self.restart();
            return false;
        }
        if let Some(outstanding) = self.outstanding {
            return now_ms >= outstanding.retry_at_ms;
        }
        let until_ms = *self.linger_until_ms.get_or_insert(now_ms + LOG_LINGER_MS);
        now_ms >= until_ms || ring.used() >= LOG_BATCH_BYTES_MAX || !ring.app_has_room()
    }

    /// A batch that ends with `last` was sent.
    pub fn sent(&mut self, now_ms: u64, last: u64) {
        let wait_ms = (LOG_RETRY_MIN_MS << self.attempts.min(8)).min(LOG_RETRY_MAX_MS);
        self.attempts += 1;
        self.outstanding = Some(Outstanding { last, retry_at_ms: now_ms + wait_ms });
        self.linger_until_ms = None;
    }

    /// The service holds everything up to `sequence`.
    pub fn acknowledged(&mut self, sequence: u64) {
        if self.outstanding.is_some_and(|outstanding| sequence >= outstanding.last) {
            self.outstanding = None;
            self.attempts = 0;
        }
    }

    /// When `is_due` may change its answer without an event.
    pub fn deadline_ms(&self) -> u64 {
        self.outstanding
            .map(|outstanding| outstanding.retry_at_ms)
            .or(self.linger_until_ms)
            .unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::BootId;
    use wire::msg::{LogLevel, LogSource};

    #[test]
    fn one_batch_is_outstanding_and_a_lost_acknowledgement_sends_it_again() {
        let mut memory = [0; 2048];
        let mut ring = Ring::new(&mut memory, BootId { counter: 1, random: 1 });
        let mut ship = Ship::default();
        assert!(!ship.is_due(0, &ring));
        ring.push(0, LogLevel::Info, LogSource::App, "one");
        assert!(!ship.is_due(0, &ring));
        assert!(ship.is_due(LOG_LINGER_MS, &ring));
        ship.sent(LOG_LINGER_MS, 1);
        ring.push(0, LogLevel::Info, LogSource::App, "two");
        assert!(!ship.is_due(LOG_LINGER_MS + LOG_RETRY_MIN_MS - 1, &ring));
        assert_eq!(ship.deadline_ms(), LOG_LINGER_MS + LOG_RETRY_MIN_MS);
        assert!(ship.is_due(LOG_LINGER_MS + LOG_RETRY_MIN_MS, &ring));
        ship.sent(6000, 2);
        ship.acknowledged(1);
        assert!(!ship.is_due(6000 + LOG_RETRY_MIN_MS, &ring));
        ship.acknowledged(2);
        ring.stored_up_to(2);
        assert!(!ship.is_due(90_000, &ring));
    }

    #[test]
    fn an_application_that_fills_its_share_does_not_wait_for_company() {
        let mut memory = [0; 2048];
        let mut ring = Ring::new(&mut memory, BootId { counter: 1, random: 1 });
        let mut ship = Ship::default();
        while ring.app_has_room() {
            assert!(!ship.is_due(0, &ring));
            ring.push(0, LogLevel::Info, LogSource::App, "as long as lines of a log are");
        }
        assert!(ship.is_due(0, &ring));
    }
}
