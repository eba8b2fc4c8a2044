//! The program as its ELF file has it, in place of the device's memory.
//!
//! It answers only while the device says that it runs the very image this file makes, and only for segments that the program itself does
//! not write, from where they run. What a debugger writes there is forgotten here.

use anyhow::{Context as _, Result};
use object::Endianness;
use object::elf::{self, PF_W, PT_LOAD};
use object::read::elf::{FileHeader, ProgramHeader};
use wire::Digest;
use wire::limits::{AREA_BYTES_MAX, DEBUG_RANGES_MAX};
use wire::manifest::AreaHasher;

use crate::debug::rows::Rows;
use crate::image;

/// Pieces of a program.
const PIECES_MAX: usize = 1024;

pub(crate) struct Program {
    image: Vec<u8>,
    /// By address, without overlap.
    pieces: Vec<(u32, Vec<u8>)>,
    is_running: bool,
    rows: Option<Rows>,
}

impl std::fmt::Debug for Program {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let bytes: usize = self.pieces.iter().map(|(_, bytes)| bytes.len()).sum();
        write!(f, "Program({bytes} bytes, running: {})", self.is_running)
    }
}

impl Program {
    pub(crate) fn of(file: &[u8]) -> Result<Program> {
        let image = image::flatten(file, AREA_BYTES_MAX as usize)?;
        let mut pieces = if image::is_elf(file) { pieces(file)? } else { Vec::new() };
        pieces.sort_by_key(|(at, _)| *at);
        // Of pieces that overlap nobody can say which is there.
        let overlaps =
            |pair: &[(u32, Vec<u8>)]| u64::from(pair[0].0) + pair[0].1.len() as u64 > u64::from(pair[1].0);
        if pieces.windows(2).any(overlaps) || pieces.len() > PIECES_MAX {
            pieces.clear();
        }
        Ok(Program { image, pieces, is_running: false, rows: Rows::of(file) })
    }

    /// Whether it answers: what the device measured is what this file makes.
    pub(crate) fn compare(&mut self, digest: Option<Digest>, area_bytes: u32) {
        self.is_running = digest.is_some_and(|digest| {
            let fits = self.image.len() as u64 <= u64::from(area_bytes) && area_bytes <= AREA_BYTES_MAX;
            let mut hasher = AreaHasher::new();
            hasher.update(&self.image);
            fits && hasher.finish(area_bytes) == digest
        });
    }

    pub(crate) fn is_running(&self) -> bool {
        self.is_running
    }

    /// Its bytes from an address on, to the end of their piece.
    pub(crate) fn at(&self, at: u32) -> Option<&[u8]> {
        if !self.is_running {
            return None;
        }
        let after = self.pieces.partition_point(|(start, _)| *start <= at);
        let (start, bytes) = self.pieces.get(after.checked_sub(1)?)?;
        bytes.get((at - start) as usize..).filter(|bytes| !bytes.is_empty())
    }

    /// Ranges besides this one that gdb steps through by itself.
    pub(crate) fn besides(&self, from: u32, to: u32) -> Vec<(u32, u32)> {
        let rows = self.rows.as_ref().filter(|_| self.is_running);
        rows.map(|rows| rows.besides(from, to, DEBUG_RANGES_MAX)).unwrap_or_default()
    }

    /// Where the next piece after an address begins.
    pub(crate) fn next(&self, at: u32) -> Option<u32> {
        let after = self.pieces.partition_point(|(start, _)| *start <= at);
        self.pieces.get(after).map(|(start, _)| *start).filter(|_| self.is_running)
    }

    /// There is something else now.
    pub(crate) fn forget(&mut self, at: u32, length: u32) {
        let end = u64::from(at) + u64::from(length);
        let touches = |start: u32, bytes: &[u8]| {
            u64::from(start) < end && u64::from(at) < u64::from(start) + bytes.len() as u64
        };
        let mut kept = Vec::new();
        for (start, bytes) in self.pieces.drain(..) {
            if !touches(start, &bytes) {
                kept.push((start, bytes));
                continue;
            }
            let before = at.saturating_sub(start) as usize;
            let after = usize::try_from(end.saturating_sub(u64::from(start))).unwrap_or(usize::MAX);
            if before > 0 {
                kept.push((start, bytes[..before].to_vec()));
            }
            if let Some(rest) = bytes.get(after..).filter(|rest| !rest.is_empty()) {
                kept.push((start + u32::try_from(after).unwrap_or(u32::MAX), rest.to_vec()));
            }
        }
        self.pieces = kept;
    }
}

/// Segments that are loaded where they run, and are not written by the program.
fn pieces(file: &[u8]) -> Result<Vec<(u32, Vec<u8>)>> {
    let header = elf::FileHeader32::<Endianness>::parse(file).context("a broken ELF file")?;
    let endian = header.endian().context("a broken ELF file")?;
    let mut pieces = Vec::new();
    for segment in header.program_headers(endian, file).context("a broken ELF file")? {
        let at = segment.p_vaddr(endian);
        let is_fixed = segment.p_flags(endian) & PF_W == 0 && at == segment.p_paddr(endian);
        let data = segment.data(endian, file).ok().filter(|data| !data.is_empty());
        if let (PT_LOAD, true, Some(data)) = (segment.p_type(endian), is_fixed, data)
            && u32::try_from(data.len()).is_ok_and(|bytes| at.checked_add(bytes).is_some())
        {
            pieces.push((at, data.to_vec()));
        }
    }
    Ok(pieces)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A 32-bit little-endian Arm ELF: (address, flags, bytes) a segment.
    pub(crate) fn elf(entry: u32, segments: &[(u32, u32, &[u8])]) -> Vec<u8> {
        let mut file = vec![0x7f, b'E', b'L', b'F', 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 40, 0];
        for word in [1u32, entry, 52, 0, 0x0500_0000] {
            file.extend_from_slice(&word.to_le_bytes());
        }
        for half in [52u16, 32, segments.len() as u16, 40, 0, 0] {
            file.extend_from_slice(&half.to_le_bytes());
        }
        let mut at = 52 + 32 * segments.len() as u32;
        for (address, flags, data) in segments {
            let size = data.len() as u32;
            for word in [1u32, at, *address, *address, size, size, *flags, 4] {
                file.extend_from_slice(&word.to_le_bytes());
            }
            at += size;
        }
        segments.iter().for_each(|(_, _, data)| file.extend_from_slice(data));
        file
    }

    pub(crate) fn running(file: &[u8]) -> Program {
        let mut program = Program::of(file).unwrap();
        let mut hasher = AreaHasher::new();
        hasher.update(&program.image);
        program.compare(Some(hasher.finish(16384)), 16384);
        assert!(program.is_running());
        program
    }

    #[test]
    fn only_what_the_device_measured_is_answered_from_the_file() {
        let file = elf(0x1000, &[(0x1000, 5, b"code"), (0x1010, 6, b"data")]);
        let mut program = running(&file);
        assert_eq!(program.at(0x1001).unwrap(), b"ode");
        assert!(program.at(0x1010).is_none(), "the program writes there");
        assert_eq!((program.next(0xfff), program.next(0x1000)), (Some(0x1000), None));
        program.compare(Some(Digest([0; 32])), 16384);
        assert!(program.at(0x1001).is_none() && program.next(0).is_none());
        program.compare(None, 0);
        assert!(!program.is_running());
    }

    #[test]
    fn what_is_written_over_is_not_answered_any_more() {
        let mut program = running(&elf(0, &[(0x1000, 5, b"0123456789")]));
        program.forget(0x1004, 2);
        assert_eq!(program.at(0x1000).unwrap(), b"0123");
        assert!(program.at(0x1004).is_none() && program.at(0x1005).is_none());
        assert_eq!((program.at(0x1006).unwrap(), program.next(0x1004)), (&b"6789"[..], Some(0x1006)));
        program.forget(0, u32::MAX);
        assert!(program.at(0x1000).is_none());
    }

    #[test]
    fn what_is_no_program_is_refused() {
        assert!(Program::of(&elf(0, &[])).is_err());
        assert!(Program::of(&elf(0, &[(0, 5, b"abcd")])[..60]).is_err());
        let overlapping = elf(0, &[(0x1000, 5, b"abcd"), (0x1000, 5, b"x")]);
        assert!(Program::of(&overlapping).is_err());
    }
}
