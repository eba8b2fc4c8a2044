//! The device's side of a session: frames go to it within the credit it gave and again until it acknowledges them; what it
//! must know of the developer's side is repeated until it can only know it.

use std::time::Duration;

use super::{Phase, Session};
use crate::model::lane::{Lane, Taken, WINDOW};
use crate::model::{Boot, Direction, EndReason, Frame, Moment, NUMBER_MAX, Position, Role};
use wire::limits::DEBUG_FRAME_BYTES_MAX;

/// Wait before something is said again, doubled each time up to the second.
const RESEND_MIN: Duration = Duration::from_millis(500);
const RESEND_MAX: Duration = Duration::from_secs(5);
/// How long an acknowledgement waits for a frame to travel with.
const ACK_DELAY: Duration = Duration::from_millis(30);
/// A device not heard for so long is asked whether it is there.
const ASK_AFTER: Duration = Duration::from_secs(15);
/// One that gave no credit for what waits is asked sooner.
const ASK_BLOCKED_AFTER: Duration = Duration::from_secs(1);
/// Frames untold after which the device is told at once.
const UNTOLD_MAX: u64 = WINDOW / 4;
/// Times a device is told that a session is over, unless it says it heard.
const FAREWELLS: u8 = 3;

/// What a device says, decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Up {
    pub(crate) epoch: u32,
    pub(crate) boot: Boot,
    pub(crate) frame: Option<Frame>,
    pub(crate) received_up_to: u64,
    pub(crate) credit_up_to: u64,
    pub(crate) forgotten_up_to: u64,
    pub(crate) end: Option<DeviceEnd>,
}

/// Why a device has no more to do with a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DeviceEnd {
    Refused,
    Busy,
    Restarted,
    Protocol,
    Done,
}

/// What the device is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Down {
    /// The session is a watcher's.
    pub(crate) watch: bool,
    pub(crate) epoch: u32,
    pub(crate) boot: Option<Boot>,
    pub(crate) open: bool,
    pub(crate) answer: bool,
    pub(crate) frame: Option<Frame>,
    pub(crate) received_up_to: u64,
    pub(crate) delivered_up_to: u64,
    pub(crate) credit_up_to: u64,
    pub(crate) end: bool,
}

#[derive(Debug)]
pub(super) struct DeviceSide {
    pub(super) heard_at: Moment,
    /// When it is to be asked, told again that the session is open, or bid farewell.
    pub(super) ask_at: Moment,
    pub(super) farewells: u8,
    /// Highest frame it may be sent.
    credit: u64,
    /// Highest frame it was sent, counted from the last time all were sent again, and ever.
    sent: u64,
    sent_ever: u64,
    resend_at: Option<Moment>,
    resend_after: Duration,
    /// When it is to be told how far the developer's side is.
    owed_at: Option<Moment>,
    /// What it was last told: (received, delivered).
    told: (u64, u64),
}

impl DeviceSide {
    pub(super) fn new(now: Moment) -> Self {
        Self {
            heard_at: now,
            ask_at: now,
            farewells: 0,
            credit: 0,
            sent: 0,
            sent_ever: 0,
            resend_at: None,
            resend_after: RESEND_MIN,
            owed_at: None,
            told: (0, 0),
        }
    }

    /// It is spoken to from now on.
    pub(super) fn begin(&mut self, now: Moment) {
        *self = Self::new(now);
    }

    /// The session is over: it is told a few times, if it was ever spoken to.
    pub(super) fn take_leave(&mut self, spoken_to: bool, now: Moment) {
        self.farewells = if spoken_to { FAREWELLS } else { 0 };
        self.ask_at = now;
        self.resend_after = RESEND_MIN;
    }

    /// Something changed that it should know: soon, or at once when it may be waiting for it.
    pub(super) fn owe(&mut self, up: &Lane, now: Moment) {
        let untold =
            up.delivered().saturating_sub(self.told.1).max(up.received().saturating_sub(self.told.0));
        let all_read = up.delivered() == up.received() && up.delivered() > self.told.1;
        let at = if untold >= UNTOLD_MAX || all_read { now } else { now + ACK_DELAY };
        self.owe_at(at);
    }

    fn owe_at(&mut self, at: Moment) {
        self.owed_at = Some(self.owed_at.map_or(at, |owed| owed.min(at)));
    }

    /// It acknowledged something.
    fn moved_on(&mut self, delivered: u64, now: Moment) {
        self.sent = self.sent.max(delivered);
        self.resend_after = RESEND_MIN;
        self.resend_at = (self.sent > delivered).then_some(now + RESEND_MIN);
    }

    fn backed_off(&mut self) -> Duration {
        let wait = self.resend_after;
        self.resend_after = (self.resend_after * 2).min(RESEND_MAX);
        wait
    }

    /// Frames wait and it gave no credit for them.
    fn is_blocked(&self, down: &Lane) -> bool {
        down.received() > self.credit && self.sent >= self.credit && down.delivered() >= self.sent
    }

    fn asked_at(&self, down: &Lane) -> Moment {
        let wait = if self.is_blocked(down) { ASK_BLOCKED_AFTER } else { ASK_AFTER };
        self.ask_at.max(self.heard_at) + wait
    }

    pub(super) fn due(&self, live: bool, down: &Lane) -> Moment {
        if !live {
            return self.ask_at;
        }
        if self.sent < self.credit.min(down.received()) {
            return Moment::ZERO;
        }
        let times = [self.resend_at, self.owed_at, Some(self.asked_at(down))];
        times.into_iter().flatten().min().unwrap_or(Moment::MAX)
    }
}

impl Session {
    /// The device said something.
    pub(crate) fn hear(&mut self, said: Up, now: Moment) {
        self.advance(now);
        if said.epoch != self.epoch {
            return;
        }
        match self.phase {
            Phase::Waiting | Phase::Lost => return,
            Phase::Ended { .. } => {
                if said.end.is_some() {
                    self.device.farewells = 0;
                }
                return;
            }
            Phase::Opening { .. } | Phase::Live => {}
        }
        self.device.heard_at = now;
        if self.boot.is_some_and(|boot| boot != said.boot) {
            return self.end(EndReason::DeviceRestarted, now);
        }
        let is_known = self.boot.replace(said.boot).is_some();
        if let Phase::Opening { resume } = self.phase
            && said.end.is_none()
        {
            self.establish(&said, resume, is_known, now);
        }
        if self.phase == Phase::Live && !self.hear_state(&said, now) {
            return self.end(EndReason::ProtocolError, now);
        }
        if let Some(end) = said.end {
            self.end(end.into(), now);
        }
    }

    /// The first answer: it says where both directions stand, and who attached says where it was.
    /// `is_known`: the device is the one it was, on the same boot.
    fn establish(&mut self, said: &Up, mut resume: Option<Position>, is_known: bool, now: Moment) {
        if said.received_up_to > NUMBER_MAX || said.forgotten_up_to > NUMBER_MAX {
            return self.end(EndReason::ProtocolError, now);
        }
        let is_ahead = resume.is_some_and(|at| at.delivered_up_to > said.received_up_to);
        // It had more once: it is another device now than the one that was debugged.
        if is_ahead && !is_known {
            return self.end(EndReason::DeviceRestarted, now);
        }
        // On the same boot it forgets nothing: then the position is wrong, which is the matter of who attached alone.
        if is_ahead || resume.is_some_and(|at| at.received_up_to < said.forgotten_up_to) {
            resume = None;
            if let Some(seated) = self.seated {
                self.end_seat(seated, EndReason::NotResumable);
            }
        }
        let given = resume.map_or(said.forgotten_up_to, |at| at.received_up_to);
        self.up = Lane::at(given);
        self.down = Lane::at(said.received_up_to);
        self.device.sent = said.received_up_to;
        self.device.sent_ever = said.received_up_to;
        self.device.ask_at = now;
        self.device.resend_after = RESEND_MIN;
        self.device.owe_at(now);
        self.phase = Phase::Live;
        self.news = true;
        if let Some(seat) = self.seated.and_then(|id| self.seats.get_mut(&id)) {
            seat.begin_at(given);
        }
    }

    /// What every message carries; false: it cannot be.
    fn hear_state(&mut self, said: &Up, now: Moment) -> bool {
        if said.received_up_to > self.device.sent_ever || said.forgotten_up_to > self.up.delivered() {
            return false;
        }
        if self.down.deliver(said.received_up_to) {
            self.device.moved_on(self.down.delivered(), now);
            self.news = true;
        }
        let credit = said.credit_up_to.min(self.down.credit());
        self.device.credit = self.device.credit.max(credit);
        let Some(frame) = &said.frame else { return true };
        if frame.data.is_empty() || frame.data.len() > DEBUG_FRAME_BYTES_MAX {
            return false;
        }
        match self.up.take(frame.clone()) {
            Taken::New => {
                self.passed(Direction::Up, frame.data.len(), now);
                self.device.owe(&self.up, now);
                true
            }
            // It does not know what is here: it is told at once.
            Taken::Again | Taken::Gap => {
                self.device.owe_at(now);
                true
            }
            Taken::Beyond => false,
        }
    }

    /// What to tell the device now. To be asked again until there is nothing.
    pub(crate) fn next_down(&mut self, now: Moment) -> Option<Down> {
        self.advance(now);
        match self.phase {
            Phase::Waiting | Phase::Lost => None,
            Phase::Opening { .. } => {
                if now < self.device.ask_at {
                    return None;
                }
                self.device.ask_at = now + self.device.backed_off();
                Some(Down { open: true, answer: true, ..self.bare() })
            }
            Phase::Live => self.next_live(now),
            Phase::Ended { .. } => {
                self.settle_by_now(now);
                if self.device.farewells == 0 || now < self.device.ask_at {
                    return None;
                }
                self.device.farewells -= 1;
                self.device.ask_at = now + self.device.backed_off();
                Some(Down { end: true, ..self.bare() })
            }
        }
    }

    fn next_live(&mut self, now: Moment) -> Option<Down> {
        if self.device.resend_at.is_some_and(|at| at <= now) {
            self.device.sent = self.down.delivered();
            self.device.resend_at = None;
        }
        let next = self.device.sent + 1;
        let frame = if next <= self.device.credit { self.down.frame(next) } else { None };
        let answer = self.device.asked_at(&self.down) <= now;
        let owed = self.device.owed_at.is_some_and(|at| at <= now);
        if frame.is_none() && !answer && !owed {
            return None;
        }
        if frame.is_some() {
            self.device.sent = next;
            self.device.sent_ever = self.device.sent_ever.max(next);
            if self.device.resend_at.is_none() {
                self.device.resend_at = Some(now + self.device.backed_off());
            }
        }
        if answer {
            self.device.ask_at = now;
        }
        self.device.owed_at = None;
        self.device.told = (self.up.received(), self.up.delivered());
        Some(Down {
            answer,
            frame,
            received_up_to: self.up.received(),
            delivered_up_to: self.up.delivered(),
            credit_up_to: self.up.credit(),
            ..self.bare()
        })
    }

    fn bare(&self) -> Down {
        Down {
            watch: self.role == Role::Watcher,
            epoch: self.epoch,
            boot: self.boot,
            open: false,
            answer: false,
            frame: None,
            received_up_to: 0,
            delivered_up_to: 0,
            credit_up_to: 0,
            end: false,
        }
    }
}

impl From<DeviceEnd> for EndReason {
    fn from(end: DeviceEnd) -> Self {
        match end {
            DeviceEnd::Refused => EndReason::DeviceRefused,
            DeviceEnd::Busy => EndReason::DeviceBusy,
            DeviceEnd::Restarted => EndReason::DeviceRestarted,
            DeviceEnd::Protocol => EndReason::ProtocolError,
            DeviceEnd::Done => EndReason::DeviceClosed,
        }
    }
}
