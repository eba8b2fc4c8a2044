//! How long to wait before the next attempt: exponential, bounded, with jitter so that a fleet does not return as one.

/// Shortest and longest wait.
pub const BACKOFF_MIN_MS: u64 = 500;
pub const BACKOFF_MAX_MS: u64 = 60_000;

/// Attempts since the last success.
#[derive(Debug, Clone, Copy, Default)]
pub struct Backoff {
    attempts: u32,
}

impl Backoff {
    /// The next wait: between half of and the whole of `BACKOFF_MIN_MS * 2^attempts`, never above the bound.
    pub fn next_ms(&mut self, random: u32) -> u64 {
        let ceiling = (BACKOFF_MIN_MS << self.attempts.min(20)).min(BACKOFF_MAX_MS);
        self.attempts = self.attempts.saturating_add(1);
        ceiling / 2 + u64::from(random) % (ceiling / 2 + 1)
    }

    pub fn reset(&mut self) {
        self.attempts = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_bound_and_start_anew_after_success() {
        let mut backoff = Backoff::default();
        assert_eq!(backoff.next_ms(0), BACKOFF_MIN_MS / 2);
        let mut last = 0;
        for _ in 0..40 {
            last = backoff.next_ms(u32::MAX);
            assert!(last <= BACKOFF_MAX_MS);
        }
        assert!(last >= BACKOFF_MAX_MS / 2);
        backoff.reset();
        assert!(backoff.next_ms(u32::MAX) <= BACKOFF_MIN_MS);
    }
}
