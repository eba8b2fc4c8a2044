//! How far a reader of changes is: which numbers of the feed it has not seen. Numbers are given out before they commit, so a
//! position is the highest number seen and the holes below it.
//!
//! Always holds: what was not read stays unseen; at worst something is read twice.

/// Ranges of holes a position keeps apart; with more, the oldest count as one, and what lies between them is read again.
pub(crate) const RANGES_MAX: usize = 32;
/// How long a token is good for: a little less than changes are kept, since clocks differ and transactions last.
pub(crate) const TOKEN_LIFE_S: u64 = 23 * 3600;

/// What of the feed is not seen: `holes`, in order and apart, and everything above `last`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Position {
    last: i64,
    /// First and last of each.
    holes: Vec<(i64, i64)>,
}

/// How far a reader is in the presence of its tenant's devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PresencePosition {
    /// Since when this Redis has known anything, in milliseconds since 1970: another one knows nothing of `count`.
    pub since: u64,
    /// Changes of the tenant so far.
    pub count: u64,
}

/// All that a token says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Progress {
    pub position: Position,
    /// None: presence was not known.
    pub presence: Option<PresencePosition>,
    /// A snapshot goes on after this id; none: it is complete.
    pub after: Option<String>,
    /// When `position` was the newest, in seconds since 1970.
    pub at_s: u64,
}

impl Position {
    /// Everything up to `last` is seen but these holes, ascending.
    pub(crate) fn new(last: i64, holes: impl IntoIterator<Item = (i64, i64)>) -> Self {
        let mut joined: Vec<(i64, i64)> = Vec::new();
        for (first, end) in holes {
            match joined.last_mut() {
                Some(previous) if previous.1 + 1 >= first => previous.1 = previous.1.max(end),
                _ => joined.push((first, end)),
            }
        }
        let surplus = joined.len().saturating_sub(RANGES_MAX);
        if surplus > 0 {
            let (first, end) = (joined[0].0, joined[surplus].1);
            joined.splice(..=surplus, [(first, end)]);
        }
        Self { last, holes: joined }
    }

    pub(crate) fn last(&self) -> i64 {
        self.last
    }

    pub(crate) fn holes(&self) -> &[(i64, i64)] {
        &self.holes
    }

    /// What to read to be where `to` is.
    pub(crate) fn unread(&self, to: &Position) -> Vec<(i64, i64)> {
        let end = |range: (i64, i64)| (range.0, range.1.min(to.last));
        self.unseen().map(end).filter(|(first, end)| first <= end).collect()
    }

    /// After everything up to `upto` was read that there was when the feed was at `to`.
    pub(crate) fn advanced(&self, to: &Position, upto: i64) -> Position {
        let there = Position {
            last: to.last.min(upto),
            holes: to.holes.iter().filter(|h| h.0 <= upto).map(|h| (h.0, h.1.min(upto))).collect(),
        };
        // Unseen is what neither has seen.
        let mut both = Vec::new();
        for own in self.unseen() {
            for other in there.unseen() {
                let (first, end) = (own.0.max(other.0), own.1.min(other.1));
                if first <= end {
                    both.push((first, end));
                }
            }
        }
        let last = both.pop().map_or(self.last, |open| open.0 - 1);
        Position::new(last, both)
    }

    fn unseen(&self) -> impl Iterator<Item = (i64, i64)> {
        self.holes.iter().copied().chain([(self.last.saturating_add(1), i64::MAX)])
    }
}

impl Progress {
    pub(crate) fn is_expired(&self, now_s: u64) -> bool {
        now_s.saturating_sub(self.at_s) > TOKEN_LIFE_S
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn what_commits_late_is_read_and_what_was_read_is_not() {
        let then = Position::new(10, [(4, 4), (7, 8)]);
        let now = Position::new(20, [(8, 8), (15, 16)]);
        assert_eq!(then.unread(&now), [(4, 4), (7, 8), (11, 20)]);
        assert_eq!(then.advanced(&now, 20), Position::new(20, [(8, 8), (15, 16)]));
        assert_eq!(then.advanced(&now, 12), Position::new(12, [(8, 8)]), "a page of them");
        assert_eq!(then.advanced(&now, 4), Position::new(10, [(7, 8)]), "not even all the holes");
    }

    #[test]
    fn a_position_of_a_replica_that_is_ahead_is_kept() {
        let ahead = Position::new(30, [(5, 5), (25, 26)]);
        let behind = Position::new(20, []);
        assert_eq!(ahead.unread(&behind), [(5, 5)]);
        assert_eq!(ahead.advanced(&behind, 20), Position::new(30, [(25, 26)]));
    }

    #[test]
    fn ranges_are_bounded_and_nothing_unseen_becomes_seen() {
        let holes = |n: i64| (0..n).map(|i| (i * 10, i * 10 + 1));
        let most = Position::new(10_000, holes(RANGES_MAX as i64));
        assert_eq!(most.holes().len(), RANGES_MAX);
        let more = Position::new(10_000, holes(RANGES_MAX as i64 + 5));
        assert_eq!(more.holes().len(), RANGES_MAX);
        assert_eq!(more.holes()[0], (0, 51));
        assert_eq!(more.holes()[1], (60, 61));
    }

    #[test]
    fn a_token_ends_before_the_changes_it_would_go_on_from() {
        let progress = |at_s| Progress { position: Position::default(), presence: None, after: None, at_s };
        assert!(!progress(1000).is_expired(1000 + TOKEN_LIFE_S));
        assert!(progress(1000).is_expired(1001 + TOKEN_LIFE_S));
        assert!(!progress(2000).is_expired(1000), "the clocks of two replicas differ");
    }

    fn position() -> impl Strategy<Value = Position> {
        (0i64..60, prop::collection::btree_set(1i64..60, 0..20)).prop_map(|(last, holes)| {
            Position::new(last, holes.into_iter().filter(|h| *h <= last).map(|h| (h, h)))
        })
    }

    fn unseen(position: &Position) -> BTreeSet<i64> {
        position.unseen().flat_map(|(first, end)| first..=end.min(80)).collect()
    }

    proptest! {
        #[test]
        fn advancing_sees_exactly_what_was_read(a in position(), b in position(), upto in 0i64..70) {
            let advanced = unseen(&a.advanced(&b, upto));
            let there: BTreeSet<i64> = unseen(&b).into_iter().chain(upto + 1..=80).collect();
            prop_assert_eq!(advanced, unseen(&a).intersection(&there).copied().collect());
            let read: BTreeSet<i64> = a.unread(&b).into_iter().flat_map(|(f, e)| f..=e).collect();
            prop_assert_eq!(read, unseen(&a).into_iter().filter(|n| *n <= b.last()).collect());
        }
    }
}
