//! The store flash as one file, with a flash's manners: what was not erased cannot be written, and only whole units.
//!
//! Bytes lie inverted in the file, so that a hole, and everything behind its end, reads as erased flash: a fresh device
//! costs no disk. Nothing is synced: what power loss does to a real part is tested in the core; here the process may
//! die at any moment and the page cache stays.
//!
//! The core reads in pieces a microcontroller's stack can hold; pieces in a row are served from one larger read, kept
//! once a thread and not once a device.

use std::cell::RefCell;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use gateway_core::ports::{Flash, FlashError, Geometry};

/// Bytes written at once: a block of a layer, in one call.
const CHUNK_BYTES: usize = 16 * 1024;
/// A longer read is no piece of one.
const PIECE_BYTES_MAX: usize = 4096;
/// Bytes read at once for pieces in a row.
const AHEAD_BYTES: usize = 16 * 1024;

static FLASHES: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static AHEAD: RefCell<Ahead> = const { RefCell::new(Ahead { of: (0, 0), start: 0, bytes: Vec::new() }) };
}

/// What was read ahead: of one flash, as it was before its next write.
struct Ahead {
    of: (u64, u64),
    start: u32,
    bytes: Vec<u8>,
}

/// One device's flash.
#[derive(Debug)]
pub(crate) struct FileFlash {
    file: File,
    geometry: Geometry,
    /// Nothing behind this was ever written.
    written_to: u64,
    /// Number of this flash in the process, and of its content: what was read ahead of other content is void.
    number: u64,
    content: u64,
    /// Where the last read ended.
    read_to: u32,
}

impl FileFlash {
    pub(crate) fn open(path: &Path, geometry: Geometry) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        let written_to = file.metadata()?.len();
        let number = FLASHES.fetch_add(1, Ordering::Relaxed) + 1;
        Ok(Self { file, geometry, written_to, number, content: 0, read_to: u32::MAX })
    }

    fn check(&self, at: u32, bytes: usize, unit: u32) -> Result<(), FlashError> {
        let end = u64::from(at) + bytes as u64;
        let aligned = at.is_multiple_of(unit) && (bytes as u64).is_multiple_of(u64::from(unit));
        if aligned && end <= u64::from(self.geometry.bytes) { Ok(()) } else { Err(FlashError::Range) }
    }

    /// Reads the file's own (inverted) bytes; returns how many there are, the rest is erased.
    fn read_inverted(&self, at: u64, into: &mut [u8]) -> Result<usize, FlashError> {
        let there = self.written_to.saturating_sub(at).min(into.len() as u64) as usize;
        self.file.read_exact_at(&mut into[..there], at).map_err(|_| FlashError::Failed)?;
        Ok(there)
    }

    fn read_plain(&self, at: u32, into: &mut [u8]) -> Result<(), FlashError> {
        let there = self.read_inverted(u64::from(at), into)?;
        into[..there].iter_mut().for_each(|byte| *byte = !*byte);
        into[there..].fill(0xff);
        Ok(())
    }

    fn read_ahead(&self, ahead: &mut Ahead, at: u32, into: &mut [u8]) -> Result<(), FlashError> {
        let of = (self.number, self.content);
        let held = |ahead: &Ahead| {
            let from = at.checked_sub(ahead.start)? as usize;
            (ahead.of == of).then_some(from..from + into.len()).filter(|range| range.end <= ahead.bytes.len())
        };
        if held(ahead).is_none() {
            ahead.of = (0, 0);
            ahead.bytes.resize(AHEAD_BYTES.min((self.geometry.bytes - at) as usize), 0);
            self.read_plain(at, &mut ahead.bytes)?;
            (ahead.of, ahead.start) = (of, at);
        }
        let range = held(ahead).ok_or(FlashError::Range)?;
        into.copy_from_slice(&ahead.bytes[range]);
        Ok(())
    }
}

impl Flash for FileFlash {
    fn geometry(&self) -> Geometry {
        self.geometry
    }

    fn read(&mut self, at: u32, into: &mut [u8]) -> Result<(), FlashError> {
        self.check(at, into.len(), 1)?;
        let is_next = self.read_to == at && into.len() <= PIECE_BYTES_MAX;
        self.read_to = at + into.len() as u32;
        if is_next {
            AHEAD.with_borrow_mut(|ahead| self.read_ahead(ahead, at, into))
        } else {
            self.read_plain(at, into)
        }
    }

    fn write(&mut self, at: u32, bytes: &[u8]) -> Result<(), FlashError> {
        self.check(at, bytes.len(), self.geometry.write_bytes)?;
        self.content += 1;
        let mut buffer = [0; CHUNK_BYTES];
        let mut at = u64::from(at);
        for chunk in bytes.chunks(CHUNK_BYTES) {
            let buffer = &mut buffer[..chunk.len()];
            if at < self.written_to {
                let there = self.read_inverted(at, buffer)?;
                if buffer[..there].iter().any(|byte| *byte != 0) {
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
        self.content += 1;
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
    fn pieces_in_a_row_read_what_is_there_now_and_of_the_right_flash() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (mut one, mut two) = (flash(one.path()), flash(two.path()));
        one.write(0, &[1; 4096]).unwrap();
        two.write(0, &[2; 4096]).unwrap();
        let mut piece = [0; 512];
        for round in 0..2 {
            for (flash, byte) in [(&mut one, 1), (&mut two, 2)] {
                for at in (0..8192).step_by(512) {
                    flash.read(at, &mut piece).unwrap();
                    let expected = if at < 4096 && (round == 0 || at < 2048) { byte } else { 0xff };
                    assert_eq!(piece, [expected; 512], "{byte} at {at}");
                    if round == 0 && at == 1024 {
                        flash.erase(16 * 1024).unwrap();
                    }
                }
            }
            if round == 0 {
                for (flash, byte) in [(&mut one, 1), (&mut two, 2)] {
                    flash.erase(0).unwrap();
                    flash.write(0, &[byte; 2048]).unwrap();
                }
            }
        }
        one.read(64 * 1024 - 1024, &mut piece).unwrap();
        one.read(64 * 1024 - 512, &mut piece).unwrap();
        assert_eq!(one.read(64 * 1024, &mut piece), Err(FlashError::Range));
    }

    #[test]
    fn a_full_disk_is_a_failed_write_and_no_more() {
        let geometry = Geometry { bytes: 64 * 1024, erase_bytes: 4096, write_bytes: 1, write_once: false };
        let mut flash = FileFlash::open(Path::new("/dev/full"), geometry).unwrap();
        assert_eq!(flash.write(0, &[1; 16]), Err(FlashError::Failed));
        let mut bytes = [0; 16];
        flash.read(0, &mut bytes).unwrap();
        assert_eq!(bytes, [0xff; 16]);
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
