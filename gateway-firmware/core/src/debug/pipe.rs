//! One debug session as the relays carry it (docs/protocol.md, "Debug sessions"): frames numbered, in order, each taken once.
//!
//! Always holds: a frame of the device's is kept, and sent again as the same bytes, until its `delivered_up_to`; what was taken stays
//! taken, whichever relay process goes on; no more frames are asked for than there are places for their answers, and one place is
//! left for what the device says unasked. What frames hold, and where they are kept, is nobody's business here.

use wire::limits::{DEBUG_FRAME_BYTES_MAX, DEBUG_SILENCE_MAX_S};
use wire::msg::DebugDown;
use wire::{DebugSessionId, RelayId};

use crate::mutation::mutated;

/// Frames that may come without a word in between: message 3 of a handshake, and the first call.
const TOGETHER: u64 = 2;
/// Frames that were not received go out again after so long without progress.
pub const RESEND_MS: u64 = 500;
/// A relay that says nothing for so long is gone, and so is the session.
pub const SILENCE_MS: u64 = DEBUG_SILENCE_MAX_S as u64 * 1000;

/// What the relay said cannot be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Impossible;

/// What a message says to whoever has the session now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Up {
    /// 0: none.
    pub(crate) number: u64,
    pub(crate) received_up_to: u64,
    pub(crate) credit_up_to: u64,
    pub(crate) forgotten_up_to: u64,
}

/// Where a session stands.
#[derive(Debug)]
pub(crate) struct Pipe {
    session: DebugSessionId,
    relay: RelayId,
    epoch: u32,
    /// Frames of the device's that can be kept.
    places: u64,
    heard_ms: u64,
    /// Frames of the developer's that were taken.
    received: u64,
    /// The highest number the relay was told that it may send.
    credit: u64,
    /// The newest frame made.
    made: u64,
    /// The newest one sent, counted from the last time all were sent again, and ever.
    sent: u64,
    sent_ever: u64,
    /// What the relay has, and what the developer has.
    relayed: u64,
    delivered: u64,
    /// The highest number that may be sent.
    allowed: u64,
    resend_ms: Option<u64>,
    /// An answer is wanted.
    owes: bool,
}

impl Pipe {
    pub(crate) fn new(
        session: DebugSessionId,
        relay: RelayId,
        epoch: u32,
        places: usize,
        now_ms: u64,
    ) -> Self {
        Self {
            session,
            relay,
            epoch,
            places: places as u64,
            heard_ms: now_ms,
            received: 0,
            credit: 0,
            made: 0,
            sent: 0,
            sent_ever: 0,
            relayed: 0,
            delivered: 0,
            allowed: 0,
            resend_ms: None,
            owes: false,
        }
    }

    pub(crate) fn session(&self) -> DebugSessionId {
        self.session
    }

    pub(crate) fn relay(&self) -> RelayId {
        self.relay
    }

    pub(crate) fn epoch(&self) -> u32 {
        self.epoch
    }

    /// Whether this comes from who has the session: the newest relay process, or one that is newer still.
    pub(crate) fn is_from_holder(&self, relay: RelayId, epoch: u32) -> bool {
        epoch > self.epoch || (epoch == self.epoch && relay == self.relay) || mutated!(DebugEpoch)
    }

    /// Hears the holder; the frame that is the next, if there is one. It is taken by `took`, and comes again until then.
    pub(crate) fn hear<'m>(
        &mut self,
        now_ms: u64,
        relay: RelayId,
        down: &DebugDown<'m>,
    ) -> Result<Option<&'m [u8]>, Impossible> {
        self.heard_ms = now_ms;
        if down.epoch != self.epoch {
            (self.epoch, self.relay) = (down.epoch, relay);
            (self.relayed, self.allowed, self.resend_ms) = (self.delivered, 0, None);
            self.sent = self.delivered;
        }
        let has_frame = down.number != 0;
        let is_frame = !down.data.is_empty() && down.data.len() <= DEBUG_FRAME_BYTES_MAX;
        if down.received_up_to > self.sent_ever
            || down.delivered_up_to > self.sent_ever
            || has_frame && (down.number > self.credit || !is_frame)
        {
            return Err(Impossible);
        }
        self.allowed = self.allowed.max(down.credit_up_to);
        self.delivered = self.delivered.max(down.delivered_up_to);
        let relayed = self.relayed.max(down.received_up_to).max(self.delivered);
        if relayed > self.relayed {
            self.relayed = relayed;
            self.sent = self.sent.max(relayed);
            self.resend_ms = (self.sent > relayed).then_some(now_ms + RESEND_MS);
        }
        self.owes |= down.open || down.answer || has_frame;
        let is_next = down.number == self.received + 1 || mutated!(DebugOnce);
        Ok((has_frame && is_next).then_some(down.data))
    }

    /// The frame that `hear` gave up was taken.
    pub(crate) fn took(&mut self) {
        self.received += 1;
    }

    /// The number of one more frame, if there is a place for it; then `keep`.
    pub(crate) fn next(&self) -> Option<u64> {
        (self.kept() < self.places).then_some(self.made + 1)
    }

    /// The next frame is in its place.
    pub(crate) fn keep(&mut self) {
        self.made += 1;
    }

    fn kept(&self) -> u64 {
        self.made - self.delivered
    }

    /// What may be granted: a frame may bring an answer each. One place is left for a stop that comes by itself.
    fn grant(&self) -> u64 {
        self.credit.max(self.received + (self.places - 1).saturating_sub(self.kept()))
    }

    /// Another connection: what was sent on the one before may be lost.
    pub(crate) fn restart(&mut self) {
        (self.sent, self.resend_ms) = (self.relayed, None);
    }

    /// What is to be said now; then `said`. To be asked again until there is nothing.
    pub(crate) fn due(&mut self, now_ms: u64) -> Option<Up> {
        if self.resend_ms.is_some_and(|at_ms| at_ms <= now_ms) {
            (self.sent, self.resend_ms) = (self.relayed, None);
        }
        let next = self.sent + 1;
        let number = if next <= self.made.min(self.allowed) { next } else { 0 };
        // The relay knows of no more credit, and would ask only after a while.
        let unblocks = self.credit < self.received + TOGETHER && self.grant() > self.credit;
        (number != 0 || self.owes || unblocks).then(|| Up {
            number,
            received_up_to: self.received,
            credit_up_to: self.grant(),
            forgotten_up_to: self.delivered,
        })
    }

    /// What was due has gone out.
    pub(crate) fn said(&mut self, now_ms: u64, up: &Up) {
        self.owes = false;
        self.credit = up.credit_up_to;
        if up.number != 0 {
            self.sent = up.number;
            self.sent_ever = self.sent_ever.max(up.number);
            self.resend_ms.get_or_insert(now_ms + RESEND_MS);
        }
    }

    /// Nobody has spoken for too long.
    pub(crate) fn is_forgotten(&self, now_ms: u64) -> bool {
        now_ms >= self.heard_ms + SILENCE_MS && !mutated!(DebugSilence)
    }

    /// When that will be.
    pub(crate) fn forgotten_ms(&self) -> u64 {
        self.heard_ms + SILENCE_MS
    }

    /// When frames are due again.
    pub(crate) fn resend_ms(&self) -> u64 {
        self.resend_ms.unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use crate::debug::{FRAMES_MAX, Frames};
    use proptest::prelude::*;
    use std::vec;

    const HERE: RelayId = RelayId::new([1; 16]);
    const THERE: RelayId = RelayId::new([2; 16]);

    fn pipe() -> Pipe {
        let mut pipe = Pipe::new(DebugSessionId::new([9; 16]), HERE, 1, FRAMES_MAX, 0);
        let open = DebugDown { open: true, answer: true, ..down() };
        assert_eq!(pipe.hear(0, HERE, &open), Ok(None));
        say(&mut pipe, 0);
        pipe
    }

    fn down() -> DebugDown<'static> {
        DebugDown { epoch: 1, ..Default::default() }
    }

    fn frame(number: u64) -> DebugDown<'static> {
        DebugDown { number, data: b"frame", credit_up_to: 32, ..down() }
    }

    fn say(pipe: &mut Pipe, now_ms: u64) -> Option<Up> {
        let up = pipe.due(now_ms)?;
        pipe.said(now_ms, &up);
        Some(up)
    }

    type Kept = Frames<8, FRAMES_MAX>;

    /// Makes a frame of this byte.
    fn make(pipe: &mut Pipe, frames: &mut Kept, byte: u8) {
        let place = frames.place(pipe.next().expect("a place"));
        place.clear();
        place.push(byte).expect("room");
        pipe.keep();
    }

    #[test]
    fn frames_are_given_up_in_order_and_once() {
        let mut pipe = pipe();
        assert_eq!(pipe.hear(0, HERE, &frame(2)), Ok(None), "not the next");
        assert_eq!(say(&mut pipe, 0).map(|up| up.received_up_to), Some(0));
        assert_eq!(pipe.hear(0, HERE, &frame(1)), Ok(Some(&b"frame"[..])));
        assert_eq!(pipe.hear(0, HERE, &frame(1)), Ok(Some(&b"frame"[..])), "until it is taken");
        pipe.took();
        assert_eq!(pipe.hear(0, HERE, &frame(1)), Ok(None));
        let said = say(&mut pipe, 0).expect("an answer");
        assert_eq!((said.received_up_to, said.credit_up_to), (1, 4));
        assert_eq!(say(&mut pipe, 0), None, "one answer is enough");
        assert_eq!(pipe.hear(0, HERE, &frame(2)), Ok(Some(&b"frame"[..])));
    }

    #[test]
    fn a_frame_is_kept_and_sent_again_until_it_was_delivered() {
        let (mut pipe, mut frames) = (pipe(), Kept::new());
        make(&mut pipe, &mut frames, 7);
        assert_eq!(say(&mut pipe, 0), None, "there is no credit");
        pipe.hear(10, HERE, &DebugDown { credit_up_to: 32, ..down() }).expect("heard");
        assert_eq!(say(&mut pipe, 10).map(|up| up.number), Some(1));
        assert_eq!((say(&mut pipe, 10), say(&mut pipe, 509)), (None, None));
        assert_eq!(pipe.resend_ms(), 510);
        assert_eq!(say(&mut pipe, 510).map(|up| up.number), Some(1));
        assert_eq!(frames.frame(1), [7]);
        pipe.hear(520, HERE, &DebugDown { received_up_to: 1, ..down() }).expect("heard");
        assert_eq!(say(&mut pipe, 5_000), None);
        // Another relay has less.
        pipe.hear(5_000, THERE, &DebugDown { epoch: 2, credit_up_to: 32, ..down() }).expect("heard");
        assert_eq!((pipe.relay(), pipe.epoch()), (THERE, 2));
        assert_eq!(say(&mut pipe, 5_000).map(|up| (up.number, up.forgotten_up_to)), Some((1, 0)));
        pipe.hear(5_001, THERE, &DebugDown { epoch: 2, delivered_up_to: 1, answer: true, ..down() })
            .expect("heard");
        assert_eq!(say(&mut pipe, 5_001).map(|up| (up.number, up.forgotten_up_to)), Some((0, 1)));
        assert_eq!((pipe.resend_ms(), pipe.forgotten_ms()), (u64::MAX, 5_001 + SILENCE_MS));
    }

    #[test]
    fn only_the_newest_relay_process_is_the_holder() {
        let mut pipe = pipe();
        assert!(pipe.is_from_holder(HERE, 1) && pipe.is_from_holder(THERE, 2));
        assert!(!pipe.is_from_holder(THERE, 1) && !pipe.is_from_holder(HERE, 0));
        pipe.hear(0, THERE, &DebugDown { epoch: 2, ..down() }).expect("heard");
        assert!(!pipe.is_from_holder(HERE, 1));
    }

    #[test]
    fn there_is_a_place_for_every_answer_and_one_for_what_nobody_asked() {
        let (mut pipe, mut frames) = (pipe(), Kept::new());
        for number in 1..=3 {
            pipe.hear(0, HERE, &frame(number)).expect("heard").expect("the next");
            pipe.took();
            make(&mut pipe, &mut frames, 1);
            assert_eq!(pipe.grant(), 3);
        }
        while say(&mut pipe, 0).is_some() {}
        assert_eq!(pipe.hear(0, HERE, &frame(4)), Err(Impossible), "there was no credit");
        make(&mut pipe, &mut frames, 2);
        assert!(pipe.next().is_none());
        while say(&mut pipe, 0).is_some() {}
        pipe.hear(0, HERE, &DebugDown { delivered_up_to: 2, ..down() }).expect("heard");
        let up = say(&mut pipe, 0).expect("told, since the relay waits for credit");
        assert_eq!((up.number, up.credit_up_to), (0, 4));
        assert_eq!(say(&mut pipe, 0), None);
    }

    #[test]
    fn what_cannot_be_is_an_error() {
        let long = vec![0; DEBUG_FRAME_BYTES_MAX + 1];
        let cases = [
            DebugDown { received_up_to: 1, ..down() },
            DebugDown { delivered_up_to: 1, ..down() },
            frame(4),
            frame(u64::MAX),
            DebugDown { data: &[], ..frame(1) },
            DebugDown { data: &long, ..frame(1) },
        ];
        for (index, case) in cases.iter().enumerate() {
            let mut pipe = pipe();
            assert_eq!(pipe.hear(0, HERE, case), Err(Impossible), "case {index}");
        }
        let mut pipe = pipe();
        assert_eq!(pipe.hear(0, HERE, &DebugDown { credit_up_to: u64::MAX, ..down() }), Ok(None));
        assert_eq!(say(&mut pipe, 0), None);
    }

    #[test]
    fn silence_ends_it() {
        let pipe = pipe();
        assert!(!pipe.is_forgotten(SILENCE_MS - 1));
        assert!(pipe.is_forgotten(SILENCE_MS));
    }

    #[derive(Debug, Clone)]
    enum Step {
        Hear(u64, u64, u64, u64, bool),
        Took,
        Make,
        Say,
        Wait(u64),
        Relay,
        Reconnect,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0_u64..12, 0_u64..12, 0_u64..12, 0_u64..40, any::<bool>())
                .prop_map(|(n, r, d, c, a)| Step::Hear(n, r, d, c, a)),
            Just(Step::Took),
            Just(Step::Make),
            Just(Step::Say),
            (0_u64..900).prop_map(Step::Wait),
            Just(Step::Relay),
            Just(Step::Reconnect),
        ]
    }

    proptest! {
        /// Whatever a relay says: nothing overflows, no frame is given up twice, what is sent is what was made under that number.
        #[test]
        fn frames_are_what_they_were_and_nothing_is_taken_twice(steps in proptest::collection::vec(step(), 1..120)) {
            let (mut pipe, mut frames, mut now_ms) = (pipe(), Kept::new(), 0);
            let (mut given, mut taken, mut made) = (None, 0, 0_u64);
            for step in steps {
                match step {
                    Step::Hear(number, received_up_to, delivered_up_to, credit_up_to, answer) => {
                        let (relay, epoch) = (pipe.relay(), pipe.epoch());
                        let down = DebugDown {
                            epoch, number, received_up_to, delivered_up_to, credit_up_to, answer, data: b"x",
                            ..Default::default()
                        };
                        match pipe.hear(now_ms, relay, &down) {
                            Ok(Some(_)) => { prop_assert_eq!(number, taken + 1); given = Some(number); }
                            Ok(None) => {}
                            Err(Impossible) => return Ok(()),
                        }
                    }
                    Step::Took => if let Some(number) = given.take() { pipe.took(); taken = number; },
                    Step::Make => if let Some(number) = pipe.next() {
                        let place = frames.place(number);
                        made += 1;
                        place.clear();
                        place.extend_from_slice(&made.to_le_bytes()).expect("room");
                        pipe.keep();
                    },
                    Step::Say => if let Some(up) = say(&mut pipe, now_ms) {
                        prop_assert!(up.credit_up_to <= up.received_up_to + FRAMES_MAX as u64);
                        prop_assert_eq!(up.received_up_to, taken);
                        if up.number != 0 {
                            prop_assert!(up.number <= made && up.number > up.forgotten_up_to);
                            prop_assert_eq!(frames.frame(up.number), up.number.to_le_bytes());
                        }
                    },
                    Step::Wait(ms) => now_ms += ms,
                    Step::Relay => {
                        let epoch = pipe.epoch() + 1;
                        let _ = pipe.hear(now_ms, THERE, &DebugDown { epoch, open: true, ..Default::default() });
                    }
                    Step::Reconnect => pipe.restart(),
                }
            }
        }
    }
}
