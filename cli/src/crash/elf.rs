//! A program as its ELF file tells it: code bytes, functions by address, and the frame information for unwinding.
//!
//! Everything is looked up in the file as it is; a part that cannot be read is as if it were not there.

use gimli::{
    BaseAddresses, DebugFrame, DebugFrameOffset, EndianSlice, LittleEndian, UnwindContext, UnwindSection,
    UnwindTableRow,
};
use object::elf::{PF_X, PT_LOAD, SHF_EXECINSTR};
use object::read::elf::{ElfFile32, ProgramHeader, SectionHeader};
use object::{LittleEndian as Little, Object, ObjectSection, ObjectSymbol, SymbolKind};

use crate::failure::input;

/// Pieces of code of one program.
const CODE_PIECES_MAX: usize = 4096;
/// Entries of frame information that are looked at.
const FRAME_ENTRIES_MAX: usize = 1 << 20;
/// Entries of the symbol table that are looked at.
const FUNCTIONS_MAX: usize = 1 << 20;

pub(super) type Slice<'a> = EndianSlice<'a, LittleEndian>;

/// A program's ELF file, opened.
pub(super) struct Program<'a> {
    file: ElfFile32<'a, Little>,
    code: Vec<(u32, &'a [u8])>,
    /// By address.
    functions: Vec<Function<'a>>,
    frames: DebugFrame<Slice<'a>>,
    /// First address, the address after the last, and where the entry is; by first address.
    entries: Vec<(u32, u32, DebugFrameOffset<usize>)>,
}

#[derive(Clone, Copy)]
struct Function<'a> {
    start: u32,
    bytes: u32,
    name: &'a str,
}

impl<'a> Program<'a> {
    pub(super) fn open(bytes: &'a [u8]) -> anyhow::Result<Program<'a>> {
        let file = ElfFile32::parse(bytes)
            .map_err(|error| input(format!("not a 32-bit little-endian ELF file: {error}")))?;
        let mut frames = DebugFrame::from(section(&file, ".debug_frame"));
        frames.set_address_size(4);
        let mut program =
            Program { code: code(&file), functions: functions(&file), entries: Vec::new(), frames, file };
        program.entries = entries(&program.frames);
        Ok(program)
    }

    /// A section's bytes; empty for one that is not there or packed.
    pub(super) fn section(&self, name: &str) -> Slice<'a> {
        section(&self.file, name)
    }

    pub(super) fn is_code(&self, address: u32) -> bool {
        self.bytes_before(address.wrapping_add(1), 1).is_some()
    }

    /// The function of the symbol table an address is in, and how far in.
    pub(super) fn function(&self, address: u32) -> Option<(&'a str, u32)> {
        let after = self.functions.partition_point(|function| function.start <= address);
        let function = self.functions.get(after.checked_sub(1)?)?;
        let within = address - function.start;
        // Assembler often says no size: then it goes on to the next.
        (function.bytes == 0 || within < function.bytes).then_some((function.name, within))
    }

    /// Whether a call may have left this word as its return address: odd (Thumb), and right after a BL, BLX or BLXNS.
    pub(super) fn is_return_address(&self, word: u32) -> bool {
        let half = |bytes: &[u8]| u16::from_le_bytes([bytes[0], bytes[1]]);
        let address = word.wrapping_sub(1);
        if word & 1 == 0 || !self.is_code(address) {
            return false;
        }
        // BLX Rm and BLXNS Rm: 0100 0111 1mmm mx00.
        let short = self.bytes_before(address, 2).is_some_and(|last| half(last) & 0xFF83 == 0x4780);
        // BL: 1111 0xxx xxxx xxxx, 11x1 xxxx xxxx xxxx.
        let long = self
            .bytes_before(address, 4)
            .is_some_and(|last| half(last) & 0xF800 == 0xF000 && half(&last[2..]) & 0xD000 == 0xD000);
        short || long
    }

    /// What the frame information says of an address.
    pub(super) fn row<'c>(
        &self,
        address: u32,
        context: &'c mut UnwindContext<usize>,
    ) -> Option<&'c UnwindTableRow<usize>> {
        let bases = BaseAddresses::default();
        let after = self.entries.partition_point(|(start, ..)| *start <= address);
        let (_, end, offset) = self.entries.get(after.checked_sub(1)?)?;
        if address >= *end {
            return None;
        }
        let entry = self.frames.fde_from_offset(&bases, *offset, DebugFrame::cie_from_offset).ok()?;
        entry.unwind_info_for_address(&self.frames, &bases, context, u64::from(address)).ok()
    }

    fn bytes_before(&self, end: u32, count: u32) -> Option<&'a [u8]> {
        let start = end.checked_sub(count)?;
        self.code.iter().find_map(|(base, bytes)| {
            let from = usize::try_from(start.checked_sub(*base)?).ok()?;
            bytes.get(from..from.checked_add(count as usize)?)
        })
    }
}

fn section<'a>(file: &ElfFile32<'a, Little>, name: &str) -> Slice<'a> {
    let data = file.section_by_name(name).and_then(|section| section.data().ok());
    EndianSlice::new(data.unwrap_or_default(), LittleEndian)
}

/// The sections with code; in a file without sections, the segments.
fn code<'a>(file: &ElfFile32<'a, Little>) -> Vec<(u32, &'a [u8])> {
    let (endian, data) = (Little, file.data());
    let mut code = Vec::new();
    for section in file.elf_section_table().iter() {
        if section.sh_flags(endian) & SHF_EXECINSTR != 0
            && let Ok(bytes) = section.data(endian, data)
        {
            code.push((section.sh_addr(endian), bytes));
        }
    }
    if code.is_empty() {
        for segment in file.elf_program_headers() {
            let (kind, flags) = (segment.p_type(endian), segment.p_flags(endian));
            if let (PT_LOAD, true, Ok(bytes)) = (kind, flags & PF_X != 0, segment.data(endian, data)) {
                code.push((segment.p_vaddr(endian), bytes));
            }
        }
    }
    code.truncate(CODE_PIECES_MAX);
    code
}

fn functions<'a>(file: &ElfFile32<'a, Little>) -> Vec<Function<'a>> {
    let mut functions: Vec<_> = file
        .symbols()
        .take(FUNCTIONS_MAX)
        .filter(|symbol| symbol.kind() == SymbolKind::Text && symbol.is_definition())
        .filter_map(|symbol| {
            // The lowest bit says Thumb.
            let start = u32::try_from(symbol.address()).ok()? & !1;
            let bytes = u32::try_from(symbol.size()).unwrap_or(u32::MAX);
            Some(Function { start, bytes, name: symbol.name().ok().filter(|name| !name.is_empty())? })
        })
        .collect();
    functions.sort_by_key(|function| function.start);
    functions
}

fn entries(frames: &DebugFrame<Slice<'_>>) -> Vec<(u32, u32, DebugFrameOffset<usize>)> {
    let bases = BaseAddresses::default();
    let mut entries = Vec::new();
    let mut all = frames.entries(&bases);
    for _ in 0..FRAME_ENTRIES_MAX {
        // What cannot be read ends it: the entries' lengths are not to be believed any longer.
        let Ok(Some(entry)) = all.next() else { break };
        if let gimli::CieOrFde::Fde(partial) = entry
            && let Ok(entry) = partial.parse(DebugFrame::cie_from_offset)
            && let Ok(start) = u32::try_from(entry.initial_address())
            && let Ok(bytes) = u32::try_from(entry.len())
        {
            entries.push((start, start.saturating_add(bytes), DebugFrameOffset(entry.offset())));
        }
    }
    entries.sort_by_key(|(start, ..)| *start);
    entries
}
