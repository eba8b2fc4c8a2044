//! Which of the offered records are new, what the device may forget, and which gaps are shown.
//!
//! A boot's log is the numbers 1, 2, 3 …. The *prefix* is the longest run from 1 in which every number is stored or was
//! reported lost by the device; it is what the device is told, and it never shrinks. Records further on are kept too,
//! within a window. Always holds: `gap_before` of a stored record is the count of numbers missing right before it, so
//! the numbers shown and the gaps shown add up. Called under the row lock of the boot.

use std::collections::BTreeMap;

/// How far beyond the prefix records are taken: the most a boot may hold out of order. A device that is further
/// ahead sends again from what it was told.
pub(crate) const AHEAD_MAX: u64 = 4096;

/// Where a boot's log stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Prefix {
    pub(crate) stored_up_to: u64,
    /// Lost numbers at its end that no record has shown yet.
    pub(crate) owed: u64,
}

/// A record's number and the count of numbers missing right before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Placed {
    pub(crate) sequence: u64,
    pub(crate) gap_before: u64,
}

/// What to write.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Placement {
    pub(crate) prefix: Prefix,
    /// New records, ascending.
    pub(crate) inserts: Vec<Placed>,
    /// Stored records whose gap was partly filled.
    pub(crate) fixes: Vec<Placed>,
    /// Offered numbers that were within the prefix or stored already.
    pub(crate) known: usize,
    /// Offered numbers beyond the window.
    pub(crate) far: usize,
}

/// `ahead`: what is stored beyond the prefix, ascending. `offered`: numbers of records, in any order, possibly twice.
pub(crate) fn place(prefix: Prefix, lost_up_to: u64, ahead: &[Placed], offered: &[u64]) -> Placement {
    let window_end = prefix.stored_up_to.max(lost_up_to).saturating_add(AHEAD_MAX);
    let mut placement = Placement::default();
    // Number -> the gap it is stored with, or none if it is new.
    let mut held: BTreeMap<u64, Option<u64>> =
        ahead.iter().map(|p| (p.sequence, Some(p.gap_before))).collect();
    for &sequence in offered {
        if sequence <= prefix.stored_up_to || held.contains_key(&sequence) {
            placement.known += 1;
        } else if sequence > window_end {
            placement.far += 1;
        } else {
            held.insert(sequence, None);
        }
    }

    let mut end = prefix;
    let mut previous = prefix.stored_up_to;
    let mut owed = prefix.owed;
    for (sequence, stored_gap) in held {
        let gap_before = sequence - previous - 1 + owed;
        let placed = Placed { sequence, gap_before };
        match stored_gap {
            None => placement.inserts.push(placed),
            Some(stored) if stored != gap_before => placement.fixes.push(placed),
            Some(_) => {}
        }
        // All numbers before it are stored or known lost.
        if previous == end.stored_up_to && sequence - 1 <= end.stored_up_to.max(lost_up_to) {
            end = Prefix { stored_up_to: sequence, owed: 0 };
        }
        previous = sequence;
        owed = 0;
    }
    if lost_up_to > end.stored_up_to {
        end = Prefix { stored_up_to: lost_up_to, owed: end.owed + (lost_up_to - end.stored_up_to) };
    }
    placement.prefix = end;
    placement
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;
    use std::ops::Bound;

    /// A boot's log, written by `place` as the store would.
    #[derive(Default)]
    struct Log {
        prefix: Prefix,
        records: BTreeMap<u64, u64>,
    }

    impl Log {
        fn offer(&mut self, lost_up_to: u64, offered: &[u64]) -> Placement {
            let ahead: Vec<Placed> = self
                .records
                .range((Bound::Excluded(self.prefix.stored_up_to), Bound::Unbounded))
                .map(|(&sequence, &gap_before)| Placed { sequence, gap_before })
                .collect();
            let placement = place(self.prefix, lost_up_to, &ahead, offered);
            for placed in &placement.inserts {
                assert_eq!(self.records.insert(placed.sequence, placed.gap_before), None, "stored twice");
            }
            for placed in &placement.fixes {
                assert!(self.records.insert(placed.sequence, placed.gap_before).is_some());
            }
            self.prefix = placement.prefix;
            placement
        }

        fn shown(&self) -> Vec<(u64, u64)> {
            self.records.iter().map(|(s, g)| (*s, *g)).collect()
        }
    }

    #[test]
    fn records_in_order_move_the_prefix_and_repeats_change_nothing() {
        let mut log = Log::default();
        assert_eq!(log.offer(0, &[1, 2, 3]).prefix.stored_up_to, 3);
        let again = log.offer(0, &[1, 2, 3]);
        assert_eq!((again.prefix.stored_up_to, again.inserts.len(), again.known), (3, 0, 3));
        assert_eq!(log.offer(0, &[3, 4, 4, 5]).prefix.stored_up_to, 5);
        assert_eq!(log.shown(), [(1, 0), (2, 0), (3, 0), (4, 0), (5, 0)]);
    }

    #[test]
    fn a_hole_holds_the_prefix_until_it_is_filled_and_its_gap_shrinks() {
        let mut log = Log::default();
        log.offer(0, &[1, 4, 5]);
        assert_eq!((log.prefix.stored_up_to, log.shown()), (1, vec![(1, 0), (4, 2), (5, 0)]));
        log.offer(0, &[3]);
        assert_eq!((log.prefix.stored_up_to, log.shown()), (1, vec![(1, 0), (3, 1), (4, 0), (5, 0)]));
        log.offer(0, &[2]);
        assert_eq!((log.prefix.stored_up_to, log.shown().iter().map(|s| s.1).sum::<u64>()), (5, 0));
    }

    #[test]
    fn lost_numbers_move_the_prefix_and_are_shown_on_the_next_record() {
        let mut log = Log::default();
        log.offer(0, &[1, 2]);
        assert_eq!(log.offer(10, &[]).prefix, Prefix { stored_up_to: 10, owed: 8 });
        assert_eq!(log.offer(12, &[]).prefix, Prefix { stored_up_to: 12, owed: 10 });
        log.offer(12, &[13, 14]);
        assert_eq!(log.shown(), [(1, 0), (2, 0), (13, 10), (14, 0)]);
        assert_eq!(log.prefix, Prefix { stored_up_to: 14, owed: 0 });
    }

    #[test]
    fn what_is_held_among_the_lost_is_no_gap() {
        let mut log = Log::default();
        log.offer(0, &[3, 5]);
        assert_eq!(log.offer(7, &[6]).prefix, Prefix { stored_up_to: 7, owed: 1 });
        log.offer(7, &[8]);
        assert_eq!(log.shown(), [(3, 2), (5, 1), (6, 0), (8, 1)]);
    }

    #[test]
    fn what_was_declared_lost_is_not_stored_later() {
        let mut log = Log::default();
        log.offer(5, &[]);
        let late = log.offer(0, &[4]);
        assert_eq!((late.inserts.len(), late.known), (0, 1));
    }

    #[test]
    fn the_window_ends_exactly_at_its_bound_and_moves_with_what_is_lost() {
        let mut log = Log::default();
        let placement = log.offer(0, &[AHEAD_MAX, AHEAD_MAX + 1, u64::MAX]);
        assert_eq!((placement.inserts.len(), placement.far), (1, 2));
        let mut log = Log::default();
        let placement = log.offer(1_000_000, &[1_000_000 + AHEAD_MAX, 1_000_000 + AHEAD_MAX + 1]);
        assert_eq!((placement.inserts.len(), placement.far), (1, 1));
    }

    #[test]
    fn no_numbers_overflow() {
        let mut log = Log::default();
        log.offer(u64::MAX, &[u64::MAX, 1]);
        assert_eq!(log.prefix.stored_up_to, u64::MAX);
        assert_eq!(log.offer(u64::MAX, &[u64::MAX]).known, 1);
    }

    proptest! {
        /// Against the definition: sets of stored and lost numbers, nothing clever.
        #[test]
        fn any_sequence_of_messages_agrees_with_the_definition(
            messages in proptest::collection::vec(
                (0u64..40, proptest::collection::vec(1u64..60, 0..8)), 1..20)
        ) {
            let mut log = Log::default();
            let (mut stored, mut lost_to) = (BTreeSet::new(), 0u64);
            for (lost_up_to, offered) in messages {
                let accounted = |n: &u64, stored: &BTreeSet<u64>, lost: u64| stored.contains(n) || *n <= lost;
                let before = (1..).take_while(|n| accounted(n, &stored, lost_to)).count() as u64;
                stored.extend(offered.iter().filter(|n| **n > before));
                lost_to = lost_to.max(lost_up_to);
                let told = (1..).take_while(|n| accounted(n, &stored, lost_to)).count() as u64;

                let placement = log.offer(lost_up_to, &offered);
                prop_assert_eq!(placement.prefix.stored_up_to, told);
                let numbers: Vec<u64> = log.records.keys().copied().collect();
                prop_assert_eq!(&numbers, &stored.iter().copied().collect::<Vec<_>>());
                let mut previous = 0;
                for (sequence, gap) in log.shown() {
                    prop_assert_eq!(gap, sequence - previous - 1);
                    previous = sequence;
                }
            }
        }
    }
}
