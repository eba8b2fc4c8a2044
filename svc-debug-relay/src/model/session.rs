//! One debug session as the process that holds it sees it: a device at one side, its creator at the other.
//!
//! Holds: a frame is given to its end in order, once, and is kept until that end has acknowledged it; the device is told
//! only what the device's own end of the wire has asked for or can take; who reads slowly holds nobody up but itself. A
//! watcher's session differs by one word that every message to the device carries: what may be done in it, the device says.
//! Every input takes the time; [`Session::due`] says when to come back. What must be said is asked for
//! ([`Session::next_down`], [`Session::next_told`]), so nothing queues here but frames within their windows.

mod device;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use wire::limits::DEBUG_FRAME_BYTES_MAX;

use super::lane::{Lane, Taken};
use super::seat::{Seat, SeatId};
use super::{Boot, Direction, EndReason, Frame, Moment, Position, Role, Traffic};
use device::DeviceSide;

pub(crate) use device::{DeviceEnd, Down, Up};

/// Attachments of one session that have ended and whose streams are not yet gone.
pub(crate) const LEAVING_MAX: usize = 16;
/// How long those attached wait, at most, for the end of a session to be stored before they are told.
pub(crate) const SETTLE_MAX: Duration = Duration::from_secs(2);

/// What a session is made of when a process takes it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    pub(crate) role: Role,
    pub(crate) epoch: u32,
    pub(crate) boot: Option<Boot>,
    pub(crate) idle: Duration,
    pub(crate) expires_at: Moment,
    pub(crate) last_frame_at: Moment,
    /// How long a device may be silent.
    pub(crate) silence: Duration,
    pub(crate) traffic: Traffic,
}

#[derive(Debug)]
pub(crate) struct Session {
    role: Role,
    epoch: u32,
    boot: Option<Boot>,
    idle: Duration,
    expires_at: Moment,
    silence: Duration,
    phase: Phase,
    up: Lane,
    down: Lane,
    device: DeviceSide,
    seats: BTreeMap<SeatId, Seat>,
    next_seat: SeatId,
    /// Who is attached; the others have ended, and their streams are not yet gone.
    seated: Option<SeatId>,
    last_frame_at: Moment,
    traffic: Traffic,
    news: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Nobody has attached since this process took the session: the device is not spoken to.
    Waiting,
    /// The device is asked where it stands; who attached last came with this position.
    Opening {
        resume: Option<Position>,
    },
    Live,
    /// Over. `settled`: stored.
    Ended {
        reason: EndReason,
        at: Moment,
        settled: bool,
        /// Not stored for so long that it was told.
        overdue: bool,
    },
    /// Another process's now, or nobody's: nothing more is said to the device.
    Lost,
}

/// Why somebody may not attach.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("too many attachments of this session are ending: try again")]
    Leaving,
    #[error("the frames after this position are held nowhere any more: attach without a position")]
    NotResumable,
    #[error("this position is ahead of what was said")]
    PositionAhead,
    #[error("the session has ended")]
    Ended(EndReason),
    #[error("the session moves to another relay: try again")]
    Moving,
}

/// What somebody attached says.
#[derive(Debug)]
pub(crate) enum Said {
    Frame(Frame),
    Progress { delivered_up_to: u64, credit_up_to: u64 },
    Close,
}

/// What somebody attached is told.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Told {
    Attached { down_received_up_to: u64, up_after: u64 },
    Frame(Frame),
    Progress { delivered_up_to: u64, credit_up_to: u64 },
    Ended(EndReason),
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    Tell(Told),
    /// Nothing now.
    Wait,
    /// Nothing ever.
    Over,
}

/// Who has left, and what went through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Departure {
    pub(crate) reason: EndReason,
    pub(crate) traffic: Traffic,
}

impl Session {
    pub(crate) fn new(rules: Rules, now: Moment) -> Self {
        Self {
            role: rules.role,
            epoch: rules.epoch,
            boot: rules.boot,
            idle: rules.idle,
            expires_at: rules.expires_at,
            silence: rules.silence,
            phase: Phase::Waiting,
            up: Lane::default(),
            down: Lane::default(),
            device: DeviceSide::new(now),
            seats: BTreeMap::new(),
            next_seat: 1,
            seated: None,
            last_frame_at: rules.last_frame_at,
            traffic: rules.traffic,
            news: false,
        }
    }

    pub(crate) fn epoch(&self) -> u32 {
        self.epoch
    }

    /// The boot it belongs to, once the device was heard.
    pub(crate) fn boot(&self) -> Option<Boot> {
        self.boot
    }

    pub(crate) fn traffic(&self) -> Traffic {
        self.traffic
    }

    pub(crate) fn last_frame_at(&self) -> Moment {
        self.last_frame_at
    }

    /// Why it ended, if it has.
    pub(crate) fn ended(&self) -> Option<EndReason> {
        match self.phase {
            Phase::Ended { reason, .. } => Some(reason),
            _ => None,
        }
    }

    /// It ended and that is not yet stored.
    pub(crate) fn is_unsettled(&self) -> bool {
        matches!(self.phase, Phase::Ended { settled: false, .. })
    }

    /// Nothing is left to do for it but to tell those attached.
    pub(crate) fn is_finished(&self) -> bool {
        match self.phase {
            Phase::Ended { settled, .. } => settled && self.device.farewells == 0,
            Phase::Lost => true,
            _ => false,
        }
    }

    pub(crate) fn is_lost(&self) -> bool {
        self.phase == Phase::Lost
    }

    /// Those attached now and what went through: (seat, traffic).
    pub(crate) fn attached(&self) -> impl Iterator<Item = (SeatId, Traffic)> {
        self.seats.iter().map(|(id, seat)| (*id, seat.traffic))
    }

    /// Whether something changed for those attached since this was last asked.
    pub(crate) fn take_news(&mut self) -> bool {
        std::mem::take(&mut self.news)
    }

    /// Its creator attaches, in place of whom it may have attached before.
    pub(crate) fn attach(&mut self, position: Option<Position>, now: Moment) -> Result<SeatId, Refusal> {
        self.advance(now);
        match self.phase {
            Phase::Ended { reason, .. } => return Err(Refusal::Ended(reason)),
            Phase::Lost => return Err(Refusal::Moving),
            Phase::Live => self.check(position)?,
            Phase::Waiting | Phase::Opening { .. } => {}
        }
        if self.seats.values().filter(|seat| seat.ended.is_some()).count() >= LEAVING_MAX {
            return Err(Refusal::Leaving);
        }
        if let Some(id) = self.seated {
            self.end_seat(id, EndReason::Replaced);
        }
        let seat = self.seat_at(position, now);
        let id = self.next_seat;
        self.next_seat += 1;
        self.seats.insert(id, seat);
        self.seated = Some(id);
        self.news = true;
        Ok(id)
    }

    fn seat_at(&mut self, position: Option<Position>, now: Moment) -> Seat {
        let mut seat = Seat::default();
        if self.phase == Phase::Live {
            if let Some(position) = position {
                self.deliver_up(position.received_up_to, now);
            }
            seat.begin_at(self.up.delivered());
            return seat;
        }
        if self.phase == Phase::Waiting {
            self.device.begin(now);
        }
        self.phase = Phase::Opening { resume: position };
        seat
    }

    /// Whether its creator can go on from there.
    fn check(&self, position: Option<Position>) -> Result<(), Refusal> {
        let Some(position) = position else { return Ok(()) };
        if position.received_up_to > self.up.received() || position.delivered_up_to > self.down.delivered() {
            return Err(Refusal::PositionAhead);
        }
        if position.received_up_to < self.up.delivered() {
            return Err(Refusal::NotResumable);
        }
        Ok(())
    }

    /// Somebody attached says something; what cannot be ends the attachment.
    pub(crate) fn say(&mut self, id: SeatId, said: Said, now: Moment) {
        self.advance(now);
        let Some(seat) = self.seats.get_mut(&id).filter(|seat| seat.ended.is_none()) else { return };
        let fine = match said {
            Said::Close => {
                self.end(EndReason::Closed, now);
                true
            }
            Said::Progress { delivered_up_to, credit_up_to } => {
                let fine = seat.begun && seat.progress(delivered_up_to, credit_up_to);
                if fine {
                    self.deliver_up(delivered_up_to, now);
                    self.news = true;
                }
                fine
            }
            Said::Frame(frame) => seat.begun && self.take_down(id, frame, now),
        };
        if !fine {
            self.end_seat(id, EndReason::CallerError);
        }
    }

    /// A frame for the device; false: it cannot be.
    fn take_down(&mut self, id: SeatId, frame: Frame, now: Moment) -> bool {
        if frame.data.is_empty() || frame.data.len() > DEBUG_FRAME_BYTES_MAX {
            return false;
        }
        let bytes = frame.data.len();
        match self.down.take(frame) {
            Taken::New => {
                if let Some(seat) = self.seats.get_mut(&id) {
                    seat.traffic.count(Direction::Down, bytes);
                }
                self.passed(Direction::Down, bytes, now);
                true
            }
            Taken::Again => true,
            Taken::Gap | Taken::Beyond => false,
        }
    }

    /// A frame of this size went this way.
    fn passed(&mut self, direction: Direction, bytes: usize, now: Moment) {
        self.traffic.count(direction, bytes);
        self.last_frame_at = now;
        self.news = true;
    }

    /// What to tell somebody attached.
    pub(crate) fn next_told(&mut self, id: SeatId, now: Moment) -> Next {
        self.advance(now);
        let Some(seat) = self.seats.get_mut(&id) else { return Next::Over };
        if seat.end_told {
            return Next::Over;
        }
        // What the device said before the session ended is told before the end is.
        let last_words = seat.ended.is_none_or(EndReason::ends_session) && seat.begun;
        let begins = seat.ended.is_none() && !seat.begun;
        let told = if begins && self.phase == Phase::Live {
            seat.begun = true;
            Some(Told::Attached { down_received_up_to: self.down.received(), up_after: seat.given })
        } else if last_words {
            seat.next(&self.up, &self.down)
        } else {
            None
        };
        if let Some(told) = told {
            return Next::Tell(told);
        }
        let Some(reason) = seat.ended else { return Next::Wait };
        if let Phase::Ended { at, settled: false, .. } = self.phase
            && reason.ends_session()
            && now < at + SETTLE_MAX
        {
            return Next::Wait;
        }
        seat.end_told = true;
        Next::Tell(Told::Ended(reason))
    }

    /// The stream of an attachment is gone, for this reason if it had not ended by another.
    pub(crate) fn leave(&mut self, id: SeatId, reason: EndReason) -> Option<Departure> {
        let seat = self.seats.remove(&id)?;
        if self.seated == Some(id) {
            self.seated = None;
        }
        Some(Departure { reason: seat.ended.unwrap_or(reason), traffic: seat.traffic })
    }

    /// One attachment is over; it is told why.
    pub(crate) fn end_seat(&mut self, id: SeatId, reason: EndReason) {
        if let Some(seat) = self.seats.get_mut(&id) {
            seat.end(reason);
            self.news = true;
        }
        if self.seated == Some(id) {
            self.seated = None;
        }
    }

    /// The session is over. A second end changes nothing.
    pub(crate) fn end(&mut self, reason: EndReason, now: Moment) {
        let told_device = match self.phase {
            Phase::Ended { .. } | Phase::Lost => return,
            Phase::Waiting => false,
            Phase::Opening { .. } | Phase::Live => true,
        };
        self.phase = Phase::Ended { reason, at: now, settled: false, overdue: false };
        self.device.take_leave(told_device, now);
        self.end_all(reason);
    }

    /// It is stored that the session is over.
    pub(crate) fn settle(&mut self) {
        if let Phase::Ended { settled, .. } = &mut self.phase {
            *settled = true;
            self.news = true;
        }
    }

    /// An end that is not stored for long is told all the same, once.
    fn settle_by_now(&mut self, now: Moment) {
        if let Phase::Ended { at, settled: false, overdue, .. } = &mut self.phase
            && !*overdue
            && now >= *at + SETTLE_MAX
        {
            *overdue = true;
            self.news = true;
        }
    }

    /// The session is no longer this process's.
    pub(crate) fn lose(&mut self, reason: EndReason) {
        if !matches!(self.phase, Phase::Ended { .. }) {
            self.phase = Phase::Lost;
            self.end_all(reason);
        }
    }

    fn end_all(&mut self, reason: EndReason) {
        self.seats.values_mut().for_each(|seat| seat.end(reason));
        self.seated = None;
        self.news = true;
    }

    /// The developer has the device's frames up to this one.
    fn deliver_up(&mut self, up_to: u64, now: Moment) {
        if self.up.deliver(up_to) {
            self.device.owe(&self.up, now);
        }
    }

    /// Ends what is over by now.
    pub(crate) fn advance(&mut self, now: Moment) {
        let spoken_to = match self.phase {
            Phase::Waiting => false,
            Phase::Opening { .. } | Phase::Live => true,
            Phase::Ended { .. } | Phase::Lost => return,
        };
        let reason = if now >= self.expires_at {
            EndReason::Expired
        } else if now >= self.last_frame_at + self.idle {
            EndReason::Idle
        } else if spoken_to && now >= self.device.heard_at + self.silence {
            EndReason::DeviceUnreachable
        } else {
            return;
        };
        self.end(reason, now);
    }

    /// When to ask for what is to be said again, if nothing happens before; what is said meanwhile may change it.
    pub(crate) fn due(&self) -> Option<Moment> {
        let deadlines = self.expires_at.min(self.last_frame_at + self.idle);
        match self.phase {
            Phase::Waiting => Some(deadlines),
            Phase::Opening { .. } | Phase::Live => {
                let live = self.phase == Phase::Live;
                let device = self.device.due(live, &self.down);
                Some(deadlines.min(self.device.heard_at + self.silence).min(device))
            }
            Phase::Ended { settled, overdue, at, .. } => {
                let settle = (!settled && !overdue).then_some(at + SETTLE_MAX);
                let farewell = (self.device.farewells > 0).then_some(self.device.ask_at);
                settle.into_iter().chain(farewell).min()
            }
            Phase::Lost => None,
        }
    }
}

/// A frame's bytes, for tests and decoders.
impl From<(u64, Bytes)> for Frame {
    fn from((number, data): (u64, Bytes)) -> Self {
        Self { number, data }
    }
}
