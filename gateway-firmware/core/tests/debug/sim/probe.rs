//! A board's probe over the machine. The machine runs when it is asked whether it is held, and for as many instructions as it has then.

use gateway_core::crash::FaultStatus;
use gateway_core::ports::{Forbidden, Held, Probe, Region, Registers};
use wire::msg::{CrashKind, DebugMemory};

use super::{CODE, Machine, Outcome, RAM, SIZE};

pub(crate) const PERIPHERAL: u32 = 0x4000_0000;
/// The microvisor's memory. This board would let a debugger in: the agent must not try.
pub(crate) const SECRET: u32 = 0x3800_0000;

/// A Cortex-M33 with the smaller of its two breakpoint units.
pub(crate) const COMPARATORS: usize = 4;

const REGIONS: [Region; 3] = [
    Region { at: CODE, bytes: SIZE, memory: DebugMemory::Code },
    Region { at: RAM, bytes: SIZE, memory: DebugMemory::Ram },
    Region { at: PERIPHERAL, bytes: 16, memory: DebugMemory::Peripheral },
];

#[derive(Debug)]
pub(crate) struct SimProbe {
    pub machine: Machine,
    /// Instructions it has whenever somebody looks.
    pub budget: u32,
    pub attached: bool,
    pub catches: bool,
    pub holds_start: bool,
    pub held: Option<Held>,
    /// It ended by itself.
    pub ended: bool,
    pub halts: bool,
    pub masked: bool,
    /// Breakpoints that its hardware has.
    pub comparators: usize,
    /// What they compare pc with.
    pub compared: Vec<u32>,
    /// Times something outside the regions was touched.
    pub outside: u32,
    pub peripheral: [u8; 16],
}

impl SimProbe {
    pub(crate) fn new(machine: Machine) -> SimProbe {
        SimProbe {
            machine,
            budget: 1000,
            attached: false,
            catches: false,
            holds_start: false,
            held: None,
            ended: false,
            halts: false,
            masked: false,
            comparators: COMPARATORS,
            compared: Vec::new(),
            outside: 0,
            peripheral: [0; 16],
        }
    }

    /// Starts it anew.
    pub(crate) fn start(&mut self, machine: Machine) {
        self.machine = machine;
        (self.ended, self.masked) = (false, false);
        let asked = std::mem::take(&mut self.halts).then_some(Held::Asked);
        self.held = self.holds_start.then_some(Held::Start).or(asked);
    }

    fn run(&mut self) {
        for _ in 0..self.budget {
            if self.held.is_some() || self.ended {
                return;
            }
            if self.halts {
                return self.hold(Held::Asked);
            }
            if !self.masked {
                self.machine.interrupted();
            }
            if self.attached && self.compared.contains(&self.machine.r[15]) {
                return self.hold(Held::Breakpoint);
            }
            match self.machine.one() {
                Outcome::Done => {}
                Outcome::Waits => break,
                Outcome::Breakpoint if self.attached => self.hold(Held::Breakpoint),
                Outcome::Breakpoint | Outcome::Fault if !self.catches => self.ended = true,
                Outcome::Breakpoint | Outcome::Fault => self.hold(Held::Fault(CrashKind::Usage)),
            }
        }
        if self.halts && self.held.is_none() && !self.ended {
            self.hold(Held::Asked);
        }
    }

    fn hold(&mut self, held: Held) {
        // An exception was taken.
        self.machine.monitor = false;
        (self.held, self.halts) = (Some(held), false);
    }

    fn bytes(&mut self, at: u32, length: usize) -> Option<&mut [u8]> {
        if at >= PERIPHERAL {
            let from = (at - PERIPHERAL) as usize;
            return self.peripheral.get_mut(from..from.checked_add(length)?);
        }
        self.machine.bytes(at, length)
    }
}

impl Probe for SimProbe {
    fn regions(&self) -> &'static [Region] {
        &REGIONS
    }

    fn attach(&mut self) {
        self.attached = true;
    }

    fn detach(&mut self) {
        (self.attached, self.halts, self.masked) = (false, false, false);
        self.ended |= matches!(self.held, Some(Held::Fault(_)));
        self.held = None;
    }

    fn catch_faults(&mut self, on: bool) {
        self.catches = on;
    }

    fn hold_start(&mut self, on: bool) {
        self.holds_start = on;
    }

    fn halt(&mut self) {
        self.halts = self.held.is_none();
    }

    fn resume(&mut self, masked: bool) {
        self.ended |= matches!(self.held, Some(Held::Fault(_)));
        (self.held, self.halts, self.masked) = (None, false, masked);
    }

    fn held(&mut self) -> Option<Held> {
        self.run();
        self.held
    }

    fn registers(&mut self) -> Option<Registers> {
        self.held?;
        let mut registers = [0; 20];
        registers[..16].copy_from_slice(&self.machine.r);
        let (msp, psp) = self.machine.stacks();
        registers[16..].copy_from_slice(&[self.machine.xpsr, msp, psp, u32::from(self.machine.spsel) << 25]);
        Some(registers)
    }

    fn set_register(&mut self, number: usize, value: u32) -> Result<(), Forbidden> {
        self.held.ok_or(Forbidden)?;
        match number {
            15 => self.machine.r[15] = value & !1,
            0..=14 => self.machine.r[number] = value,
            16 => self.machine.xpsr = value & 0xfe00_fc00 | self.machine.xpsr & 0x1ff | 1 << 24,
            _ => return Err(Forbidden),
        }
        Ok(())
    }

    fn fault(&mut self) -> Option<FaultStatus> {
        matches!(self.held, Some(Held::Fault(_)))
            .then_some(FaultStatus { cfsr: 0x1_0000, ..FaultStatus::default() })
    }

    fn read(&mut self, at: u32, into: &mut [u8]) -> Result<(), Forbidden> {
        match self.bytes(at, into.len()) {
            Some(bytes) => into.copy_from_slice(bytes),
            None => {
                self.outside += 1;
                into.fill(0x5e);
            }
        }
        Ok(())
    }

    fn write(&mut self, at: u32, bytes: &[u8]) -> Result<(), Forbidden> {
        match self.bytes(at, bytes.len()) {
            Some(place) => place.copy_from_slice(bytes),
            None => self.outside += 1,
        }
        Ok(())
    }

    fn hardware_breakpoints(&self) -> usize {
        self.comparators
    }

    fn set_hardware_breakpoints(&mut self, at: &[u32]) {
        assert!(at.len() <= self.comparators, "more than it has");
        self.compared = at.to_vec();
    }
}
