//! A processor for the tests: a useful part of Thumb-2, written from the manual and without a look at `step.rs`.
//!
//! It knows one instruction at a time and nothing of debuggers, so it says where a step must come out.

/// Where the program lies.
pub(crate) const CODE: u32 = 0x0020_0000;
pub(crate) const RAM: u32 = 0x2820_0000;
pub(crate) const SIZE: u32 = 4096;
/// Calls of the microvisor: whatever is entered here does its work and returns.
pub(crate) const GATEWAY: u32 = 0x101f_0000;

const SP: usize = 13;
const LR: usize = 14;
const PC: usize = 15;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Done,
    Breakpoint,
    /// It sleeps until an interrupt comes.
    Waits,
    Fault,
}

/// Not an instruction, or not its memory.
#[derive(Debug, Clone, Copy)]
struct Fault;

#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Machine {
    pub r: [u32; 16],
    pub xpsr: u32,
    /// The stack pointer that is not in use.
    pub other_sp: u32,
    /// Threads use the process stack.
    pub spsel: bool,
    pub code: Vec<u8>,
    pub ram: Vec<u8>,
    pub monitor: bool,
    /// The program may change itself.
    pub writes_code: bool,
    /// It has read its own instructions.
    pub read_code: bool,
    /// Calls of the microvisor.
    pub calls: u32,
    /// An interrupt waits, and goes there.
    pub interrupt: Option<u32>,
}

/// Its registers and the program's beginning: memory would fill pages.
impl core::fmt::Debug for Machine {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let Machine { r, xpsr, other_sp, spsel, code, calls, .. } = self;
        write!(f, "{r:x?} {xpsr:x} {other_sp:x} {spsel} {calls} {:02x?}", &code[..128])
    }
}

impl Machine {
    pub(crate) fn new(program: &[u16]) -> Machine {
        let mut code: Vec<u8> = program.iter().flat_map(|word| word.to_le_bytes()).collect();
        code.resize(SIZE as usize, 0xde);
        let mut r = [0; 16];
        (r[SP], r[LR], r[PC]) = (RAM + SIZE / 2, CODE + 0x801, CODE);
        Machine {
            r,
            xpsr: 1 << 24,
            other_sp: RAM + SIZE,
            spsel: false,
            code,
            ram: vec![0; SIZE as usize],
            monitor: false,
            writes_code: false,
            read_code: false,
            calls: 0,
            interrupt: None,
        }
    }

    pub(crate) fn in_handler(&self) -> bool {
        self.xpsr & 0x1ff != 0
    }

    fn uses_psp(&self) -> bool {
        self.spsel && !self.in_handler()
    }

    /// Main and process stack pointers.
    pub(crate) fn stacks(&self) -> (u32, u32) {
        if self.uses_psp() { (self.other_sp, self.r[SP]) } else { (self.r[SP], self.other_sp) }
    }

    /// The bytes at an address, if they are the program's.
    pub(crate) fn bytes(&mut self, at: u32, length: usize) -> Option<&mut [u8]> {
        let memory = match at {
            CODE..0x0020_1000 => &mut self.code,
            RAM..0x2820_1000 => &mut self.ram,
            _ => return None,
        };
        let from = (at & 0xfff) as usize;
        memory.get_mut(from..from + length)
    }

    fn load(&mut self, at: u32, length: usize) -> Result<u32, Fault> {
        let mut value = [0; 4];
        value[..length].copy_from_slice(self.bytes(at, length).ok_or(Fault)?);
        self.read_code |= at < RAM;
        Ok(u32::from_le_bytes(value))
    }

    fn store(&mut self, at: u32, length: usize, value: u32) -> Result<(), Fault> {
        if at < RAM && !self.writes_code {
            return Err(Fault);
        }
        self.bytes(at, length).ok_or(Fault)?.copy_from_slice(&value.to_le_bytes()[..length]);
        Ok(())
    }

    fn word(&mut self, at: u32) -> Result<u32, Fault> {
        if at & 3 != 0 { Err(Fault) } else { self.load(at, 4) }
    }

    fn fetch(&mut self, at: u32) -> Result<u16, Fault> {
        let bytes = self.bytes(at, 2).ok_or(Fault)?;
        Ok(u16::from_le_bytes([bytes[0], bytes[1]]))
    }

    /// Takes the interrupt that waits.
    pub(crate) fn interrupted(&mut self) {
        let Some(handler) = self.interrupt.take().filter(|_| !self.in_handler()) else { return };
        let exc_return = if self.uses_psp() { 0xffff_ffbc } else { 0xffff_ffb8 };
        let frame = self.r[SP] - 32;
        let values = [0, 1, 2, 3, 12, LR, PC].map(|number| self.r[number]);
        for (at, value) in (frame..).step_by(4).zip(values.into_iter().chain([self.xpsr])) {
            self.store(at, 4, value).map_err(|_| ()).expect("a stack in memory");
        }
        if self.uses_psp() {
            self.r[SP] = self.other_sp;
            self.other_sp = frame;
        } else {
            self.r[SP] = frame;
        }
        self.xpsr = 1 << 24 | 16;
        (self.r[LR], self.r[PC], self.monitor) = (exc_return, handler & !1, false);
    }

    /// Runs one instruction.
    pub(crate) fn one(&mut self) -> Outcome {
        let before = (self.r, self.xpsr);
        match self.execute() {
            Ok(Outcome::Done) => self.enter(),
            Ok(outcome) => outcome,
            Err(Fault) => {
                (self.r, self.xpsr) = before;
                Outcome::Fault
            }
        }
    }

    /// What it comes upon: a call of the microvisor is done, and what is no code faults there.
    fn enter(&mut self) -> Outcome {
        if self.r[PC] == GATEWAY {
            self.calls += 1;
            (self.r[0], self.r[1], self.r[PC]) = (self.calls, 0, self.r[LR] & !1);
        }
        let is_code = self.bytes(self.r[PC], 2).is_some();
        if is_code && self.xpsr & 1 << 24 != 0 { Outcome::Done } else { Outcome::Fault }
    }

    fn execute(&mut self) -> Result<Outcome, Fault> {
        let pc = self.r[PC];
        let first = self.fetch(pc)?;
        if first >> 8 == 0xbe {
            return Ok(Outcome::Breakpoint);
        }
        if first == 0xbf30 {
            return Ok(Outcome::Waits);
        }
        let long = matches!(first >> 11, 0b11101..=0b11111);
        let second = if long { self.fetch(pc + 2)? } else { 0 };
        self.r[PC] = pc + if long { 4 } else { 2 };
        let state = self.it();
        let passes = state & 0xf == 0 || self.condition(state >> 4);
        let sets = state & 0xf == 0;
        if state & 0xf != 0 {
            self.set_it(if state & 7 == 0 { 0 } else { state & 0xe0 | state << 1 & 0x1f });
        }
        if passes {
            if long { self.long(pc, first, second)? } else { self.short(pc, first, sets)? }
        }
        Ok(Outcome::Done)
    }

    fn it(&self) -> u8 {
        (self.xpsr >> 25 & 3 | self.xpsr >> 10 << 2 & 0xfc) as u8
    }

    fn set_it(&mut self, state: u8) {
        let state = u32::from(state);
        self.xpsr = self.xpsr & !(3 << 25 | 0x3f << 10) | (state & 3) << 25 | (state >> 2) << 10;
    }

    fn condition(&self, condition: u8) -> bool {
        let flag = |bit: u32| self.xpsr >> bit & 1 != 0;
        let (n, z, c, v) = (flag(31), flag(30), flag(29), flag(28));
        match condition {
            0 => z,
            1 => !z,
            2 => c,
            3 => !c,
            4 => n,
            5 => !n,
            6 => v,
            7 => !v,
            8 => c && !z,
            9 => !c || z,
            10 => n == v,
            11 => n != v,
            12 => !z && n == v,
            13 => z || n != v,
            _ => true,
        }
    }

    fn flag(&mut self, bit: u32, on: bool) {
        self.xpsr = self.xpsr & !(1 << bit) | u32::from(on) << bit;
    }

    fn nz(&mut self, value: u32) {
        self.flag(31, value >> 31 != 0);
        self.flag(30, value == 0);
    }

    /// a + b + carry, with all flags.
    fn add(&mut self, a: u32, b: u32, carry: bool, sets: bool) -> u32 {
        let wide = u64::from(a) + u64::from(b) + u64::from(carry);
        let value = wide as u32;
        if sets {
            self.nz(value);
            self.flag(29, wide >> 32 != 0);
            self.flag(28, (a ^ value) & (b ^ value) & 1 << 31 != 0);
        }
        value
    }

    fn set(&mut self, number: usize, value: u32) {
        match number {
            SP => self.r[SP] = value & !3,
            PC => self.r[PC] = value & !1,
            number => self.r[number] = value,
        }
    }

    /// A value that names a state, or the end of an exception, goes to pc.
    fn exchange(&mut self, value: u32) -> Result<(), Fault> {
        if self.in_handler() && value >> 24 == 0xff {
            return self.exception_return(value);
        }
        self.flag(24, value & 1 != 0);
        self.r[PC] = value & !1;
        Ok(())
    }

    fn exception_return(&mut self, value: u32) -> Result<(), Fault> {
        let psp = value & 4 != 0;
        let frame = if psp { self.other_sp } else { self.r[SP] };
        let mut words = [0; 8];
        for (word, at) in words.iter_mut().zip((frame..).step_by(4)) {
            *word = self.load(at, 4)?;
        }
        let [r0, r1, r2, r3, r12, lr, pc, xpsr] = words;
        (self.r[0], self.r[1], self.r[2], self.r[3]) = (r0, r1, r2, r3);
        (self.r[12], self.r[LR], self.r[PC], self.xpsr) = (r12, lr, pc, xpsr);
        if psp {
            self.other_sp = self.r[SP];
        }
        (self.r[SP], self.spsel) = (frame + 32, psp);
        Ok(())
    }

    fn short(&mut self, pc: u32, word: u16, sets: bool) -> Result<(), Fault> {
        let w = u32::from(word);
        let low = |from: u32| (w >> from & 7) as usize;
        let [rd, rn, rm] = [low(0), low(3), low(6)];
        match word >> 11 {
            kind @ 0..=2 => {
                let amount = w >> 6 & 31;
                let value = self.r[rn];
                self.r[rd] = match (kind, amount) {
                    (0, amount) => value << amount,
                    (1, 0) => 0,
                    (1, amount) => value >> amount,
                    (_, 0) => (value as i32 >> 31) as u32,
                    (_, amount) => (value as i32 >> amount) as u32,
                };
                if sets {
                    self.nz(self.r[rd]);
                }
            }
            3 => {
                let operand = if w & 1 << 10 != 0 { rm as u32 } else { self.r[rm] };
                let subtracts = w & 1 << 9 != 0;
                let operand = if subtracts { !operand } else { operand };
                self.r[rd] = self.add(self.r[rn], operand, subtracts, sets);
            }
            4 => {
                self.r[low(8)] = w & 0xff;
                if sets {
                    self.nz(w & 0xff);
                }
            }
            5 => _ = self.add(self.r[low(8)], !(w & 0xff), true, true),
            6 => self.r[low(8)] = self.add(self.r[low(8)], w & 0xff, false, sets),
            7 => self.r[low(8)] = self.add(self.r[low(8)], !(w & 0xff), true, sets),
            8 if w & 1 << 10 == 0 => self.data(w >> 6 & 15, rd, self.r[rn], sets),
            8 => return self.high(pc, w),
            9 => self.r[low(8)] = self.word(((pc + 4) & !3) + (w & 0xff) * 4)?,
            10 | 11 => {
                let at = self.r[rn].wrapping_add(self.r[rm]);
                match w >> 9 & 7 {
                    0 => self.store_aligned(at, 4, self.r[rd])?,
                    1 => self.store_aligned(at, 2, self.r[rd])?,
                    2 => self.store(at, 1, self.r[rd])?,
                    3 => self.r[rd] = self.load(at, 1)? as u8 as i8 as u32,
                    4 => self.r[rd] = self.word(at)?,
                    5 => self.r[rd] = self.load_half(at)?,
                    6 => self.r[rd] = self.load(at, 1)?,
                    _ => self.r[rd] = self.load_half(at)? as u16 as i16 as u32,
                }
            }
            kind @ 12..=17 => {
                let size = [4, 1, 2][(kind as usize - 12) / 2];
                let at = self.r[rn].wrapping_add((w >> 6 & 31) * size);
                match (kind & 1, size) {
                    (0, size) => self.store_aligned(at, size as usize, self.r[rd])?,
                    (_, 4) => self.r[rd] = self.word(at)?,
                    (_, 2) => self.r[rd] = self.load_half(at)?,
                    _ => self.r[rd] = self.load(at, 1)?,
                }
            }
            18 => self.store_aligned(self.r[SP].wrapping_add((w & 0xff) * 4), 4, self.r[low(8)])?,
            19 => self.r[low(8)] = self.word(self.r[SP].wrapping_add((w & 0xff) * 4))?,
            20 => self.r[low(8)] = ((pc + 4) & !3) + (w & 0xff) * 4,
            21 => self.r[low(8)] = self.r[SP].wrapping_add((w & 0xff) * 4),
            22 | 23 => return self.other(pc, w),
            24 => {
                let (base, list) = (low(8), w & 0xff);
                let mut at = self.r[base];
                for number in (0..8).filter(|bit| list >> bit & 1 != 0) {
                    self.store_aligned(at, 4, self.r[number])?;
                    at = at.wrapping_add(4);
                }
                self.r[base] = at;
            }
            25 => {
                let (base, list) = (low(8), w & 0xff);
                let mut at = self.r[base];
                for number in (0..8).filter(|bit| list >> bit & 1 != 0) {
                    self.r[number] = self.word(at)?;
                    at = at.wrapping_add(4);
                }
                if list >> base & 1 == 0 {
                    self.r[base] = at;
                }
            }
            26 | 27 => match w >> 8 & 15 {
                14 => return Err(Fault),
                // Its handler has run.
                15 => {}
                condition if self.condition(condition as u8) => {
                    self.r[PC] = (pc + 4).wrapping_add(((w as u8 as i8 as i32) * 2) as u32);
                }
                _ => {}
            },
            28 => self.r[PC] = (pc + 4).wrapping_add((((w << 21) as i32) >> 20) as u32),
            _ => return Err(Fault),
        }
        Ok(())
    }

    fn store_aligned(&mut self, at: u32, length: usize, value: u32) -> Result<(), Fault> {
        if !(at as usize).is_multiple_of(length) { Err(Fault) } else { self.store(at, length, value) }
    }

    fn load_half(&mut self, at: u32) -> Result<u32, Fault> {
        if at & 1 != 0 { Err(Fault) } else { self.load(at, 2) }
    }

    fn data(&mut self, operation: u32, rd: usize, operand: u32, sets: bool) {
        let value = self.r[rd];
        let amount = operand & 0xff;
        let carry = self.xpsr & 1 << 29 != 0;
        if let 10 | 11 = operation {
            let operand = if operation == 10 { !operand } else { operand };
            let _ = self.add(value, operand, operation == 10, true);
            return;
        }
        let result = match operation {
            0 | 8 => value & operand,
            1 => value ^ operand,
            2 => value.checked_shl(amount).unwrap_or(0),
            3 => value.checked_shr(amount).unwrap_or(0),
            4 => (value as i32 >> amount.min(31)) as u32,
            5 => return self.r[rd] = self.add(value, operand, carry, sets),
            6 => return self.r[rd] = self.add(value, !operand, carry, sets),
            7 => value.rotate_right(amount & 31),
            9 => return self.r[rd] = self.add(!operand, 0, true, sets),
            12 => value | operand,
            13 => value.wrapping_mul(operand),
            14 => value & !operand,
            _ => !operand,
        };
        if sets || operation == 8 {
            self.nz(result);
        }
        if operation != 8 {
            self.r[rd] = result;
        }
    }

    fn high(&mut self, pc: u32, w: u32) -> Result<(), Fault> {
        let rd = (w & 7 | w >> 4 & 8) as usize;
        let rm = (w >> 3 & 15) as usize;
        let read = |number: usize| if number == PC { pc + 4 } else { self.r[number] };
        let (left, right) = (read(rd), read(rm));
        match w >> 8 & 3 {
            0 => self.set(rd, left.wrapping_add(right)),
            1 => _ = self.add(left, !right, true, true),
            2 => self.set(rd, right),
            _ if w & 7 != 0 => return Err(Fault),
            _ => {
                if w & 0x80 != 0 {
                    self.r[LR] = (pc + 2) | 1;
                }
                return self.exchange(right);
            }
        }
        Ok(())
    }

    fn other(&mut self, pc: u32, w: u32) -> Result<(), Fault> {
        match w >> 8 & 15 {
            0 if w & 0x80 == 0 => self.r[SP] = self.r[SP].wrapping_add((w & 0x7f) * 4),
            0 => self.r[SP] = self.r[SP].wrapping_sub((w & 0x7f) * 4),
            1 | 3 | 9 | 11 => {
                let jumps = (self.r[(w & 7) as usize] == 0) != (w >> 11 & 1 != 0);
                if jumps {
                    self.r[PC] = pc + 4 + ((w >> 9 & 1) << 6 | (w >> 3 & 31) << 1);
                }
            }
            2 => {
                let value = self.r[(w >> 3 & 7) as usize];
                self.r[(w & 7) as usize] = match w >> 6 & 3 {
                    0 => value as u16 as i16 as u32,
                    1 => value as u8 as i8 as u32,
                    2 => u32::from(value as u16),
                    _ => u32::from(value as u8),
                };
            }
            4 | 5 => {
                let list = w & 0xff | (w >> 8 & 1) << 14;
                self.push(list)?;
            }
            12 | 13 => {
                let list = w & 0xff | (w >> 8 & 1) << 15;
                return self.pop(list);
            }
            // Hints do nothing, and with a mask it is IT.
            15 if w & 15 != 0 => self.set_it(w as u8),
            15 => {}
            _ => return Err(Fault),
        }
        Ok(())
    }

    fn push(&mut self, list: u32) -> Result<(), Fault> {
        let mut at = self.r[SP].wrapping_sub(4 * list.count_ones());
        let sp = at;
        for number in (0..15).filter(|bit| list >> bit & 1 != 0) {
            self.store_aligned(at, 4, self.r[number])?;
            at = at.wrapping_add(4);
        }
        self.r[SP] = sp;
        Ok(())
    }

    fn pop(&mut self, list: u32) -> Result<(), Fault> {
        let mut at = self.r[SP];
        let mut target = None;
        for number in (0..16).filter(|bit| list >> bit & 1 != 0) {
            let value = self.word(at)?;
            at = at.wrapping_add(4);
            if number == PC { target = Some(value) } else { self.r[number] = value }
        }
        self.r[SP] = at;
        target.map_or(Ok(()), |target| self.exchange(target))
    }

    fn long(&mut self, pc: u32, first: u16, second: u16) -> Result<(), Fault> {
        let [i, j] = [u32::from(first), u32::from(second)];
        let rn = (i & 15) as usize;
        let base = if rn == PC { pc + 4 } else { self.r[rn] };
        let rt = (j >> 12) as usize;
        match first {
            // B, BL
            0xf000..=0xf7ff if j >> 15 != 0 => return self.long_branch(pc, i, j),
            // LDREX, STREX
            0xe850..=0xe85f => {
                self.r[rt] = self.word(base.wrapping_add((j & 0xff) * 4))?;
                self.monitor = true;
            }
            0xe840..=0xe84f => {
                let fails = !core::mem::take(&mut self.monitor);
                if !fails {
                    self.store_aligned(base.wrapping_add((j & 0xff) * 4), 4, self.r[rt])?;
                }
                self.r[(j >> 8 & 15) as usize] = u32::from(fails);
            }
            // CLREX
            0xf3bf if j == 0x8f2f => self.monitor = false,
            // TBB, TBH
            0xe8d0..=0xe8df if j >> 5 == 0x780 => {
                let index = self.r[(j & 15) as usize];
                let entry = match j & 16 {
                    0 => self.load(base.wrapping_add(index), 1)?,
                    _ => self.load_half(base.wrapping_add(index << 1))?,
                };
                self.r[PC] = (pc + 4).wrapping_add(entry * 2);
            }
            // LDMIA, LDMDB
            0xe890..=0xe89f | 0xe8b0..=0xe8bf | 0xe910..=0xe91f | 0xe930..=0xe93f => {
                if j == 0 || rn == PC || j & 1 << SP != 0 || j >> 14 == 3 {
                    return Err(Fault);
                }
                let bytes = 4 * j.count_ones();
                let after = if i & 0x100 == 0 { base.wrapping_add(bytes) } else { base.wrapping_sub(bytes) };
                let mut at = if i & 0x100 == 0 { base } else { after };
                let mut values = self.r;
                for number in (0..16).filter(|bit| j >> bit & 1 != 0) {
                    values[number] = self.word(at)?;
                    at = at.wrapping_add(4);
                }
                let target = values[PC];
                values[PC] = self.r[PC];
                self.r = values;
                if i & 0x20 != 0 && j >> rn & 1 == 0 {
                    self.r[rn] = after;
                }
                if j >> 15 != 0 {
                    return self.exchange(target);
                }
            }
            // LDR (immediate, literal, register)
            0xf850..=0xf85f | 0xf8d0..=0xf8df => {
                let mut after = None;
                let at = if rn == PC {
                    let base = base & !3;
                    if i & 0x80 != 0 { base.wrapping_add(j & 0xfff) } else { base.wrapping_sub(j & 0xfff) }
                } else if i & 0x80 != 0 {
                    base.wrapping_add(j & 0xfff)
                } else if j >> 6 & 0x3f == 0 {
                    base.wrapping_add(self.r[(j & 15) as usize] << (j >> 4 & 3))
                } else if j & 0x800 != 0 && j & 0x500 != 0 {
                    let offset = j & 0xff;
                    let indexed =
                        if j & 0x200 != 0 { base.wrapping_add(offset) } else { base.wrapping_sub(offset) };
                    after = (j & 0x100 != 0).then_some(indexed);
                    if j & 0x400 != 0 { indexed } else { base }
                } else {
                    return Err(Fault);
                };
                let value = self.word(at)?;
                if let Some(after) = after {
                    self.set(rn, after);
                }
                if rt == PC {
                    return self.exchange(value);
                }
                self.set(rt, value);
            }
            _ => return Err(Fault),
        }
        Ok(())
    }

    fn long_branch(&mut self, pc: u32, i: u32, j: u32) -> Result<(), Fault> {
        let (s, j1, j2) = (i >> 10 & 1, j >> 13 & 1, j >> 11 & 1);
        let offset = match j >> 12 & 5 {
            0 => {
                let condition = i >> 6 & 15;
                if condition >= 14 {
                    return Err(Fault);
                }
                if !self.condition(condition as u8) {
                    return Ok(());
                }
                let value = s << 31 | j2 << 30 | j1 << 29 | (i & 0x3f) << 23 | (j & 0x7ff) << 12;
                (value as i32 >> 11) as u32
            }
            kind @ (1 | 5) => {
                if kind == 5 {
                    self.r[LR] = (pc + 4) | 1;
                }
                let (i1, i2) = (1 ^ j1 ^ s, 1 ^ j2 ^ s);
                let value = s << 31 | i1 << 30 | i2 << 29 | (i & 0x3ff) << 19 | (j & 0x7ff) << 8;
                (value as i32 >> 7) as u32
            }
            _ => return Err(Fault),
        };
        self.r[PC] = (pc + 4).wrapping_add(offset);
        Ok(())
    }
}
