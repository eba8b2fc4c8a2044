//! Reading the change feed: numbers are given out before they commit, so a lower one may appear after a higher one,
//! or never. A cursor goes on from the highest it saw and asks again, for a while, for those it missed.

use std::collections::BTreeMap;
use std::time::Duration;

/// Missing numbers remembered at once; the oldest are given up first.
pub(crate) const HOLES_MAX: usize = 4096;
/// How long a missing number is asked for: longer than any of our transactions may live.
pub(crate) const HOLE_AGE_MAX: Duration = Duration::from_secs(60);

/// Where a reader stands. Times are since any fixed moment.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cursor {
    last: i64,
    holes: BTreeMap<i64, Duration>,
}

impl Cursor {
    /// Everything up to and including `last` counts as seen.
    pub(crate) fn after(last: i64) -> Self {
        Self { last, holes: BTreeMap::new() }
    }

    /// Read what is above this …
    pub(crate) fn last(&self) -> i64 {
        self.last
    }

    /// … and these.
    pub(crate) fn holes(&self) -> Vec<i64> {
        self.holes.keys().copied().collect()
    }

    /// Takes the numbers read, ascending, and keeps those not seen before.
    pub(crate) fn take(&mut self, seqs: &[i64], now: Duration) -> Vec<i64> {
        self.holes.retain(|_, since| now.saturating_sub(*since) < HOLE_AGE_MAX);
        let mut new = Vec::with_capacity(seqs.len());
        for &seq in seqs {
            if seq > self.last {
                self.miss(self.last + 1..seq, now);
                self.last = seq;
                new.push(seq);
            } else if self.holes.remove(&seq).is_some() {
                new.push(seq);
            }
        }
        new
    }

    fn miss(&mut self, missing: std::ops::Range<i64>, now: Duration) {
        let newest = missing.end - HOLES_MAX as i64;
        self.holes.extend((missing.start.max(newest)..missing.end).map(|seq| (seq, now)));
        while self.holes.len() > HOLES_MAX {
            self.holes.pop_first();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T0: Duration = Duration::ZERO;

    #[test]
    fn a_change_that_commits_late_is_still_seen_once() {
        let mut cursor = Cursor::after(10);
        assert_eq!(cursor.take(&[11, 13], T0), [11, 13]);
        assert_eq!((cursor.last(), cursor.holes()), (13, vec![12]));
        assert_eq!(cursor.take(&[12, 14], T0), [12, 14]);
        assert_eq!(cursor.take(&[12, 13, 14], T0), Vec::<i64>::new());
        assert!(cursor.holes().is_empty());
    }

    #[test]
    fn a_rolled_back_number_is_given_up() {
        let mut cursor = Cursor::after(0);
        cursor.take(&[2], T0);
        cursor.take(&[], HOLE_AGE_MAX - Duration::from_millis(1));
        assert_eq!(cursor.holes(), [1]);
        cursor.take(&[], HOLE_AGE_MAX);
        assert!(cursor.holes().is_empty());
    }

    #[test]
    fn holes_are_bounded() {
        let mut cursor = Cursor::after(0);
        cursor.take(&[i64::MAX], T0);
        assert_eq!(cursor.holes().len(), HOLES_MAX);
        let mut cursor = Cursor::after(0);
        cursor.take(&[HOLES_MAX as i64 + 1], T0);
        assert_eq!(cursor.holes().len(), HOLES_MAX);
        cursor.take(&[HOLES_MAX as i64 + 3], T0);
        assert_eq!(cursor.holes().len(), HOLES_MAX);
        assert_eq!(cursor.holes()[0], 2, "the oldest went");
    }
}
