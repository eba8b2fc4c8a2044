//! The developer's side of a relay's stream, without the stream: which frames are to be sent, which came, what to keep.
//!
//! A frame is kept, as it was made, until the device has it: what is sent again is the same ciphertext. Frames of the device are taken in
//! order and once. Pure: messages in, messages out.

use std::collections::VecDeque;

use proto::debug::v1::{Attached, DebugFrame, Position, Progress};
use wire::limits::{DEBUG_FRAME_BYTES_MAX, DEBUG_WINDOW_FRAMES_MAX};

/// Frames that may wait to be sent or acknowledged.
pub(crate) const WAITING_MAX: usize = 64;
const WINDOW: i64 = DEBUG_WINDOW_FRAMES_MAX as i64;

/// The relay said what cannot be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the relay said what cannot be: {0}")]
pub(crate) struct Nonsense(&'static str);

#[derive(Debug, Default)]
pub(crate) struct Pipe {
    /// Frames above `delivered`, oldest first.
    frames: VecDeque<Vec<u8>>,
    /// Ours that the device has.
    delivered: i64,
    /// Ours that the relay was given on this stream.
    sent: i64,
    credit: i64,
    /// The device's that we have.
    received: i64,
    /// Where numbers go on in a session that others have used before is not known yet.
    joining: bool,
}

impl Pipe {
    /// In a session that another process of ours has left.
    pub(crate) fn joining() -> Pipe {
        Pipe { joining: true, ..Pipe::default() }
    }

    /// Where to go on; none: from wherever the session is.
    pub(crate) fn position(&self) -> Option<Position> {
        let position = Position { received_up_to: self.received, delivered_up_to: self.delivered };
        (!self.joining).then_some(position)
    }

    pub(crate) fn has_room(&self) -> bool {
        self.frames.len() < WAITING_MAX
    }

    /// One more to send.
    pub(crate) fn push(&mut self, frame: Vec<u8>) {
        self.frames.push_back(frame);
    }

    /// The stream there was is gone: nothing is sent until another one stands.
    pub(crate) fn parted(&mut self) {
        self.credit = self.sent;
    }

    /// A new stream stands.
    pub(crate) fn attached(&mut self, attached: &Attached) -> Result<(), Nonsense> {
        let made = self.delivered.saturating_add(self.frames.len() as i64);
        if self.joining {
            if attached.down_received_up_to < 0 || attached.up_after < 0 {
                return Err(Nonsense("numbers below zero"));
            }
            self.joining = false;
            (self.delivered, self.received) = (attached.down_received_up_to, attached.up_after);
        } else if attached.up_after != self.received {
            return Err(Nonsense("frames of the device are left out"));
        } else if attached.down_received_up_to < self.delivered || attached.down_received_up_to > made {
            return Err(Nonsense("it holds frames that were not sent"));
        }
        (self.sent, self.credit) = (attached.down_received_up_to, self.delivered);
        Ok(())
    }

    /// A frame came: what it holds, if it is the next.
    pub(crate) fn frame(&mut self, frame: DebugFrame) -> Result<Option<Vec<u8>>, Nonsense> {
        if frame.number <= self.received {
            return Ok(None);
        }
        if frame.number != self.received.saturating_add(1) {
            return Err(Nonsense("frames of the device are left out"));
        }
        if frame.data.is_empty() || frame.data.len() > DEBUG_FRAME_BYTES_MAX {
            return Err(Nonsense("a frame of that size"));
        }
        self.received = frame.number;
        Ok(Some(frame.data.into()))
    }

    /// The device is further.
    pub(crate) fn progress(&mut self, progress: Progress) -> Result<(), Nonsense> {
        let made = self.delivered.saturating_add(self.frames.len() as i64);
        if progress.delivered_up_to > made {
            return Err(Nonsense("it acknowledges frames that were not sent"));
        }
        while self.delivered < progress.delivered_up_to {
            self.frames.pop_front();
            self.delivered += 1;
        }
        self.sent = self.sent.max(self.delivered);
        self.credit = self.credit.max(progress.credit_up_to);
        Ok(())
    }

    /// What we have, and how far the device may go on.
    pub(crate) fn say(&self) -> Progress {
        Progress { delivered_up_to: self.received, credit_up_to: self.received.saturating_add(WINDOW) }
    }

    /// The next frame that may be sent now.
    pub(crate) fn send(&mut self) -> Option<DebugFrame> {
        if self.sent >= self.credit {
            return None;
        }
        let place = usize::try_from(self.sent - self.delivered).ok()?;
        let data = self.frames.get(place)?.clone().into();
        self.sent += 1;
        Some(DebugFrame { number: self.sent, data })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sent(pipe: &mut Pipe) -> Vec<(i64, Vec<u8>)> {
        std::iter::from_fn(|| pipe.send()).map(|frame| (frame.number, frame.data.to_vec())).collect()
    }

    fn up(number: i64, data: &[u8]) -> DebugFrame {
        DebugFrame { number, data: data.to_vec().into() }
    }

    #[test]
    fn nothing_is_sent_without_credit_and_what_is_sent_again_is_the_same() {
        let mut pipe = Pipe::default();
        (1..=3).for_each(|n| pipe.push(vec![n]));
        pipe.attached(&Attached::default()).unwrap();
        assert!(sent(&mut pipe).is_empty());
        pipe.progress(Progress { delivered_up_to: 0, credit_up_to: 2 }).unwrap();
        assert_eq!(sent(&mut pipe), [(1, vec![1]), (2, vec![2])]);
        pipe.progress(Progress { delivered_up_to: 1, credit_up_to: 3 }).unwrap();
        assert_eq!(sent(&mut pipe), [(3, vec![3])]);
        // The stream breaks; the relay had only the first two.
        pipe.parted();
        pipe.push(vec![4]);
        assert!(sent(&mut pipe).is_empty(), "the next stream does not stand yet");
        assert_eq!(pipe.position(), Some(Position { received_up_to: 0, delivered_up_to: 1 }));
        pipe.attached(&Attached { down_received_up_to: 2, up_after: 0 }).unwrap();
        pipe.progress(Progress { delivered_up_to: 1, credit_up_to: 9 }).unwrap();
        assert_eq!(sent(&mut pipe), [(3, vec![3]), (4, vec![4])]);
    }

    #[test]
    fn a_session_that_was_left_goes_on_with_its_numbers() {
        let mut pipe = Pipe::joining();
        pipe.push(vec![7]);
        assert_eq!(pipe.position(), None);
        pipe.attached(&Attached { down_received_up_to: 40, up_after: 17 }).unwrap();
        pipe.progress(Progress { delivered_up_to: 40, credit_up_to: 44 }).unwrap();
        assert_eq!(sent(&mut pipe), [(41, vec![7])]);
        assert_eq!(pipe.frame(up(18, b"x")).unwrap().unwrap(), b"x");
        assert_eq!(pipe.say().delivered_up_to, 18);
    }

    #[test]
    fn frames_of_the_device_are_taken_in_order_and_once() {
        let mut pipe = Pipe::default();
        assert_eq!(pipe.frame(up(1, b"a")).unwrap().unwrap(), b"a");
        assert_eq!(pipe.frame(up(1, b"a")).unwrap(), None);
        assert!(pipe.frame(up(3, b"c")).is_err());
        assert!(pipe.frame(up(2, b"")).is_err() && pipe.frame(up(2, &[0; 4097])).is_err());
    }

    proptest! {
        #[test]
        fn whatever_a_relay_says_is_taken_or_refused(words in proptest::collection::vec((0..4u8, any::<i64>(), any::<i64>()), 0..20)) {
            let mut pipe = Pipe::default();
            for (kind, a, b) in words {
                pipe.push(vec![1]);
                let _ = match kind {
                    0 => pipe.attached(&Attached { down_received_up_to: a, up_after: b }),
                    1 => pipe.progress(Progress { delivered_up_to: a, credit_up_to: b }),
                    2 => pipe.frame(up(a, b"x")).map(drop),
                    _ => pipe.frame(up(pipe.received.saturating_add(1), b"x")).map(drop),
                };
                let number = pipe.sent;
                let frames = sent(&mut pipe);
                prop_assert!(frames.iter().zip(number.saturating_add(1)..).all(|((is, _), should)| *is == should));
            }
        }
    }
}
