//! The machine as `gdbstub` sees it: one thread, breakpoints, steps of one instruction and of a range.

use gdbstub::common::{Pid, Signal};
use gdbstub::target::ext::base::BaseOps;
use gdbstub::target::ext::base::single_register_access::{SingleRegisterAccess, SingleRegisterAccessOps};
use gdbstub::target::ext::base::singlethread::{
    SingleThreadBase, SingleThreadRangeStepping, SingleThreadRangeSteppingOps, SingleThreadResume,
    SingleThreadResumeOps, SingleThreadSingleStep, SingleThreadSingleStepOps,
};
use gdbstub::target::ext::breakpoints::{
    Breakpoints, BreakpointsOps, HwBreakpoint, HwBreakpointOps, SwBreakpoint, SwBreakpointOps,
};
use gdbstub::target::ext::extended_mode::{Args, AttachKind, ExtendedMode, ExtendedModeOps, ShouldTerminate};
use gdbstub::target::ext::memory_map::{MemoryMap, MemoryMapOps};
use gdbstub::target::ext::monitor_cmd::{ConsoleOutput, MonitorCmd, MonitorCmdOps};
use gdbstub::target::{Target, TargetError, TargetResult};
use proto::device::v1::DebugProblem;

use crate::debug::link::Gone;
use crate::debug::machine::{Go, Kind, Machine, Trouble};
use crate::debug::monitor;
use crate::debug::registers::{MProfile, Register, Registers};

/// Bytes that one instruction of a breakpoint may be long, as gdb says it: 2, 3 (four bytes) and 4 (not of an M-profile).
const THUMB_KINDS: std::ops::RangeInclusive<usize> = 2..=3;

#[derive(Debug)]
pub(crate) struct Debugged {
    pub(crate) machine: Machine,
    /// What `monitor info` says besides.
    pub(crate) facts: Vec<(&'static str, String)>,
    /// The device is gone.
    pub(crate) lost: Option<Gone>,
}

/// As gdb knows it from errno.
fn number(problem: DebugProblem) -> u8 {
    match problem {
        DebugProblem::Absent => 3,
        DebugProblem::TooMuch => 7,
        DebugProblem::Updating => 11,
        DebugProblem::Forbidden => 14,
        DebugProblem::Running => 16,
        DebugProblem::Register => 22,
        DebugProblem::ReadOnly => 30,
        DebugProblem::StartedAnew => 116,
        DebugProblem::Malformed | DebugProblem::Unspecified => 71,
    }
}

fn refused(trouble: Trouble) -> TargetError<Gone> {
    if let Trouble::Problem(DebugProblem::ReadOnly, _) = trouble {
        // To gdb it is a number, and its console is not ours now: with `--exec` and `--stdio` this is where it is shown all the same.
        eprintln!("[holdfast] {trouble}");
    }
    match trouble {
        Trouble::Problem(problem, _) => TargetError::Errno(number(problem)),
        Trouble::Gone(gone) => TargetError::Fatal(gone),
    }
}

impl Target for Debugged {
    type Arch = MProfile;
    type Error = Gone;

    fn base_ops(&mut self) -> BaseOps<'_, MProfile, Gone> {
        BaseOps::SingleThread(self)
    }

    fn support_breakpoints(&mut self) -> Option<BreakpointsOps<'_, Self>> {
        Some(self)
    }

    fn support_extended_mode(&mut self) -> Option<ExtendedModeOps<'_, Self>> {
        Some(self)
    }

    fn support_memory_map(&mut self) -> Option<MemoryMapOps<'_, Self>> {
        Some(self)
    }

    fn support_monitor_cmd(&mut self) -> Option<MonitorCmdOps<'_, Self>> {
        Some(self)
    }
}

impl SingleThreadBase for Debugged {
    fn read_registers(&mut self, registers: &mut Registers) -> TargetResult<(), Self> {
        registers.0 = self.machine.registers().map_err(refused)?;
        Ok(())
    }

    fn write_registers(&mut self, registers: &Registers) -> TargetResult<(), Self> {
        for (number, value) in registers.0.iter().flatten().enumerate() {
            self.machine.set_register(number, *value).map_err(refused)?;
        }
        Ok(())
    }

    fn support_single_register_access(&mut self) -> Option<SingleRegisterAccessOps<'_, (), Self>> {
        Some(self)
    }

    fn read_addrs(&mut self, at: u32, data: &mut [u8]) -> TargetResult<usize, Self> {
        self.machine.read(at, data).map_err(refused)
    }

    fn write_addrs(&mut self, at: u32, data: &[u8]) -> TargetResult<(), Self> {
        self.machine.write(at, data).map_err(refused)
    }

    fn support_resume(&mut self) -> Option<SingleThreadResumeOps<'_, Self>> {
        Some(self)
    }
}

impl SingleRegisterAccess<()> for Debugged {
    fn read_register(&mut self, (): (), register: Register, into: &mut [u8]) -> TargetResult<usize, Self> {
        match self.machine.registers().map_err(refused)? {
            Some(registers) => register.read(&registers, into).ok_or(TargetError::NonFatal),
            None => register.read_unknown(into).ok_or(TargetError::NonFatal),
        }
    }

    fn write_register(&mut self, (): (), register: Register, value: &[u8]) -> TargetResult<(), Self> {
        self.machine.must_be_told(0).map_err(refused)?;
        let registers = self.machine.registers().map_err(refused)?.ok_or(TargetError::NonFatal)?;
        let (number, value) = register.write(&registers, value).ok_or(TargetError::NonFatal)?;
        self.machine.set_register(number, value).map_err(refused)
    }
}

impl SingleThreadResume for Debugged {
    /// A signal is for programs of an operating system: the application has none to take it.
    fn resume(&mut self, _: Option<Signal>) -> Result<(), Gone> {
        self.machine.resume(Go::Continue)
    }

    fn support_single_step(&mut self) -> Option<SingleThreadSingleStepOps<'_, Self>> {
        Some(self)
    }

    fn support_range_step(&mut self) -> Option<SingleThreadRangeSteppingOps<'_, Self>> {
        Some(self)
    }
}

impl SingleThreadSingleStep for Debugged {
    fn step(&mut self, _: Option<Signal>) -> Result<(), Gone> {
        self.machine.resume(Go::Step)
    }
}

impl SingleThreadRangeStepping for Debugged {
    fn resume_range_step(&mut self, from: u32, to: u32) -> Result<(), Gone> {
        self.machine.resume(Go::Range(from, to))
    }
}

impl Breakpoints for Debugged {
    fn support_sw_breakpoint(&mut self) -> Option<SwBreakpointOps<'_, Self>> {
        Some(self)
    }

    /// Where the board has none to give, gdb is told so by our silence.
    fn support_hw_breakpoint(&mut self) -> Option<HwBreakpointOps<'_, Self>> {
        let (_, most) = self.machine.count_breakpoints(Kind::Hardware);
        if most > 0 { Some(self) } else { None }
    }
}

impl Debugged {
    fn add_breakpoint(&mut self, kind: Kind, at: u32, bytes: usize) -> TargetResult<bool, Self> {
        if !THUMB_KINDS.contains(&bytes) {
            return Ok(false);
        }
        self.machine.add_breakpoint(kind, at).map(|()| true).map_err(refused)
    }

    /// One that is not there any more is as well removed.
    fn remove_breakpoint(&mut self, kind: Kind, at: u32) -> TargetResult<bool, Self> {
        self.machine.remove_breakpoint(kind, at).map(|_| true).map_err(refused)
    }
}

impl SwBreakpoint for Debugged {
    fn add_sw_breakpoint(&mut self, at: u32, bytes: usize) -> TargetResult<bool, Self> {
        self.add_breakpoint(Kind::Planted, at, bytes)
    }

    fn remove_sw_breakpoint(&mut self, at: u32, _: usize) -> TargetResult<bool, Self> {
        self.remove_breakpoint(Kind::Planted, at)
    }
}

impl HwBreakpoint for Debugged {
    fn add_hw_breakpoint(&mut self, at: u32, bytes: usize) -> TargetResult<bool, Self> {
        self.add_breakpoint(Kind::Hardware, at, bytes)
    }

    fn remove_hw_breakpoint(&mut self, at: u32, _: usize) -> TargetResult<bool, Self> {
        self.remove_breakpoint(Kind::Hardware, at)
    }
}

/// `target extended-remote`: `run` starts the application anew. `kill` only lets go of it.
impl ExtendedMode for Debugged {
    fn run(&mut self, _: Option<&[u8]>, _: Args<'_, '_>) -> TargetResult<Pid, Self> {
        self.machine.restart().map_err(refused)?;
        Ok(gdbstub::common::Pid::MIN)
    }

    fn attach(&mut self, _: Pid) -> TargetResult<(), Self> {
        self.machine.halt().map_err(refused)
    }

    fn query_if_attached(&mut self, _: Pid) -> TargetResult<AttachKind, Self> {
        Ok(AttachKind::Attach)
    }

    fn kill(&mut self, pid: Option<Pid>) -> TargetResult<ShouldTerminate, Self> {
        Ok(if pid.is_some() { ShouldTerminate::No } else { ShouldTerminate::Yes })
    }

    fn restart(&mut self) -> Result<(), Gone> {
        match self.machine.restart() {
            Err(Trouble::Gone(gone)) => Err(gone),
            _ => Ok(()),
        }
    }
}

/// Everything is `ram`, code too: of `rom` and `flash` gdb believes that only breakpoints of the hardware work.
impl MemoryMap for Debugged {
    fn memory_map_xml(&self, offset: u64, length: usize, into: &mut [u8]) -> TargetResult<usize, Self> {
        let mut xml = String::from(
            r#"<?xml version="1.0"?><!DOCTYPE memory-map PUBLIC "+//IDN gnu.org//DTD GDB Memory Map V1.0//EN" "http://sourceware.org/gdb/gdb-memory-map.dtd"><memory-map>"#,
        );
        for region in &self.machine.about().regions {
            xml.push_str(&format!(
                r#"<memory type="ram" start="{:#x}" length="{:#x}"/>"#,
                region.at, region.bytes
            ));
        }
        xml.push_str("</memory-map>");
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(xml.len());
        let bytes = length.min(into.len()).min(xml.len() - from);
        into[..bytes].copy_from_slice(&xml.as_bytes()[from..from + bytes]);
        Ok(bytes)
    }
}

impl MonitorCmd for Debugged {
    fn handle_monitor_cmd(&mut self, command: &[u8], mut out: ConsoleOutput<'_>) -> Result<(), Gone> {
        let text = monitor::run(self, &String::from_utf8_lossy(command))?;
        out.write_raw(text.as_bytes());
        Ok(())
    }
}
