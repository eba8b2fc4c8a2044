//! The life of one deployment: an enum and one table of (state, event) -> state.
//!
//! Always holds: nothing after `Granted` is reached without `Granted`; a final state is left by no event; what the
//! device is told follows from the state alone, so that a lost message is sent again by whoever looks next.

use std::fmt;

/// Where a deployment stands. `Granted` is `Ready` with `go` given: from there it can no longer be called off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum State {
    Pending,
    Fetching,
    Verified,
    Polite,
    Ready,
    Granted,
    Installing,
    Trial,
    Confirmed,
    Reverted,
    Refused,
    Cancelled,
    Superseded,
}

/// What a device says it is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Fetching,
    Verified,
    Polite,
    Ready,
    Installing,
    Trial,
    Confirmed,
    Reverted,
    Refused,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// A report of the boot that the last one came from.
    Said(Phase),
    /// A report of a later boot: the power may have failed in between.
    SaidAfterBoot(Phase),
    /// The device was asked for what it runs and confirmed before.
    AlreadyRunning,
    /// A later boot holds no trace of the manifest and owes no result.
    Lost,
    Go,
    Cancel,
    Supersede,
    /// The device was revoked or forgotten: nobody will ever report.
    Gone,
}

/// What a device is to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    Install,
    Go,
    Commit,
    Cancel,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a deployment that is {state} cannot take {event:?}")]
pub(crate) struct Illegal {
    pub(crate) state: State,
    pub(crate) event: Event,
}

impl State {
    pub(crate) const ALL: [State; 13] = [
        State::Pending,
        State::Fetching,
        State::Verified,
        State::Polite,
        State::Ready,
        State::Granted,
        State::Installing,
        State::Trial,
        State::Confirmed,
        State::Reverted,
        State::Refused,
        State::Cancelled,
        State::Superseded,
    ];

    pub(crate) fn is_final(self) -> bool {
        matches!(
            self,
            State::Confirmed | State::Reverted | State::Refused | State::Cancelled | State::Superseded
        )
    }

    /// Somebody did not want it any more, before it was granted.
    pub(crate) fn is_called_off(self) -> bool {
        matches!(self, State::Cancelled | State::Superseded)
    }

    /// Not granted `go` yet: nothing has started on the device.
    #[cfg(test)]
    fn before_go(self) -> bool {
        matches!(self, State::Pending | State::Fetching | State::Verified | State::Polite | State::Ready)
    }

    /// The device may have begun to change what it runs, and says when it is done.
    pub(crate) fn started(self) -> bool {
        matches!(self, State::Granted | State::Installing | State::Trial)
    }

    /// The state after the event; the whole table.
    pub(crate) fn next(self, event: Event) -> Result<State, Illegal> {
        use State::*;
        let next = match (self, event) {
            (Pending | Fetching | Verified | Polite | Ready, Event::Cancel) => Cancelled,
            (Pending | Fetching | Verified | Polite | Ready, Event::Supersede) => Superseded,
            (state, Event::Gone) if !state.is_final() => Cancelled,
            (Pending | Fetching | Verified | Polite | Ready, Event::AlreadyRunning) => Confirmed,
            (Granted | Installing | Trial, Event::AlreadyRunning) => Confirmed,
            (Ready, Event::Go) => Granted,
            (Granted | Installing | Trial, Event::Lost) => Pending,

            (Pending | Fetching, Event::Said(Phase::Fetching)) => Fetching,
            (Pending | Fetching | Verified, Event::Said(Phase::Verified)) => Verified,
            (Pending | Fetching | Verified | Polite, Event::Said(Phase::Polite)) => Polite,
            (Pending | Fetching | Verified | Polite | Ready, Event::Said(Phase::Ready)) => Ready,
            // It repeats itself until it hears the answer.
            (Granted, Event::Said(Phase::Ready)) => Granted,

            // Before `go`, and while an installation may not have begun, a board that lost power may start over;
            // what was granted was bound to a nonce it no longer knows.
            (
                Pending | Fetching | Verified | Polite | Ready | Granted | Installing,
                Event::SaidAfterBoot(phase),
            ) if phase.before_go() => phase.state(),

            (
                Granted | Installing,
                Event::Said(Phase::Installing) | Event::SaidAfterBoot(Phase::Installing),
            ) => Installing,
            (Granted | Installing | Trial, Event::Said(phase) | Event::SaidAfterBoot(phase))
                if matches!(phase, Phase::Trial | Phase::Confirmed | Phase::Reverted) =>
            {
                phase.state()
            }
            (
                Pending | Fetching | Verified | Polite | Ready | Granted | Installing,
                Event::Said(Phase::Refused) | Event::SaidAfterBoot(Phase::Refused),
            ) => Refused,
            (state, event) => return Err(Illegal { state, event }),
        };
        Ok(next)
    }

    /// What to tell the device in this state.
    pub(crate) fn order(self, done: Done) -> Option<Order> {
        match self {
            State::Pending | State::Fetching | State::Verified | State::Polite => Some(Order::Install),
            // Not granted: an install directive keeps the board waiting for `go`.
            State::Ready => Some(Order::Install),
            State::Granted => Some(Order::Go),
            State::Confirmed if !done.committed => Some(Order::Commit),
            State::Cancelled if !done.stopped => Some(Order::Cancel),
            _ => None,
        }
    }

    /// As stored.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            State::Pending => "pending",
            State::Fetching => "fetching",
            State::Verified => "verified",
            State::Polite => "polite",
            State::Ready => "ready",
            State::Granted => "granted",
            State::Installing => "installing",
            State::Trial => "trial",
            State::Confirmed => "confirmed",
            State::Reverted => "reverted",
            State::Refused => "refused",
            State::Cancelled => "cancelled",
            State::Superseded => "superseded",
        }
    }

    pub(crate) fn parse(text: &str) -> Option<State> {
        State::ALL.into_iter().find(|state| state.as_str() == text)
    }
}

/// What of a finished deployment needs no more telling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Done {
    pub(crate) committed: bool,
    pub(crate) stopped: bool,
}

impl Phase {
    pub(crate) fn before_go(self) -> bool {
        matches!(self, Phase::Fetching | Phase::Verified | Phase::Polite | Phase::Ready)
    }

    /// A result: kept by the device until it is acknowledged.
    pub(crate) fn is_result(self) -> bool {
        matches!(self, Phase::Confirmed | Phase::Reverted | Phase::Refused)
    }

    pub(crate) fn state(self) -> State {
        match self {
            Phase::Fetching => State::Fetching,
            Phase::Verified => State::Verified,
            Phase::Polite => State::Polite,
            Phase::Ready => State::Ready,
            Phase::Installing => State::Installing,
            Phase::Trial => State::Trial,
            Phase::Confirmed => State::Confirmed,
            Phase::Reverted => State::Reverted,
            Phase::Refused => State::Refused,
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PHASES: [Phase; 9] = [
        Phase::Fetching,
        Phase::Verified,
        Phase::Polite,
        Phase::Ready,
        Phase::Installing,
        Phase::Trial,
        Phase::Confirmed,
        Phase::Reverted,
        Phase::Refused,
    ];

    fn events() -> Vec<Event> {
        let mut events =
            vec![Event::Go, Event::Cancel, Event::Supersede, Event::Gone, Event::AlreadyRunning, Event::Lost];
        events.extend(PHASES.map(Event::Said));
        events.extend(PHASES.map(Event::SaidAfterBoot));
        events
    }

    /// `HOLDFAST_BLESS=1 cargo test -p svc-ota matrix` writes the snapshot anew; read the difference.
    #[test]
    fn the_whole_matrix_is_as_the_snapshot_says() {
        let mut matrix = String::new();
        for state in State::ALL {
            for event in events() {
                let next = state.next(event).map_or("-".to_owned(), |next| next.to_string());
                matrix.push_str(&format!("{state:<10} {event:<26} {next}\n", event = format!("{event:?}")));
            }
        }
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/model/state.matrix.txt");
        if std::env::var_os("HOLDFAST_BLESS").is_some() {
            std::fs::write(path, &matrix).unwrap();
        }
        assert_eq!(matrix, std::fs::read_to_string(path).unwrap());
    }

    #[test]
    fn nothing_is_installed_without_go() {
        for state in State::ALL.into_iter().filter(|s| s.before_go()) {
            for event in events().into_iter().filter(|e| !matches!(e, Event::Go | Event::AlreadyRunning)) {
                if let Ok(next) = state.next(event) {
                    assert!(!next.started(), "{state} {event:?}");
                    assert!(!matches!(next, State::Confirmed | State::Reverted), "{state} {event:?}");
                }
            }
        }
    }

    #[test]
    fn a_final_state_is_left_by_no_event() {
        for state in State::ALL.into_iter().filter(|s| s.is_final()) {
            for event in events() {
                assert_eq!(state.next(event), Err(Illegal { state, event }));
            }
        }
    }

    #[test]
    fn after_go_it_can_neither_be_cancelled_nor_replaced() {
        for state in State::ALL.into_iter().filter(|s| s.started()) {
            for event in [Event::Cancel, Event::Supersede] {
                assert!(state.next(event).is_err(), "{state}");
            }
        }
    }

    #[test]
    fn the_text_of_every_state_parses_back() {
        for state in State::ALL {
            assert_eq!(State::parse(state.as_str()), Some(state));
        }
        assert_eq!(State::parse("Pending"), None);
    }
}
