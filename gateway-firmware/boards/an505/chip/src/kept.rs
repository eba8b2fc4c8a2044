//! The RAM that a warm reset leaves alone: the reset's cause, and the first stage's handover. What it means is the
//! core's (`boot::first`).

use core::sync::atomic::{AtomicBool, Ordering};

use crate::map::secure::{KEPT_CAUSE_AT, KEPT_DEATH_AT, KEPT_HANDOVER_AT, KEPT_LOG_BYTES, KEPT_LOGS_AT};
use crate::mmio;
use gateway_core::boot::first::{CAUSE_WORDS, HANDOVER_BYTES};

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
    words
        .iter()
        .zip((KEPT_HANDOVER_AT..).step_by(4))
        .for_each(|(word, at)| mmio::write(at, u32::from_le_bytes(*word)));
}

/// Two pieces of memory for log records, as the start before left them; once.
pub fn logs() -> Option<[&'static mut [u8]; 2]> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    if TAKEN.swap(true, Ordering::Relaxed) {
        return None;
    }
    let piece = |index: u32| {
        let at = (KEPT_LOGS_AT + index * KEPT_LOG_BYTES) as *mut u8;
        // SAFETY: RAM that no image covers, given out once, and the two pieces do not overlap. Any bytes are bytes.
        unsafe { core::slice::from_raw_parts_mut(at, KEPT_LOG_BYTES as usize) }
    };
    Some([piece(0), piece(1)])
}

/// Words in which a microvisor notes how it ended.
pub const DEATH_WORDS: usize = 11;
const _: () = assert!(KEPT_HANDOVER_AT + HANDOVER_BYTES as u32 <= KEPT_DEATH_AT);

/// Leaves the microvisor's last words for its next start.
pub fn note_death(words: [u32; DEATH_WORDS]) {
    words.iter().zip((KEPT_DEATH_AT..).step_by(4)).for_each(|(word, at)| mmio::write(at, *word));
}

/// The last words, once.
pub fn take_death() -> [u32; DEATH_WORDS] {
    let words = core::array::from_fn(|index| mmio::read(KEPT_DEATH_AT + 4 * index as u32));
    note_death([0; DEATH_WORDS]);
    words
}
