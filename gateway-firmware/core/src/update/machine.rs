//! The states of an update and the one table of (state, event) -> state.
//!
//! What is journaled is the ledger (`ledger.rs`); `Verified`, `Polite` and `Ready` are not: after a power cut the
//! device goes back to `Fetching`, finds every block in place, reads the area back again and asks for `go` again.

/// Where the update stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Nothing to do.
    Idle,
    /// Blocks are being copied, asked for, verified and written; then the area is read back.
    Fetching,
    /// The whole area reads back as signed.
    Verified,
    /// Waits for the running application's permission, up to its own ceiling.
    Polite,
    /// Waits for the director's `go`.
    Ready,
    /// The switch is being journaled and the application restarted.
    Installing,
    /// The new version runs and is not confirmed.
    Trial,
    /// The new version is the confirmed one; the result waits to be acknowledged.
    Confirmed,
    /// The old version runs again; the result waits to be acknowledged.
    Reverted,
}

/// What may happen to an update.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// An install directive and its manifest were accepted.
    Directed,
    /// The whole area reads back as signed.
    ReadBack,
    /// The running application asked to be asked.
    Asked,
    /// The application allows it, does not mind, or put it off for as long as it may.
    Allowed,
    /// The director's `go`.
    Granted,
    /// The new version was started.
    Started,
    /// The trial was passed.
    Kept,
    /// The trial was failed, or the version cannot be started.
    TakenBack,
    /// Cancelled or given up before the switch.
    Dropped,
    /// The service has stored the result.
    Acknowledged,
}

/// The event cannot happen in this state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IllegalMove {
    pub state: State,
    pub event: Event,
}

impl State {
    pub const ALL: [State; 9] = [
        State::Idle,
        State::Fetching,
        State::Verified,
        State::Polite,
        State::Ready,
        State::Installing,
        State::Trial,
        State::Confirmed,
        State::Reverted,
    ];

    /// The table.
    pub fn after(self, event: Event) -> Result<State, IllegalMove> {
        use Event as E;
        use State as S;
        match (self, event) {
            // A newer directive supersedes whatever is not yet being installed.
            (S::Idle | S::Fetching | S::Verified | S::Polite | S::Ready, E::Directed) => Ok(S::Fetching),
            (S::Confirmed | S::Reverted, E::Directed) => Ok(S::Fetching),
            (S::Fetching | S::Verified | S::Polite | S::Ready, E::Dropped) => Ok(S::Idle),
            (S::Fetching, E::ReadBack) => Ok(S::Verified),
            (S::Verified, E::Asked) => Ok(S::Polite),
            (S::Verified | S::Polite, E::Allowed) => Ok(S::Ready),
            (S::Ready, E::Granted) => Ok(S::Installing),
            (S::Installing, E::Started) => Ok(S::Trial),
            (S::Trial, E::Kept) => Ok(S::Confirmed),
            (S::Installing | S::Trial, E::TakenBack) => Ok(S::Reverted),
            (S::Confirmed | S::Reverted, E::Acknowledged) => Ok(S::Idle),
            (state, event) => Err(IllegalMove { state, event }),
        }
    }

    /// A target is being brought to `Ready` and may still be dropped or superseded.
    pub fn is_staging(self) -> bool {
        matches!(self, State::Fetching | State::Verified | State::Polite | State::Ready)
    }
}

impl Event {
    pub const ALL: [Event; 10] = [
        Event::Directed,
        Event::ReadBack,
        Event::Asked,
        Event::Allowed,
        Event::Granted,
        Event::Started,
        Event::Kept,
        Event::TakenBack,
        Event::Dropped,
        Event::Acknowledged,
    ];
}

impl From<State> for wire::msg::UpdateState {
    fn from(state: State) -> Self {
        use wire::msg::UpdateState as W;
        match state {
            State::Idle => W::Unspecified,
            State::Fetching => W::Fetching,
            State::Verified => W::Verified,
            State::Polite => W::Polite,
            State::Ready => W::Ready,
            State::Installing => W::Installing,
            State::Trial => W::Trial,
            State::Confirmed => W::Confirmed,
            State::Reverted => W::Reverted,
        }
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::fmt::Write as _;
    use std::string::String;

    use super::*;

    #[test]
    fn the_whole_matrix_is_the_snapshot() {
        let mut matrix = String::new();
        for state in State::ALL {
            for event in Event::ALL {
                match state.after(event) {
                    Ok(next) => writeln!(matrix, "{state:?} + {event:?} -> {next:?}").unwrap(),
                    Err(illegal) => {
                        assert_eq!(illegal, IllegalMove { state, event });
                        writeln!(matrix, "{state:?} + {event:?} -> illegal").unwrap();
                    }
                }
            }
        }
        assert_eq!(matrix, include_str!("machine.snapshot"), "\n{matrix}");
    }

    #[test]
    fn nothing_being_installed_or_tried_can_be_dropped_or_superseded() {
        for state in [State::Installing, State::Trial] {
            assert!(state.after(Event::Directed).is_err());
            assert!(state.after(Event::Dropped).is_err());
        }
    }
}
