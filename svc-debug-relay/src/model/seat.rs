//! One attachment: what it was given, what it may be given, and why it ended.
//!
//! A watcher's frames wait in a bounded queue of its own: one that reads slowly loses the oldest and is told how many,
//! and one that has lost too many is ended. Nobody else waits for it.

use std::collections::VecDeque;

use super::{Direction, EndReason, Frame, Role, Traffic};

/// Frames that wait for one watcher.
pub(crate) const WATCHER_FRAMES_MAX: usize = 64;
/// Frames a watcher may lose before it has read that it did; one more ends it.
pub(crate) const WATCHER_MISSED_MAX: u64 = 1024;

pub(crate) type SeatId = u64;

#[derive(Debug)]
pub(crate) struct Seat {
    pub(crate) subject: String,
    pub(crate) traffic: Traffic,
    pub(crate) kind: Kind,
    /// Why it is over.
    pub(crate) ended: Option<EndReason>,
    /// It was told so.
    pub(crate) end_told: bool,
    /// It was told where it begins.
    pub(crate) begun: bool,
}

#[derive(Debug)]
pub(crate) enum Kind {
    Writer(Writer),
    Watcher(Watcher),
}

#[derive(Debug, Default)]
pub(crate) struct Writer {
    /// Highest frame of the device it was given.
    pub(crate) given: u64,
    /// Highest it may be given.
    pub(crate) credit: u64,
    /// What it was last told: (delivered, credit).
    pub(crate) told: (u64, u64),
}

#[derive(Debug, Default)]
pub(crate) struct Watcher {
    /// The last frames before the first it is given: (to the device, from the device).
    pub(crate) after: (u64, u64),
    waiting: VecDeque<(Direction, Frame)>,
    /// Lost just before the first that waits.
    missed: u64,
}

/// What a watcher is given next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Watched {
    Frame(Direction, Frame),
    Missed(u64),
}

impl Seat {
    pub(crate) fn new(subject: String, kind: Kind) -> Self {
        Self { subject, traffic: Traffic::default(), kind, ended: None, end_told: false, begun: false }
    }

    pub(crate) fn role(&self) -> Role {
        match self.kind {
            Kind::Writer(_) => Role::Writer,
            Kind::Watcher(_) => Role::Watcher,
        }
    }

    /// Ends it, unless it has ended already.
    pub(crate) fn end(&mut self, reason: EndReason) {
        self.ended.get_or_insert(reason);
    }

    /// Puts a frame into a watcher's queue.
    pub(crate) fn watch(&mut self, direction: Direction, frame: &Frame) {
        let Kind::Watcher(watcher) = &mut self.kind else { return };
        if self.ended.is_none() && !watcher.push(direction, frame.clone()) {
            watcher.waiting.clear();
            self.end(EndReason::Lagging);
        }
    }
}

impl Watcher {
    pub(crate) fn after(down: u64, up: u64) -> Self {
        Self { after: (down, up), ..Self::default() }
    }

    /// False: it has lost too many.
    fn push(&mut self, direction: Direction, frame: Frame) -> bool {
        if self.waiting.len() == WATCHER_FRAMES_MAX {
            self.waiting.pop_front();
            self.missed += 1;
        }
        self.waiting.push_back((direction, frame));
        self.missed <= WATCHER_MISSED_MAX
    }

    pub(crate) fn pop(&mut self) -> Option<Watched> {
        if self.missed > 0 {
            return Some(Watched::Missed(std::mem::take(&mut self.missed)));
        }
        self.waiting.pop_front().map(|(direction, frame)| Watched::Frame(direction, frame))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn frame(number: u64) -> Frame {
        Frame { number, data: Bytes::from_static(b"x") }
    }

    fn numbers(watcher: &mut Watcher) -> Vec<u64> {
        std::iter::from_fn(|| watcher.pop())
            .map(|watched| match watched {
                Watched::Frame(_, frame) => frame.number,
                Watched::Missed(count) => 1_000_000 + count,
            })
            .collect()
    }

    #[test]
    fn a_slow_watcher_loses_the_oldest_and_is_told_how_many() {
        let mut watcher = Watcher::default();
        for number in 1..=WATCHER_FRAMES_MAX as u64 {
            assert!(watcher.push(Direction::Up, frame(number)));
        }
        assert_eq!(watcher.missed, 0);
        for number in 1..=3 {
            assert!(watcher.push(Direction::Up, frame(WATCHER_FRAMES_MAX as u64 + number)));
        }
        let seen = numbers(&mut watcher);
        assert_eq!((seen[0], seen[1], seen.len()), (1_000_003, 4, 1 + WATCHER_FRAMES_MAX));
    }

    #[test]
    fn a_watcher_that_has_lost_too_many_is_ended_and_holds_nothing_more() {
        let mut seat = Seat::new(String::new(), Kind::Watcher(Watcher::default()));
        for number in 1..=WATCHER_FRAMES_MAX as u64 + WATCHER_MISSED_MAX {
            seat.watch(Direction::Down, &frame(number));
        }
        assert_eq!(seat.ended, None, "at the limit");
        seat.watch(Direction::Down, &frame(0));
        assert_eq!(seat.ended, Some(EndReason::Lagging));
        let Kind::Watcher(watcher) = &seat.kind else { panic!() };
        assert!(watcher.waiting.is_empty());
        seat.watch(Direction::Down, &frame(1));
        let Kind::Watcher(watcher) = &seat.kind else { panic!() };
        assert!(watcher.waiting.is_empty());
    }
}
