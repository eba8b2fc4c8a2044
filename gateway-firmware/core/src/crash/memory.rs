//! The application's memory as one crash left it, in a flash region of its own, until the service has all of it.
//!
//! The region: two erase units with a record of its life (`pair`), one with the head of what is kept, then the bytes. What is kept counts
//! only if the record names it, its head names the same and checks, and its bytes check: the record is written first, the head last.
//!
//! Always holds: one is kept at a time, and what comes while it is not wholly stored is counted as missed; nothing is read but the
//! application's own memory, through the board's probe. The region is written at the first crash of a boot, when another version crashes than
//! the one kept last, and otherwise once every [`CRASH_KEEP_MS`], and never more than [`CRASH_MEMORIES_MAX`] times in all, which the record
//! counts before anything is erased; a record that was lost leaves a few hundred.

use heapless::Vec;
use wire::Digest;
use wire::limits::{CRASH_MEMORY_BYTES_MAX, CRASH_MEMORY_PIECES_MAX};

use super::Name;
use super::pieces::{Piece, pieces};
use super::reports::CRASH_KEEP_MS;
use crate::crc::Crc;
use crate::device::BootId;
use crate::mutation::mutated;
use crate::pair::{Health, Pair, Payload};
use crate::ports::{Flash, FlashError, Probe};

/// Times the region is written in a board's life: each erases every unit of it once at most, and a unit bears 5,000.
pub const CRASH_MEMORIES_MAX: u32 = 4_500;
/// Bytes that are copied, or checked, in one turn, at most.
pub const CRASH_MEMORY_STEP_BYTES: u32 = 4096;

/// Times that are left to a region whose record was lost: with those before it bears what a unit does.
const SPARE: u32 = 500;

const RECORD: Pair = Pair { at: 0, kind: *b"HFM1" };
/// Bytes at once, on the stack.
const PIECE_BYTES: usize = 256;
const HEAD_VERSION: u8 = 1;
/// Bytes of the head: a multiple of every write unit.
const HEAD_BYTES: usize = 64;
/// Those that its checksum is of.
const HEAD_CHECKED_BYTES: usize = HEAD_BYTES - 4;

/// Bytes of the region on a flash with this erase unit.
pub const fn region_bytes(erase_bytes: u32) -> u32 {
    data_at(erase_bytes) + CRASH_MEMORY_BYTES_MAX.next_multiple_of(erase_bytes)
}

const fn head_at(erase_bytes: u32) -> u32 {
    2 * erase_bytes
}

const fn data_at(erase_bytes: u32) -> u32 {
    3 * erase_bytes
}

/// What is kept, or is about to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Of the report it belongs to.
    pub name: Name,
    pub pieces: Vec<Piece, CRASH_MEMORY_PIECES_MAX>,
}

impl Kept {
    /// Bytes of all pieces.
    pub fn total(&self) -> u32 {
        self.pieces.iter().map(|piece| piece.bytes).fold(0, u32::saturating_add)
    }
}

#[derive(Debug, Clone, Default)]
enum State {
    /// The board has no region, or one that cannot be used in this boot.
    #[default]
    Unusable,
    /// Nothing is kept.
    Free,
    /// To be copied; the region still says what it said.
    Due(Kept),
    Copying {
        kept: Kept,
        at: u32,
        crc: Crc,
    },
    /// Found at boot; whether the bytes are what the head says is being looked at.
    Checking {
        kept: Kept,
        at: u32,
        crc: Crc,
        wanted: u32,
    },
    Held(Kept),
    /// The record names what is not there, or is nobody's any more.
    Stale,
}

/// The region's keeper.
#[derive(Debug, Default)]
pub struct CrashMemory {
    state: State,
    /// Times the region was written.
    count: u32,
    /// Of this boot, and what an earlier one began and power ended.
    missed: u32,
    /// What ran when it was last written in this boot.
    last: Option<Digest>,
    /// From when on the same may have it written again.
    from_ms: u64,
}

impl CrashMemory {
    /// Takes up what the region holds from an earlier boot.
    #[inline(never)]
    pub(crate) fn restore(&mut self, flash: &mut dyn Flash) {
        *self = Self::default();
        let geometry = flash.geometry();
        if geometry.bytes < region_bytes(geometry.erase_bytes) {
            return;
        }
        let found = RECORD.read(flash);
        let (count, name) = match (found.payload, found.health) {
            (Some(payload), _) => read_record(&payload),
            (None, Health::Blank) => (0, None),
            // How often it was written is not known. Power lost the very first entry, or cells have worn out.
            (None, _) => (CRASH_MEMORIES_MAX - SPARE, None),
        };
        self.count = count;
        self.state = match name.map(|name| (name, read_head(flash))) {
            None => State::Free,
            Some((name, Some((kept, wanted)))) if kept.name == name => {
                State::Checking { kept, at: 0, crc: Crc::new(0), wanted }
            }
            Some(_) => State::Stale,
        };
        self.missed += u32::from(matches!(self.state, State::Stale));
    }

    /// A report of that name was made, of an application whose manifest says that so many bytes are kept.
    pub(crate) fn begin(
        &mut self,
        now_ms: u64,
        name: Name,
        manifest: Digest,
        bytes: u32,
        sp: Option<u32>,
        probe: &dyn Probe,
    ) {
        if bytes == 0 {
            return;
        }
        let pieces = pieces(probe.regions(), sp, bytes.min(CRASH_MEMORY_BYTES_MAX));
        let in_time = self.last != Some(manifest) || now_ms >= self.from_ms;
        let borne = self.count < CRASH_MEMORIES_MAX;
        let bearable = in_time && borne || mutated!(CrashMemoryWear);
        if !matches!(self.state, State::Free) || !bearable || pieces.is_empty() {
            return self.miss();
        }
        (self.last, self.from_ms) = (Some(manifest), now_ms.saturating_add(CRASH_KEEP_MS));
        self.state = State::Due(Kept { name, pieces });
    }

    /// Some memory that was to be kept is not.
    pub(crate) fn miss(&mut self) {
        self.missed = self.missed.saturating_add(1);
    }

    /// The application is started: what was not copied is gone.
    pub(crate) fn interrupt(&mut self) {
        if let State::Due(_) | State::Copying { .. } = self.state {
            let begun = !matches!(self.state, State::Due(_));
            self.state = if begun { State::Stale } else { State::Free };
            self.miss();
        }
    }

    /// Nobody is left who would take it. At once, and not with the next step: whoever the device is after a power cut must not send it.
    pub(crate) fn forget(&mut self, flash: &mut dyn Flash) {
        self.state = match core::mem::take(&mut self.state) {
            State::Unusable => State::Unusable,
            State::Free | State::Due(_) => State::Free,
            _ => self.cleared(flash),
        };
    }

    /// Nothing is kept, and the record says so.
    fn cleared(&self, flash: &mut dyn Flash) -> State {
        let cleared = RECORD.put(flash, &record(self.count, None));
        if cleared.is_ok() { State::Free } else { State::Unusable }
    }

    /// Whether the application's memory is still needed as it is.
    pub(crate) fn is_copying(&self) -> bool {
        matches!(self.state, State::Due(_) | State::Copying { .. })
    }

    /// Does one step; whether there is another.
    #[inline(never)]
    pub(crate) fn poll(&mut self, flash: &mut dyn Flash, probe: &mut dyn Probe) -> bool {
        match core::mem::take(&mut self.state) {
            idle @ (State::Unusable | State::Free | State::Held(_)) => {
                self.state = idle;
                return false;
            }
            State::Due(kept) => self.state = self.started(flash, kept),
            State::Copying { kept, at, crc } => self.state = self.copied(flash, probe, kept, at, crc),
            State::Checking { kept, at, crc, wanted } => {
                self.state = self.checked(flash, kept, at, crc, wanted);
            }
            State::Stale => self.state = self.cleared(flash),
        }
        true
    }

    /// The record first: what is erased afterwards was counted.
    fn started(&mut self, flash: &mut dyn Flash, kept: Kept) -> State {
        let count = self.count + 1;
        if RECORD.put(flash, &record(count, Some(kept.name))).is_err() {
            self.miss();
            return State::Unusable;
        }
        self.count = count;
        if flash.erase(head_at(flash.geometry().erase_bytes)).is_err() {
            self.miss();
            return State::Stale;
        }
        State::Copying { kept, at: 0, crc: Crc::new(0) }
    }

    fn copied(
        &mut self,
        flash: &mut dyn Flash,
        probe: &mut dyn Probe,
        kept: Kept,
        mut at: u32,
        mut crc: Crc,
    ) -> State {
        let total = kept.total();
        let copied = copy(flash, probe, &kept, &mut at, &mut crc);
        let written =
            copied.and_then(|()| if at < total { Ok(()) } else { write_head(flash, &kept, crc.finish()) });
        match written {
            Ok(()) if at < total => State::Copying { kept, at, crc },
            Ok(()) => State::Held(kept),
            Err(_) => {
                self.miss();
                State::Stale
            }
        }
    }

    fn checked(
        &mut self,
        flash: &mut dyn Flash,
        kept: Kept,
        mut at: u32,
        mut crc: Crc,
        wanted: u32,
    ) -> State {
        let end = kept.total().min(at.saturating_add(CRASH_MEMORY_STEP_BYTES));
        let data = data_at(flash.geometry().erase_bytes);
        let mut bytes = [0; PIECE_BYTES];
        while at < end {
            let bytes = &mut bytes[..PIECE_BYTES.min((end - at) as usize)];
            if flash.read(data + at, bytes).is_err() {
                self.miss();
                return State::Stale;
            }
            crc.update(bytes);
            at += bytes.len() as u32;
        }
        if at < kept.total() {
            State::Checking { kept, at, crc, wanted }
        } else if crc.finish() == wanted {
            State::Held(kept)
        } else {
            self.miss();
            State::Stale
        }
    }

    /// Bytes that are kept of the report of this name, or are about to be.
    pub fn bytes_of(&self, name: Name) -> u32 {
        match &self.state {
            State::Due(kept)
            | State::Copying { kept, .. }
            | State::Checking { kept, .. }
            | State::Held(kept)
                if kept.name == name =>
            {
                kept.total()
            }
            _ => 0,
        }
    }

    /// What is whole, and not yet wholly stored by the service.
    pub fn held(&self) -> Option<&Kept> {
        match &self.state {
            State::Held(kept) => Some(kept),
            _ => None,
        }
    }

    /// Some of what is held.
    pub(crate) fn read(&self, flash: &mut dyn Flash, at: u32, into: &mut [u8]) -> Result<(), FlashError> {
        let end = at.checked_add(into.len() as u32).ok_or(FlashError::Range)?;
        if self.held().is_none_or(|kept| end > kept.total()) {
            return Err(FlashError::Range);
        }
        flash.read(data_at(flash.geometry().erase_bytes) + at, into)
    }

    /// What is held cannot be read.
    pub(crate) fn spoil(&mut self) {
        if self.held().is_some() {
            self.state = State::Stale;
            self.miss();
        }
    }

    /// The service has so much of that one: with all of it, the region is free.
    pub(crate) fn acknowledge(
        &mut self,
        flash: &mut dyn Flash,
        name: Name,
        stored_up_to: u32,
    ) -> Result<bool, FlashError> {
        let all = self.held().is_some_and(|kept| kept.name == name && stored_up_to >= kept.total());
        if all {
            // What cannot be written is not used any more in this boot; the next one sends it again, and is told the same.
            self.state = State::Unusable;
            RECORD.put(flash, &record(self.count, None))?;
            self.state = State::Free;
        }
        Ok(all)
    }

    /// Reports of this boot so far of whose memory some was to be kept and was not.
    pub fn missed(&self) -> u32 {
        self.missed
    }
}

/// Copies one step and reads it back.
fn copy(
    flash: &mut dyn Flash,
    probe: &mut dyn Probe,
    kept: &Kept,
    at: &mut u32,
    crc: &mut Crc,
) -> Result<(), FlashError> {
    let geometry = flash.geometry();
    let data = data_at(geometry.erase_bytes);
    if at.is_multiple_of(geometry.erase_bytes) {
        flash.erase(data + *at)?;
    }
    let step = CRASH_MEMORY_STEP_BYTES.min(geometry.erase_bytes);
    let end = kept.total().min(*at + step);
    while *at < end {
        let count = PIECE_BYTES.min((end - *at) as usize);
        let (mut bytes, mut there) = ([0xff; PIECE_BYTES], [0; PIECE_BYTES]);
        gather(probe, &kept.pieces, *at, &mut bytes[..count]).ok_or(FlashError::Range)?;
        crc.update(&bytes[..count]);
        let padded = count.next_multiple_of(geometry.write_bytes as usize).min(PIECE_BYTES);
        flash.write(data + *at, &bytes[..padded])?;
        flash.read(data + *at, &mut there[..padded])?;
        if there[..padded] != bytes[..padded] {
            return Err(FlashError::Failed);
        }
        *at += count as u32;
    }
    Ok(())
}

/// Reads of the pieces what lies at this offset of them all.
fn gather(probe: &mut dyn Probe, pieces: &[Piece], mut offset: u32, mut into: &mut [u8]) -> Option<()> {
    for piece in pieces {
        if offset >= piece.bytes {
            offset -= piece.bytes;
            continue;
        }
        let count = into.len().min((piece.bytes - offset) as usize);
        let (now, rest) = into.split_at_mut(count);
        probe.read(piece.at + offset, now).ok()?;
        (into, offset) = (rest, 0);
        if into.is_empty() {
            break;
        }
    }
    into.is_empty().then_some(())
}

fn write_head(flash: &mut dyn Flash, kept: &Kept, data_crc: u32) -> Result<(), FlashError> {
    let (at, head) = (head_at(flash.geometry().erase_bytes), head(kept, data_crc));
    flash.write(at, &head)?;
    let mut there = [0; HEAD_BYTES];
    flash.read(at, &mut there)?;
    if there == head { Ok(()) } else { Err(FlashError::Failed) }
}

fn read_head(flash: &mut dyn Flash) -> Option<(Kept, u32)> {
    let mut bytes = [0; HEAD_BYTES];
    flash.read(head_at(flash.geometry().erase_bytes), &mut bytes).ok()?;
    decode_head(&bytes)
}

fn head(kept: &Kept, data_crc: u32) -> [u8; HEAD_BYTES] {
    let mut out = [0; HEAD_BYTES];
    let mut rest = &mut out[..];
    let mut put = |bytes: &[u8]| {
        let (place, left) = core::mem::take(&mut rest).split_at_mut(bytes.len());
        place.copy_from_slice(bytes);
        rest = left;
    };
    put(&[HEAD_VERSION, kept.pieces.len() as u8, 0, 0]);
    put(&kept.name.boot.counter.to_le_bytes());
    put(&kept.name.boot.random.to_le_bytes());
    put(&kept.name.sequence.to_le_bytes());
    for piece in &kept.pieces {
        put(&piece.at.to_le_bytes());
        put(&piece.bytes.to_le_bytes());
    }
    out[HEAD_CHECKED_BYTES - 4..HEAD_CHECKED_BYTES].copy_from_slice(&data_crc.to_le_bytes());
    let crc = head_crc(&out);
    out[HEAD_CHECKED_BYTES..].copy_from_slice(&crc.to_le_bytes());
    out
}

fn head_crc(head: &[u8; HEAD_BYTES]) -> u32 {
    let mut crc = Crc::new(u32::from(HEAD_VERSION));
    crc.update(&head[..HEAD_CHECKED_BYTES]);
    crc.finish()
}

/// What is kept, and the checksum of its bytes.
fn decode_head(head: &[u8; HEAD_BYTES]) -> Option<(Kept, u32)> {
    let words = head.as_chunks::<4>().0;
    let word = |index: usize| words.get(index).copied().map(u32::from_le_bytes);
    let [HEAD_VERSION, count, ..] = *head else { return None };
    if word(HEAD_CHECKED_BYTES / 4)? != head_crc(head) {
        return None;
    }
    let random = u64::from(word(2)?) | u64::from(word(3)?) << 32;
    let boot = BootId { counter: word(1)?, random };
    let mut pieces = Vec::new();
    for index in 0..usize::from(count) {
        let piece = Piece { at: word(5 + 2 * index)?, bytes: word(6 + 2 * index)? };
        pieces.push(piece).ok()?;
    }
    let kept = Kept { name: Name { boot, sequence: word(4)? }, pieces };
    (1..=CRASH_MEMORY_BYTES_MAX).contains(&kept.total()).then_some((kept, word(HEAD_CHECKED_BYTES / 4 - 1)?))
}

/// The record's bytes. Sequences count from 1: 0 stands for nothing. It lies where an aligned eight bytes cannot be all 0xFF.
fn record(count: u32, name: Option<Name>) -> Payload {
    let Name { boot, sequence } =
        name.unwrap_or(Name { boot: BootId { counter: 0, random: 0 }, sequence: 0 });
    let mut payload = [0; 20];
    payload[..4].copy_from_slice(&count.to_le_bytes());
    payload[4..8].copy_from_slice(&boot.counter.to_le_bytes());
    payload[8..12].copy_from_slice(&sequence.to_le_bytes());
    payload[12..].copy_from_slice(&boot.random.to_le_bytes());
    payload
}

fn read_record(payload: &Payload) -> (u32, Option<Name>) {
    let word = |index: usize| u32::from_le_bytes(core::array::from_fn(|n| payload[4 * index + n]));
    let random = u64::from(word(3)) | u64::from(word(4)) << 32;
    let name = Name { boot: BootId { counter: word(1), random }, sequence: word(2) };
    (word(0), Some(name).filter(|name| name.sequence > 0))
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use proptest::prelude::*;

    fn kept(pieces: &[(u32, u32)]) -> Kept {
        let name = Name { boot: BootId { counter: 7, random: u64::MAX - 5 }, sequence: 3 };
        Kept { name, pieces: pieces.iter().map(|(at, bytes)| Piece { at: *at, bytes: *bytes }).collect() }
    }

    #[test]
    fn a_head_and_a_record_come_back() {
        for pieces in
            [&[(8, 16)][..], &[(0x2820_0000, 4096), (0xffff_fff8, 8), (16, CRASH_MEMORY_BYTES_MAX - 4104)]]
        {
            assert_eq!(decode_head(&head(&kept(pieces), 0xdead_beef)), Some((kept(pieces), 0xdead_beef)));
        }
        let name = kept(&[]).name;
        assert_eq!(read_record(&record(4_500, Some(name))), (4_500, Some(name)));
        assert_eq!(read_record(&record(1, None)), (1, None));
    }

    #[test]
    fn a_head_of_nothing_of_too_much_or_with_a_bit_turned_is_none() {
        for pieces in
            [&[][..], &[(0, 0)], &[(0, CRASH_MEMORY_BYTES_MAX), (0, 1)], &[(0, u32::MAX), (0, u32::MAX)]]
        {
            assert_eq!(decode_head(&head(&kept(pieces), 1)), None, "{pieces:?}");
        }
        let good = head(&kept(&[(8, 16)]), 1);
        for bit in 0..8 * HEAD_BYTES {
            let mut turned = good;
            turned[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode_head(&turned), None, "bit {bit}");
        }
        assert_eq!(decode_head(&[0xff; HEAD_BYTES]), None);
    }

    proptest! {
        #[test]
        fn decoding_a_head_never_panics(bytes in proptest::array::uniform32(any::<u8>()), count in any::<u8>()) {
            let mut whole = [0; HEAD_BYTES];
            whole[..32].copy_from_slice(&bytes);
            (whole[0], whole[1]) = (HEAD_VERSION, count);
            let crc = head_crc(&whole);
            whole[HEAD_CHECKED_BYTES..].copy_from_slice(&crc.to_le_bytes());
            let _ = decode_head(&whole);
        }
    }
}
