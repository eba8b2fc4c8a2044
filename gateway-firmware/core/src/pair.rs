//! One small record in two erase units: what must survive any power cut and fits no journal.
//!
//! Entries of 32 bytes are appended; the whole one with the highest sequence counts. When its unit is full, or anything
//! but blank flash follows it, the next entry goes to the other unit, erased for it. So the newest entry is never erased
//! before a newer one was read back, a torn write loses nothing but itself, and both units wear alike.
//!
//! Nothing is kept in memory: every call looks again. The layout is frozen; a first stage that never changes reads it.

use crate::crc::Crc;
use crate::ports::{Flash, FlashError};

/// Bytes of one entry, and the largest write unit.
pub const ENTRY_BYTES: usize = 32;
/// Bytes a record has to itself.
pub const PAYLOAD_BYTES: usize = 20;
const BLANK: [u8; ENTRY_BYTES] = [0xff; ENTRY_BYTES];

/// A record's own bytes. No aligned eight of an entry may be all 0xFF, which would read as never written: bytes 0 to 7
/// and 8 to 15 each hold something else.
pub type Payload = [u8; PAYLOAD_BYTES];

/// Where the two units start, and what kind of record is in them.
#[derive(Debug, Clone, Copy)]
pub struct Pair {
    pub at: u32,
    /// First bytes of every entry; its last one is the layout's revision.
    pub kind: [u8; 4],
}

/// What the two units look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Health {
    /// Nothing but blank flash: the first start.
    Blank = 0,
    /// The newest entry is followed by blank flash.
    Sound = 1,
    /// What follows the newest entry, in its unit or at the start of the other one, is torn or worn; an entry newer than it
    /// may have been there.
    Damaged = 2,
    /// Something was written, and nothing of it is whole.
    Lost = 3,
}

impl Health {
    /// For a console and for tools.
    pub const fn name(self) -> &'static str {
        match self {
            Health::Blank => "blank",
            Health::Sound => "sound",
            Health::Damaged => "damaged",
            Health::Lost => "lost",
        }
    }
}

/// The newest entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    pub payload: Option<Payload>,
    pub health: Health,
}

impl Pair {
    /// The newest whole entry.
    pub fn read(&self, flash: &mut dyn Flash) -> Found {
        let scan = self.scan(flash);
        let health = match scan.newest {
            Some(_) if scan.room => Health::Sound,
            Some(_) => Health::Damaged,
            None if scan.blank => Health::Blank,
            None => Health::Lost,
        };
        Found { payload: scan.newest.map(|newest| newest.payload), health }
    }

    /// Makes this the newest entry; it was read back when this returns. On an error the one before still counts.
    pub fn put(&self, flash: &mut dyn Flash, payload: &Payload) -> Result<(), FlashError> {
        let unit_bytes = flash.geometry().erase_bytes;
        let scan = self.scan(flash);
        let Some(newest) = scan.newest else { return self.start_unit(flash, 0, 1, payload) };
        let sequence = newest.sequence.wrapping_add(1);
        let next = newest.at + ENTRY_BYTES as u32;
        let unit = (newest.at - self.at) / unit_bytes;
        let fits = next + ENTRY_BYTES as u32 <= self.at + (unit + 1) * unit_bytes;
        if scan.room && fits && self.write(flash, next, sequence, payload).is_ok() {
            return Ok(());
        }
        self.start_unit(flash, 1 - unit, sequence, payload)
    }

    /// Puts the newest entry into the other unit as well, so that no loss of one unit loses it.
    pub fn copy(&self, flash: &mut dyn Flash) -> Result<(), FlashError> {
        let Some(newest) = self.scan(flash).newest else { return Ok(()) };
        let unit = (newest.at - self.at) / flash.geometry().erase_bytes;
        self.start_unit(flash, 1 - unit, newest.sequence.wrapping_add(1), &newest.payload)
    }

    fn start_unit(
        &self,
        flash: &mut dyn Flash,
        unit: u32,
        sequence: u32,
        payload: &Payload,
    ) -> Result<(), FlashError> {
        let at = self.at + unit * flash.geometry().erase_bytes;
        // What reads blank may be half erased or half written.
        flash.erase(at)?;
        self.write(flash, at, sequence, payload)
    }

    fn write(
        &self,
        flash: &mut dyn Flash,
        at: u32,
        sequence: u32,
        payload: &Payload,
    ) -> Result<(), FlashError> {
        let entry = self.encode(sequence, payload);
        flash.write(at, &entry)?;
        let mut read = [0; ENTRY_BYTES];
        flash.read(at, &mut read)?;
        if read == entry { Ok(()) } else { Err(FlashError::Failed) }
    }

    fn scan(&self, flash: &mut dyn Flash) -> Scan {
        let unit_bytes = flash.geometry().erase_bytes;
        let mut scan = Scan { newest: None, room: true, blank: true };
        for unit in 0..2 {
            let start = self.at + unit * unit_bytes;
            let mut newest_here = false;
            for at in (start..start + unit_bytes).step_by(ENTRY_BYTES) {
                let mut entry = [0; ENTRY_BYTES];
                if flash.read(at, &mut entry).is_ok() && entry == BLANK {
                    continue;
                }
                scan.blank = false;
                match self.decode(&entry) {
                    Some((sequence, payload)) if scan.newest.is_none_or(|it| it.sequence < sequence) => {
                        scan.newest = Some(Newest { at, sequence, payload });
                        (scan.room, newest_here) = (true, true);
                    }
                    // Behind the newest, where the next entry would go.
                    _ if newest_here => scan.room = false,
                    _ => {}
                }
            }
        }
        scan.room = scan.room && !scan.newest.is_some_and(|newest| self.is_torn_beyond(flash, newest.at));
        scan
    }

    /// The entry is the last of its unit, and what begins the other one is no entry and not blank.
    fn is_torn_beyond(&self, flash: &mut dyn Flash, newest_at: u32) -> bool {
        let unit_bytes = flash.geometry().erase_bytes;
        let unit = (newest_at - self.at) / unit_bytes;
        if newest_at + ENTRY_BYTES as u32 != self.at + (unit + 1) * unit_bytes {
            return false;
        }
        let mut first = [0; ENTRY_BYTES];
        let read = flash.read(self.at + (1 - unit) * unit_bytes, &mut first);
        read.is_err() || first != BLANK && self.decode(&first).is_none()
    }

    fn encode(&self, sequence: u32, payload: &Payload) -> [u8; ENTRY_BYTES] {
        let mut entry = [0; ENTRY_BYTES];
        let (body, crc) = entry.split_at_mut(ENTRY_BYTES - 4);
        body[..4].copy_from_slice(&self.kind);
        body[4..8].copy_from_slice(&sequence.to_le_bytes());
        body[8..].copy_from_slice(payload);
        crc.copy_from_slice(&checksum(body).to_le_bytes());
        entry
    }

    fn decode(&self, entry: &[u8; ENTRY_BYTES]) -> Option<(u32, Payload)> {
        let (body, crc) = entry.split_at(ENTRY_BYTES - 4);
        let (kind, rest) = body.split_first_chunk()?;
        let (sequence, payload) = rest.split_first_chunk()?;
        let intact = *kind == self.kind && checksum(body).to_le_bytes() == crc;
        intact.then_some((u32::from_le_bytes(*sequence), payload.try_into().ok()?))
    }
}

#[derive(Debug, Clone, Copy)]
struct Newest {
    at: u32,
    sequence: u32,
    payload: Payload,
}

#[derive(Debug, Clone, Copy)]
struct Scan {
    newest: Option<Newest>,
    /// Nothing but blank flash follows the newest entry, or an older one where it is the last of its unit.
    room: bool,
    blank: bool,
}

/// CRC-32 over the entry so far, begun with four zero bytes as all of the store's are.
fn checksum(body: &[u8]) -> u32 {
    let mut crc = Crc::new(0);
    crc.update(body);
    crc.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layout_is_frozen() {
        let pair = Pair { at: 0, kind: *b"HFT1" };
        let entry = pair.encode(0x0403_0201, &core::array::from_fn(|index| index as u8 + 16));
        assert_eq!(
            entry,
            *b"HFT1\x01\x02\x03\x04\x10\x11\x12\x13\x14\x15\x16\x17\x18\x19\x1a\x1b\x1c\x1d\x1e\x1f\x20\x21\x22\x23\xe3\x83\x3e\xdb"
        );
    }
}
