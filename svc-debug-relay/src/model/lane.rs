//! One direction of a session: the frames one end has sent and the other has not yet acknowledged.
//!
//! Holds: numbers are taken in order and without a gap; at most [`WINDOW`] frames are held; what is delivered is
//! forgotten and nothing else is.

use std::collections::VecDeque;

use bytes::Bytes;
use wire::limits::DEBUG_WINDOW_FRAMES_MAX;

use super::{Frame, NUMBER_MAX};

/// Frames a lane holds at most.
pub(crate) const WINDOW: u64 = DEBUG_WINDOW_FRAMES_MAX;

#[derive(Debug, Default)]
pub(crate) struct Lane {
    delivered: u64,
    /// `delivered + 1` and on.
    held: VecDeque<Bytes>,
}

/// What became of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    New,
    /// It is here already, or delivered.
    Again,
    /// An earlier one is missing.
    Gap,
    /// Nobody gave credit for it.
    Beyond,
}

impl Lane {
    /// Empty; everything up to here was delivered.
    pub(crate) fn at(delivered: u64) -> Self {
        Self { delivered, held: VecDeque::new() }
    }

    /// The end that takes has everything up to this one.
    pub(crate) fn delivered(&self) -> u64 {
        self.delivered
    }

    /// The highest number that is here or delivered.
    pub(crate) fn received(&self) -> u64 {
        self.delivered + self.held.len() as u64
    }

    /// The highest number the end that sends may send.
    pub(crate) fn credit(&self) -> u64 {
        self.delivered.saturating_add(WINDOW).min(NUMBER_MAX)
    }

    pub(crate) fn take(&mut self, frame: Frame) -> Taken {
        if frame.number <= self.received() {
            Taken::Again
        } else if frame.number > self.credit() {
            Taken::Beyond
        } else if frame.number > self.received() + 1 {
            Taken::Gap
        } else {
            self.held.push_back(frame.data);
            Taken::New
        }
    }

    /// A frame that is held.
    pub(crate) fn frame(&self, number: u64) -> Option<Frame> {
        let index = usize::try_from(number.checked_sub(self.delivered + 1)?).ok()?;
        self.held.get(index).map(|data| Frame { number, data: data.clone() })
    }

    /// Forgets everything up to this one, which must be here; whether that was anything.
    pub(crate) fn deliver(&mut self, up_to: u64) -> bool {
        let up_to = up_to.min(self.received());
        let gone = up_to.saturating_sub(self.delivered);
        self.held.drain(..usize::try_from(gone).unwrap_or(usize::MAX).min(self.held.len()));
        self.delivered += gone;
        gone > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(number: u64) -> Frame {
        Frame { number, data: Bytes::copy_from_slice(&number.to_be_bytes()) }
    }

    #[test]
    fn frames_are_taken_in_order_once_and_up_to_the_window() {
        let mut lane = Lane::at(100);
        assert_eq!(lane.take(frame(102)), Taken::Gap);
        assert_eq!(lane.take(frame(100)), Taken::Again);
        for number in 101..=100 + WINDOW {
            assert_eq!(lane.take(frame(number)), Taken::New);
            assert_eq!(lane.take(frame(number)), Taken::Again);
        }
        assert_eq!(lane.take(frame(101 + WINDOW)), Taken::Beyond);
        assert_eq!((lane.received(), lane.credit()), (100 + WINDOW, 100 + WINDOW));
        assert!(lane.deliver(101) && !lane.deliver(101) && !lane.deliver(7));
        assert_eq!(lane.take(frame(101 + WINDOW)), Taken::New);
        assert_eq!(lane.frame(102), Some(frame(102)));
        assert_eq!((lane.frame(101), lane.frame(102 + WINDOW)), (None, None));
    }

    #[test]
    fn more_than_is_here_is_never_delivered() {
        let mut lane = Lane::at(0);
        lane.take(frame(1));
        assert!(lane.deliver(u64::MAX));
        assert_eq!((lane.delivered(), lane.received()), (1, 1));
    }

    #[test]
    fn numbers_end_where_the_apis_do() {
        let mut lane = Lane::at(NUMBER_MAX - 1);
        assert_eq!(lane.credit(), NUMBER_MAX);
        assert_eq!(lane.take(frame(NUMBER_MAX)), Taken::New);
        assert_eq!(lane.take(frame(NUMBER_MAX + 1)), Taken::Beyond);
    }
}
