//! A device's stub as the messages' comments have it, over a machine that runs Thumb of 16 bits: enough for gdb to step through `fixtures/debug`.
//!
//! It can also lie. Tests only.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use proto::device::v1::{
    CrashKind, DebugAnswer, DebugCall, DebugData, DebugGo, DebugMemory, DebugProblem, DebugRegion,
    DebugState, DebugStop, DebugStopReason, DebugTarget,
};
use wire::manifest::AreaHasher;

use crate::debug::link::Far;
use crate::image;

pub(crate) const ELF: &[u8] = include_bytes!("../../fixtures/debug/program.elf");
pub(crate) const CODE: u32 = 0x0020_0000;
pub(crate) const RAM: u32 = 0x2820_0000;
pub(crate) const UART: u32 = 0x4020_1000;
pub(crate) const COUNTER: u32 = RAM;
pub(crate) const TICKS: u32 = RAM + 4;
pub(crate) const BYTES: u32 = 0x1_0000;
const AREA_BYTES: u32 = 0x4000;
const STACK_TOP: u32 = RAM + BYTES;
const THUMB: u32 = 1 << 24;
const SP: usize = 13;
const LR: usize = 14;
const PC: usize = 15;
const XPSR: usize = 16;
/// Instructions of a `continue` until it is as if it ran for ever.
const BUDGET: usize = 50_000;
/// Of the stack, to those who watch.
const WATCHED_STACK_BYTES: u32 = 512;

/// What others do after a call, and the device tells of it.
pub(crate) type Others = Box<dyn FnMut(&mut Model, &DebugCall) -> Option<DebugAnswer> + Send>;
/// What the device does besides what it should.
pub(crate) type Lie = Box<dyn FnMut(&DebugCall, &mut Vec<DebugAnswer>) + Send>;

#[derive(Default)]
pub(crate) struct Model {
    code: Vec<u8>,
    ram: Vec<u8>,
    registers: [u32; 20],
    breakpoints: BTreeSet<u32>,
    pub(crate) hardware: BTreeSet<u32>,
    /// How many it has.
    comparators: u32,
    pub(crate) running: bool,
    pub(crate) starts: u32,
    stops: u32,
    last: DebugStop,
    /// What comes with the next stop.
    going: DebugCall,
    pub(crate) calls: Vec<DebugCall>,
    /// Nobody calls any more.
    pub(crate) is_over: bool,
    pub(crate) read_only: bool,
    pub(crate) lie: Option<Lie>,
    pub(crate) others: Option<Others>,
}

enum Ran {
    On,
    Breakpoint,
    Fault,
}

impl Model {
    pub(crate) fn new() -> Model {
        let mut model = Model { running: true, starts: 1, ..Model::default() };
        model.code = image::flatten(ELF, BYTES as usize).unwrap();
        model.code.resize(BYTES as usize, 0xff);
        model.ram = vec![0; BYTES as usize];
        model.reset();
        model
    }

    /// With so many breakpoints of the hardware.
    pub(crate) fn with_comparators(comparators: u32) -> Model {
        Model { comparators, ..Model::new() }
    }

    pub(crate) fn reset(&mut self) {
        self.registers = [0; 20];
        self.registers[SP] = STACK_TOP;
        self.registers[PC] = CODE;
        self.registers[XPSR] = THUMB;
        self.ram.fill(0);
    }

    pub(crate) fn poke(&mut self, at: u32, bytes: &[u8]) {
        self.memory(at, bytes.len()).unwrap().copy_from_slice(bytes);
    }

    pub(crate) fn word(&mut self, at: u32) -> u32 {
        u32::from_le_bytes(self.memory(at, 4).unwrap().try_into().unwrap())
    }

    /// Moves its stack, as if the function had been called from further below.
    pub(crate) fn push_stack(&mut self, bytes: u32) {
        self.registers[SP] -= bytes;
    }

    pub(crate) fn planted(&self) -> &BTreeSet<u32> {
        &self.breakpoints
    }

    /// Somebody else lets it run to there: what those who watch are told.
    pub(crate) fn others_run_to(&mut self, at: u32) -> DebugAnswer {
        let planted = std::mem::replace(&mut self.breakpoints, BTreeSet::from([at]));
        self.going = DebugCall { go: DebugGo::Continue.into(), ..DebugCall::default() };
        self.go();
        (self.breakpoints, self.going) = (planted, DebugCall::default());
        self.tell()
    }

    /// Somebody else lets it run.
    pub(crate) fn others_let_go(&mut self) -> DebugAnswer {
        self.running = true;
        self.tell()
    }

    fn tell(&mut self) -> DebugAnswer {
        let call = self.calls.last().map_or(0, |call| call.number);
        self.told(call, &DebugCall { stack_bytes: WATCHED_STACK_BYTES, ..DebugCall::default() }, true)
    }

    fn memory(&mut self, at: u32, length: usize) -> Option<&mut [u8]> {
        let (base, memory) = if at >= RAM { (RAM, &mut self.ram) } else { (CODE, &mut self.code) };
        let from = at.checked_sub(base)? as usize;
        memory.get_mut(from..from.checked_add(length)?)
    }

    pub(crate) fn target(&self) -> DebugTarget {
        let mut hasher = AreaHasher::new();
        hasher.update(&image::flatten(ELF, BYTES as usize).unwrap());
        let region =
            |address, length, memory: DebugMemory| DebugRegion { address, length, memory: memory.into() };
        DebugTarget {
            manifest_digest: vec![7; 32],
            version: "1.2.0".into(),
            image_digest: hasher.finish(AREA_BYTES).0.to_vec(),
            image_bytes: AREA_BYTES,
            regions: vec![
                region(CODE, BYTES, DebugMemory::Code),
                region(RAM, BYTES, DebugMemory::Ram),
                region(UART, 0x1000, DebugMemory::Peripheral),
            ],
            breakpoints_max: 32,
            hardware_breakpoints_max: self.comparators,
            read_bytes_max: if self.read_only { 1024 } else { 3584 },
            write_bytes_max: 2048,
            read_only: self.read_only,
            hold_s: 60,
            microvisor: "0.1.0".into(),
            board: "model".into(),
        }
    }

    /// Takes a call: the answers there are to it now.
    pub(crate) fn take(&mut self, call: DebugCall) -> Vec<DebugAnswer> {
        self.calls.push(call.clone());
        let mut answers = self.answer(&call);
        if let Some(mut lie) = self.lie.take() {
            lie(&call, &mut answers);
            self.lie.get_or_insert(lie);
        }
        if let Some(mut others) = self.others.take() {
            answers.extend(others(self, &call));
            self.others.get_or_insert(others);
        }
        answers
    }

    /// The session is over: what the device does then, whoever it was left by.
    fn end(&mut self) {
        self.breakpoints.clear();
        self.hardware.clear();
        (self.running, self.is_over) = (true, true);
    }

    fn answer(&mut self, call: &DebugCall) -> Vec<DebugAnswer> {
        let only_reads = call.writes.is_empty()
            && call.registers.is_empty()
            && !call.plant
            && call.go() == DebugGo::Unspecified
            && !call.reads.is_empty();
        if let Err((problem, at)) = self.change(call) {
            return vec![DebugAnswer {
                call: call.number,
                starts: self.starts,
                problem: problem.into(),
                problem_at: at,
                state: self.state().into(),
                stop: (!self.running).then(|| self.last.clone()),
                ..DebugAnswer::default()
            }];
        }
        let mut answers = Vec::new();
        let mut wanted = call.clone();
        match call.go() {
            DebugGo::Unspecified => {}
            // What is wanted now comes behind what was wanted before.
            DebugGo::Halt if self.running => {
                wanted = std::mem::take(&mut self.going);
                wanted.reads.extend(call.reads.iter().copied());
                wanted.stack_bytes = wanted.stack_bytes.max(call.stack_bytes);
                self.stand(DebugStopReason::Halt);
            }
            DebugGo::Halt => {}
            DebugGo::Restart => {
                self.reset();
                self.starts += 1;
                self.stand(DebugStopReason::Start);
            }
            _ => {
                self.going = call.clone();
                self.go();
                if !self.running && self.is_then(call) {
                    answers.push(self.told(call.number, call, true));
                    self.going.go = DebugGo::Range.into();
                    self.go();
                }
                if self.running {
                    return answers;
                }
                self.going = DebugCall::default();
            }
        }
        let mut answer = self.told(call.number, &wanted, !only_reads);
        answer.target = call.describe.then(|| self.target());
        answers.push(answer);
        answers
    }

    fn is_then(&self, call: &DebugCall) -> bool {
        call.go() == DebugGo::Continue
            && call.then_at != 0
            && self.last.reason() == DebugStopReason::Breakpoint
            && (self.registers[PC], self.registers[SP]) == (call.then_at, call.then_sp)
    }

    fn told(&mut self, call: u32, wanted: &DebugCall, with_stop: bool) -> DebugAnswer {
        let mut answer =
            DebugAnswer { call, state: self.state().into(), starts: self.starts, ..DebugAnswer::default() };
        for read in &wanted.reads {
            let data = self.memory(read.address, read.length as usize).map(|bytes| bytes.to_vec());
            answer.data.push(DebugData { data: data.unwrap_or_default() });
        }
        if !self.running && with_stop {
            answer.stop = Some(self.stop(wanted));
        }
        answer
    }

    fn stop(&mut self, call: &DebugCall) -> DebugStop {
        let sp = self.registers[SP];
        let bytes = (call.stack_bytes as usize).min(STACK_TOP.saturating_sub(sp) as usize);
        let stack = self.memory(sp, bytes).map(|bytes| bytes.to_vec()).unwrap_or_default();
        self.last.registers = self.registers.iter().flat_map(|word| word.to_le_bytes()).collect();
        DebugStop { stack, ..self.last.clone() }
    }

    fn state(&self) -> DebugState {
        if self.running { DebugState::Running } else { DebugState::Halted }
    }

    fn change(&mut self, call: &DebugCall) -> Result<(), (DebugProblem, u32)> {
        let changes = !call.writes.is_empty() || !call.registers.is_empty();
        if self.read_only && (changes || call.plant || call.go() != DebugGo::Unspecified) {
            return Err((DebugProblem::ReadOnly, 0));
        }
        if self.running && changes {
            return Err((DebugProblem::Running, 0));
        }
        for write in &call.writes {
            let place = self.memory(write.address, write.data.len());
            place.ok_or((DebugProblem::Forbidden, write.address))?.copy_from_slice(&write.data);
        }
        for register in &call.registers {
            let place = self.registers.get_mut(register.number as usize);
            *place.ok_or((DebugProblem::Register, register.number))? = register.value;
        }
        if call.plant {
            let refused = call.breakpoints.iter().find(|at| self.memory(**at, 2).is_none());
            if let Some(at) = refused {
                return Err((DebugProblem::Forbidden, *at));
            }
            if let Some(at) = call.hardware_breakpoints.get(self.comparators as usize) {
                return Err((DebugProblem::TooMuch, *at));
            }
            self.breakpoints = call.breakpoints.iter().copied().collect();
            self.hardware = call.hardware_breakpoints.iter().copied().collect();
        }
        Ok(())
    }

    fn stand(&mut self, reason: DebugStopReason) {
        self.running = false;
        self.stops += 1;
        self.last = DebugStop {
            number: self.stops,
            reason: reason.into(),
            uptime_us: 1_500_000,
            ..DebugStop::default()
        };
        if reason == DebugStopReason::Fault {
            (self.last.fault, self.last.cfsr) = (CrashKind::Usage.into(), 1 << 16);
        }
    }

    fn go(&mut self) {
        let (go, from, to) = (self.going.go(), self.going.range_from, self.going.range_to);
        // As an interrupt would.
        let ticks = self.word(TICKS).wrapping_add(1);
        self.poke(TICKS, &ticks.to_le_bytes());
        for _ in 0..BUDGET {
            match self.step() {
                Ran::Fault => return self.stand(DebugStopReason::Fault),
                Ran::Breakpoint => return self.stand(DebugStopReason::Instruction),
                Ran::On => {}
            }
            let pc = self.registers[PC];
            let is_set = self.breakpoints.contains(&pc) || self.hardware.contains(&pc);
            if is_set && go != DebugGo::Step {
                return self.stand(DebugStopReason::Breakpoint);
            }
            let besides = self.going.ranges.iter().any(|range| (range.from..range.to).contains(&pc));
            let is_within = (from..to).contains(&pc) || besides;
            if go == DebugGo::Step || go == DebugGo::Range && !is_within {
                return self.stand(DebugStopReason::Step);
            }
        }
        self.running = true;
    }

    fn load(&mut self, at: u32, bytes: usize) -> Option<u32> {
        let memory = self.memory(at, bytes)?;
        Some(memory.iter().rev().fold(0, |word, byte| word << 8 | u32::from(*byte)))
    }

    fn store(&mut self, at: u32, bytes: usize, value: u32) -> Option<()> {
        self.memory(at, bytes)?.copy_from_slice(&value.to_le_bytes()[..bytes]);
        Some(())
    }

    fn flags(&mut self, result: u32, carry: Option<bool>, overflow: Option<bool>) {
        let mut set = |bit: u32, on: bool| {
            self.registers[XPSR] = self.registers[XPSR] & !(1 << bit) | u32::from(on) << bit;
        };
        set(31, result >> 31 != 0);
        set(30, result == 0);
        carry.into_iter().for_each(|on| set(29, on));
        overflow.into_iter().for_each(|on| set(28, on));
    }

    fn add(&mut self, a: u32, b: u32, carry: bool) -> u32 {
        let wide = u64::from(a) + u64::from(b) + u64::from(carry);
        let result = wide as u32;
        self.flags(result, Some(wide >> 32 != 0), Some(((a ^ result) & (b ^ result)) >> 31 != 0));
        result
    }

    fn step(&mut self) -> Ran {
        let pc = self.registers[PC];
        let Some(code) = self.load(pc, 2) else { return Ran::Fault };
        self.registers[PC] = pc + 2;
        if code & 0xff00 == 0xbe00 {
            self.registers[PC] = pc;
            return Ran::Breakpoint;
        }
        if self.execute(pc, code).is_none() {
            self.registers[PC] = pc;
            return Ran::Fault;
        }
        Ran::On
    }

    /// Armv6-M ARM A5.2; none: a fault.
    fn execute(&mut self, pc: u32, code: u32) -> Option<()> {
        let low = |shift: u32| (code >> shift & 7) as usize;
        let (rd, rn, rm) = (low(0), low(3), low(6));
        let (imm5, imm8, r8) = (code >> 6 & 31, code & 0xff, low(8));
        match code >> 11 {
            0b00000 => {
                let result = self.registers[rn] << imm5;
                self.flags(result, None, None);
                self.registers[rd] = result;
            }
            0b00001 => {
                let result = self.registers[rn].checked_shr(if imm5 == 0 { 32 } else { imm5 }).unwrap_or(0);
                self.flags(result, None, None);
                self.registers[rd] = result;
            }
            0b00011 => {
                let other = if code >> 10 & 1 == 1 { rm as u32 } else { self.registers[rm] };
                let is_sub = code >> 9 & 1 == 1;
                self.registers[rd] =
                    self.add(self.registers[rn], if is_sub { !other } else { other }, is_sub);
            }
            0b00100 => {
                self.flags(imm8, None, None);
                self.registers[r8] = imm8;
            }
            0b00101 => drop(self.add(self.registers[r8], !imm8, true)),
            0b00110 => self.registers[r8] = self.add(self.registers[r8], imm8, false),
            0b00111 => self.registers[r8] = self.add(self.registers[r8], !imm8, true),
            0b01000 if code >> 10 & 1 == 0 => {
                let (a, b) = (self.registers[rd], self.registers[rn]);
                let result = match code >> 6 & 15 {
                    0 => a & b,
                    1 => a ^ b,
                    10 => {
                        return {
                            self.add(a, !b, true);
                            Some(())
                        };
                    }
                    12 => a | b,
                    13 => a.wrapping_mul(b),
                    _ => return None,
                };
                self.flags(result, None, None);
                self.registers[rd] = result;
            }
            0b01000 => {
                let (d, m) = (rd | (code >> 4 & 8) as usize, (code >> 3 & 15) as usize);
                match code >> 8 & 3 {
                    0 => self.registers[d] = self.registers[d].wrapping_add(self.registers[m]),
                    2 => self.registers[d] = self.registers[m],
                    3 => self.registers[PC] = self.registers[m] & !1,
                    _ => return None,
                }
            }
            0b01001 => self.registers[r8] = self.load(((pc + 4) & !3) + imm8 * 4, 4)?,
            0b01010 if code >> 9 & 3 == 0 => {
                let at = self.registers[rn].wrapping_add(self.registers[rm]);
                self.store(at, 4, self.registers[rd])?;
            }
            0b01100 => self.store(self.registers[rn].wrapping_add(imm5 * 4), 4, self.registers[rd])?,
            0b01101 => self.registers[rd] = self.load(self.registers[rn].wrapping_add(imm5 * 4), 4)?,
            0b10101 => self.registers[r8] = self.registers[SP].wrapping_add(imm8 * 4),
            0b10110 if code >> 8 & 7 == 0 => {
                let bytes = (code & 0x7f) * 4;
                let is_sub = code >> 7 & 1 == 1;
                self.registers[SP] =
                    self.registers[SP].wrapping_add(if is_sub { bytes.wrapping_neg() } else { bytes });
            }
            0b10110 if code >> 9 & 3 == 2 => self.push(code)?,
            0b10111 if code >> 9 & 3 == 2 => self.pop(code)?,
            0b11100 => self.registers[PC] = (pc + 4).wrapping_add_signed(((code << 21) as i32) >> 20),
            0b11110 => {
                let next = self.load(pc + 2, 2)?;
                let (s, j1, j2) = (code >> 10 & 1, next >> 13 & 1, next >> 11 & 1);
                let (i1, i2) = (!(j1 ^ s) & 1, !(j2 ^ s) & 1);
                let offset = s << 24 | i1 << 23 | i2 << 22 | (code & 0x3ff) << 12 | (next & 0x7ff) << 1;
                self.registers[LR] = (pc + 4) | 1;
                self.registers[PC] = (pc + 4).wrapping_add_signed((offset << 7) as i32 >> 7);
            }
            _ => return None,
        }
        Some(())
    }

    fn push(&mut self, code: u32) -> Option<()> {
        let mut at = self.registers[SP].checked_sub(4 * (code & 0x1ff).count_ones())?;
        self.registers[SP] = at;
        for register in (0..8).filter(|n| code >> n & 1 == 1).chain((code >> 8 & 1 == 1).then_some(LR)) {
            self.store(at, 4, self.registers[register])?;
            at += 4;
        }
        Some(())
    }

    fn pop(&mut self, code: u32) -> Option<()> {
        let mut at = self.registers[SP];
        for register in (0..8).filter(|n| code >> n & 1 == 1).chain((code >> 8 & 1 == 1).then_some(PC)) {
            self.registers[register] = self.load(at, 4)?;
            at += 4;
        }
        self.registers[PC] &= !1;
        self.registers[SP] = at;
        Some(())
    }
}

/// A model somebody looks into while it is debugged.
pub(crate) type Shared = Arc<Mutex<Model>>;

pub(crate) fn lock(model: &Shared) -> MutexGuard<'_, Model> {
    model.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Serves the far end of a link until it is gone.
pub(crate) fn start(model: &Shared, mut far: Far) {
    let model = model.clone();
    std::thread::spawn(move || {
        while let Some(call) = far.calls.blocking_recv() {
            for answer in lock(&model).take(call) {
                if far.answers.blocking_send(Ok(answer)).is_err() {
                    break;
                }
            }
        }
        lock(&model).end();
    });
}
