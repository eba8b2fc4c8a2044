//! The store flash as one file, with a flash's manners: what was not erased cannot be written, and only whole units.
//!
//! Bytes lie inverted in the file, so that a hole, and everything behind its end, reads as erased flash: a fresh device
//! costs no disk. Nothing is synced: what power loss does to a real part is tested in the core; here the process may
//! die at any moment and the page cache stays.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use gateway_core::ports::{Flash, FlashError, Geometry};

const CHUNK_BYTES: usize = 4096;

/// One device's flash.
#[derive(Debug)]
pub(crate) struct FileFlash {
    file: File,
    geometry: Geometry,
    /// Nothing behind this was ever written.
    written_to: u64,
}

impl FileFlash {
    pub(crate) fn open(path: &Path, geometry: Geometry) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        let written_to = file.metadata()?.len();
        Ok(Self { file, geometry, written_to })
    }

    fn check(&self, at: u32, bytes: usize, unit: u32) -> Result<(), FlashError> {
        let end = u64::from(at) + bytes as u64;
        let aligned = at.is_multiple_of(unit) && (bytes as u64).is_multiple_of(u64::from(unit));
        if aligned && end <= u64::from(self.geometry.bytes) { Ok(()) } else { Err(FlashError::Range) }
    }

    /// Reads the file's own (inverted) bytes; what lies behind its end is zero.
    fn read_inverted(&self, at: u64, into: &mut [u8]) -> Result<(), FlashError> {
        let there = self.written_to.saturating_sub(at).min(into.len() as u64) as usize;
        self.file.read_exact_at(&mut into[..there], at).map_err(|_| FlashError::Failed)?;
        into[there..].fill(0);
        Ok(())
    }
}

impl Flash for FileFlash {
    fn geometry(&self) -> Geometry {
        self.geometry
    }

    fn read(&mut self, at: u32, into: &mut [u8]) -> Result<(), FlashError> {
        self.check(at, into.len(), 1)?;
        self.read_inverted(u64::from(at), into)?;
        into.iter_mut().for_each(|byte| *byte = !*byte);
        Ok(())
    }

    fn write(&mut self, at: u32, bytes: &[u8]) -> Result<(), FlashError> {
        self.check(at, bytes.len(), self.geometry.write_bytes)?;
        let mut buffer = [0; CHUNK_BYTES];
        let mut at = u64::from(at);
        for chunk in bytes.chunks(CHUNK_BYTES) {
            let buffer = &mut buffer[..chunk.len()];
            if at < self.written_to {
                self.read_inverted(at, buffer)?;
                if buffer.iter().any(|byte| *byte != 0) {
                    return Err(FlashError::NotBlank);
                }
            }
            buffer.iter_mut().zip(chunk).for_each(|(inverted, byte)| *inverted = !byte);
            self.file.write_all_at(buffer, at).map_err(|_| FlashError::Failed)?;
            at += chunk.len() as u64;
            self.written_to = self.written_to.max(at);
        }
        Ok(())
    }

    fn erase(&mut self, at: u32) -> Result<(), FlashError> {
        let unit = self.geometry.erase_bytes;
        self.check(at, unit as usize, unit)?;
        let start = u64::from(at);
        let end = (start + u64::from(unit)).min(self.written_to);
        let zeros = [0; CHUNK_BYTES];
        let mut at = start;
        while at < end {
            let count = (end - at).min(CHUNK_BYTES as u64);
            self.file.write_all_at(&zeros[..count as usize], at).map_err(|_| FlashError::Failed)?;
            at += count;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flash(directory: &Path) -> FileFlash {
        let geometry = Geometry { bytes: 64 * 1024, erase_bytes: 8192, write_bytes: 16, write_once: true };
        FileFlash::open(&directory.join("flash"), geometry).unwrap()
    }

    #[test]
    fn what_was_written_is_read_again_after_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        flash(directory.path()).write(16, &[7; 32]).unwrap();
        let mut bytes = [0; 64];
        flash(directory.path()).read(0, &mut bytes).unwrap();
        assert_eq!(
            (&bytes[..16], &bytes[16..48], &bytes[48..]),
            (&[0xff; 16][..], &[7; 32][..], &[0xff; 16][..])
        );
    }

    #[test]
    fn only_erased_units_are_written() {
        let directory = tempfile::tempdir().unwrap();
        let mut flash = flash(directory.path());
        flash.write(8192, &[0; 16]).unwrap();
        assert_eq!(flash.write(8192, &[0; 16]), Err(FlashError::NotBlank));
        flash.erase(8192).unwrap();
        flash.write(8192, &[1; 16]).unwrap();
        assert_eq!(flash.write(1, &[0; 16]), Err(FlashError::Range));
        assert_eq!(flash.write(0, &[0; 15]), Err(FlashError::Range));
        assert_eq!(flash.write(64 * 1024, &[0; 16]), Err(FlashError::Range));
        assert_eq!(flash.erase(16), Err(FlashError::Range));
    }
}
