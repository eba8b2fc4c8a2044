//! How many handshakes there may be: each costs five multiplications on a curve.

use crate::mutation::mutated;

/// Handshakes at once, after a while without one.
pub const HANDSHAKES_MAX: u64 = 4;
/// One more after each so long.
pub const HANDSHAKE_EVERY_MS: u64 = 5_000;

/// Fills by one in a while, up to so many.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Bucket {
    /// When it is full again.
    full_ms: u64,
}

impl Bucket {
    /// Takes one; false: there is none.
    pub(super) fn take(&mut self, now_ms: u64) -> bool {
        let full_ms = self.full_ms.max(now_ms) + HANDSHAKE_EVERY_MS;
        let is_there = full_ms <= now_ms + HANDSHAKES_MAX * HANDSHAKE_EVERY_MS;
        if is_there || mutated!(DebugFlood) {
            self.full_ms = full_ms;
            return true;
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_at_once_and_then_one_in_a_while() {
        let mut bucket = Bucket::default();
        let mut taken = |now_ms| (0..10).filter(|_| bucket.take(now_ms)).count();
        assert_eq!(taken(7), 4);
        assert_eq!(taken(5_006), 0);
        assert_eq!(taken(5_007), 1);
        assert_eq!(taken(15_007), 2);
        assert_eq!(taken(1_000_000), 4);
    }
}
