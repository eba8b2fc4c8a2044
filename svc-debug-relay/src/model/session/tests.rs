//! Sessions without I/O: a scripted device and a scripted developer, a hop between them that loses, repeats and reorders,
//! and every way to end.

mod fuzz;

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;
use crate::model::lane::WINDOW;

const BOOT: Boot = Boot { counter: 7, random: 9 };
const START: Moment = Duration::from_secs(1000);
const IDLE: Duration = Duration::from_secs(100);
const TOTAL: Duration = Duration::from_secs(1000);
const SILENCE: Duration = Duration::from_secs(60);
const SECOND: Duration = Duration::from_secs(1);

fn rules(epoch: u32) -> Rules {
    Rules {
        role: Role::Writer,
        epoch,
        boot: None,
        idle: IDLE,
        expires_at: START + TOTAL,
        last_frame_at: START,
        silence: SILENCE,
        traffic: Traffic::default(),
    }
}

fn frame(number: u64) -> Frame {
    Frame { number, data: Bytes::copy_from_slice(format!("frame {number}").as_bytes()) }
}

fn quiet(epoch: u32) -> Up {
    Up {
        epoch,
        boot: BOOT,
        frame: None,
        received_up_to: 0,
        credit_up_to: WINDOW,
        forgotten_up_to: 0,
        end: None,
    }
}

fn ending(end: DeviceEnd) -> Up {
    Up { end: Some(end), ..quiet(1) }
}

fn downs(session: &mut Session, now: Moment) -> Vec<Down> {
    std::iter::from_fn(|| session.next_down(now)).take(1000).collect()
}

fn told(session: &mut Session, seat: SeatId, now: Moment) -> Vec<Told> {
    let next = || match session.next_told(seat, now) {
        Next::Tell(told) => Some(told),
        Next::Wait | Next::Over => None,
    };
    std::iter::from_fn(next).take(1000).collect()
}

fn last(session: &mut Session, seat: SeatId, now: Moment) -> Option<Told> {
    told(session, seat, now).pop()
}

/// A session that is attached to, and whose device has answered.
fn live() -> (Session, SeatId) {
    let mut session = Session::new(rules(1), START);
    let writer = session.attach(None, START).unwrap();
    assert!(downs(&mut session, START)[0].open);
    session.hear(quiet(1), START);
    assert_eq!(
        told(&mut session, writer, START),
        [
            Told::Attached { down_received_up_to: 0, up_after: 0 },
            Told::Progress { delivered_up_to: 0, credit_up_to: WINDOW }
        ]
    );
    downs(&mut session, START);
    (session, writer)
}

#[test]
fn nothing_is_said_to_the_device_before_somebody_attaches() {
    let mut session = Session::new(rules(1), START);
    assert_eq!(downs(&mut session, START), []);
    session.hear(quiet(1), START);
    assert_eq!(downs(&mut session, START), []);
    let writer = session.attach(None, START).unwrap();
    assert_eq!(told(&mut session, writer, START), [], "the device has not answered");
    let opening = downs(&mut session, START);
    assert!(opening.len() == 1 && opening[0].open && opening[0].frame.is_none());
    assert_eq!(downs(&mut session, START), [], "asked once, until it is time to ask again");
    assert!(downs(&mut session, START + SECOND)[0].open);
}

#[test]
fn every_word_to_the_device_says_whether_the_session_is_a_watchers() {
    for (role, watch) in [(Role::Writer, false), (Role::Watcher, true)] {
        let mut session = Session::new(Rules { role, ..rules(1) }, START);
        let seat = session.attach(None, START).unwrap();
        let mut said = downs(&mut session, START);
        session.hear(quiet(1), START);
        told(&mut session, seat, START);
        session.say(seat, Said::Frame(frame(1)), START);
        said.extend(downs(&mut session, START));
        said.extend(downs(&mut session, START + SECOND * 15));
        session.say(seat, Said::Close, START + SECOND * 15);
        said.extend(downs(&mut session, START + SECOND * 15));
        assert!(said[0].open && said.iter().any(|down| down.frame.is_some()), "{said:?}");
        assert!(said.iter().any(|down| down.answer && !down.open) && said.last().unwrap().end, "{said:?}");
        assert!(said.iter().all(|down| down.watch == watch), "{said:?}");
    }
}

#[test]
fn a_frame_goes_each_way_and_is_acknowledged_by_its_end_only() {
    let (mut session, writer) = live();
    session.say(writer, Said::Frame(frame(1)), START);
    let down = downs(&mut session, START);
    assert_eq!(down[0].frame, Some(frame(1)));
    assert_eq!(told(&mut session, writer, START), [], "the relay has it, the device does not yet");
    session.hear(Up { received_up_to: 1, credit_up_to: 1 + WINDOW, ..quiet(1) }, START);
    assert_eq!(
        told(&mut session, writer, START),
        [Told::Progress { delivered_up_to: 1, credit_up_to: 1 + WINDOW }]
    );
    session.hear(Up { frame: Some(frame(1)), received_up_to: 1, ..quiet(1) }, START);
    assert_eq!(told(&mut session, writer, START), [Told::Frame(frame(1))]);
    let acks = downs(&mut session, START + SECOND / 10);
    assert_eq!((acks[0].received_up_to, acks[0].delivered_up_to), (1, 0), "the writer has not said so");
    session.say(writer, Said::Progress { delivered_up_to: 1, credit_up_to: 40 }, START);
    let acks = downs(&mut session, START + SECOND / 10);
    assert_eq!((acks[0].delivered_up_to, acks[0].credit_up_to), (1, 1 + WINDOW));
}

#[test]
fn the_device_gets_no_frame_it_gave_no_credit_for_and_is_asked_when_that_lasts() {
    let (mut session, writer) = live();
    for number in 1..=WINDOW {
        session.say(writer, Said::Frame(frame(number)), START);
    }
    assert_eq!(downs(&mut session, START).len(), WINDOW as usize);
    // It takes all and gives no more.
    session.hear(Up { received_up_to: WINDOW, credit_up_to: WINDOW, ..quiet(1) }, START);
    session.say(writer, Said::Frame(frame(WINDOW + 1)), START);
    assert_eq!(downs(&mut session, START), []);
    let asked = downs(&mut session, START + SECOND);
    assert!(asked.len() == 1 && asked[0].answer && asked[0].frame.is_none());
    session.hear(Up { received_up_to: WINDOW, credit_up_to: WINDOW + 1, ..quiet(1) }, START + SECOND);
    assert_eq!(downs(&mut session, START + SECOND)[0].frame, Some(frame(WINDOW + 1)));
}

#[test]
fn a_frame_that_is_not_acknowledged_is_sent_again_less_and_less_often() {
    let (mut session, writer) = live();
    session.say(writer, Said::Frame(frame(1)), START);
    let mut sent_at = Vec::new();
    for tenth in 0..600 {
        let now = START + SECOND * tenth / 10;
        sent_at.extend(downs(&mut session, now).iter().filter(|d| d.frame.is_some()).map(|_| tenth));
        if tenth % 100 == 0 {
            session.hear(quiet(1), now);
        }
    }
    assert_eq!(sent_at[..5], [0, 5, 15, 35, 75]);
    assert!(sent_at.windows(2).all(|pair| pair[1] - pair[0] <= 50), "{sent_at:?}");
}

#[test]
fn a_writer_that_does_not_read_gets_its_window_and_holds_up_only_its_own_device() {
    let (mut session, writer) = live();
    for number in 1..=WINDOW {
        session.hear(Up { frame: Some(frame(number)), ..quiet(1) }, START);
    }
    let acks = downs(&mut session, START + SECOND / 10);
    assert_eq!(acks.last().unwrap().credit_up_to, WINDOW, "no credit for more");
    assert_eq!(told(&mut session, writer, START).len(), WINDOW as usize);
    session.say(writer, Said::Progress { delivered_up_to: 20, credit_up_to: u64::MAX }, START);
    assert_eq!(downs(&mut session, START)[0].credit_up_to, 20 + WINDOW);
    session.hear(Up { frame: Some(frame(WINDOW + 1)), ..quiet(1) }, START);
    assert_eq!(told(&mut session, writer, START), [Told::Frame(frame(WINDOW + 1))]);
}

#[test]
fn a_writer_is_given_no_frame_beyond_its_own_credit() {
    let (mut session, first) = live();
    session.hear(Up { frame: Some(frame(1)), ..quiet(1) }, START);
    told(&mut session, first, START);
    session.say(first, Said::Progress { delivered_up_to: 1, credit_up_to: 2 }, START);
    for number in 2..=1 + WINDOW {
        session.hear(Up { frame: Some(frame(number)), forgotten_up_to: 1, ..quiet(1) }, START);
    }
    // It began with a window; what it says later only adds.
    assert_eq!(told(&mut session, first, START).len() as u64, WINDOW - 1);
    session.say(first, Said::Progress { delivered_up_to: 1, credit_up_to: 1 + WINDOW }, START);
    assert_eq!(told(&mut session, first, START), [Told::Frame(frame(1 + WINDOW))]);
}

#[test]
fn who_attaches_anew_takes_its_own_place_and_those_leaving_are_bounded() {
    let (mut session, first) = live();
    for n in 0..LEAVING_MAX {
        session.attach(None, START).unwrap_or_else(|why| panic!("{n}: {why}"));
    }
    assert_eq!(session.attach(None, START), Err(Refusal::Leaving));
    assert_eq!(last(&mut session, first, START), Some(Told::Ended(EndReason::Replaced)));
    assert_eq!(session.leave(first, EndReason::Left).unwrap().reason, EndReason::Replaced);
    session.attach(None, START).unwrap();
}

#[test]
fn who_was_replaced_says_nothing_more() {
    let (mut session, first) = live();
    let second = session.attach(None, START).unwrap();
    session.say(first, Said::Frame(frame(1)), START);
    session.say(first, Said::Close, START);
    assert_eq!((session.ended(), session.down.received()), (None, 0));
    assert_eq!(session.leave(first, EndReason::Left).unwrap().reason, EndReason::Replaced);
    told(&mut session, second, START);
    session.say(second, Said::Frame(frame(1)), START);
    assert_eq!(session.down.received(), 1, "whoever left, it has its place");
}

#[test]
fn a_writer_goes_on_from_where_it_was() {
    let (mut session, writer) = live();
    for number in 1..=5 {
        session.hear(Up { frame: Some(frame(number)), ..quiet(1) }, START);
    }
    assert_eq!(told(&mut session, writer, START).len(), 5);
    session.say(writer, Said::Frame(frame(1)), START);
    session.leave(writer, EndReason::Left);
    let at = |received_up_to, delivered_up_to| Some(Position { received_up_to, delivered_up_to });
    assert_eq!(session.attach(at(6, 0), START), Err(Refusal::PositionAhead));
    assert_eq!(session.attach(at(3, 1), START), Err(Refusal::PositionAhead));
    let writer = session.attach(at(3, 0), START).unwrap();
    let all = told(&mut session, writer, START);
    assert_eq!(all[0], Told::Attached { down_received_up_to: 1, up_after: 3 });
    assert_eq!(all[1..3], [4, 5].map(|n| Told::Frame(frame(n))));
    session.say(writer, Said::Frame(frame(1)), START);
    session.say(writer, Said::Frame(frame(2)), START);
    assert_eq!(last(&mut session, writer, START), None, "what is here already is no mistake");
    session.leave(writer, EndReason::Left);
    assert_eq!(session.attach(at(2, 0), START), Err(Refusal::NotResumable));
    let fresh = session.attach(None, START).unwrap();
    assert_eq!(
        told(&mut session, fresh, START)[0],
        Told::Attached { down_received_up_to: 2, up_after: 3 },
        "the oldest that is held"
    );
}

#[test]
fn another_process_goes_on_from_what_the_ends_say() {
    let mut session = Session::new(Rules { boot: Some(BOOT), ..rules(5) }, START);
    let position = Some(Position { received_up_to: 10, delivered_up_to: 4 });
    let writer = session.attach(position, START).unwrap();
    downs(&mut session, START);
    session.hear(Up { received_up_to: 6, forgotten_up_to: 8, ..quiet(4) }, START);
    assert_eq!(told(&mut session, writer, START), [], "an answer to the process that lost it");
    session.hear(Up { received_up_to: 6, credit_up_to: 38, forgotten_up_to: 8, ..quiet(5) }, START);
    assert_eq!(told(&mut session, writer, START)[0], Told::Attached { down_received_up_to: 6, up_after: 10 });
    let down = downs(&mut session, START);
    assert_eq!((down[0].received_up_to, down[0].credit_up_to), (10, 10 + WINDOW));
    session.say(writer, Said::Frame(frame(7)), START);
    assert_eq!(downs(&mut session, START)[0].frame, Some(frame(7)));
}

#[test]
fn a_position_that_the_device_forgot_ends_the_writer_and_not_the_session() {
    let mut session = Session::new(rules(2), START);
    let position = Some(Position { received_up_to: 3, delivered_up_to: 0 });
    let writer = session.attach(position, START).unwrap();
    session.hear(Up { forgotten_up_to: 8, ..quiet(2) }, START);
    assert_eq!(told(&mut session, writer, START), [Told::Ended(EndReason::NotResumable)]);
    let fresh = session.attach(None, START).unwrap();
    assert_eq!(told(&mut session, fresh, START)[0], Told::Attached { down_received_up_to: 0, up_after: 8 });
}

#[test]
fn what_a_caller_cannot_say_ends_its_attachment_and_not_the_session() {
    let big = Bytes::from(vec![0; DEBUG_FRAME_BYTES_MAX + 1]);
    let wrong: [fn(Bytes) -> Said; 6] = [
        |_| Said::Frame(frame(2)),
        |_| Said::Frame(frame(1 + WINDOW)),
        |_| Said::Frame(Frame { number: 1, data: Bytes::new() }),
        |big| Said::Frame(Frame { number: 1, data: big }),
        |_| Said::Progress { delivered_up_to: 1, credit_up_to: 1 },
        |_| Said::Frame(Frame { number: u64::MAX, data: Bytes::from_static(b"x") }),
    ];
    for said in wrong {
        let (mut session, writer) = live();
        session.say(writer, said(big.clone()), START);
        assert_eq!(last(&mut session, writer, START), Some(Told::Ended(EndReason::CallerError)));
        assert_eq!(session.ended(), None);
        assert!(session.attach(None, START).is_ok(), "the seat is free");
    }
    let (mut session, writer) = live();
    session.say(writer, Said::Frame(Frame { number: 1, data: big.slice(1..) }), START);
    assert_eq!(last(&mut session, writer, START), None, "a frame at the limit is fine");
}

#[test]
fn a_writer_says_nothing_before_it_was_told_where_to_begin() {
    let mut session = Session::new(rules(1), START);
    let writer = session.attach(None, START).unwrap();
    session.say(writer, Said::Frame(frame(1)), START);
    assert_eq!(told(&mut session, writer, START), [Told::Ended(EndReason::CallerError)]);
}

#[test]
fn what_a_device_cannot_say_ends_the_session() {
    let big = Bytes::from(vec![0; DEBUG_FRAME_BYTES_MAX + 1]);
    let wrong = [
        Up { received_up_to: 1, ..quiet(1) },
        Up { forgotten_up_to: 1, ..quiet(1) },
        Up { frame: Some(frame(1 + WINDOW)), ..quiet(1) },
        Up { frame: Some(Frame { number: 1, data: big.clone() }), ..quiet(1) },
        Up { frame: Some(Frame { number: 1, data: Bytes::new() }), ..quiet(1) },
        Up { frame: Some(Frame { number: u64::MAX, data: big.slice(..1) }), ..quiet(1) },
        ending(DeviceEnd::Protocol),
    ];
    for said in wrong {
        let (mut session, _) = live();
        session.hear(said.clone(), START);
        assert_eq!(session.ended(), Some(EndReason::ProtocolError), "{said:?}");
    }
    let mut session = Session::new(rules(1), START);
    session.attach(None, START).unwrap();
    session.hear(Up { received_up_to: u64::MAX, ..quiet(1) }, START);
    assert_eq!(session.ended(), Some(EndReason::ProtocolError));
    let (mut session, _) = live();
    session.hear(Up { frame: Some(Frame { number: 1, data: big.slice(1..) }), ..quiet(1) }, START);
    assert_eq!(session.ended(), None, "a frame at the limit is fine");
}

#[test]
fn every_end_of_a_session_is_reached_told_and_final() {
    type Way = fn(&mut Session, SeatId) -> Moment;
    let ways: [(EndReason, Way); 12] = [
        (EndReason::Closed, |s, w| {
            s.say(w, Said::Close, START);
            START
        }),
        (EndReason::ClosedByOperator, |s, _| {
            s.end(EndReason::ClosedByOperator, START);
            START
        }),
        (EndReason::Idle, |s, _| {
            for second in 1..IDLE.as_secs() as u32 {
                s.hear(quiet(1), START + SECOND * second);
                assert_eq!(s.ended(), None);
            }
            START + IDLE
        }),
        (EndReason::Expired, |s, w| {
            for second in 1..TOTAL.as_secs() {
                let now = START + Duration::from_secs(second);
                s.hear(Up { received_up_to: second - 1, credit_up_to: u64::MAX, ..quiet(1) }, now);
                s.say(w, Said::Frame(frame(second)), now);
                downs(s, now);
                assert_eq!(s.ended(), None);
            }
            START + TOTAL
        }),
        (EndReason::DeviceUnreachable, |s, _| {
            assert_eq!(downs(s, START + SILENCE - SECOND).len(), 1, "it is asked");
            START + SILENCE
        }),
        (EndReason::DeviceRefused, |s, _| {
            s.hear(ending(DeviceEnd::Refused), START);
            START
        }),
        (EndReason::DeviceBusy, |s, _| {
            s.hear(ending(DeviceEnd::Busy), START);
            START
        }),
        (EndReason::DeviceRestarted, |s, _| {
            s.hear(Up { boot: Boot { counter: 8, random: 1 }, ..quiet(1) }, START);
            START
        }),
        (EndReason::DeviceClosed, |s, _| {
            s.hear(ending(DeviceEnd::Done), START);
            START
        }),
        (EndReason::DeviceRevoked, |s, _| {
            s.end(EndReason::DeviceRevoked, START);
            START
        }),
        (EndReason::Forbidden, |s, _| {
            s.end(EndReason::Forbidden, START);
            START
        }),
        (EndReason::ProtocolError, |s, _| {
            s.hear(ending(DeviceEnd::Protocol), START);
            START
        }),
    ];
    for (reason, way) in ways {
        let (mut session, writer) = live();
        let now = way(&mut session, writer);
        let _ = session.next_down(now);
        assert_eq!(session.ended(), Some(reason));
        assert!(session.is_unsettled() && !session.is_finished());
        let ended = Some(Told::Ended(reason));
        assert_ne!(last(&mut session, writer, now), ended, "{reason:?}: not before it is stored");
        session.settle();
        assert_eq!(last(&mut session, writer, now), ended);
        assert_eq!(session.next_told(writer, now), Next::Over);
        session.end(EndReason::Idle, now);
        session.lose(EndReason::Moved);
        assert_eq!(session.ended(), Some(reason), "the first end is the end");
        assert_eq!(session.attach(None, now), Err(Refusal::Ended(reason)));
        let farewells: Vec<Down> = (0..60).flat_map(|s| downs(&mut session, now + SECOND * s)).collect();
        assert!(farewells.len() <= 3 && farewells.iter().all(|down| down.end), "{reason:?} {farewells:?}");
        assert!(session.is_finished());
        assert_eq!(session.due(), None);
    }
}

#[test]
fn a_device_that_lost_what_it_had_is_another_device() {
    let mut session = Session::new(rules(2), START);
    let position = Some(Position { received_up_to: 0, delivered_up_to: 9 });
    session.attach(position, START).unwrap();
    session.hear(quiet(2), START);
    assert_eq!(session.ended(), Some(EndReason::DeviceRestarted));
    let mut session = Session::new(Rules { boot: Some(Boot { counter: 1, random: 1 }), ..rules(2) }, START);
    session.attach(None, START).unwrap();
    session.hear(quiet(2), START);
    assert_eq!(session.ended(), Some(EndReason::DeviceRestarted));
    let (mut session, _) = live();
    session.hear(ending(DeviceEnd::Restarted), START);
    assert_eq!(session.ended(), Some(EndReason::DeviceRestarted));
}

#[test]
fn a_device_that_never_answers_is_unreachable_and_one_that_heard_the_end_is_told_no_more() {
    let mut session = Session::new(rules(1), START);
    let writer = session.attach(None, START).unwrap();
    let _ = session.next_down(START + SILENCE);
    session.settle();
    assert_eq!(last(&mut session, writer, START + SILENCE), Some(Told::Ended(EndReason::DeviceUnreachable)));
    let (mut session, writer) = live();
    session.say(writer, Said::Close, START);
    session.settle();
    assert_eq!(downs(&mut session, START).len(), 1);
    session.hear(ending(DeviceEnd::Done), START);
    assert!(session.is_finished());
}

#[test]
fn the_last_words_of_a_device_come_before_the_end() {
    let (mut session, writer) = live();
    session.hear(Up { frame: Some(frame(1)), ..ending(DeviceEnd::Done) }, START);
    session.settle();
    assert_eq!(
        told(&mut session, writer, START),
        [Told::Frame(frame(1)), Told::Ended(EndReason::DeviceClosed)]
    );
}

#[test]
fn an_end_that_cannot_be_stored_is_told_after_a_while() {
    let (mut session, writer) = live();
    session.say(writer, Said::Close, START);
    assert_eq!(session.next_told(writer, START), Next::Wait);
    assert!(session.due().is_some_and(|due| due <= START + SETTLE_MAX));
    // Who speaks to devices asks when it is due: those attached are woken, and nothing is due over and over again.
    downs(&mut session, START + SETTLE_MAX / 2);
    session.take_news();
    downs(&mut session, START + SETTLE_MAX);
    assert!(session.take_news());
    downs(&mut session, START + SECOND * 60);
    downs(&mut session, START + SECOND * 120);
    downs(&mut session, START + SECOND * 180);
    assert_eq!(session.due(), None);
    assert_eq!(last(&mut session, writer, START + SETTLE_MAX), Some(Told::Ended(EndReason::Closed)));
}

#[test]
fn a_session_that_is_lost_says_nothing_more_to_the_device() {
    for reason in [EndReason::Moved, EndReason::Draining] {
        let (mut session, writer) = live();
        session.say(writer, Said::Frame(frame(1)), START);
        session.lose(reason);
        assert_eq!(downs(&mut session, START + SECOND), []);
        assert_eq!(last(&mut session, writer, START), Some(Told::Ended(reason)));
        assert_eq!(session.attach(None, START), Err(Refusal::Moving));
        assert!(session.is_finished() && session.due().is_none() && session.ended().is_none());
    }
}

#[test]
fn a_caller_that_is_gone_leaves_what_went_through_it() {
    let (mut session, writer) = live();
    session.say(writer, Said::Frame(frame(1)), START);
    session.hear(Up { frame: Some(frame(1)), ..quiet(1) }, START);
    told(&mut session, writer, START);
    let one = Traffic { frames_up: 1, bytes_up: 7, frames_down: 1, bytes_down: 7 };
    assert_eq!(session.traffic(), one);
    assert_eq!(session.leave(writer, EndReason::Left).unwrap().traffic, one);
    assert_eq!(session.leave(writer, EndReason::Left), None);
    for reason in [EndReason::Left, EndReason::TokenExpired] {
        let again = session.attach(None, START).unwrap();
        assert_eq!(session.leave(again, reason).unwrap(), Departure { reason, traffic: Traffic::default() });
    }
}

/// A device as docs/protocol.md says it should be.
#[derive(Default)]
struct Device {
    epoch: u32,
    taken: Vec<u64>,
    /// Its own: how many it wants to send, what it forgot, what the relay has, and may have.
    wants: u64,
    forgotten: u64,
    sent: u64,
    received: u64,
    credit: u64,
    answer: bool,
}

impl Device {
    fn hear(&mut self, down: Down) {
        if down.epoch < self.epoch {
            return;
        }
        if down.epoch > self.epoch {
            self.epoch = down.epoch;
            (self.sent, self.received, self.credit) = (self.forgotten, self.forgotten, self.forgotten);
        }
        self.answer |= down.answer || down.open || down.frame.is_some();
        if let Some(frame) = down.frame
            && frame.number == self.taken.len() as u64 + 1
        {
            self.taken.push(frame.number);
        }
        self.received = self.received.max(down.received_up_to);
        self.forgotten = self.forgotten.max(down.delivered_up_to);
        self.credit = self.credit.max(down.credit_up_to);
        self.sent = self.sent.max(self.received);
    }

    fn say(&self, frame: Option<Frame>) -> Up {
        let taken = self.taken.len() as u64;
        Up {
            frame,
            received_up_to: taken,
            credit_up_to: taken + 5,
            forgotten_up_to: self.forgotten,
            ..quiet(self.epoch)
        }
    }

    fn ups(&mut self, resend: bool) -> Vec<Up> {
        if self.epoch == 0 {
            return Vec::new();
        }
        if resend {
            self.sent = self.received;
        }
        let mut ups = Vec::new();
        while self.sent < self.wants.min(self.credit) {
            self.sent += 1;
            ups.push(self.say(Some(frame(self.sent))));
        }
        if std::mem::take(&mut self.answer) && ups.is_empty() {
            ups.push(self.say(None));
        }
        ups
    }
}

/// One that keeps what was not acknowledged.
#[derive(Default)]
struct Developer {
    seat: Option<SeatId>,
    begun: bool,
    wants: u64,
    sent: u64,
    delivered: u64,
    credit: u64,
    got: Vec<u64>,
}

impl Developer {
    fn attach(&mut self, session: &mut Session, now: Moment) {
        let position = Position { received_up_to: self.got.len() as u64, delivered_up_to: self.delivered };
        self.seat = Some(session.attach(Some(position), now).unwrap());
        (self.begun, self.credit) = (false, 0);
    }

    fn turn(&mut self, session: &mut Session, now: Moment) {
        let Some(seat) = self.seat else { return };
        let mut read = false;
        for told in told(session, seat, now) {
            match told {
                Told::Attached { down_received_up_to, up_after } => {
                    self.begun = true;
                    assert_eq!(up_after, self.got.len() as u64);
                    assert!(down_received_up_to <= self.wants && down_received_up_to >= self.delivered);
                    self.sent = down_received_up_to;
                }
                Told::Frame(got) => {
                    assert_eq!(got, frame(got.number));
                    self.got.push(got.number);
                    read = true;
                }
                Told::Progress { delivered_up_to, credit_up_to } => {
                    assert!(delivered_up_to >= self.delivered && delivered_up_to <= self.wants);
                    (self.delivered, self.credit) = (delivered_up_to, credit_up_to);
                }
                other => panic!("{other:?}"),
            }
        }
        if read {
            let got = self.got.len() as u64;
            session.say(seat, Said::Progress { delivered_up_to: got, credit_up_to: got + WINDOW }, now);
        }
        while self.begun && self.sent < self.wants.min(self.credit) {
            self.sent += 1;
            session.say(seat, Said::Frame(frame(self.sent)), now);
        }
    }
}

/// What the hop does to a message.
fn hop<T: Clone>(fates: &mut impl Iterator<Item = u8>, messages: Vec<T>, way: &mut VecDeque<T>) {
    for message in messages {
        match fates.next().unwrap_or(9) {
            0 | 1 => {}
            2 => {
                way.push_back(message.clone());
                way.push_back(message);
            }
            3 => way.push_front(message),
            _ => way.push_back(message),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever the MQTT hop loses, repeats or reorders, whenever the writer's connection breaks, and whenever another
    /// process takes the session over: every frame arrives, once and in order.
    #[test]
    fn every_frame_arrives_once_and_in_order_whatever_is_lost(
        fates in prop::collection::vec(0u8..10, 0..600),
        breaks in prop::collection::vec((5u32..200, any::<bool>()), 0..6),
        (down, up) in (0u64..120, 0u64..120),
    ) {
        let mut fates = fates.into_iter();
        let (mut device, mut developer) = (Device { wants: up, ..Device::default() }, Developer { wants: down, ..Developer::default() });
        let (mut to_device, mut to_relay) = (VecDeque::new(), VecDeque::new());
        let mut epoch = 1;
        let mut session = Session::new(Rules { idle: TOTAL, ..rules(epoch) }, START);
        developer.attach(&mut session, START);
        let mut now = START;
        for tick in 0..3000u32 {
            now = START + Duration::from_millis(100) * tick;
            for (_, moves) in breaks.iter().filter(|(at, _)| *at == tick) {
                if *moves {
                    epoch += 1;
                    let boot = session.boot();
                    session = Session::new(Rules { idle: TOTAL, boot, last_frame_at: now, ..rules(epoch) }, now);
                } else if let Some(seat) = developer.seat {
                    session.leave(seat, EndReason::Left);
                }
                developer.attach(&mut session, now);
            }
            developer.turn(&mut session, now);
            hop(&mut fates, downs(&mut session, now), &mut to_device);
            to_device.drain(..).for_each(|down| device.hear(down));
            hop(&mut fates, device.ups(tick % 8 == 0), &mut to_relay);
            to_relay.drain(..).for_each(|up| session.hear(up, now));
            prop_assert_eq!(session.ended(), None);
            if device.taken.len() as u64 == down && developer.got.len() as u64 == up && developer.delivered == down
                && breaks.iter().all(|(at, _)| *at < tick) {
                break;
            }
        }
        prop_assert_eq!(device.taken, (1..=down).collect::<Vec<_>>(), "at {:?}", now);
        prop_assert_eq!(developer.got, (1..=up).collect::<Vec<_>>());
    }

    /// No device, whatever it says, makes the machine panic, hold more than its windows, or say what is not its due.
    #[test]
    fn no_device_makes_it_panic_or_grow(
        said in prop::collection::vec((0u64..80, 0u64..80, 0u64..200, 0u64..80, any::<bool>(), 0u8..40), 0..200),
    ) {
        let (mut session, writer) = live();
        for (number, received_up_to, credit_up_to, forgotten_up_to, is_end, moves) in said {
            let frame = (number > 0).then(|| frame(number));
            let end = (is_end && moves == 0).then_some(DeviceEnd::Done);
            session.hear(Up { frame, received_up_to, credit_up_to, forgotten_up_to, end, ..quiet(1) }, START);
            if moves % 2 == 0 {
                session.say(writer, Said::Frame(self::frame(session.down.received() + 1)), START);
            }
            prop_assert!(session.up.received() - session.up.delivered() <= WINDOW);
            prop_assert!(session.down.received() - session.down.delivered() <= WINDOW);
            prop_assert!(downs(&mut session, START).len() <= 2 * WINDOW as usize + 1);
        }
    }
}
