//! A flash in memory, in windows, for the core's own code to read and write.

use chip::map::flash;
use gateway_core::boot::first::{Machine, SlotLayout};
use gateway_core::ports::{Flash, FlashError, Geometry};

/// The board's name in manifests.
pub const BOARD: &str = "an505";

/// Where a slot's parts are.
pub const LAYOUT: SlotLayout = SlotLayout {
    keyset_at: flash::SLOT_KEYSET,
    envelope_at: flash::SLOT_ENVELOPE,
    image_at: flash::SLOT_IMAGE,
    image_bytes: chip::map::secure::MICROVISOR_BYTES,
};

/// What an image must fit.
pub fn machine() -> Machine<'static> {
    use chip::map::secure::{MICROVISOR_AT, RAM_AT, RAM_BYTES};
    Machine { board: BOARD, code_at: MICROVISOR_AT, stack: RAM_AT..=RAM_AT + RAM_BYTES }
}

/// A region of a flash file, by itself.
#[derive(Debug)]
pub struct Region<'a>(&'a mut [u8]);

impl<'a> Region<'a> {
    /// So many bytes from an offset; nothing if the file is shorter.
    pub fn new(file: &'a mut [u8], at: u32, bytes: u32) -> Option<Region<'a>> {
        file.get_mut(at as usize..(at + bytes) as usize).map(Region)
    }

    fn part(&mut self, at: u32, bytes: usize) -> Result<&mut [u8], FlashError> {
        self.0.get_mut(at as usize..at as usize + bytes).ok_or(FlashError::Range)
    }
}

impl Flash for Region<'_> {
    fn geometry(&self) -> Geometry {
        let bytes = self.0.len() as u32;
        Geometry { bytes, erase_bytes: flash::ERASE_BYTES, write_bytes: 1, write_once: false }
    }

    fn read(&mut self, at: u32, into: &mut [u8]) -> Result<(), FlashError> {
        into.copy_from_slice(self.part(at, into.len())?);
        Ok(())
    }

    fn write(&mut self, at: u32, bytes: &[u8]) -> Result<(), FlashError> {
        let cells = self.part(at, bytes.len())?;
        if cells.iter().zip(bytes).any(|(cell, byte)| cell & byte != *byte) {
            return Err(FlashError::NotBlank);
        }
        cells.copy_from_slice(bytes);
        Ok(())
    }

    fn erase(&mut self, at: u32) -> Result<(), FlashError> {
        if !at.is_multiple_of(flash::ERASE_BYTES) {
            return Err(FlashError::Range);
        }
        self.part(at, flash::ERASE_BYTES as usize)?.fill(0xff);
        Ok(())
    }
}
