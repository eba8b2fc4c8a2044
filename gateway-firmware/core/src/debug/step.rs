//! Where one instruction leads: the step of a processor that cannot step itself.
//!
//! Thumb-2 of the Armv8-M mainline without FPU (Arm DDI 0553, chapter C2), from registers and memory alone. What cannot be an instruction
//! leads to the next one and never arrives: it faults. Three things are one step though they are more: an exclusive access up to its store,
//! since an exception between the two would make the store fail for ever; a call of code that is not the application's; and `SVC`.

use heapless::Vec;

use super::breakpoints::STEP_TARGETS_MAX;
use crate::ports::Registers;

/// Instructions from a load-exclusive to its store, at most.
pub const EXCLUSIVE_MAX: usize = 16;

const SP: usize = 13;
const LR: usize = 14;
const PC: usize = 15;
const XPSR: usize = 16;
const PSP: usize = 18;

/// Values from here on are no addresses, when a handler returns to them: `EXC_RETURN`.
const EXC_RETURN: u32 = 0xff00_0000;
/// Bit 2 of it: the frame is on the process stack.
const EXC_RETURN_SPSEL: u32 = 1 << 2;
/// Where pc is in a frame.
const FRAME_PC: u32 = 24;

/// The application's memory, as instructions see it.
pub(crate) trait Code {
    fn halfword(&mut self, at: u32) -> Option<u16>;
    fn word(&mut self, at: u32) -> Option<u32>;
    /// A breakpoint may be planted here.
    fn is_code(&self, at: u32) -> bool;
}

/// How to step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Plan {
    /// It comes out at one of these; nowhere at all if there is none.
    Run(Vec<u32, STEP_TARGETS_MAX>),
    /// It leads to itself. Nothing changes, but the link register where there is a value.
    Stays(Option<u32>),
}

/// What an instruction does to pc.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flow {
    Next,
    /// To here, if it is taken. `bx`: the value names a state, or the end of an exception.
    Branch {
        to: Option<u32>,
        taken: bool,
        bx: bool,
        links: bool,
        /// The stack pointer after it.
        sp: u32,
    },
}

/// What a step from these registers is.
pub(crate) fn plan(registers: &Registers, code: &mut impl Code) -> Plan {
    let mut view = View { registers, pc: registers[PC], code };
    let Some(first) = view.fetch() else { return Plan::Run(Vec::new()) };
    let executes = it_condition(registers[XPSR]).is_none_or(|condition| holds(condition, registers[XPSR]));
    if !executes {
        return view.run(Some(first.after(registers[PC])));
    }
    if first.exclusive() == Some(Exclusive::Load)
        && let Some(plan) = view.exclusive(first)
    {
        return plan;
    }
    let next = first.after(registers[PC]);
    match view.flow(first) {
        Flow::Branch { to, taken: true, bx, links, sp } => {
            let itself = to.is_some_and(|to| to & !1 == registers[PC] && (!bx || to & 1 == 1));
            let to = to.and_then(|to| view.arrives(to, bx, links.then_some(next), sp));
            match to {
                Some(_) if itself && sp == registers[SP] && !first.changes_registers() => {
                    Plan::Stays(links.then_some(next | 1))
                }
                // Nothing can be planted in the instruction itself before it has run.
                Some(to) if (registers[PC]..next).contains(&to) => Plan::Run(Vec::new()),
                to => view.run(to),
            }
        }
        Flow::Next | Flow::Branch { .. } => view.run(Some(next)),
    }
}

/// xPSR after an instruction that was passed over: of an IT block, the next one's turn.
pub(crate) fn advance_it(xpsr: u32) -> u32 {
    let state = it_state(xpsr);
    let next = if state & 7 == 0 { 0 } else { state & 0xe0 | (state << 1) & 0x1f };
    xpsr & !0x0600_fc00 | (next & 3) << 25 | (next & 0xfc) << 8
}

fn it_state(xpsr: u32) -> u32 {
    xpsr >> 25 & 3 | xpsr >> 8 & 0xfc
}

/// The condition of an instruction in an IT block.
fn it_condition(xpsr: u32) -> Option<u32> {
    let state = it_state(xpsr);
    (state & 0xf != 0).then_some(state >> 4)
}

/// C1.3: whether a condition holds.
fn holds(condition: u32, xpsr: u32) -> bool {
    let [n, z, c, v] = [31, 30, 29, 28].map(|bit| xpsr >> bit & 1 == 1);
    let plain = match condition >> 1 {
        0 => z,
        1 => c,
        2 => n,
        3 => v,
        4 => c && !z,
        5 => n == v,
        6 => n == v && !z,
        _ => return true,
    };
    plain != (condition & 1 == 1)
}

fn sign_extend(value: u32, bits: u32) -> u32 {
    let shift = 32 - bits;
    ((value << shift).cast_signed() >> shift).cast_unsigned()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Exclusive {
    Load,
    Store,
}

/// One instruction: its first halfword, and the second of a long one.
#[derive(Debug, Clone, Copy)]
struct Instruction {
    first: u32,
    second: Option<u32>,
}

impl Instruction {
    fn after(self, pc: u32) -> u32 {
        pc.wrapping_add(if self.second.is_some() { 4 } else { 2 })
    }

    /// A branch that may change more than pc and the link register: LDM, and LDR that writes its base back.
    fn changes_registers(self) -> bool {
        let Some(second) = self.second else { return false };
        self.first & 0xfe50 == 0xe810 || self.first & 0xfff0 == 0xf850 && second & 0x900 == 0x900
    }

    fn exclusive(self) -> Option<Exclusive> {
        let second = self.second?;
        // LDREX, STREX; what looks like the latter with r15 is TT.
        match self.first & 0xfff0 {
            0xe850 => return Some(Exclusive::Load),
            0xe840 if second >> 12 != 15 => return Some(Exclusive::Store),
            0xe8c0 | 0xe8d0 => {}
            _ => return None,
        }
        // LDREXB, LDREXH, LDAEXB, LDAEXH, LDAEX, and the stores.
        if !matches!(second & 0xf0, 0x40 | 0x50 | 0xc0 | 0xd0 | 0xe0) {
            return None;
        }
        Some(if self.first & 0x10 == 0 { Exclusive::Store } else { Exclusive::Load })
    }
}

/// An instruction's surroundings.
struct View<'a, C> {
    registers: &'a Registers,
    pc: u32,
    code: &'a mut C,
}

impl<C: Code> View<'_, C> {
    /// The instruction at pc.
    fn fetch(&mut self) -> Option<Instruction> {
        let first = u32::from(self.code.halfword(self.pc)?);
        let second = match first >> 11 {
            0x1d.. => Some(u32::from(self.code.halfword(self.pc.wrapping_add(2))?)),
            _ => None,
        };
        Some(Instruction { first, second })
    }

    fn register(&self, number: u32) -> u32 {
        match number as usize & 15 {
            PC => self.pc.wrapping_add(4),
            number => self.registers[number],
        }
    }

    fn run(&self, to: Option<u32>) -> Plan {
        Plan::Run(to.into_iter().filter(|to| self.code.is_code(*to)).collect())
    }

    /// Where a branch to this value comes out. A call of code that is not the application's comes out where it returns.
    fn arrives(&mut self, to: u32, bx: bool, link: Option<u32>, sp: u32) -> Option<u32> {
        let handler = self.registers[XPSR] & 0x1ff != 0;
        if bx && handler && to >= EXC_RETURN {
            let frame = if to & EXC_RETURN_SPSEL == 0 { sp } else { self.registers[PSP] };
            return Some(self.code.word(frame.wrapping_add(FRAME_PC))? & !1);
        }
        let to = to & !1;
        if self.code.is_code(to) {
            return Some(to);
        }
        Some(link.unwrap_or(self.registers[LR] & !1)).filter(|to| self.code.is_code(*to))
    }

    /// From a load-exclusive to behind its store, or out of there by a branch. None: there is no store.
    fn exclusive(&mut self, load: Instruction) -> Option<Plan> {
        let from = self.pc;
        let mut out: Vec<u32, { STEP_TARGETS_MAX - 1 }> = Vec::new();
        self.pc = load.after(self.pc);
        for _ in 0..EXCLUSIVE_MAX {
            let instruction = self.fetch()?;
            let next = instruction.after(self.pc);
            if instruction.exclusive() == Some(Exclusive::Store) {
                let mut targets: Vec<u32, STEP_TARGETS_MAX> =
                    out.iter().copied().filter(|to| !(from..next).contains(to)).collect();
                if self.code.is_code(next) {
                    let _ = targets.push(next);
                }
                return Some(Plan::Run(targets));
            }
            if let Flow::Branch { to: Some(to), bx, links, sp, .. } = self.flow(instruction)
                && let Some(to) = self.arrives(to, bx, links.then_some(next), sp)
                && !out.contains(&to)
            {
                out.push(to).ok()?;
            }
            self.pc = next;
        }
        None
    }

    fn flow(&mut self, instruction: Instruction) -> Flow {
        match instruction.second {
            None => self.flow_short(instruction.first),
            Some(second) => self.flow_long(instruction.first, second),
        }
    }

    fn branch(&self, to: u32) -> Flow {
        Flow::Branch { to: Some(to), taken: true, bx: false, links: false, sp: self.registers[SP] }
    }

    fn relative(&self, offset: u32, taken: bool) -> Flow {
        let to = Some(self.pc.wrapping_add(4).wrapping_add(offset));
        Flow::Branch { to, taken, bx: false, links: false, sp: self.registers[SP] }
    }

    /// pc loaded from memory; the stack pointer is this then.
    fn load(&mut self, at: u32, sp: u32) -> Flow {
        Flow::Branch { to: self.code.word(at), taken: true, bx: true, links: false, sp }
    }

    fn flow_short(&mut self, word: u32) -> Flow {
        let sp = self.registers[SP];
        let register = self.register(word >> 3 & 15);
        match word {
            // B (T1); conditions 14 and 15 are UDF and SVC.
            0xd000..=0xddff => {
                self.relative(sign_extend(word & 0xff, 8) << 1, holds(word >> 8 & 15, self.registers[XPSR]))
            }
            // B (T2)
            0xe000..=0xe7ff => self.relative(sign_extend(word & 0x7ff, 11) << 1, true),
            // BX, BLX; with bit 2 they leave the world, which is not the application's to do.
            0x4700..=0x47ff if word & 7 == 0 => {
                Flow::Branch { to: Some(register), taken: true, bx: true, links: word & 0x80 != 0, sp }
            }
            // ADD pc, Rm
            0x4400..=0x44ff if word & 0x87 == 0x87 => {
                self.branch(self.pc.wrapping_add(4).wrapping_add(register))
            }
            // MOV pc, Rm
            0x4600..=0x46ff if word & 0x87 == 0x87 => self.branch(register),
            // CBZ, CBNZ
            _ if word & 0xf500 == 0xb100 => {
                let is_zero = self.register(word & 7) == 0;
                let offset = (word >> 3 & 0x1f) << 1 | (word >> 9 & 1) << 6;
                self.relative(offset, is_zero == (word & 0x800 == 0))
            }
            // POP with pc
            0xbd00..=0xbdff => {
                let at = sp.wrapping_add(4 * (word & 0xff).count_ones());
                self.load(at, at.wrapping_add(4))
            }
            _ => Flow::Next,
        }
    }

    fn flow_long(&mut self, first: u32, second: u32) -> Flow {
        let sp = self.registers[SP];
        let number = first & 15;
        let base = self.register(number);
        match first {
            0xf000..=0xf7ff if second & 0x8000 != 0 => self.flow_long_branch(first, second),
            // TBB, TBH
            0xe8d0..=0xe8df if second & 0xffe0 == 0xf000 => {
                let index = self.register(second & 15);
                let entry = match second & 0x10 {
                    0 => self.byte(base.wrapping_add(index)),
                    _ => self.code.halfword(base.wrapping_add(index << 1)).map(u32::from),
                };
                match entry {
                    Some(entry) => self.relative(entry << 1, true),
                    None => Flow::Next,
                }
            }
            // LDM, LDMDB with pc
            0xe890..=0xe8bf | 0xe910..=0xe93f if first & 0x10 != 0 && second & 0x8000 != 0 => {
                let bytes = 4 * second.count_ones();
                let increments = first & 0x100 == 0;
                let (at, after) = match increments {
                    true => (base.wrapping_add(bytes - 4), base.wrapping_add(bytes)),
                    false => (base.wrapping_sub(4), base.wrapping_sub(bytes)),
                };
                let moves_sp = number as usize == SP && first & 0x20 != 0;
                self.load(at, if moves_sp { after } else { sp })
            }
            // LDR pc
            0xf850..=0xf85f | 0xf8d0..=0xf8df if second >> 12 == 15 => self.flow_load(first, second),
            _ => Flow::Next,
        }
    }

    fn flow_long_branch(&self, first: u32, second: u32) -> Flow {
        let [s, j1, j2] = [first >> 10 & 1, second >> 13 & 1, second >> 11 & 1];
        let low = (second & 0x7ff) << 1;
        match second & 0xd000 {
            // B (T3); conditions 14 and 15 are other instructions.
            0x8000 if first >> 7 & 7 != 7 => {
                let offset = s << 20 | j2 << 19 | j1 << 18 | (first & 0x3f) << 12 | low;
                self.relative(sign_extend(offset, 21), holds(first >> 6 & 15, self.registers[XPSR]))
            }
            // B (T4), BL
            0x9000 | 0xd000 => {
                let offset = s << 24 | (1 ^ j1 ^ s) << 23 | (1 ^ j2 ^ s) << 22 | (first & 0x3ff) << 12 | low;
                let to = Some(self.pc.wrapping_add(4).wrapping_add(sign_extend(offset, 25)));
                let links = second & 0x4000 != 0;
                Flow::Branch { to, taken: true, bx: false, links, sp: self.registers[SP] }
            }
            _ => Flow::Next,
        }
    }

    fn flow_load(&mut self, first: u32, second: u32) -> Flow {
        let sp = self.registers[SP];
        let number = first & 15;
        let base = self.register(number);
        let adds = first & 0x80 != 0;
        if number as usize == PC {
            let base = base & !3;
            let offset = second & 0xfff;
            return self.load(if adds { base.wrapping_add(offset) } else { base.wrapping_sub(offset) }, sp);
        }
        if adds {
            return self.load(base.wrapping_add(second & 0xfff), sp);
        }
        if second & 0xfc0 == 0 {
            return self.load(base.wrapping_add(self.register(second & 15) << (second >> 4 & 3)), sp);
        }
        let [is_indexed, adds, writes_back] = [10, 9, 8].map(|bit| second >> bit & 1 == 1);
        if second & 0x800 == 0 || !(is_indexed || writes_back) {
            return Flow::Next;
        }
        let offset = second & 0xff;
        let indexed = if adds { base.wrapping_add(offset) } else { base.wrapping_sub(offset) };
        let moves_sp = number as usize == SP && writes_back;
        self.load(if is_indexed { indexed } else { base }, if moves_sp { indexed } else { sp })
    }

    fn byte(&mut self, at: u32) -> Option<u32> {
        let both = u32::from(self.code.halfword(at & !1)?);
        Some(if at & 1 == 0 { both & 0xff } else { both >> 8 })
    }
}
