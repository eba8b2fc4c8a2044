//! What a device says about a deployment, and what that word is worth.
//!
//! A device may be broken, replayed or hostile: a report changes a deployment only when it is newer than the last one
//! taken, names what was directed, and is possible. Reports are ordered by (boot counter, sequence), never by arrival.

use wire::limits::ATTEMPTS_MAX;
use wire::{DeploymentId, Digest};

use super::state::{Event, Phase, State};

/// One start of a device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Boot {
    pub(crate) count: u32,
    pub(crate) random: u64,
}

/// A point in a device's life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Moment {
    pub(crate) boot: Boot,
    pub(crate) sequence: u32,
}

impl Moment {
    /// Later in the device's life. Two boots of one counter cannot be ordered: the one that speaks now is the later.
    pub(crate) fn is_after(self, other: Moment) -> bool {
        if self.boot.count != other.boot.count {
            return self.boot.count > other.boot.count;
        }
        self.boot.random != other.boot.random || self.sequence > other.sequence
    }

    /// Before all there are: whatever comes is later, and of another boot. What was never said stays unsaid.
    pub(crate) fn long_past(self) -> Moment {
        Moment { boot: Boot { count: 0, ..self.boot }, sequence: 0 }
    }
}

/// `UpdateUp`, its fields checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Report {
    pub(crate) moment: Moment,
    pub(crate) deployment: DeploymentId,
    pub(crate) manifest: Digest,
    pub(crate) phase: Phase,
    /// In lower snake case, or empty.
    pub(crate) reason: String,
    pub(crate) bytes_done: u64,
    pub(crate) bytes_total: u64,
    pub(crate) attempts: u32,
}

/// The reason with which a device says that it runs and confirmed the manifest before it was asked.
pub(crate) const ALREADY_RUNNING: &str = "already_running";

/// What is known of the deployment a report names.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Known {
    pub(crate) state: State,
    pub(crate) manifest: Digest,
    /// A directive was sent.
    pub(crate) directed: bool,
    pub(crate) latest: Moment,
    pub(crate) bytes_done: u64,
    pub(crate) bytes_total: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The deployment moves to this state (or stays, with new numbers).
    Take(State),
    /// Heard before, or later: nothing changes.
    Stale,
    /// The deployment is over and was never granted `go`: the device is to be told to stop.
    Over,
    /// Cannot be true: nothing changes, and it is counted.
    Lie(Lie),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lie {
    /// The deployment's manifest is another.
    OtherManifest,
    /// Nobody directed it to that.
    NotDirected,
    /// From the state it was in, this cannot follow.
    Impossible,
    /// More bytes than there are, or fewer than before.
    Bytes,
    /// More attempts than any manifest allows.
    Attempts,
}

impl Lie {
    /// The metric's label.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Lie::OtherManifest => "other_manifest",
            Lie::NotDirected => "not_directed",
            Lie::Impossible => "impossible",
            Lie::Bytes => "bytes",
            Lie::Attempts => "attempts",
        }
    }
}

/// What a report does to the deployment it names.
pub(crate) fn judge(known: &Known, report: &Report) -> Verdict {
    if report.manifest != known.manifest {
        return Verdict::Lie(Lie::OtherManifest);
    }
    if !known.directed {
        return Verdict::Lie(Lie::NotDirected);
    }
    if !report.moment.is_after(known.latest) {
        let other_boot = report.moment.boot != known.latest.boot;
        let told = known.state.is_called_off() && report.phase.before_go() && other_boot;
        // Of a board that lost its journal since, and counts lower, it may be the newest there is.
        return if told { Verdict::Over } else { Verdict::Stale };
    }
    if known.state.is_final() {
        return after_the_end(known.state, report);
    }
    let same_boot = report.moment.boot == known.latest.boot;
    let recounts = same_boot && report.phase == Phase::Fetching && report.bytes_done < known.bytes_done;
    if report.bytes_done > report.bytes_total || report.bytes_total > known.bytes_total || recounts {
        return Verdict::Lie(Lie::Bytes);
    }
    if report.attempts > u32::from(ATTEMPTS_MAX) {
        return Verdict::Lie(Lie::Attempts);
    }
    match known.state.next(event(report, known.latest, same_boot)) {
        Ok(state) => Verdict::Take(state),
        Err(_) => Verdict::Lie(Lie::Impossible),
    }
}

/// The first report of a deployment counts as one of the same boot: there is none it could be later than.
fn event(report: &Report, latest: Moment, same_boot: bool) -> Event {
    let result = matches!(report.phase, Phase::Confirmed | Phase::Refused);
    if result && report.reason == ALREADY_RUNNING {
        return Event::AlreadyRunning;
    }
    if same_boot || latest == Moment::default() {
        Event::Said(report.phase)
    } else {
        Event::SaidAfterBoot(report.phase)
    }
}

fn after_the_end(state: State, report: &Report) -> Verdict {
    let called_off = state.is_called_off();
    match report.phase {
        // The same result again, under a new sequence.
        phase if phase.state() == state => Verdict::Stale,
        Phase::Refused if called_off => Verdict::Stale,
        phase if phase.before_go() && called_off => Verdict::Over,
        _ => Verdict::Lie(Lie::Impossible),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moment(count: u32, sequence: u32) -> Moment {
        Moment { boot: Boot { count, random: u64::from(count) }, sequence }
    }

    fn known(state: State) -> Known {
        Known {
            state,
            manifest: Digest([1; 32]),
            directed: true,
            latest: moment(3, 5),
            bytes_done: 100,
            bytes_total: 1000,
        }
    }

    fn report(phase: Phase) -> Report {
        Report {
            moment: moment(3, 6),
            deployment: DeploymentId::new([2; 16]),
            manifest: Digest([1; 32]),
            phase,
            reason: String::new(),
            bytes_done: 100,
            bytes_total: 1000,
            attempts: 0,
        }
    }

    #[test]
    fn progress_is_taken() {
        assert_eq!(judge(&known(State::Fetching), &report(Phase::Verified)), Verdict::Take(State::Verified));
    }

    #[test]
    fn what_is_not_newer_changes_nothing() {
        for stale in [moment(3, 5), moment(3, 4), moment(2, 99)] {
            let report = Report { moment: stale, ..report(Phase::Ready) };
            assert_eq!(judge(&known(State::Fetching), &report), Verdict::Stale, "{stale:?}");
        }
    }

    #[test]
    fn two_boots_of_one_counter_are_two_boots() {
        let other = Moment { boot: Boot { count: 3, random: 77 }, sequence: 1 };
        assert!(other.is_after(moment(3, 5)));
        let report = Report { moment: other, bytes_done: 0, ..report(Phase::Fetching) };
        assert_eq!(judge(&known(State::Ready), &report), Verdict::Take(State::Fetching));
    }

    #[test]
    fn every_lie_is_told_apart() {
        let cases = [
            (Report { manifest: Digest([9; 32]), ..report(Phase::Ready) }, Lie::OtherManifest),
            (report(Phase::Confirmed), Lie::Impossible),
            (report(Phase::Trial), Lie::Impossible),
            (Report { bytes_done: 1001, ..report(Phase::Ready) }, Lie::Bytes),
            (Report { bytes_total: 1001, ..report(Phase::Ready) }, Lie::Bytes),
            (Report { bytes_done: 99, ..report(Phase::Fetching) }, Lie::Bytes),
            (Report { attempts: 17, ..report(Phase::Ready) }, Lie::Attempts),
        ];
        for (report, lie) in cases {
            assert_eq!(judge(&known(State::Fetching), &report), Verdict::Lie(lie), "{report:?}");
        }
        let undirected = Known { directed: false, ..known(State::Pending) };
        assert_eq!(judge(&undirected, &report(Phase::Confirmed)), Verdict::Lie(Lie::NotDirected));
    }

    #[test]
    fn sixteen_attempts_are_believed() {
        let report = Report { attempts: 16, ..report(Phase::Reverted) };
        assert_eq!(judge(&known(State::Trial), &report), Verdict::Take(State::Reverted));
    }

    #[test]
    fn fewer_bytes_than_before_are_believed_only_after_a_boot() {
        let fewer = Report { moment: moment(4, 1), bytes_done: 0, ..report(Phase::Fetching) };
        assert_eq!(judge(&known(State::Fetching), &fewer), Verdict::Take(State::Fetching));
    }

    #[test]
    fn a_step_back_is_believed_only_after_a_boot() {
        let back = report(Phase::Fetching);
        assert_eq!(judge(&known(State::Ready), &back), Verdict::Lie(Lie::Impossible));
        let back = Report { moment: moment(4, 1), ..back };
        assert_eq!(judge(&known(State::Ready), &back), Verdict::Take(State::Fetching));
        assert_eq!(judge(&known(State::Trial), &back), Verdict::Lie(Lie::Impossible));
    }

    #[test]
    fn already_running_ends_it_well_however_it_is_said() {
        for phase in [Phase::Confirmed, Phase::Refused] {
            let report = Report { reason: ALREADY_RUNNING.to_owned(), ..report(phase) };
            assert_eq!(judge(&known(State::Pending), &report), Verdict::Take(State::Confirmed));
        }
    }

    #[test]
    fn a_device_at_work_on_what_was_called_off_is_told_to_stop() {
        for state in [State::Cancelled, State::Superseded] {
            assert_eq!(judge(&known(state), &report(Phase::Ready)), Verdict::Over);
            assert_eq!(judge(&known(state), &report(Phase::Refused)), Verdict::Stale);
            assert_eq!(judge(&known(state), &report(Phase::Confirmed)), Verdict::Lie(Lie::Impossible));
        }
        assert_eq!(judge(&known(State::Confirmed), &report(Phase::Fetching)), Verdict::Lie(Lie::Impossible));
    }

    #[test]
    fn who_lost_its_journal_at_work_on_what_was_called_off_is_told_to_stop() {
        let lower = Report { moment: moment(1, 1), ..report(Phase::Ready) };
        assert_eq!(judge(&known(State::Cancelled), &lower), Verdict::Over);
        assert_eq!(judge(&known(State::Ready), &lower), Verdict::Stale);
        let earlier = Report { moment: moment(3, 4), ..report(Phase::Ready) };
        assert_eq!(judge(&known(State::Cancelled), &earlier), Verdict::Stale, "said before it heard");
    }

    #[test]
    fn a_result_said_again_is_no_lie() {
        assert_eq!(judge(&known(State::Confirmed), &report(Phase::Confirmed)), Verdict::Stale);
        assert_eq!(judge(&known(State::Confirmed), &report(Phase::Reverted)), Verdict::Lie(Lie::Impossible));
    }
}
