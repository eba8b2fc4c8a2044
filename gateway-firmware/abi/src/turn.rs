//! Who has the processor, and until when: what an application is promised of it.
//!
//! Two run on one core: the supervisor and the application. While an application can run, the supervisor never has the
//! core for longer than [`SLICE_US`] in one piece, and as much more as it had to wait for it, [`LATE_US_MAX`] at most; after each
//! piece the application has it for at least [`APP_SLICE_US`], whatever wakes the supervisor meanwhile. A supervisor that has
//! nothing to do leaves all of it.

/// The supervisor gives the core back after this long while the application can run.
pub const SLICE_US: u64 = 50;
/// The application keeps the core for this long at least.
pub const APP_SLICE_US: u64 = 50;

/// What the supervisor is given for having waited beyond its turn, at most: an application that keeps the core for longer than its
/// slice, by a storm of exceptions or by calls from its handlers, pays for it.
pub const LATE_US_MAX: u64 = 400;
/// So late it may be for nothing: a timer is late, or a call in a handler was under way.
pub const LATE_US_FREE: u64 = 30;

/// One of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    Supervisor,
    App,
}

/// What the supervisor wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Supervisor {
    /// To go on.
    Ready,
    /// To be left alone until this time, or until something happens.
    Sleeps { until_us: Option<u64> },
}

/// How things stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Who has the core.
    pub current: Who,
    /// Since when.
    pub since_us: u64,
    /// There is an application that can run.
    pub app: bool,
    pub supervisor: Supervisor,
    /// How long the supervisor waited beyond its turn, before the slice it has or is to have.
    pub late_us: u64,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Turn {
    /// Who has the core now.
    pub who: Who,
    /// When to decide again, unless something happens before.
    pub until_us: Option<u64>,
    /// The supervisor's sleep is over.
    pub woken: bool,
}

/// Times in a row that a call from a handler may keep the core. With [`retry_cycles`] between them they take about 130 ms;
/// an application that leaves its calls now and then is not found in one so often.
pub const KEPT_MAX: u32 = 8192;

/// Once it was found so for this long, that often is enough: where looking takes its time, as in an emulator, all of those
/// times would be seconds, of which the supervisor has none.
pub const KEPT_US_MAX: u64 = 50_000;
/// See [`KEPT_US_MAX`].
pub const KEPT_MIN: u32 = 512;

/// When to look again, after a call from a handler kept the core for the `kept`th time, `kept_us` after the first: such calls are short. The waits differ, so
/// that no loop of calls is in step with them. None: this application does not leave the core, and is ended.
pub fn retry_cycles(kept: u32, kept_us: u64) -> Option<u32> {
    const CYCLES_MIN: u32 = 200;
    // Knuth's multiplicative hash: its upper bits are all over the place.
    let ends = kept >= KEPT_MAX || (kept >= KEPT_MIN && kept_us >= KEPT_US_MAX);
    (!ends).then(|| CYCLES_MIN + (kept.wrapping_mul(0x9E37_79B1) >> 24))
}

/// Decides.
pub fn decide(standing: Standing, now_us: u64) -> Turn {
    let sleep = match standing.supervisor {
        Supervisor::Sleeps { until_us } if until_us.is_none_or(|until_us| until_us > now_us) => {
            Some(until_us)
        }
        Supervisor::Ready | Supervisor::Sleeps { .. } => None,
    };
    let woken = sleep.is_none();
    let ran_until = |slice_us| standing.since_us.saturating_add(slice_us);
    let slice_us = SLICE_US + standing.late_us.saturating_sub(LATE_US_FREE).min(LATE_US_MAX);
    let (who, until_us) = match (standing.app, sleep, standing.current) {
        (false, sleep, _) => (Who::Supervisor, sleep.flatten()),
        (true, Some(until_us), Who::Supervisor) => {
            (Who::App, until_us.map(|until_us| until_us.max(now_us + APP_SLICE_US)))
        }
        (true, Some(until_us), Who::App) => {
            (Who::App, until_us.map(|until_us| until_us.max(ran_until(APP_SLICE_US))))
        }
        (true, None, Who::Supervisor) if now_us < ran_until(slice_us) => {
            (Who::Supervisor, Some(ran_until(slice_us)))
        }
        (true, None, Who::Supervisor) => (Who::App, Some(now_us + APP_SLICE_US)),
        (true, None, Who::App) if now_us < ran_until(APP_SLICE_US) => {
            (Who::App, Some(ran_until(APP_SLICE_US)))
        }
        (true, None, Who::App) => (Who::Supervisor, Some(now_us + slice_us)),
    };
    Turn { who, until_us, woken }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use Supervisor::{Ready, Sleeps};
    use Who::App;

    const S: Who = Who::Supervisor;

    #[test]
    fn the_table() {
        let forever = Sleeps { until_us: None };
        let till = |until_us| Sleeps { until_us: Some(until_us) };
        // current, since, app, supervisor, now => who, until, woken
        let table = [
            // Nobody but the supervisor: it runs, or the core waits for its time.
            ((S, 0, false, Ready, 1_000), (S, None, true)),
            ((S, 0, false, forever, 1_000), (S, None, false)),
            ((S, 0, false, till(5_000), 1_000), (S, Some(5_000), false)),
            ((S, 0, false, till(1_000), 1_000), (S, None, true)),
            // The application ended while it had the core.
            ((App, 990, false, Ready, 1_000), (S, None, true)),
            // The supervisor works: slice for slice.
            ((S, 1_000, true, Ready, 1_000), (S, Some(1_050), true)),
            ((S, 1_000, true, Ready, 1_049), (S, Some(1_050), true)),
            ((S, 1_000, true, Ready, 1_050), (App, Some(1_100), true)),
            ((App, 1_050, true, Ready, 1_099), (App, Some(1_100), true)),
            ((App, 1_050, true, Ready, 1_100), (S, Some(1_150), true)),
            // The supervisor sleeps: the application has the core, once it has it for a slice at least.
            ((S, 1_000, true, forever, 1_010), (App, None, false)),
            ((S, 1_000, true, till(9_000), 1_010), (App, Some(9_000), false)),
            ((S, 1_000, true, till(1_011), 1_010), (App, Some(1_060), false)),
            ((App, 1_000, true, till(1_020), 1_010), (App, Some(1_050), false)),
            ((App, 1_000, true, till(1_020), 1_020), (App, Some(1_050), true)),
            ((App, 1_000, true, till(1_020), 1_050), (S, Some(1_100), true)),
            ((App, 1_000, true, forever, 9_000), (App, None, false)),
        ];
        for ((current, since_us, app, supervisor, now_us), (who, until_us, woken)) in table {
            let standing = Standing { current, since_us, app, supervisor, late_us: 0 };
            assert_eq!(decide(standing, now_us), Turn { who, until_us, woken }, "{standing:?} at {now_us}");
        }
    }

    #[test]
    fn an_application_that_kept_the_core_pays_for_it_up_to_a_limit() {
        let late = |current, since_us, late_us, now_us| {
            let standing = Standing { current, since_us, app: true, supervisor: Ready, late_us };
            let turn = decide(standing, now_us);
            (turn.who, turn.until_us)
        };
        assert_eq!(late(App, 1_000, 30, 1_080), (S, Some(1_130)));
        assert_eq!(late(App, 1_000, 60, 1_110), (S, Some(1_190)));
        assert_eq!(late(S, 1_110, 60, 1_189), (S, Some(1_190)));
        assert_eq!(late(S, 1_110, 60, 1_190), (App, Some(1_240)));
        assert_eq!(late(App, 1_000, 90_000, 91_050), (S, Some(91_500)));
    }

    #[test]
    fn a_call_that_keeps_the_core_is_looked_for_at_no_fixed_distance_and_not_for_ever() {
        let waits = || (0..).map_while(|kept| retry_cycles(kept, 0));
        assert_eq!((waits().count(), retry_cycles(KEPT_MAX, 0)), (KEPT_MAX as usize, None));
        // Where looking takes long, fewer do; but never a few.
        assert_eq!((0..).map_while(|kept| retry_cycles(kept, KEPT_US_MAX)).count(), KEPT_MIN as usize);
        assert!(waits().all(|cycles| (200..456).contains(&cycles)));
        // However long a loop of calls is, the looks find it everywhere.
        for loop_cycles in 2..200 {
            let mut phase = 0;
            let mut seen = [false; 200];
            for wait in waits() {
                phase = (phase + wait) % loop_cycles;
                seen[phase as usize] = true;
            }
            assert!(seen[..loop_cycles as usize].iter().all(|seen| *seen), "{loop_cycles}");
        }
    }

    proptest! {
        /// Timers that are late by up to 20 us, a supervisor that works, sleeps, is woken at any moment and had to wait.
        #[test]
        fn the_supervisor_never_has_more_than_its_slice_and_the_application_never_less(
            steps in prop::collection::vec((0u64..200, 0u8..4, 0u64..20), 1..400),
            waited_us in 0u64..200,
        ) {
            let mut standing =
                Standing { current: S, since_us: 0, app: true, supervisor: Ready, late_us: waited_us };
            let (mut now_us, mut timer): (u64, Option<u64>) = (0, Some(0));
            for (after_us, what, late_us) in steps {
                let event = now_us + after_us;
                now_us = timer.map_or(event, |timer| event.min(timer.max(now_us) + late_us));
                match (what, standing.current) {
                    (0, Who::Supervisor) => standing.supervisor = Sleeps { until_us: Some(now_us + after_us) },
                    (1, Who::Supervisor) => standing.supervisor = Sleeps { until_us: None },
                    (2, _) => standing.supervisor = Ready,
                    _ => {}
                }
                let turn = decide(standing, now_us);
                timer = turn.until_us;
                prop_assert!(timer.is_none_or(|timer| timer > now_us));
                let had_us = now_us - standing.since_us;
                if turn.who != standing.current {
                    match standing.current {
                        Who::Supervisor => prop_assert!(had_us <= SLICE_US + LATE_US_MAX + 20),
                        Who::App => prop_assert!(had_us >= APP_SLICE_US && turn.woken),
                    }
                    (standing.current, standing.since_us) = (turn.who, now_us);
                }
                if turn.woken {
                    standing.supervisor = Ready;
                }
            }
        }
    }
}
