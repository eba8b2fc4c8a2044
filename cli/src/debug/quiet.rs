//! How long nothing was said: when the device is to hear that somebody is still here, and when a gdb that was forgotten holds it no longer.
//!
//! Pure: times in, what is due out. What keeps the session alive counts for the device and the relay, and not as use of it: otherwise a session
//! would never be idle.

use std::time::{Duration, Instant};

/// A device parts with a session that says nothing for ten minutes: well before that it is told something.
pub(crate) const KEEP_ALIVE: Duration = Duration::from_secs(3 * 60);

#[derive(Debug, Clone)]
pub(crate) struct Quiet {
    keep_alive: Duration,
    /// Idle for so long, the session is over. None: it may be for ever.
    limit: Option<Duration>,
    /// Something was said to the device.
    said: Instant,
    /// gdb or the application did something.
    used: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Due {
    KeepAlive,
    End,
}

impl Quiet {
    pub(crate) fn new(keep_alive: Duration, limit: Option<Duration>, now: Instant) -> Quiet {
        Quiet { keep_alive, limit, said: now, used: now }
    }

    pub(crate) fn said(&mut self, now: Instant) {
        self.said = now;
    }

    pub(crate) fn used(&mut self, now: Instant) {
        self.used = now;
    }

    pub(crate) fn due(&self, now: Instant) -> Option<Due> {
        if self.end().is_some_and(|end| now >= end) {
            Some(Due::End)
        } else if self.keep_alive().is_some_and(|then| now >= then) {
            Some(Due::KeepAlive)
        } else {
            None
        }
    }

    /// When something is due if nothing happens; none: never.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.end().into_iter().chain(self.keep_alive()).min()
    }

    fn end(&self) -> Option<Instant> {
        self.used.checked_add(self.limit?)
    }

    fn keep_alive(&self) -> Option<Instant> {
        self.said.checked_add(self.keep_alive)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_device_hears_something_in_time_and_the_session_ends_all_the_same() {
        let start = Instant::now();
        let mut quiet = Quiet::new(KEEP_ALIVE, Some(10 * KEEP_ALIVE), start);
        assert_eq!(quiet.next(), Some(start + KEEP_ALIVE));
        assert_eq!(quiet.due(start + KEEP_ALIVE - SECOND), None);
        for n in 1..10 {
            assert_eq!(quiet.due(start + n * KEEP_ALIVE), Some(Due::KeepAlive), "{n}");
            quiet.said(start + n * KEEP_ALIVE);
        }
        assert_eq!(quiet.next(), Some(start + 10 * KEEP_ALIVE));
        assert_eq!(quiet.due(start + 10 * KEEP_ALIVE - SECOND), None);
        assert_eq!(quiet.due(start + 10 * KEEP_ALIVE), Some(Due::End));
        // What gdb does is use.
        quiet.used(start + SECOND);
        assert_eq!(quiet.due(start + 10 * KEEP_ALIVE), Some(Due::KeepAlive));
    }

    #[test]
    fn a_session_shorter_than_that_ends_first_and_one_without_a_limit_never() {
        let start = Instant::now();
        let short = Quiet::new(KEEP_ALIVE, Some(SECOND), start);
        assert_eq!((short.next(), short.due(start + SECOND)), (Some(start + SECOND), Some(Due::End)));
        for limit in [None, Some(Duration::MAX)] {
            let endless = Quiet::new(KEEP_ALIVE, limit, start);
            assert_eq!(endless.due(start + 1_000_000 * KEEP_ALIVE), Some(Due::KeepAlive));
        }
    }
}
