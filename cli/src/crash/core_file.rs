//! A crash report as a core file, which gdb opens with the program's ELF file.
//!
//! The layout is that of System V ABI core files for Arm: one `PT_NOTE` with `NT_PRSTATUS` (registers and signal, as Linux lays it out,
//! which gdb reads for bare-metal Arm too), one `PT_LOAD` for each piece of memory that is known. Code is read from the ELF file.

use std::ops::Range;

use proto::logs::v1::{Crash, CrashMemory};

/// `e_machine`: EM_ARM.
const EM_ARM: u16 = 40;
/// `e_flags`: EABI version 5.
const EF_ARM_EABI_VER5: u32 = 0x0500_0000;
const ET_CORE: u16 = 4;
const PT_LOAD: u32 = 1;
const PT_NOTE: u32 = 4;
const NT_PRSTATUS: u32 = 1;
/// Readable and writable.
const PF_RW: u32 = 6;
const EHDR_BYTES: usize = 52;
const PHDR_BYTES: usize = 32;
/// `elf_prstatus` of 32-bit Arm: what comes before the registers, eighteen of them, and whether there are any of an FPU.
const PRSTATUS_BYTES: usize = 148;
const SIGNAL_AT: usize = 0;
const CURRENT_SIGNAL_AT: usize = 12;
const PID_AT: usize = 24;
const REGISTERS_AT: usize = 72;
/// r0 to r15, and xPSR where other processors have CPSR.
const REGISTERS: [&str; 17] = [
    "r0", "r1", "r2", "r3", "r4", "r5", "r6", "r7", "r8", "r9", "r10", "r11", "r12", "sp", "lr", "pc", "xpsr",
];

/// The core file of a report, with as much of its memory as there is. What it does not know is zero, or not there.
pub(crate) fn core_file(crash: &Crash, memory: Option<&CrashMemory>) -> Vec<u8> {
    let note = note(&prstatus(crash));
    let mut pieces = vec![(PT_NOTE, 0, 0, note.as_slice())];
    pieces.extend(loads(crash, memory).into_iter().map(|(at, bytes)| (PT_LOAD, at, PF_RW, bytes)));

    let mut file = header(pieces.len() as u16);
    let mut at = EHDR_BYTES + PHDR_BYTES * pieces.len();
    for (kind, address, flags, bytes) in &pieces {
        let length = bytes.len() as u32;
        // p_type, p_offset, p_vaddr, p_paddr, p_filesz, p_memsz, p_flags, p_align
        let words = [*kind, at as u32, *address, *address, length, length, *flags, 4];
        file.extend(words.iter().flat_map(|word| word.to_le_bytes()));
        at += bytes.len();
    }
    for (.., bytes) in &pieces {
        file.extend_from_slice(bytes);
    }
    file
}

/// Memory, and where it was: the pieces that were kept, as far as they are stored, and what only the report's stack has.
fn loads<'a>(crash: &'a Crash, memory: Option<&'a CrashMemory>) -> Vec<(u32, &'a [u8])> {
    let mut loads = Vec::new();
    let mut data = memory.map_or(&[][..], |memory| &memory.data);
    for piece in memory.iter().flat_map(|memory| &memory.pieces) {
        let size = usize::try_from(piece.size_bytes).unwrap_or(0).min(data.len());
        let (bytes, rest) = data.split_at(size);
        loads.extend(addressed(piece.address, bytes));
        data = rest;
    }
    let stack = addressed(crash.stack_at, &crash.stack);
    let covered: Vec<_> = loads.iter().map(|(at, bytes)| range(*at, bytes)).collect();
    if let Some((at, bytes)) = stack {
        for part in outside(range(at, bytes), &covered) {
            let from = (part.start - u64::from(at)) as usize;
            loads.push((part.start as u32, &bytes[from..from + (part.end - part.start) as usize]));
        }
    }
    loads
}

/// As much of it as there are addresses, if that is anything.
fn addressed(at: u32, bytes: &[u8]) -> Option<(u32, &[u8])> {
    let room = usize::try_from(u64::from(u32::MAX) + 1 - u64::from(at)).unwrap_or(usize::MAX);
    let bytes = &bytes[..bytes.len().min(room)];
    (!bytes.is_empty()).then_some((at, bytes))
}

fn range(at: u32, bytes: &[u8]) -> Range<u64> {
    u64::from(at)..u64::from(at) + bytes.len() as u64
}

/// What of a range no other one covers.
fn outside(whole: Range<u64>, covered: &[Range<u64>]) -> Vec<Range<u64>> {
    let mut left = vec![whole];
    for taken in covered {
        left = left
            .into_iter()
            .flat_map(|part| [part.start..part.end.min(taken.start), part.start.max(taken.end)..part.end])
            .filter(|part| part.start < part.end)
            .collect();
    }
    left
}

fn header(pieces: u16) -> Vec<u8> {
    // ELFCLASS32, ELFDATA2LSB, EV_CURRENT.
    let mut file = b"\x7fELF\x01\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    for half in [ET_CORE, EM_ARM] {
        file.extend(half.to_le_bytes());
    }
    // e_version, e_entry, e_phoff, e_shoff, e_flags
    for word in [1, 0, EHDR_BYTES as u32, 0, EF_ARM_EABI_VER5] {
        file.extend(word.to_le_bytes());
    }
    // e_ehsize, e_phentsize, e_phnum, e_shentsize, e_shnum, e_shstrndx
    for half in [EHDR_BYTES as u16, PHDR_BYTES as u16, pieces, 0, 0, 0] {
        file.extend(half.to_le_bytes());
    }
    file
}

fn note(description: &[u8]) -> Vec<u8> {
    const NAME: &[u8; 8] = b"CORE\0\0\0\0";
    let mut note = Vec::new();
    // The name has five bytes, its end included, and is padded to eight.
    for word in [5, description.len() as u32, NT_PRSTATUS] {
        note.extend(word.to_le_bytes());
    }
    note.extend(NAME);
    note.extend(description);
    note
}

fn prstatus(crash: &Crash) -> [u8; PRSTATUS_BYTES] {
    let mut status = [0; PRSTATUS_BYTES];
    let signal = signal(&crash.kind);
    status[SIGNAL_AT] = signal;
    status[CURRENT_SIGNAL_AT] = signal;
    // A process that is no process: gdb wants one.
    status[PID_AT] = 1;
    for (number, name) in REGISTERS.iter().enumerate() {
        let value = crash.registers.get(*name).copied().unwrap_or_default();
        status[REGISTERS_AT + 4 * number..][..4].copy_from_slice(&value.to_le_bytes());
    }
    status
}

/// What gdb says ended it: the signal that is nearest.
fn signal(kind: &str) -> u8 {
    const SIGILL: u8 = 4;
    const SIGABRT: u8 = 6;
    const SIGBUS: u8 = 7;
    const SIGSEGV: u8 = 11;
    match kind {
        "memory" | "secure" | "stack_overflow" => SIGSEGV,
        "bus" => SIGBUS,
        "usage" => SIGILL,
        _ => SIGABRT,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use object::LittleEndian;
    use object::elf::{FileHeader32, PT_LOAD};
    use object::read::elf::{FileHeader, ProgramHeader};
    use proto::logs::v1::CrashMemoryPiece;

    fn crash() -> Crash {
        Crash {
            kind: "bus".into(),
            registers: [("pc".to_owned(), 0x1000_0068), ("r3".to_owned(), 131)].into(),
            stack_at: 0x3000_3fa0,
            stack: vec![7; 96],
            ..Crash::default()
        }
    }

    #[test]
    fn it_reads_back_as_a_core_file_of_arm_with_its_registers_and_stack() {
        let bytes = core_file(&crash(), None);
        let file = FileHeader32::<LittleEndian>::parse(&*bytes).unwrap();
        assert_eq!((file.e_type(LittleEndian), file.e_machine(LittleEndian)), (ET_CORE, EM_ARM));
        let pieces = file.program_headers(LittleEndian, &*bytes).unwrap();
        let stack = pieces.iter().find(|piece| piece.p_type(LittleEndian) == PT_LOAD).unwrap();
        assert_eq!(stack.p_vaddr(LittleEndian), 0x3000_3fa0);
        assert_eq!(stack.data(LittleEndian, &*bytes), Ok(&[7; 96][..]));
        let mut notes = pieces[0].notes(LittleEndian, &*bytes).unwrap().unwrap();
        let status = notes.next().unwrap().unwrap();
        assert_eq!((status.name(), status.n_type(LittleEndian)), (&b"CORE"[..], NT_PRSTATUS));
        let register = |number: usize| {
            u32::from_le_bytes(status.desc()[REGISTERS_AT + 4 * number..][..4].try_into().unwrap())
        };
        assert_eq!((register(15), register(3), register(0)), (0x1000_0068, 131, 0));
        assert_eq!(status.desc()[CURRENT_SIGNAL_AT], 7);
    }

    #[test]
    fn a_report_of_which_little_is_known_is_a_core_file_too() {
        let bytes = core_file(&Crash::default(), None);
        let file = FileHeader32::<LittleEndian>::parse(&*bytes).unwrap();
        assert_eq!(file.program_headers(LittleEndian, &*bytes).unwrap().len(), 1);
        // A stack that would go on after the last address ends there.
        let bytes = core_file(&Crash { stack_at: u32::MAX - 3, ..crash() }, None);
        let file = FileHeader32::<LittleEndian>::parse(&*bytes).unwrap();
        assert_eq!(file.program_headers(LittleEndian, &*bytes).unwrap()[1].p_memsz(LittleEndian), 4);
    }

    fn memory(pieces: &[(u32, i64)], bytes: usize) -> CrashMemory {
        let pieces = pieces
            .iter()
            .map(|(address, size_bytes)| CrashMemoryPiece { address: *address, size_bytes: *size_bytes });
        CrashMemory {
            pieces: pieces.collect(),
            data: (0..bytes).map(|n| n as u8).collect(),
            ..CrashMemory::default()
        }
    }

    fn shown(crash: &Crash, memory: &CrashMemory) -> Vec<(u32, usize)> {
        loads(crash, Some(memory)).iter().map(|(at, bytes)| (*at, bytes.len())).collect()
    }

    #[test]
    fn kept_memory_is_in_it_and_the_reports_stack_only_where_that_has_nothing() {
        let all = memory(&[(0x3000_3f80, 0x80), (0x3000_0000, 0x100)], 0x180);
        assert_eq!(shown(&crash(), &all), [(0x3000_3f80, 0x80), (0x3000_0000, 0x100)]);
        let bytes = core_file(&crash(), Some(&all));
        let file = FileHeader32::<LittleEndian>::parse(&*bytes).unwrap();
        let pieces = file.program_headers(LittleEndian, &*bytes).unwrap();
        assert_eq!((pieces.len(), pieces[2].p_vaddr(LittleEndian)), (3, 0x3000_0000));
        assert_eq!(pieces[2].data(LittleEndian, &*bytes), Ok(&all.data[0x80..]));
        // A piece within the stack leaves what is before and after it.
        let within = memory(&[(0x3000_3fb0, 0x10)], 0x10);
        assert_eq!(shown(&crash(), &within), [(0x3000_3fb0, 0x10), (0x3000_3fa0, 0x10), (0x3000_3fc0, 0x40)]);
    }

    #[test]
    fn memory_that_is_not_all_there_ends_where_it_ends() {
        let some = memory(&[(0x3000_3f80, 0x40), (0x3000_0000, 0x100)], 0x50);
        assert_eq!(shown(&crash(), &some), [(0x3000_3f80, 0x40), (0x3000_0000, 0x10), (0x3000_3fc0, 0x40)]);
        assert_eq!(shown(&crash(), &memory(&[(0x3000_0000, 0x100)], 0)), [(0x3000_3fa0, 96)]);
    }

    proptest::proptest! {
        /// Whatever a service says: no panic, and no more bytes than it sent.
        #[test]
        fn any_pieces_make_a_core_file(pieces in proptest::collection::vec((proptest::num::u32::ANY, proptest::num::i64::ANY), 0..5), bytes in 0usize..300, at in proptest::num::u32::ANY) {
            let near: Vec<_> = pieces.iter().map(|(address, size)| (address % 512 + at.saturating_sub(100), size % 300)).collect();
            for pieces in [pieces, near] {
                let (crash, memory) = (Crash { stack_at: at, ..crash() }, memory(&pieces, bytes));
                let loads = loads(&crash, Some(&memory));
                let total: usize = loads.iter().map(|(_, bytes)| bytes.len()).sum();
                proptest::prop_assert!(total <= bytes + crash.stack.len());
                let _ = core_file(&crash, Some(&memory));
            }
        }
    }
}
