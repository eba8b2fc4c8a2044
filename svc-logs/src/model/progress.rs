//! How far a tail is, so that another goes on from there: for each start of the device which records it was told.

use std::collections::HashMap;

use super::Boot;

/// Starts a token knows, the newest.
pub(crate) const BOOTS_MAX: usize = 32;

/// Of one start: everything stored up to this version was told; what is stored later is beyond the prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) version: i64,
    pub(crate) stored_up_to: i64,
}

/// All that a token says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    /// In the order in which they were first heard of; at most [`BOOTS_MAX`].
    pub(crate) boots: Vec<(Boot, Told)>,
    /// Older starts were left out.
    pub(crate) cut: bool,
    pub(crate) within: Within,
}

/// Where in a batch a message stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Within {
    /// At its end.
    #[default]
    End,
    /// Among the stored records a tail begins with, after this one.
    First(Boot, u64),
    /// Of this start everything up to there is being told, and is told up to this sequence.
    Boot(Boot, Told, u64),
}

impl Progress {
    /// Of starts in the order in which they were first heard of.
    pub(crate) fn new(mut boots: Vec<(Boot, Told)>, within: Within) -> Self {
        let surplus = boots.len().saturating_sub(BOOTS_MAX);
        boots.drain(..surplus);
        Self { boots, cut: surplus > 0, within }
    }

    /// What was told of each start there is now, `now` being in the order in which they were first heard of. Of those that are missing
    /// everything is new.
    pub(crate) fn told(&self, now: &[(Boot, Told)]) -> HashMap<Boot, Told> {
        let known: HashMap<Boot, Told> = self.boots.iter().copied().collect();
        let oldest = now.iter().position(|(boot, _)| known.contains_key(boot));
        let mut told = HashMap::new();
        for (n, (boot, newest)) in now.iter().enumerate() {
            // Before those the token knows: how much of it was told it cannot say; it is taken for all.
            let older = self.cut && oldest.is_some_and(|oldest| n < oldest);
            if let Some(seen) = known.get(boot).or(older.then_some(newest)) {
                told.insert(*boot, *seen);
            }
        }
        told
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn boot(counter: u32) -> Boot {
        Boot { counter, random: 1 }
    }

    fn told(version: i64) -> Told {
        Told { version, stored_up_to: version * 10 }
    }

    #[test]
    fn what_a_token_knows_is_told_and_newer_starts_are_new() {
        let progress = Progress::new(vec![(boot(1), told(3)), (boot(2), told(5))], Within::End);
        // The clock of starts went back: only the order in which they were heard of counts.
        let now = [(boot(1), told(4)), (boot(2), told(5)), (boot(0), told(1))];
        assert_eq!(progress.told(&now), HashMap::from([(boot(1), told(3)), (boot(2), told(5))]));
    }

    #[test]
    fn a_token_knows_a_bounded_number_of_starts_and_takes_older_ones_for_told() {
        let all: Vec<_> = (0..BOOTS_MAX as u32 + 2).map(|n| (boot(n), told(1))).collect();
        let progress = Progress::new(all.clone(), Within::End);
        assert_eq!((progress.boots.len(), progress.cut), (BOOTS_MAX, true));
        let now: Vec<_> = all.iter().map(|(boot, _)| (*boot, told(9))).chain([(boot(99), told(1))]).collect();
        let seen = progress.told(&now);
        assert_eq!((seen[&boot(0)], seen[&boot(1)]), (told(9), told(9)));
        assert_eq!((seen[&boot(2)], seen.get(&boot(99))), (told(1), None));
        let whole = Progress::new(all[..BOOTS_MAX].to_vec(), Within::End);
        assert!(!whole.cut, "an unknown start is new to one that knew all");
        assert!(!whole.told(&[(boot(77), told(1)), (boot(0), told(1))]).contains_key(&boot(77)));
    }
}
