//! Log records: kept in bounded rings until svc-logs says they are stored, those of the boot before this one too.
//!
//! Always holds: sequences are dense from 1; what a full ring dropped is counted and named (`lost_up_to`), so a gap is
//! reported and never silent; nothing is forgotten because it was sent, only because it was stored or had no room.
//! On a board whose memory outlives a reset the end of the story that led to it is told first.

mod kept;
mod ring;
mod ship;

use core::fmt;

use wire::msg::{LogLevel, LogSource};

use crate::device::BootId;

pub use kept::KEPT_HEAD_BYTES;
pub use ring::{Batch, NOTE_BYTES_MAX, Ring};
pub use ship::{LOG_BATCH_BYTES_MAX, LOG_LINGER_MS, LOG_RETRY_MAX_MS, LOG_RETRY_MIN_MS, Ship};

/// The records of one boot, and how far they have travelled.
#[derive(Debug)]
struct Story<'b> {
    ring: Ring<'b>,
    ship: Ship,
}

/// The records of this boot, and of the one before it where the memory kept them.
#[derive(Debug)]
pub struct Logs<'b> {
    current: Story<'b>,
    earlier: Option<Story<'b>>,
}

impl<'b> Logs<'b> {
    /// Two pieces of memory, used in turn from boot to boot. What the newest earlier boot left in one of them is kept
    /// there until it is stored; a board whose memory does not outlive a reset lends the second one
    /// empty.
    pub fn new(memory: [&'b mut [u8]; 2], boot: BootId) -> Self {
        let [one, other] = memory;
        // Boots are counted: the newest is the one with the greater number.
        let (kept, fresh) = if !other.is_empty() && Ring::left_by(one) > Ring::left_by(other) {
            (one, other)
        } else {
            (other, one)
        };
        let earlier = Ring::revive(kept).map(|ring| Story { ring, ship: Ship::default() });
        Self { current: Story { ring: Ring::new(fresh, boot), ship: Ship::default() }, earlier }
    }

    /// The ring of this boot.
    pub fn current(&self) -> &Ring<'b> {
        &self.current.ring
    }

    /// Nothing waits to be stored.
    pub fn is_empty(&self) -> bool {
        self.current.ring.is_empty() && self.earlier.is_none()
    }

    pub fn set_level(&mut self, level: LogLevel) {
        self.current.ring.set_level(level);
    }

    /// Keeps a record of this boot.
    pub fn push(&mut self, uptime_us: u64, level: LogLevel, source: LogSource, text: &str) {
        self.current.ring.push(uptime_us, level, source, text);
    }

    /// Keeps a record of the microvisor's own.
    pub fn note(&mut self, now_ms: u64, level: LogLevel, text: fmt::Arguments<'_>) {
        self.current.ring.note(now_ms, level, text);
    }

    /// Keeps a record of the microvisor's own, of what an application can bring about: it pushes out nothing.
    pub fn note_of_app(&mut self, now_ms: u64, level: LogLevel, text: fmt::Arguments<'_>) {
        self.current.ring.note_of_app(now_ms, level, text);
    }

    /// The ring a batch of which should be sent now.
    pub fn due(&mut self, now_ms: u64) -> Option<&Ring<'b>> {
        let Story { ring, ship } = self.oldest();
        ship.is_due(now_ms, ring).then_some(ring)
    }

    /// A batch of that ring, which ends with `last`, was sent.
    pub fn sent(&mut self, now_ms: u64, last: u64) {
        self.oldest().ship.sent(now_ms, last);
    }

    /// The service holds everything of this boot up to `sequence`; a boot we know nothing of is ignored.
    pub fn stored(&mut self, boot: BootId, sequence: u64) {
        let stories = self.earlier.iter_mut().chain([&mut self.current]);
        for story in stories.filter(|story| story.ring.boot() == boot) {
            story.ring.stored_up_to(sequence);
            story.ship.acknowledged(sequence);
        }
        self.earlier = self.earlier.take().filter(|story| !story.ring.is_empty());
    }

    /// A new connection: what was under way is sent again.
    pub fn restart(&mut self) {
        self.oldest().ship.restart();
    }

    /// When `due` may change its answer without an event.
    pub fn deadline_ms(&self) -> u64 {
        self.earlier.as_ref().unwrap_or(&self.current).ship.deadline_ms()
    }

    /// One story after the other, so that one batch is outstanding at a time.
    fn oldest(&mut self) -> &mut Story<'b> {
        self.earlier.as_mut().unwrap_or(&mut self.current)
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;

    const BYTES: usize = KEPT_HEAD_BYTES + 512;

    fn boot(counter: u32) -> BootId {
        BootId { counter, random: 77 }
    }

    /// One boot: says a line, and what it would send first.
    fn live(memory: &mut [[u8; BYTES]; 2], counter: u32, stored: Option<(u32, u64)>) -> (u32, u64) {
        let [one, other] = memory;
        let mut logs = Logs::new([one, other], boot(counter));
        logs.push(0, LogLevel::Info, LogSource::App, "a line");
        if let Some((counter, sequence)) = stored {
            logs.stored(boot(counter), sequence);
        }
        let (first, last) = match logs.due(LOG_LINGER_MS) {
            None => logs.due(2 * LOG_LINGER_MS),
            ring => ring,
        }
        .map(|ring| (ring.boot().counter, ring.batch(400).unwrap().last))
        .unwrap_or_default();
        (first, last)
    }

    #[test]
    fn the_boot_before_is_told_first_and_then_this_one() {
        let mut memory = [[0; BYTES]; 2];
        assert_eq!(live(&mut memory, 1, None), (1, 1));
        assert_eq!(live(&mut memory, 2, None), (1, 1));
        // Not stored yet: the third boot needs the room of the oldest, and tells the second.
        assert_eq!(live(&mut memory, 3, None), (2, 1));
        assert_eq!(live(&mut memory, 4, Some((3, 1))), (4, 1));
        assert_eq!(live(&mut memory, 5, Some((9, 1))), (4, 1));
    }

    #[test]
    fn memory_that_forgets_may_be_lent_once() {
        let mut memory = [0; BYTES];
        let mut logs = Logs::new([&mut memory, &mut []], boot(1));
        logs.push(0, LogLevel::Info, LogSource::App, "a line");
        assert!(!logs.is_empty());
        logs.stored(boot(1), 1);
        assert!(logs.is_empty());
    }
}
