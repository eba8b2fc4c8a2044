//! As much of ELF as says what is loaded where, and what is called how: program headers and symbols of a 32-bit little-endian file.

use anyhow::{Context, Result, ensure};

/// `p_type` of what is loaded (ELF, "Program Header").
const PT_LOAD: u32 = 1;
/// `sh_type` of the symbols (ELF, "Sections").
const SHT_SYMTAB: u32 = 2;
/// Bytes of a section's header, and of a symbol.
const SECTION_BYTES: usize = 40;
const SYMBOL_BYTES: usize = 16;

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

/// Where it starts.
pub(super) fn entry(elf: &[u8]) -> Result<u32> {
    segments(elf)?;
    word(elf, 24)
}

/// The value of a symbol; of a function in Thumb code its lowest bit is set.
pub(super) fn symbol(elf: &[u8], name: &str) -> Result<Option<u32>> {
    segments(elf)?;
    let (table, count) = (word(elf, 32)? as usize, usize::from(half(elf, 48)?));
    let section = |index: usize, offset| word(elf, table + index * SECTION_BYTES + offset);
    for index in 0..count {
        if section(index, 4)? != SHT_SYMTAB {
            continue;
        }
        let (at, bytes) = (section(index, 16)? as usize, section(index, 20)? as usize);
        let names = section(section(index, 24)? as usize, 16)? as usize;
        for symbol in (at..at + bytes).step_by(SYMBOL_BYTES) {
            let text = elf.get(names + word(elf, symbol)? as usize..).context("the ELF file is cut short")?;
            if text.strip_prefix(name.as_bytes()).is_some_and(|rest| rest.starts_with(&[0])) {
                return word(elf, symbol + 4).map(Some);
            }
        }
    }
    Ok(None)
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

    #[test]
    fn a_symbol_has_a_value_and_what_is_not_called_so_has_none() {
        let mut file = elf(&[]);
        let (names, symbols) = (file.len() as u32, file.len() as u32 + 8);
        file.extend(b"\0ab\0abc\0");
        for [name, value] in [[1_u32, 10], [4, 13]] {
            file.extend([name, value, 0, 0].into_iter().flat_map(u32::to_le_bytes));
        }
        let table = file.len() as u32;
        for [kind, at, bytes, link] in [[SHT_SYMTAB, symbols, 32, 1], [3, names, 8, 0]] {
            for field in [0, kind, 0, 0, at, bytes, link, 0, 0, 0] {
                file.extend(field.to_le_bytes());
            }
        }
        file[32..36].copy_from_slice(&table.to_le_bytes());
        file[48..50].copy_from_slice(&2_u16.to_le_bytes());
        assert_eq!(symbol(&file, "ab").expect("an ELF file"), Some(10));
        assert_eq!(symbol(&file, "abc").expect("an ELF file"), Some(13));
        assert_eq!(symbol(&file, "a").expect("an ELF file"), None);
        assert!(symbol(&file[..file.len() - SECTION_BYTES], "a").is_err());
    }
}
