//! One attachment to a session: what it was given, what it may be given, and why it ended.

use super::lane::{Lane, WINDOW};
use super::session::Told;
use super::{Direction, EndReason, Traffic};

pub(crate) type SeatId = u64;

#[derive(Debug, Default)]
pub(crate) struct Seat {
    pub(crate) traffic: Traffic,
    /// Why it is over.
    pub(crate) ended: Option<EndReason>,
    /// It was told so.
    pub(crate) end_told: bool,
    /// It was told where it begins.
    pub(crate) begun: bool,
    /// Highest frame of the device it was given.
    pub(crate) given: u64,
    /// Highest it may be given.
    credit: u64,
    /// What it was last told: (delivered, credit).
    told: (u64, u64),
}

impl Seat {
    /// It begins after this frame of the device, with a window of credit.
    pub(crate) fn begin_at(&mut self, given: u64) {
        (self.given, self.credit) = (given, given.saturating_add(WINDOW));
    }

    /// It has the device's frames up to here, and takes as many more; false: it was never given them.
    pub(crate) fn progress(&mut self, delivered_up_to: u64, credit_up_to: u64) -> bool {
        if delivered_up_to > self.given {
            return false;
        }
        self.credit = self.credit.max(credit_up_to.min(delivered_up_to.saturating_add(WINDOW)));
        true
    }

    /// Ends it, unless it has ended already.
    pub(crate) fn end(&mut self, reason: EndReason) {
        self.ended.get_or_insert(reason);
    }

    /// The device's next frame, or how far its own have come.
    pub(crate) fn next(&mut self, up: &Lane, down: &Lane) -> Option<Told> {
        if self.given < self.credit
            && let Some(frame) = up.frame(self.given + 1)
        {
            self.given += 1;
            self.traffic.count(Direction::Up, frame.data.len());
            return Some(Told::Frame(frame));
        }
        let state = (down.delivered(), down.credit());
        if self.ended.is_some() || self.told == state {
            return None;
        }
        self.told = state;
        Some(Told::Progress { delivered_up_to: state.0, credit_up_to: state.1 })
    }
}
