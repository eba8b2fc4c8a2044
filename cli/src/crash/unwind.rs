//! From the registers and a piece of the stack to the calls that led there.
//!
//! By the program's frame information as far as it goes. Where there is none, the link register may name the caller, and then any word of
//! the stack that looks like a return address: what is found so, and all that is found from there on, is a guess and says so.
//! Every step goes up the stack or is the last.

use gimli::{CfaRule, RegisterRule, UnwindContext, UnwindTableRow};

use super::elf::Program;

/// Frames of one backtrace.
pub(super) const FRAMES_MAX: usize = 64;

pub(super) const SP: usize = 13;
pub(super) const LR: usize = 14;
pub(super) const PC: usize = 15;
/// AAPCS32: what a function gives back as it found it.
const SAVED: std::ops::RangeInclusive<usize> = 4..=11;
/// EXC_RETURN (Armv8-M ARM D1.2.95): its prefix, and bits of it.
const EXC_RETURN: std::ops::RangeInclusive<u32> = 0xFFFF_FF80..=0xFFFF_FFFE;
const EXC_RETURN_PROCESS_STACK: u32 = 1 << 2;
const EXC_RETURN_NO_FLOAT: u32 = 1 << 4;
/// Bytes of an exception's frame, without and with floating-point state; a word more where xPSR says so.
const FRAME_BYTES: u32 = 32;
const FLOAT_FRAME_BYTES: u32 = 104;
const XPSR_PADDED: u32 = 1 << 9;

/// r0 to r12, sp, lr, pc; what is known of them.
pub(super) type Registers = [Option<u32>; 16];

/// The piece of memory that came with the report.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stack<'a> {
    pub(super) at: u32,
    pub(super) bytes: &'a [u8],
}

/// How a frame was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum How {
    /// The program counter.
    Pc,
    /// By the program's frame information.
    Unwound,
    /// What an exception interrupted.
    Interrupted,
    /// The link register.
    LinkRegister,
    /// A word of the stack.
    Stack,
}

/// One frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Step {
    /// The program counter, or the address a call returns to.
    pub(super) address: u32,
    /// An address within the instruction that is told: the call's own, for a return address.
    pub(super) at: u32,
    pub(super) how: How,
    pub(super) guessed: bool,
}

/// Where the walk is.
#[derive(Clone, Copy)]
struct Place {
    registers: Registers,
    /// An address within the instruction that is being done.
    at: u32,
    /// Its link register is what it was when it was called, unless its frame information knows better.
    is_innermost: bool,
    guessed: bool,
}

enum Caller {
    Found(Place, How),
    /// There is none: the program began here, or an exception came to a stack that is not here.
    None,
    Unknown,
}

pub(super) fn walk(program: &Program<'_>, mut registers: Registers, stack: Stack<'_>) -> Vec<Step> {
    // A stack pointer that is not in the piece says nothing of it.
    registers[SP] = registers[SP].filter(|sp| stack.contains(*sp));
    let mut steps = Vec::new();
    let mut context = UnwindContext::new();
    let mut place = match registers[PC] {
        Some(pc) => {
            steps.push(Step { address: pc, at: pc, how: How::Pc, guessed: false });
            Place { registers, at: pc, is_innermost: true, guessed: false }
        }
        None => match scanned(program, stack, registers[SP].unwrap_or(stack.at)) {
            Some(place) => {
                steps.push(step(&place, How::Stack));
                place
            }
            None => return steps,
        },
    };
    while steps.len() < FRAMES_MAX {
        let found = match unwound(program, stack, &place, &mut context) {
            Caller::None => break,
            Caller::Found(next, how) => Some((next, how)),
            Caller::Unknown => linked(program, &place).map(|next| (next, How::LinkRegister)).or_else(|| {
                let from = place.registers[SP].unwrap_or(stack.at);
                scanned(program, stack, from).map(|next| (next, How::Stack))
            }),
        };
        let Some((next, how)) = found else { break };
        place = next;
        steps.push(step(&place, how));
    }
    steps
}

fn step(place: &Place, how: How) -> Step {
    let address = place.registers[PC].unwrap_or_default() & !1;
    Step { address, at: place.at, how, guessed: place.guessed }
}

fn unwound(
    program: &Program<'_>,
    stack: Stack<'_>,
    place: &Place,
    context: &mut UnwindContext<usize>,
) -> Caller {
    let Some(row) = program.row(place.at, context) else { return Caller::Unknown };
    let Some(sp) = frame_end(row, place) else { return Caller::Unknown };
    let mut registers: Registers = std::array::from_fn(|n| restored(row, place, stack, sp, n));
    registers[SP] = Some(sp);
    let saved_nowhere = matches!(row.register(gimli::Arm::LR), RegisterRule::Undefined);
    let back = match (saved_nowhere, place.is_innermost) {
        (true, true) => place.registers[LR],
        // It called others and kept no way back: the outermost.
        (true, false) => return Caller::None,
        (false, _) => registers[LR],
    };
    registers[LR] = None;
    let Some(back) = back else { return Caller::Unknown };
    if back == 0 || back == u32::MAX {
        return Caller::None;
    }
    if EXC_RETURN.contains(&back) {
        return interrupted(program, stack, back, registers, sp, place.guessed);
    }
    if !program.is_code(back & !1) || (place.guessed && !program.is_return_address(back)) {
        return Caller::Unknown;
    }
    registers[PC] = Some(back);
    let at = (back & !1).wrapping_sub(1);
    Caller::Found(Place { registers, at, is_innermost: false, guessed: place.guessed }, How::Unwound)
}

/// The stack pointer of the caller; never below ours.
fn frame_end(row: &UnwindTableRow<usize>, place: &Place) -> Option<u32> {
    let CfaRule::RegisterAndOffset { register, offset } = row.cfa() else { return None };
    let base = (*place.registers.get(usize::from(register.0))?)?;
    let end = base.checked_add_signed(i32::try_from(*offset).ok()?)?;
    let from = place.registers[SP];
    (place.is_innermost && from.is_none_or(|sp| sp <= end) || from.is_some_and(|sp| sp < end)).then_some(end)
}

fn restored(
    row: &UnwindTableRow<usize>,
    place: &Place,
    stack: Stack<'_>,
    frame_end: u32,
    number: usize,
) -> Option<u32> {
    let offset = |offset: i64| frame_end.checked_add_signed(i32::try_from(offset).ok()?);
    match row.register(gimli::Register(number as u16)) {
        // Nothing is said: callers rely on the calling convention.
        RegisterRule::Undefined => place.registers[number].filter(|_| SAVED.contains(&number)),
        RegisterRule::SameValue => place.registers[number],
        RegisterRule::Offset(at) => stack.word(offset(at)?),
        RegisterRule::ValOffset(at) => offset(at),
        RegisterRule::Register(other) => place.registers.get(usize::from(other.0)).copied().flatten(),
        _ => None,
    }
}

/// What the exception interrupted whose handler has just been left: the processor put it on the stack (Armv8-M ARM B3.19).
fn interrupted(
    program: &Program<'_>,
    stack: Stack<'_>,
    exc_return: u32,
    mut registers: Registers,
    sp: u32,
    guessed: bool,
) -> Caller {
    if exc_return & EXC_RETURN_PROCESS_STACK != 0 {
        return Caller::None;
    }
    let word = |index: u32| stack.word(sp.checked_add(index * 4)?);
    for (index, number) in [(0, 0), (1, 1), (2, 2), (3, 3), (4, 12), (5, LR), (6, PC)] {
        registers[number] = word(index);
    }
    let (Some(pc), Some(xpsr)) = (registers[PC], word(7)) else { return Caller::Unknown };
    let frame = if exc_return & EXC_RETURN_NO_FLOAT != 0 { FRAME_BYTES } else { FLOAT_FRAME_BYTES };
    let padding = if xpsr & XPSR_PADDED != 0 { 4 } else { 0 };
    registers[SP] = sp.checked_add(frame + padding);
    if registers[SP].is_none() || !program.is_code(pc & !1) {
        return Caller::Unknown;
    }
    Caller::Found(Place { registers, at: pc & !1, is_innermost: true, guessed }, How::Interrupted)
}

/// The caller that the link register names, of code that nothing is known of: right when it called nobody yet, as after a jump to nowhere.
fn linked(program: &Program<'_>, place: &Place) -> Option<Place> {
    let lr = place.registers[LR].filter(|lr| place.is_innermost && program.is_return_address(*lr))?;
    let mut registers = place.registers;
    registers[PC] = Some(lr);
    registers[LR] = None;
    Some(Place { registers, at: (lr & !1).wrapping_sub(1), is_innermost: false, guessed: true })
}

/// The next word of the stack that looks like a return address. It is taken for the last that its function put there.
fn scanned(program: &Program<'_>, stack: Stack<'_>, from: u32) -> Option<Place> {
    let mut at = from.checked_next_multiple_of(4)?;
    while let Some(word) = stack.word(at) {
        at = at.checked_add(4)?;
        if program.is_return_address(word) {
            let mut registers = Registers::default();
            registers[PC] = Some(word);
            registers[SP] = Some(at);
            return Some(Place {
                registers,
                at: (word & !1).wrapping_sub(1),
                is_innermost: false,
                guessed: true,
            });
        }
    }
    None
}

impl Stack<'_> {
    fn contains(&self, at: u32) -> bool {
        at.checked_sub(self.at).is_some_and(|skip| (skip as usize) <= self.bytes.len())
    }

    fn word(&self, at: u32) -> Option<u32> {
        let from = usize::try_from(at.checked_sub(self.at)?).ok()?;
        let word = self.bytes.get(from..from.checked_add(4)?)?;
        Some(u32::from_le_bytes(word.try_into().ok()?))
    }
}
