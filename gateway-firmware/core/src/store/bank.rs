//! One bank: a header unit, then records one after the other, then blank flash.
//!
//! The header is written last, so a bank with a valid header is complete. Scanning finds the newest record of each key
//! and says whether the bank is sound: no torn record, and nothing but blank flash after the last one. Only a sound bank
//! is appended to; half-programmed words are never written over.

use super::record::{HEAD_BYTES, Head};
use super::{KEYS, Key};
use crate::crc::Crc;
use crate::mutation::mutated;
use crate::ports::{Flash, FlashError};

/// Bytes handled at once on the stack; the largest write unit.
pub(super) const PIECE_BYTES: usize = 256;
const HEADER_BYTES: usize = 16;
const MAGIC: [u8; 4] = *b"HFJ1";

/// Where a bank lies, and its flash's units.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bank {
    pub(super) at: u32,
    pub(super) bytes: u32,
    pub(super) erase_bytes: u32,
    /// Alignment of records: a multiple of the write unit.
    pub(super) unit: u32,
}

/// A payload in the bank.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) at: u32,
    pub(super) len: u16,
}

/// What a bank holds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Contents {
    pub(super) places: [Option<Place>; KEYS],
    /// Where the next record goes.
    pub(super) tail: u32,
    /// Of the last record.
    pub(super) sequence: u32,
    pub(super) sound: bool,
}

/// Where a record's payload comes from.
#[derive(Debug, Clone, Copy)]
pub(super) enum Source<'a> {
    Memory(&'a [u8]),
    Flash(Place),
}

impl Bank {
    /// The generation its header names, if the header is whole.
    pub(super) fn generation(&self, flash: &mut dyn Flash) -> Option<u32> {
        let mut header = [0; HEADER_BYTES];
        flash.read(self.at, &mut header).ok()?;
        let (body, crc) = header.split_at(HEADER_BYTES - 4);
        let mut sum = Crc::new(0);
        sum.update(body);
        let intact = sum.finish().to_le_bytes() == crc || mutated!(BankCrc);
        let [m0, m1, m2, m3, g0, g1, g2, g3, ..] = header;
        (intact && [m0, m1, m2, m3] == MAGIC).then_some(u32::from_le_bytes([g0, g1, g2, g3]))
    }

    /// Its header was being written, or was damaged: it is neither whole nor blank.
    pub(super) fn is_spoiled(&self, flash: &mut dyn Flash) -> bool {
        self.generation(flash).is_none() && !is_blank(flash, self.at, self.at + HEADER_BYTES as u32)
    }

    /// Declares the bank complete.
    pub(super) fn commit(&self, flash: &mut dyn Flash, generation: u32) -> Result<(), FlashError> {
        let mut unit = [0xff; PIECE_BYTES];
        let [g0, g1, g2, g3] = generation.to_le_bytes();
        let [m0, m1, m2, m3] = MAGIC;
        let body = [m0, m1, m2, m3, g0, g1, g2, g3, 0, 0, 0, 0];
        let mut sum = Crc::new(0);
        sum.update(&body);
        unit[..12].copy_from_slice(&body);
        unit[12..HEADER_BYTES].copy_from_slice(&sum.finish().to_le_bytes());
        flash.write(self.at, &unit[..self.header_bytes() as usize])?;
        match self.generation(flash) {
            Some(read) if read == generation => Ok(()),
            _ => Err(FlashError::Failed),
        }
    }

    /// Clears the bank, whatever it seems to hold: what reads blank may be half erased.
    pub(super) fn erase(&self, flash: &mut dyn Flash) -> Result<(), FlashError> {
        (self.at..self.at + self.bytes).step_by(self.erase_bytes as usize).try_for_each(|at| flash.erase(at))
    }

    /// A bank without records.
    pub(super) fn empty(&self) -> Contents {
        Contents { places: [None; KEYS], tail: self.at + self.header_bytes(), sequence: 0, sound: true }
    }

    /// Finds the newest record of each key.
    pub(super) fn scan(&self, flash: &mut dyn Flash, generation: u32) -> Contents {
        let mut found = self.empty();
        while found.tail + HEAD_BYTES <= self.end() {
            match self.look(flash, generation, &found) {
                Look::Record(head) => {
                    if let Some(key) = head.key {
                        found.places[key.index()] =
                            Some(Place { at: found.tail + HEAD_BYTES, len: head.len });
                    }
                    found.sequence = head.sequence;
                    found.tail += head.record_bytes(self.unit);
                }
                Look::Blank if found.sound || mutated!(TornTail) => break,
                // Torn or worn: go on at the next place a record could start.
                Look::Blank | Look::Damage => {
                    found.sound = false;
                    found.tail += self.unit;
                }
            }
        }
        found.sound = found.sound && is_blank(flash, found.tail, self.end()) || mutated!(TornTail);
        found
    }

    /// Appends one record and reads it back; `contents` says where and learns of it.
    pub(super) fn append(
        &self,
        flash: &mut dyn Flash,
        generation: u32,
        contents: &mut Contents,
        key: Key,
        source: Source<'_>,
    ) -> Result<(), FlashError> {
        let head = Head::new(key, source.len(), contents.sequence.wrapping_add(1));
        let start = contents.tail;
        let end = start + head.record_bytes(self.unit);
        if end > self.end() {
            return Err(FlashError::Range);
        }
        let mut crc = head.crc(generation);
        source.pieces(flash, |piece| crc.update(piece))?;
        contents.sound = false;
        self.write_record(flash, start, head, crc.finish(), source)?;
        let written = Look::Record(head) == self.look(flash, generation, contents);
        if !written && !mutated!(RecordReadBack) {
            return Err(FlashError::Failed);
        }
        contents.places[key.index()] = Some(Place { at: start + HEAD_BYTES, len: head.len });
        contents.sequence = head.sequence;
        contents.tail = end;
        contents.sound = true;
        Ok(())
    }

    pub(super) fn end(&self) -> u32 {
        self.at + self.bytes
    }

    pub(super) fn header_bytes(&self) -> u32 {
        (HEADER_BYTES as u32).next_multiple_of(self.unit)
    }

    fn look(&self, flash: &mut dyn Flash, generation: u32, found: &Contents) -> Look {
        let mut bytes = [0; HEAD_BYTES as usize];
        if flash.read(found.tail, &mut bytes).is_err() {
            return Look::Damage;
        }
        if bytes == [0xff; HEAD_BYTES as usize] {
            return Look::Blank;
        }
        let Some((head, claimed)) = Head::parse(bytes) else { return Look::Damage };
        let fits = found.tail + head.record_bytes(self.unit) <= self.end();
        if !fits || head.sequence <= found.sequence {
            return Look::Damage;
        }
        let mut crc = head.crc(generation);
        let payload = Source::Flash(Place { at: found.tail + HEAD_BYTES, len: head.len });
        let read = payload.pieces(flash, |piece| crc.update(piece));
        let intact = read.is_ok() && crc.finish() == claimed;
        if intact || mutated!(RecordCrc) { Look::Record(head) } else { Look::Damage }
    }

    fn write_record(
        &self,
        flash: &mut dyn Flash,
        start: u32,
        head: Head,
        crc: u32,
        source: Source<'_>,
    ) -> Result<(), FlashError> {
        let mut piece = [0xff; PIECE_BYTES];
        piece[..8].copy_from_slice(&head.bytes());
        piece[8..HEAD_BYTES as usize].copy_from_slice(&crc.to_le_bytes());
        let (mut filled, mut taken, mut at) = (HEAD_BYTES as usize, 0, start);
        loop {
            let count = (PIECE_BYTES - filled).min(usize::from(head.len) - taken);
            source.copy(flash, taken, &mut piece[filled..filled + count])?;
            taken += count;
            let bytes = (filled + count).next_multiple_of(self.unit as usize);
            piece[filled + count..bytes].fill(0xff);
            flash.write(at, &piece[..bytes])?;
            at += bytes as u32;
            filled = 0;
            if taken == usize::from(head.len) {
                return Ok(());
            }
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Look {
    Record(Head),
    Blank,
    Damage,
}

impl Source<'_> {
    pub(super) fn len(&self) -> u16 {
        match self {
            // Keys bound every payload far below 64 KiB.
            Source::Memory(bytes) => bytes.len() as u16,
            Source::Flash(place) => place.len,
        }
    }

    /// Copies payload bytes from `offset` on.
    fn copy(&self, flash: &mut dyn Flash, offset: usize, into: &mut [u8]) -> Result<(), FlashError> {
        match self {
            Source::Memory(bytes) => {
                let piece = bytes.get(offset..offset + into.len()).ok_or(FlashError::Range)?;
                into.copy_from_slice(piece);
                Ok(())
            }
            Source::Flash(place) => flash.read(place.at + offset as u32, into),
        }
    }

    fn pieces(&self, flash: &mut dyn Flash, mut each: impl FnMut(&[u8])) -> Result<(), FlashError> {
        let mut buffer = [0; PIECE_BYTES];
        let len = usize::from(self.len());
        for offset in (0..len).step_by(PIECE_BYTES) {
            let piece = &mut buffer[..(len - offset).min(PIECE_BYTES)];
            self.copy(flash, offset, piece)?;
            each(piece);
        }
        Ok(())
    }
}

fn is_blank(flash: &mut dyn Flash, mut at: u32, end: u32) -> bool {
    let mut buffer = [0; PIECE_BYTES];
    while at < end {
        let piece = &mut buffer[..((end - at) as usize).min(PIECE_BYTES)];
        if flash.read(at, piece).is_err() || piece != &[0xff; PIECE_BYTES][..piece.len()] {
            return false;
        }
        at += piece.len() as u32;
    }
    true
}
