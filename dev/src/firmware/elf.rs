//! As much of ELF as says what is loaded where: the program headers of a 32-bit little-endian file.

use anyhow::{Context, Result, ensure};

/// `p_type` of what is loaded (ELF, "Program Header").
const PT_LOAD: u32 = 1;

/// A segment that is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    /// Where it is used.
    pub(super) run_at: u32,
    /// Where it is stored.
    pub(super) load_at: u32,
    /// Where it is in the file.
    pub(super) file_at: u32,
    pub(super) file_bytes: u32,
    pub(super) memory_bytes: u32,
}

/// Every segment with something in it.
pub(super) fn segments(elf: &[u8]) -> Result<Vec<Segment>> {
    // EI_CLASS 1 is 32 bits, EI_DATA 1 is little-endian.
    ensure!(elf.starts_with(b"\x7fELF\x01\x01"), "not a 32-bit little-endian ELF file");
    let (table, size, count) = (word(elf, 28)?, half(elf, 42)?, half(elf, 44)?);
    let mut segments = Vec::new();
    for index in 0..usize::from(count) {
        let at = table as usize + index * usize::from(size);
        let field = |offset| word(elf, at + offset);
        let segment = Segment {
            run_at: field(8)?,
            load_at: field(12)?,
            file_at: field(4)?,
            file_bytes: field(16)?,
            memory_bytes: field(20)?,
        };
        if field(0)? == PT_LOAD && segment.memory_bytes > 0 {
            segments.push(segment);
        }
    }
    Ok(segments)
}

fn word(elf: &[u8], at: usize) -> Result<u32> {
    let bytes = elf.get(at..at + 4).context("the ELF file is cut short")?;
    Ok(u32::from_le_bytes(bytes.try_into()?))
}

fn half(elf: &[u8], at: usize) -> Result<u16> {
    let bytes = elf.get(at..at + 2).context("the ELF file is cut short")?;
    Ok(u16::from_le_bytes(bytes.try_into()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn elf(segments: &[[u32; 5]]) -> Vec<u8> {
        let mut file = vec![0; 52];
        file[..6].copy_from_slice(b"\x7fELF\x01\x01");
        file[28..32].copy_from_slice(&52_u32.to_le_bytes());
        file[42..44].copy_from_slice(&32_u16.to_le_bytes());
        file[44..46].copy_from_slice(&(segments.len() as u16).to_le_bytes());
        for [kind, run_at, load_at, in_file, in_memory] in segments {
            for field in [*kind, 0, *run_at, *load_at, *in_file, *in_memory, 0, 0] {
                file.extend(field.to_le_bytes());
            }
        }
        file
    }

    #[test]
    fn what_is_loaded_is_found_and_nothing_else() {
        let file = elf(&[[1, 0x3800_0000, 0x1000, 4, 8], [1, 0, 0, 0, 0], [0x7000_0001, 1, 1, 1, 1]]);
        let segment =
            Segment { run_at: 0x3800_0000, load_at: 0x1000, file_at: 0, file_bytes: 4, memory_bytes: 8 };
        assert_eq!(segments(&file).expect("an ELF file"), [segment]);
    }

    #[test]
    fn a_file_that_is_cut_short_or_something_else_is_an_error() {
        let file = elf(&[[1, 2, 3, 4, 5]]);
        for end in 0..60 {
            assert!(segments(&file[..end]).is_err(), "{end}");
        }
        assert!(segments(b"\x7fELF\x02\x01").is_err());
    }
}
