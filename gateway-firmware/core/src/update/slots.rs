//! Where everything lies in the store flash, and the only writes to slots.
//!
//! ```text
//! | bank 0 | bank 1 | envelope 0 | area 0 | envelope 1 | area 1 |
//! ```
//!
//! Banks are the journal's (`store`). An envelope part holds the slot's SUIT envelope, 8 KiB; an area is what an image
//! fills: whole blocks of 16 KiB, both slots alike, as large as the flash allows. Everything starts on an erase unit,
//! an erase unit is never larger than a block. Writing takes a [`Spare`]: the confirmed slot cannot be named.

use wire::limits::{BLOCK_BYTES, ENVELOPE_BYTES_MAX};
use wire::{Digest, key::Hasher};

use super::ledger::Spare;
use crate::boot::first::SlotLayout;
use crate::mutation::mutated;
use crate::ports::{Flash, FlashError, Geometry};
use crate::store::{Store, WRITE_BYTES_MAX};

/// One block.
pub const BLOCK: u32 = BLOCK_BYTES as u32;
/// SHA-256 of a block that reads as erased.
const BLANK_BLOCK_DIGEST: Digest = Digest([
    0x0f, 0xbb, 0xa0, 0x7a, 0x83, 0x3d, 0x4d, 0xcf, 0xc7, 0x02, 0x4e, 0xaf, 0x31, 0x36, 0x61, 0xa0, 0xba,
    0x8f, 0x80, 0xa0, 0x5c, 0x6d, 0x29, 0xb8, 0x80, 0x1c, 0x61, 0x2e, 0x10, 0xe6, 0x0d, 0xee,
]);
/// Bytes handled at once on the stack.
const PIECE_BYTES: usize = 512;

/// The flash cannot hold a store and two slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LayoutError {
    /// The erase unit is not a power of two up to a block.
    EraseBytes,
    /// The write unit is not a power of two up to 256.
    WriteBytes,
    /// There is no room for one block in each slot.
    TooSmall,
}

/// Offsets of one slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    pub envelope_at: u32,
    pub area_at: u32,
}

/// Offsets in the store flash, computed from its geometry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    pub store_at: u32,
    pub slots: [Place; 2],
    /// Bytes of each slot's area.
    pub area_bytes: u32,
    erase_bytes: u32,
    write_bytes: u32,
}

impl Layout {
    pub fn new(geometry: Geometry) -> Result<Layout, LayoutError> {
        let Geometry { bytes, erase_bytes, write_bytes, .. } = geometry;
        if !erase_bytes.is_power_of_two() || erase_bytes > BLOCK {
            return Err(LayoutError::EraseBytes);
        }
        if !write_bytes.is_power_of_two() || write_bytes > WRITE_BYTES_MAX.min(erase_bytes) {
            return Err(LayoutError::WriteBytes);
        }
        let envelope_bytes = (ENVELOPE_BYTES_MAX as u32).next_multiple_of(erase_bytes);
        let store_bytes = Store::region_bytes(erase_bytes);
        let slot_bytes = bytes.checked_sub(store_bytes).ok_or(LayoutError::TooSmall)? / 2;
        let area_bytes = slot_bytes.checked_sub(envelope_bytes).ok_or(LayoutError::TooSmall)? / BLOCK * BLOCK;
        if area_bytes == 0 {
            return Err(LayoutError::TooSmall);
        }
        let place = |index| {
            let envelope_at = store_bytes + index * (envelope_bytes + area_bytes);
            Place { envelope_at, area_at: envelope_at + envelope_bytes }
        };
        Ok(Layout { store_at: 0, slots: [place(0), place(1)], area_bytes, erase_bytes, write_bytes })
    }

    /// Where the microvisor's parts lie in a flash of its two slots, which follow each other.
    pub(crate) fn of_microvisor(geometry: Geometry, slot: &SlotLayout) -> Layout {
        let Geometry { bytes, erase_bytes, write_bytes, .. } = geometry;
        let place = |index| {
            let start = bytes / 2 * index;
            Place { envelope_at: start + slot.envelope_at, area_at: start + slot.image_at }
        };
        let slots = [place(0), place(1)];
        Layout { store_at: 0, slots, area_bytes: slot.image_bytes, erase_bytes, write_bytes }
    }

    /// Where the keyset of a microvisor's slot starts.
    pub(crate) fn keyset_at(&self, slot: usize, parts: &SlotLayout) -> u32 {
        self.slots[slot].envelope_at - parts.envelope_at + parts.keyset_at
    }

    /// Erases what is before the spare slot's envelope and writes a keyset there, to be read back by the caller.
    pub(crate) fn write_keyset(
        &self,
        flash: &mut dyn Flash,
        spare: &Spare,
        at: u32,
        keyset: &[u8],
    ) -> Result<(), FlashError> {
        self.erase(flash, at, self.slots[spare.slot()].envelope_at - at)?;
        self.write(flash, at, keyset)
    }

    /// Erases the spare slot's envelope part and writes an envelope there, to be read back by the caller.
    pub(crate) fn write_envelope(
        &self,
        flash: &mut dyn Flash,
        spare: &Spare,
        envelope: &[u8],
    ) -> Result<(), FlashError> {
        let at = self.slots[spare.slot()].envelope_at;
        self.erase(flash, at, ENVELOPE_BYTES_MAX as u32)?;
        self.write(flash, at, envelope)
    }

    /// Erases one block of the spare slot.
    pub(crate) fn erase_block(
        &self,
        flash: &mut dyn Flash,
        spare: &Spare,
        block: u32,
    ) -> Result<(), FlashError> {
        self.erase(flash, self.block_at(spare.slot(), block), BLOCK)
    }

    /// Erases one block of the spare slot and writes its bytes; the rest of the block stays blank.
    pub(crate) fn write_block(
        &self,
        flash: &mut dyn Flash,
        spare: &Spare,
        block: u32,
        bytes: &[u8],
    ) -> Result<(), FlashError> {
        if !mutated!(BlockErase) {
            self.erase_block(flash, spare, block)?;
        }
        self.write(flash, self.block_at(spare.slot(), block), bytes)
    }

    /// Erases one block of the spare slot and copies a block of flash there.
    pub(crate) fn copy_block(
        &self,
        flash: &mut dyn Flash,
        spare: &Spare,
        block: u32,
        from: u32,
    ) -> Result<(), FlashError> {
        self.erase_block(flash, spare, block)?;
        let to = self.block_at(spare.slot(), block);
        let mut piece = [0; PIECE_BYTES];
        for offset in (0..BLOCK).step_by(PIECE_BYTES) {
            flash.read(from + offset, &mut piece)?;
            flash.write(to + offset, &piece)?;
        }
        Ok(())
    }

    /// Where a block of a slot starts.
    pub(crate) fn block_at(&self, slot: usize, block: u32) -> u32 {
        self.slots[slot].area_at + block * BLOCK
    }

    fn erase(&self, flash: &mut dyn Flash, at: u32, bytes: u32) -> Result<(), FlashError> {
        (at..at + bytes).step_by(self.erase_bytes as usize).try_for_each(|unit| flash.erase(unit))
    }

    /// Writes bytes from an aligned offset on, the last unit padded as blank.
    fn write(&self, flash: &mut dyn Flash, at: u32, bytes: &[u8]) -> Result<(), FlashError> {
        let whole = bytes.len() / self.write_bytes as usize * self.write_bytes as usize;
        let (head, tail) = bytes.split_at(whole);
        if !head.is_empty() {
            flash.write(at, head)?;
        }
        if tail.is_empty() {
            return Ok(());
        }
        let mut unit = [0xff; WRITE_BYTES_MAX as usize];
        unit[..tail.len()].copy_from_slice(tail);
        flash.write(at + whole as u32, &unit[..self.write_bytes as usize])
    }
}

/// Hashes bytes of flash.
pub(crate) fn hash(
    flash: &mut dyn Flash,
    hasher: &mut Hasher,
    at: u32,
    bytes: u32,
) -> Result<(), FlashError> {
    let mut piece = [0; PIECE_BYTES];
    for offset in (0..bytes).step_by(PIECE_BYTES) {
        let piece = &mut piece[..((bytes - offset) as usize).min(PIECE_BYTES)];
        flash.read(at + offset, piece)?;
        hasher.update(piece);
    }
    Ok(())
}

/// The digest of one whole block of flash. Where a download goes, blocks are blank more often than not: reading tells that
/// in a tenth of the time that hashing takes.
pub(crate) fn block_digest(flash: &mut dyn Flash, at: u32) -> Result<Digest, FlashError> {
    if is_blank(flash, at) {
        return Ok(BLANK_BLOCK_DIGEST);
    }
    let mut hasher = Hasher::new();
    hash(flash, &mut hasher, at, BLOCK)?;
    Ok(hasher.finish())
}

/// Whether one whole block of flash reads as erased.
pub(crate) fn is_blank(flash: &mut dyn Flash, at: u32) -> bool {
    let mut piece = [0; PIECE_BYTES];
    (0..BLOCK)
        .step_by(PIECE_BYTES)
        .all(|offset| flash.read(at + offset, &mut piece).is_ok() && piece == [0xff; PIECE_BYTES])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_of_a_blank_block_is_that_of_its_bytes() {
        let mut hasher = Hasher::new();
        hasher.update(&[0xff; BLOCK as usize]);
        assert_eq!(hasher.finish(), BLANK_BLOCK_DIGEST);
    }

    fn geometry(bytes: u32, erase_bytes: u32, write_bytes: u32) -> Geometry {
        Geometry { bytes, erase_bytes, write_bytes, write_once: true }
    }

    #[test]
    fn the_parts_follow_each_other_and_fill_the_flash() {
        for erase_bytes in [256, 4096, 8192, BLOCK] {
            let bytes = 1 << 20;
            let layout = Layout::new(geometry(bytes, erase_bytes, 16)).unwrap();
            let [a, b] = layout.slots;
            assert_eq!(layout.store_at, 0);
            assert_eq!(a.envelope_at, Store::region_bytes(erase_bytes));
            assert_eq!(b.envelope_at, a.area_at + layout.area_bytes);
            let end = b.area_at + layout.area_bytes;
            assert!(end <= bytes && bytes - end < 2 * BLOCK);
            for at in [a.envelope_at, a.area_at, b.envelope_at, b.area_at] {
                assert_eq!(at % erase_bytes, 0);
            }
            assert!(a.area_at - a.envelope_at >= ENVELOPE_BYTES_MAX as u32);
        }
    }

    #[test]
    fn a_flash_that_cannot_do_is_refused_and_its_edge_is_taken() {
        let least = Store::region_bytes(4096) + 2 * (ENVELOPE_BYTES_MAX as u32 + BLOCK);
        assert_eq!(Layout::new(geometry(least, 4096, 1)).unwrap().area_bytes, BLOCK);
        assert_eq!(Layout::new(geometry(least - 1, 4096, 1)), Err(LayoutError::TooSmall));
        assert_eq!(Layout::new(geometry(0, 4096, 1)), Err(LayoutError::TooSmall));
        assert_eq!(Layout::new(geometry(least, 4095, 1)), Err(LayoutError::EraseBytes));
        assert_eq!(Layout::new(geometry(least, 2 * BLOCK, 1)), Err(LayoutError::EraseBytes));
        assert_eq!(Layout::new(geometry(least, 4096, 512)), Err(LayoutError::WriteBytes));
        assert_eq!(Layout::new(geometry(least, 4096, 3)), Err(LayoutError::WriteBytes));
        assert_eq!(Layout::new(geometry(least, 4096, 0)), Err(LayoutError::WriteBytes));
    }
}
