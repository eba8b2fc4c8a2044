//! What a board lends to debug sessions for good, and how much of it each has.
//!
//! The writer's frames hold what a developer reads ahead. A watcher's are small and few, so that four of them cost little.

use heapless::{Vec, VecView};
use noise::{FRAME_MORE_BYTES, PLAIN_BYTES_MAX, Responder};
use wire::limits::DEBUG_FRAME_BYTES_MAX;
use zeroize::Zeroize as _;

use super::agent::WATCH_READ_BYTES_MAX;
use super::own::Own;

/// Sessions that watch, at a time.
pub const WATCHERS_MAX: usize = 4;
/// Those and the one that writes, whose seat is the first.
pub(super) const SEATS: usize = 1 + WATCHERS_MAX;
pub(super) const WRITER: usize = 0;

/// Frames of the device's that are kept for the writer.
pub const FRAMES_MAX: usize = 4;
/// … and for each watcher: one for what it is told by itself, and two for answers, so that attaching takes two round trips.
pub const WATCH_FRAMES_MAX: usize = 3;
/// Bytes of a frame to a watcher: the reads of a call, or where the application halted, with what comes around them.
pub const WATCH_FRAME_BYTES_MAX: usize = 1248;
const _: () = assert!(WATCH_FRAME_BYTES_MAX >= WATCH_READ_BYTES_MAX + 192 && FRAME_MORE_BYTES <= 32);

/// Frames of a session.
#[derive(Debug)]
pub struct Frames<const BYTES: usize, const PLACES: usize>([Vec<u8, BYTES>; PLACES]);

impl<const BYTES: usize, const PLACES: usize> Frames<BYTES, PLACES> {
    pub(super) const fn new() -> Self {
        Self([const { Vec::new() }; PLACES])
    }

    /// Where the frame of this number is, if it is kept at all: those kept are in a row.
    pub(super) fn place(&mut self, number: u64) -> &mut VecView<u8> {
        &mut self.0[(number % PLACES as u64) as usize]
    }

    pub(super) fn frame(&self, number: u64) -> &[u8] {
        &self.0[(number % PLACES as u64) as usize]
    }
}

/// The frames of all sessions, each in its seat.
#[derive(Debug)]
pub(super) struct Places {
    writer: Frames<DEBUG_FRAME_BYTES_MAX, FRAMES_MAX>,
    watchers: [Frames<WATCH_FRAME_BYTES_MAX, WATCH_FRAMES_MAX>; WATCHERS_MAX],
}

impl Places {
    pub(super) fn place(&mut self, seat: usize, number: u64) -> &mut VecView<u8> {
        match seat.checked_sub(1) {
            None => self.writer.place(number),
            Some(watcher) => self.watchers[watcher].place(number),
        }
    }

    pub(super) fn frame(&self, seat: usize, number: u64) -> &[u8] {
        match seat.checked_sub(1) {
            None => self.writer.frame(number),
            Some(watcher) => self.watchers[watcher].frame(number),
        }
    }
}

/// How many frames of this seat are kept.
pub(super) fn places(seat: usize) -> usize {
    if seat == WRITER { FRAMES_MAX } else { WATCH_FRAMES_MAX }
}

/// Plaintext that one of its frames holds.
pub(super) fn plain_bytes_max(seat: usize) -> usize {
    if seat == WRITER { PLAIN_BYTES_MAX } else { WATCH_FRAME_BYTES_MAX - FRAME_MORE_BYTES }
}

/// What a board lends for good.
#[derive(Debug)]
pub struct Memory {
    pub(super) places: Places,
    /// What a frame held, and what the next one is to hold: whoever's turn it is.
    pub(super) call: [u8; PLAIN_BYTES_MAX],
    pub(super) answer: [u8; PLAIN_BYTES_MAX],
    /// Here and not in the stub, which is moved about when it is made. One a seat: nobody's handshake ends another's.
    pub(super) handshakes: [Handshake; SEATS],
    pub(super) own: Option<Own>,
}

/// One under way. An `Option`, but for its tag: `None` is zero, so that what a board lends is zeroed memory, and no part of its image.
#[derive(Debug, Default)]
#[repr(u8)]
#[expect(clippy::large_enum_variant, reason = "they are few, in memory that is lent for them")]
pub(super) enum Handshake {
    #[default]
    None,
    Begun(Responder),
}

impl Handshake {
    pub(super) fn take(&mut self) -> Option<Responder> {
        match core::mem::take(self) {
            Handshake::None => None,
            Handshake::Begun(responder) => Some(responder),
        }
    }
}

impl Memory {
    /// Nothing in it.
    pub const fn new() -> Self {
        Self {
            places: Places { writer: Frames::new(), watchers: [const { Frames::new() }; WATCHERS_MAX] },
            call: [0; PLAIN_BYTES_MAX],
            answer: [0; PLAIN_BYTES_MAX],
            handshakes: [const { Handshake::None }; SEATS],
            own: None,
        }
    }

    /// Plaintext of an application's memory goes with the session that it was for.
    pub(super) fn clear(&mut self, seat: usize) {
        self.call.zeroize();
        self.answer.zeroize();
        self.handshakes[seat] = Handshake::None;
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn watchers_cost_little() {
        let each = size_of::<Frames<WATCH_FRAME_BYTES_MAX, WATCH_FRAMES_MAX>>() + size_of::<Handshake>();
        assert!(WATCHERS_MAX * each <= 20 * 1024, "{each}");
    }
}
