//! Which boot of a device is its current one, as svc-registry proves it (`registry.life_v1`), and which of two hellos is therefore the later.
//!
//! Boot counters say it as long as they rise. A board that lost its journal counts from a lower number: what it says would be
//! older than what it said before, for as many boots as it lost. The registry knows better: boots that are `over` ended before the current one
//! began, whatever they count. Where one of them counts as high as the current one, counters say nothing, and only the current one is believed.
//!
//! Always holds: a hello of a boot that is known to be over is never later than any other.

use std::time::Duration;

use super::device::Hello;
use super::report::Boot;

/// A boot not heard of for so long has ended, if another one of its device is the current one: a device says hello every quarter of an hour, and
/// its second hello proves its boot.
const SILENT: Duration = Duration::from_secs(3600);

/// A device's boots, as far as the registry has proof.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Life {
    pub(crate) now: Boot,
    /// Newest first; not all there were.
    pub(crate) over: Vec<Boot>,
}

/// How a boot stands to every other one of its device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// As the boot counters say.
    Counted,
    /// As they say, and later than one that has long been silent.
    Current,
    /// Later, whatever they say.
    Newest,
    /// It ended before the current one began.
    Over,
    /// Counters went back, and it is not known to be the current one: its next hello may prove that.
    Unproven,
}

impl Life {
    pub(crate) fn place(&self, boot: Boot) -> Place {
        let went_back = self.over.iter().any(|over| over.count >= self.now.count);
        match (boot == self.now, went_back) {
            _ if self.over.contains(&boot) => Place::Over,
            (true, true) => Place::Newest,
            (true, false) => Place::Current,
            (false, true) => Place::Unproven,
            (false, false) => Place::Counted,
        }
    }
}

impl Place {
    /// Whether a hello whose boot has this place is later in the device's life than another.
    pub(crate) fn is_later(self, said: &Hello, kept: &Hello) -> bool {
        let counted = said.moment.is_after(kept.moment);
        match self {
            _ if said.moment.boot == kept.moment.boot => counted,
            Place::Over | Place::Unproven => false,
            Place::Counted => counted,
            Place::Current | Place::Newest => counted || self.overrules(said, kept),
        }
    }

    /// It is later than the other one whatever the two count.
    pub(crate) fn overrules(self, said: &Hello, kept: &Hello) -> bool {
        let silent = || said.heard_at.duration_since(kept.heard_at).is_ok_and(|ago| ago >= SILENT);
        let other = said.moment.boot != kept.moment.boot;
        other && (self == Place::Newest || self == Place::Current && silent())
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use proptest::prelude::*;
    use wire::{Digest, Nonce};

    use super::*;
    use crate::model::report::Moment;

    /// Boots the registry remembers.
    const OVER_MAX: usize = 7;

    fn boot(count: u32) -> Boot {
        Boot { count, random: count.into() }
    }

    fn life(now: u32, over: &[u32]) -> Life {
        Life { now: boot(now), over: over.iter().map(|count| boot(*count)).collect() }
    }

    fn hello(boot: Boot, sequence: u32, at_s: u64) -> Hello {
        Hello {
            nonce: Nonce([1; 16]),
            moment: Moment { boot, sequence },
            heard_at: SystemTime::UNIX_EPOCH + Duration::from_secs(at_s),
            key: Digest([1; 32]),
            keyset: 1,
        }
    }

    #[test]
    fn counters_are_believed_until_they_are_seen_to_go_back() {
        let rising = life(9, &[8, 7]);
        for (count, place) in
            [(9, Place::Current), (10, Place::Counted), (6, Place::Counted), (8, Place::Over)]
        {
            assert_eq!(rising.place(boot(count)), place, "{count}");
        }
        let back = life(1, &[9, 8]);
        for (count, place) in
            [(1, Place::Newest), (9, Place::Over), (2, Place::Unproven), (7, Place::Unproven)]
        {
            assert_eq!(back.place(boot(count)), place, "{count}");
        }
    }

    #[test]
    fn the_place_of_a_boot_decides_and_within_a_boot_the_sequence() {
        let [low, high] = [hello(boot(1), 2, 0), hello(boot(9), 7, 0)];
        for (place, lower, higher) in [
            (Place::Counted, false, true),
            (Place::Current, false, true),
            (Place::Newest, true, true),
            (Place::Over, false, false),
            (Place::Unproven, false, false),
        ] {
            assert_eq!(place.is_later(&low, &high), lower, "{place:?}");
            assert_eq!(place.is_later(&high, &low), higher, "{place:?}");
            assert!(place.is_later(&hello(boot(1), 3, 0), &low), "{place:?}");
            assert!(!place.is_later(&low, &low), "{place:?}");
        }
    }

    #[test]
    fn a_boot_that_never_proved_itself_and_is_long_silent_gives_way_to_the_current_one() {
        let kept = hello(boot(9), 1, 100);
        for (at_s, later) in [(99, false), (3699, false), (3700, true)] {
            let said = hello(boot(5), 1, at_s);
            assert_eq!(Place::Current.is_later(&said, &kept), later, "{at_s}");
            assert!(!Place::Counted.is_later(&said, &kept));
            assert!(!Place::Over.is_later(&said, &kept));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        /// A board that loses counts now and then. Each of its boots is proved, sooner or later; the view lags behind; hellos come late, again, in
        /// any order.
        #[test]
        fn a_late_hello_of_a_boot_that_is_over_undoes_nothing_and_the_board_is_heard(
            steps in proptest::collection::vec((0u8..6, any::<usize>()), 0..100),
        ) {
            let mut life = Life { now: Boot { count: 1, random: 0 }, over: Vec::new() };
            let (mut current, mut began, mut sequence) = (life.now, 0, 1);
            let mut kept = hello(current, sequence, 0);
            let mut said = vec![kept];
            for (step, which) in steps {
                let heard = match step {
                    // Boots that prove nothing would be told apart by their counts alone.
                    0 if life.now == current => {
                        let count = match which % 3 { 0 => 1, 1 => current.count, _ => current.count + 1 };
                        (began, sequence) = (began + 1, 1);
                        current = Boot { count, random: began };
                        hello(current, sequence, 0)
                    }
                    1 => {
                        if life.now != current {
                            life.over.insert(0, life.now);
                            life.over.truncate(OVER_MAX);
                            life.now = current;
                        }
                        // What proved it was a hello.
                        sequence += 1;
                        hello(current, sequence, 0)
                    }
                    2 | 3 => {
                        sequence += 1;
                        hello(current, sequence, 0)
                    }
                    _ => {
                        said.retain(|hello| hello.moment.boot.random + OVER_MAX as u64 > began);
                        said[which % said.len()]
                    }
                };
                said.push(heard);
                let later = life.place(heard.moment.boot).is_later(&heard, &kept);
                prop_assert!(!(later && life.over.contains(&heard.moment.boot)), "{heard:?} {life:?}");
                // Of two boots that count the same whoever speaks is the later one, until one is proved.
                let alike = kept.moment.boot.count == heard.moment.boot.count && life.now != current;
                if kept.moment.boot == current && later && !alike {
                    prop_assert_eq!(heard.moment.boot, current, "{:?} undone", kept);
                }
                if heard.moment == (Moment { boot: current, sequence }) && life.now == current {
                    prop_assert!(later || heard.moment == kept.moment, "{heard:?} is not heard: {kept:?} {life:?}");
                }
                if later {
                    kept = heard;
                }
            }
        }
    }
}
