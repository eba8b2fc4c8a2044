//! The RAM that a warm reset leaves alone: the reset's cause, and the first stage's handover. What it means is the
//! core's (`boot::first`).

use crate::map::secure::{KEPT_CAUSE_AT, KEPT_FREE_AT, KEPT_HANDOVER_AT};
use crate::mmio;
use gateway_core::boot::first::{CAUSE_WORDS, HANDOVER_BYTES};

/// Words of a handover.
const HANDOVER_WORDS: usize = HANDOVER_BYTES / 4;

/// The reset cause's words as they are.
pub fn cause() -> [u32; CAUSE_WORDS] {
    core::array::from_fn(|index| mmio::read(KEPT_CAUSE_AT + 4 * index as u32))
}

/// Leaves words for the next start.
pub fn set_cause(words: [u32; CAUSE_WORDS]) {
    words.iter().zip((KEPT_CAUSE_AT..).step_by(4)).for_each(|(word, at)| mmio::write(at, *word));
}

/// The handover's bytes as they are.
pub fn handover() -> [u8; HANDOVER_BYTES] {
    let mut bytes = [0; HANDOVER_BYTES];
    for (index, piece) in bytes.chunks_mut(4).enumerate() {
        piece.copy_from_slice(&mmio::read(KEPT_HANDOVER_AT + 4 * index as u32).to_le_bytes());
    }
    bytes
}

/// Leaves a handover for the microvisor.
pub fn set_handover(bytes: &[u8; HANDOVER_BYTES]) {
    let (words, _) = bytes.as_chunks();
    for index in 0..HANDOVER_WORDS {
        mmio::write(KEPT_HANDOVER_AT + 4 * index as u32, u32::from_le_bytes(words[index]));
    }
}

/// Words in which a microvisor notes how it ended.
pub const DEATH_WORDS: usize = 11;

/// Leaves the microvisor's last words for its next start.
pub fn note_death(words: [u32; DEATH_WORDS]) {
    words.iter().zip((KEPT_FREE_AT..).step_by(4)).for_each(|(word, at)| mmio::write(at, *word));
}

/// The last words, once.
pub fn take_death() -> [u32; DEATH_WORDS] {
    let words = core::array::from_fn(|index| mmio::read(KEPT_FREE_AT + 4 * index as u32));
    note_death([0; DEATH_WORDS]);
    words
}
