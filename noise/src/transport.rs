//! A session after its handshake: frames with their counters in the open, taken once and in order.

use core::fmt;

use snow::{HandshakeState, StatelessTransportState};
use wire::limits::DEBUG_FRAME_BYTES_MAX;

use crate::primitives::TAG_BYTES;
use crate::{Error, Kind};

const COUNTER_BYTES: usize = 8;
/// What a frame has more than its plaintext: its kind, its counter, and the tag.
pub const FRAME_MORE_BYTES: usize = 1 + COUNTER_BYTES + TAG_BYTES;
/// The most plaintext that a frame holds.
pub const PLAIN_BYTES_MAX: usize = DEBUG_FRAME_BYTES_MAX - FRAME_MORE_BYTES;

/// One end's keys, and where it is in both directions.
pub struct Transport {
    state: StatelessTransportState,
    /// The counter of the next frame made.
    next_out: u64,
    /// The only counter taken.
    next_in: u64,
}

impl Transport {
    pub(crate) fn new(state: HandshakeState) -> Result<Self, Error> {
        Ok(Self { state: state.into_stateless_transport_mode()?, next_out: 0, next_in: 0 })
    }

    /// Makes the next frame: its length in `frame`. It may be sent again as it is; what it holds is never sealed anew.
    pub fn seal(&mut self, plain: &[u8], frame: &mut [u8]) -> Result<usize, Error> {
        let length = FRAME_MORE_BYTES + plain.len();
        let frame =
            frame.get_mut(..length).filter(|_| plain.len() <= PLAIN_BYTES_MAX).ok_or(Error::TooLong)?;
        let (head, sealed) = frame.split_at_mut(1 + COUNTER_BYTES);
        self.state.write_message(self.next_out, plain, sealed)?;
        head[0] = Kind::Transport as u8;
        head[1..].copy_from_slice(&self.next_out.to_le_bytes());
        self.next_out += 1;
        Ok(length)
    }

    /// Takes the next frame: the length of what it holds in `plain`.
    pub fn open(&mut self, frame: &[u8], plain: &mut [u8]) -> Result<usize, Error> {
        if Kind::of(frame) != Some(Kind::Transport) || frame.len() < FRAME_MORE_BYTES {
            return Err(Error::Malformed);
        }
        if frame.len() > DEBUG_FRAME_BYTES_MAX || frame.len() - FRAME_MORE_BYTES > plain.len() {
            return Err(Error::TooLong);
        }
        let (counter, sealed) = frame[1..].split_first_chunk().ok_or(Error::Malformed)?;
        if u64::from_le_bytes(*counter) != self.next_in {
            return Err(Error::NotNext);
        }
        let length = self.state.read_message(self.next_in, sealed, plain)?;
        self.next_in += 1;
        Ok(length)
    }
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport")
            .field("next_out", &self.next_out)
            .field("next_in", &self.next_in)
            .finish_non_exhaustive()
    }
}
