//! What those see who only watch: memory when they ask, and where the application stands, by itself.
//!
//! Always holds: they are told a level, so that what changed while nobody could be told costs nothing and is never queued; nothing of the
//! agent's or the application's changes by it.

use wire::limits::DEBUG_READ_BYTES_MAX;
use wire::msg::DebugState;

use super::{Agent, Mode, Scene};
use crate::debug::answer::Answer;
use crate::ports::Probe;

/// Bytes of reads that one answer to a watcher holds.
pub const WATCH_READ_BYTES_MAX: usize = 1024;
/// Bytes of its stack, at most, that come with where the application halted.
pub const WATCH_STACK_BYTES: usize = 512;
const _: () =
    assert!(WATCH_STACK_BYTES <= WATCH_READ_BYTES_MAX && WATCH_READ_BYTES_MAX <= DEBUG_READ_BYTES_MAX);

/// One who only watches.
#[derive(Debug, Default)]
pub struct Watcher {
    /// Calls taken.
    calls: u32,
    told: Option<Seen>,
}

/// Where the application stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen {
    state: DebugState,
    starts: u32,
    /// Which stop of this boot; 0: it is not halted.
    stop: u32,
}

impl Watcher {
    /// The number of the call that comes. Its answer tells all there is, unless the application is halted.
    pub(super) fn asks(&mut self, seen: Seen) -> u32 {
        if seen.state != DebugState::Halted {
            self.told = Some(seen);
        }
        self.calls = self.calls.saturating_add(1);
        self.calls
    }
}

impl Agent {
    /// Tells where the application stands, if that is not what this one was told last.
    pub fn show(
        &self,
        watcher: &mut Watcher,
        scene: &Scene<'_>,
        probe: &mut impl Probe,
        out: &mut [u8],
    ) -> Option<usize> {
        let seen = self.seen(scene);
        if watcher.told.replace(seen) == Some(seen) {
            return None;
        }
        let mut answer = Answer::new(out, watcher.calls, seen.state, scene.starts);
        if seen.state == DebugState::Halted {
            self.add_stop(&mut answer, WATCH_STACK_BYTES as u32, probe);
        }
        Some(answer.end(None))
    }

    pub(super) fn seen(&self, scene: &Scene<'_>) -> Seen {
        let state = self.shown();
        let stop = if state == DebugState::Halted { self.stops } else { 0 };
        Seen { state, starts: scene.starts, stop }
    }

    /// As it is, whatever the session that may write was told.
    pub(super) fn shown(&self) -> DebugState {
        match self.mode {
            Mode::Absent => DebugState::Absent,
            // From where it only passes it goes on by itself.
            Mode::Halted(_) if self.chain.is_none() => DebugState::Halted,
            Mode::Halted(_) | Mode::Starts | Mode::Runs | Mode::Steps { .. } => DebugState::Running,
        }
    }
}
