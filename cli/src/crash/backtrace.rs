//! A crash report and an ELF file, put together.
//!
//! Both come from elsewhere. The work is done in a thread of its own, with a stack and a time that are enough for any program that fits: what
//! takes longer, or ends in a panic of a parser, is a file that tells nothing, and not the end of this process.

use std::sync::mpsc;
use std::time::Duration;

use anyhow::Result;
use proto::logs::v1::Crash;
use serde::Serialize;
use wire::limits::CRASH_STACK_BYTES_MAX;

use super::elf::Program;
use super::lines::{self, Lines, Place};
use super::unwind::{self, How, Registers, SP, Stack};
use crate::failure::input;

/// Longest one backtrace may take.
pub(super) const TIME_MAX: Duration = Duration::from_secs(30);
pub(super) const THREAD_STACK_BYTES: usize = 32 * 1024 * 1024;
/// Names as reports have them, in the order of the registers' numbers.
pub(super) const NAMES: [&str; 16] =
    ["r0", "r1", "r2", "r3", "r4", "r5", "r6", "r7", "r8", "r9", "r10", "r11", "r12", "sp", "lr", "pc"];

/// The calls that led to a crash, the last one first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Backtrace {
    pub(crate) frames: Vec<Frame>,
}

/// One address on the way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Frame {
    pub(crate) address: u32,
    pub(crate) found: How,
    /// Not by rule: it may be something else that lay on the stack.
    pub(crate) guessed: bool,
    /// The innermost first; more than one where calls were inlined; none for what is not of the program.
    pub(crate) places: Vec<Place>,
}

/// The backtrace by this ELF file.
pub(crate) fn of(elf: Vec<u8>, crash: &Crash) -> Result<Backtrace> {
    let crash = crash.clone();
    let (sender, receiver) = mpsc::sync_channel(1);
    std::thread::Builder::new().name("backtrace".into()).stack_size(THREAD_STACK_BYTES).spawn(move || {
        let _ = sender.send(made(&elf, &crash));
    })?;
    match receiver.recv_timeout(TIME_MAX) {
        Ok(backtrace) => backtrace,
        Err(mpsc::RecvTimeoutError::Timeout) => Err(input("the ELF file takes too long to read")),
        Err(mpsc::RecvTimeoutError::Disconnected) => Err(input("the ELF file cannot be read")),
    }
}

/// The two addresses that need no ELF file.
pub(crate) fn without_symbols(crash: &Crash) -> Backtrace {
    let frame = |name: &str, found, guessed| {
        let address = *crash.registers.get(name)?;
        Some(Frame { address, found, guessed, places: Vec::new() })
    };
    let frames = [frame("pc", How::Pc, false), frame("lr", How::LinkRegister, true)];
    Backtrace { frames: frames.into_iter().flatten().collect() }
}

fn made(elf: &[u8], crash: &Crash) -> Result<Backtrace> {
    let program = Program::open(elf)?;
    let lines = Lines::open(&program);
    let registers: Registers = NAMES.map(|name| crash.registers.get(name).copied());
    let bytes = &crash.stack[..crash.stack.len().min(CRASH_STACK_BYTES_MAX)];
    // A device that does not say where the stack was says where it pointed.
    let at = if crash.stack_at == 0 { registers[SP].unwrap_or(0) } else { crash.stack_at };
    let steps = unwind::walk(&program, registers, Stack { at, bytes });
    let frames = steps.iter().map(|step| Frame {
        address: step.address,
        found: step.how,
        guessed: step.guessed,
        places: places(&program, lines.as_ref(), step.at),
    });
    Ok(Backtrace { frames: frames.collect() })
}

/// The functions an address is in, by lines or else by the symbol table.
pub(super) fn places(program: &Program<'_>, lines: Option<&Lines<'_>>, at: u32) -> Vec<Place> {
    let mut places = lines.map(|lines| lines.places(at)).unwrap_or_default();
    let symbol = program.function(at).filter(|_| program.is_code(at));
    if let Some((name, within)) = symbol {
        match places.last_mut() {
            Some(outermost) if outermost.function.is_empty() => outermost.function = lines::readable(name),
            Some(_) => {}
            None => {
                let function = format!("{}+{within:#x}", lines::readable(name));
                places.push(Place { function, ..Place::default() });
            }
        }
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use prost_reflect::{DescriptorPool, DynamicMessage};

    const ELF: &[u8] = include_bytes!("../../fixtures/crash/crash.elf");
    const CRASH: &str = include_str!("../../fixtures/crash/crash.json");

    fn crash() -> Crash {
        let pool = DescriptorPool::decode(proto::DESCRIPTORS).unwrap();
        let descriptor = pool.get_message_by_name("holdfast.logs.v1.Crash").unwrap();
        let mut json = serde_json::Deserializer::from_str(CRASH);
        DynamicMessage::deserialize(descriptor, &mut json).unwrap().transcode_to().unwrap()
    }

    /// A frame in a line: how it was found, whether it was guessed, and its places.
    fn told(backtrace: &Backtrace) -> Vec<String> {
        let place = |place: &Place| match place.line {
            Some(line) => format!("{}:{line}", place.function),
            None => place.function.clone(),
        };
        let frame = |frame: &Frame| {
            let places: Vec<_> = frame.places.iter().map(place).collect();
            format!("{:?}{} {}", frame.found, if frame.guessed { "?" } else { "" }, places.join(" < "))
        };
        backtrace.frames.iter().map(frame).collect()
    }

    #[test]
    fn a_crash_is_told_with_inlined_calls_and_past_a_function_that_nothing_is_known_of() {
        let backtrace = of(ELF.to_vec(), &crash()).unwrap();
        assert_eq!(
            told(&backtrace),
            [
                "Pc write_register:26 < select_channel:31 < start_conversion:37",
                "Unwound poll_sensor:43",
                "Unwound with_callback+0x7",
                "Stack? main:51",
                "Unwound? Reset:57",
            ]
        );
        assert_eq!(backtrace.frames[0].places[0].file.as_deref(), Some("/app/crash.c"));
    }

    #[test]
    fn a_handler_is_told_with_what_it_interrupted() {
        // The same moment from inside the handler, as its registers and stack were there.
        let (mut inside, outside) = (crash(), crash());
        let frame = [1, 2, 3, 0x83, 0x6000_0000, 0x1000_0085, 0x1000_0068, 0x0100_0000_u32];
        inside.stack = frame.iter().flat_map(|word| word.to_le_bytes()).chain(outside.stack).collect();
        inside.stack_at -= 32;
        let sp = inside.stack_at;
        inside.registers.extend([
            ("sp".to_owned(), sp),
            ("lr".to_owned(), 0xFFFF_FFF9),
            ("pc".to_owned(), 0x1000_0040),
        ]);
        let told = told(&of(ELF.to_vec(), &inside).unwrap());
        assert_eq!(told[0], "Pc Fault:64");
        assert_eq!(told[1], "Interrupted write_register:26 < select_channel:31 < start_conversion:37");
        assert_eq!(told[2], "Unwound poll_sensor:43");
    }

    #[test]
    fn a_jump_to_nowhere_is_told_by_the_link_register() {
        let mut crash = crash();
        crash.registers.insert("pc".into(), 0);
        let told = told(&of(ELF.to_vec(), &crash).unwrap());
        assert_eq!(told[..2], ["Pc ", "LinkRegister? poll_sensor:43"]);
    }

    #[test]
    fn without_registers_the_stack_alone_is_looked_through() {
        let mut crash = crash();
        crash.registers.clear();
        let backtrace = of(ELF.to_vec(), &crash).unwrap();
        assert!(backtrace.frames.iter().all(|frame| frame.guessed), "{backtrace:?}");
        assert_eq!(told(&backtrace)[0], "Stack? with_callback+0x7");
        crash.stack.clear();
        assert_eq!(of(ELF.to_vec(), &crash).unwrap(), Backtrace::default());
    }

    #[test]
    fn without_an_elf_file_the_two_addresses_are_told() {
        let frames = without_symbols(&crash()).frames;
        assert_eq!(frames.iter().map(|f| f.address).collect::<Vec<_>>(), [0x1000_0068, 0x1000_0085]);
        assert!(without_symbols(&Crash::default()).frames.is_empty());
    }

    #[test]
    fn debugging_entries_nested_beyond_any_compilers_have_no_lines() {
        // One abbreviation, of a subprogram with children and no attributes; a unit that opens it again and again.
        let abbreviations = [1, 0x2E, 1, 0, 0, 0];
        let deep = |depth: usize| {
            let mut unit = vec![4, 0, 0, 0, 0, 0, 4];
            unit.extend(std::iter::repeat_n(1u8, depth));
            let mut info = (unit.len() as u32).to_le_bytes().to_vec();
            info.extend(unit);
            info
        };
        let dwarf = |info: &[u8]| {
            let section = |id| match id {
                gimli::SectionId::DebugInfo => Ok::<_, gimli::Error>(info.to_vec()),
                gimli::SectionId::DebugAbbrev => Ok(abbreviations.to_vec()),
                _ => Ok(Vec::new()),
            };
            gimli::DwarfSections::load(section).unwrap()
        };
        for (depth, shallow) in [(10, true), (1024, true), (2_000_000, false)] {
            let sections = dwarf(&deep(depth));
            let borrowed = sections.borrow(|bytes| gimli::EndianSlice::new(bytes, gimli::LittleEndian));
            assert_eq!(lines::is_shallow(&borrowed), Some(shallow), "{depth}");
        }
    }

    #[test]
    fn a_file_that_is_cut_off_anywhere_ends_in_an_error_or_in_less() {
        let crash = crash();
        for length in (0..ELF.len()).step_by(13) {
            if let Ok(backtrace) = made(&ELF[..length], &crash) {
                assert!(backtrace.frames.len() <= unwind::FRAMES_MAX);
            }
        }
    }

    proptest! {
        #[test]
        fn no_damage_to_the_file_or_the_report_ends_the_process(
            damage in prop::collection::vec((0..ELF.len(), any::<u8>()), 1..40),
            registers in prop::collection::btree_map(prop::sample::select(&NAMES[..]), any::<u32>(), 0..5),
            stack in prop::collection::vec((0..96usize, any::<u8>()), 0..8),
            stack_at in prop::option::of(any::<u32>()),
        ) {
            let (mut elf, mut crash) = (ELF.to_vec(), crash());
            damage.iter().for_each(|(at, byte)| elf[*at] = *byte);
            crash.registers.extend(registers.into_iter().map(|(name, value)| (name.to_owned(), value)));
            stack.iter().for_each(|(at, byte)| crash.stack[*at] = *byte);
            crash.stack_at = stack_at.unwrap_or(crash.stack_at);
            if let Ok(backtrace) = made(&elf, &crash) {
                prop_assert!(backtrace.frames.len() <= unwind::FRAMES_MAX);
            }
        }

        #[test]
        fn damage_aimed_at_the_debugging_sections_is_survived(
            damage in prop::collection::vec((0x10d8..0x1a30usize, any::<u8>()), 1..12),
        ) {
            let mut elf = ELF.to_vec();
            damage.iter().for_each(|(at, byte)| elf[*at] = *byte);
            let _ = made(&elf, &crash());
        }

        #[test]
        fn any_bytes_at_all_are_survived(elf in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = made(&elf, &crash());
        }
    }
}
