//! `monitor` commands, and what a stop is in words.

use gdbstub::common::Signal;
use gdbstub::stub::SingleThreadStopReason;
use proto::device::v1::{CrashKind, DebugMemory, DebugProblem, DebugStopReason};
use proto::logs::v1::Crash;

use crate::crash;
use crate::debug::link::Gone;
use crate::debug::machine::{Kind, Machine, PC, Stop, Trouble};
use crate::debug::target::Debugged;

const HELP: &str = "\
monitor help         this
monitor reset        start the application anew, halted before its first instruction
monitor halt-reason  why the application stands
monitor fault        the fault status in words, when a fault holds it
monitor uptime       how long the device had been up at this stop
monitor info         device, application and session
monitor cache        what the session cost so far; `monitor cache flush` forgets what was read
";

const CFSR_UNDEFINED: u32 = 1 << 16 | 1 << 17 | 1 << 18 | 1 << 19;
const CFSR_STACK: u32 = 1 << 20;
const CFSR_UNALIGNED: u32 = 1 << 24;
const CFSR_DIVISION: u32 = 1 << 25;

/// What to print; it ends with a newline.
pub(crate) fn run(debugged: &mut Debugged, command: &str) -> Result<String, Gone> {
    debugged.machine.catch_up()?;
    let words: Vec<&str> = command.split_whitespace().collect();
    Ok(match words.as_slice() {
        [] | ["help"] => HELP.to_owned(),
        ["reset"] => return reset(debugged),
        ["halt-reason"] => with_stop(debugged, |stop| format!("{}\n", reason(stop))),
        ["fault"] => with_stop(debugged, fault),
        ["uptime"] => with_stop(debugged, |stop| {
            format!("{}.{:06} s\n", stop.said.uptime_us / 1_000_000, stop.said.uptime_us % 1_000_000)
        }),
        ["info"] => info(debugged),
        ["cache"] => cache(debugged),
        ["cache", "flush"] => {
            debugged.machine.void();
            "what was read is forgotten\n".to_owned()
        }
        _ => format!("`{}` is not a command here\n{HELP}", crate::output::printable(command)),
    })
}

fn reset(debugged: &mut Debugged) -> Result<String, Gone> {
    match debugged.machine.restart() {
        Ok(()) => Ok("the application was started anew, and stands before its first instruction\n\
                      (gdb still shows where it was: `maintenance flush register-cache`)\n"
            .to_owned()),
        Err(Trouble::Gone(gone)) => Err(gone),
        Err(trouble) => Ok(format!("not started anew: {trouble}\n")),
    }
}

fn with_stop(debugged: &Debugged, say: impl Fn(&Stop) -> String) -> String {
    if debugged.machine.is_untold() {
        return "the application was started anew: `continue` shows what it does now\n".to_owned();
    }
    debugged.machine.stop().map_or_else(|| "the application runs\n".to_owned(), say)
}

/// Why it stands, in a sentence.
pub(crate) fn reason(stop: &Stop) -> String {
    let pc = stop.registers.map(|registers| registers[PC]);
    let at = pc.map_or_else(|| "an address that is not known".to_owned(), |pc| format!("{pc:#010x}"));
    match stop.reason {
        DebugStopReason::Halt => format!("halted at {at}, as asked"),
        DebugStopReason::Breakpoint => format!("breakpoint at {at}"),
        DebugStopReason::Instruction => format!("a breakpoint instruction of its own at {at}"),
        DebugStopReason::Step => format!("stepped to {at}"),
        DebugStopReason::Fault => format!("{} at {at}, held before it ends", kind(stop.said.fault())),
        DebugStopReason::Start => format!("before its first instruction at {at}"),
        DebugStopReason::Unspecified => format!("halted at {at}"),
    }
}

fn kind(kind: CrashKind) -> String {
    let name = kind.as_str_name().trim_start_matches("CRASH_KIND_").to_lowercase().replace('_', " ");
    format!("fault ({name})")
}

/// The fault in words, or that there is none.
pub(crate) fn fault(stop: &Stop) -> String {
    if stop.reason != DebugStopReason::Fault {
        return "no fault holds it\n".to_owned();
    }
    let mut text = format!("{}\n", reason(stop));
    let said = &stop.said;
    let status = Crash {
        cfsr: said.cfsr,
        hfsr: said.hfsr,
        mmfar: said.mmfar,
        bfar: said.bfar,
        sfsr: said.sfsr,
        sfar: said.sfar,
        ..Crash::default()
    };
    for words in crash::fault_words(&status) {
        text.push_str(&format!("  {words}\n"));
    }
    text.push_str(&format!(
        "  cfsr {:#010x}  hfsr {:#010x}  sfsr {:#010x}\n",
        said.cfsr, said.hfsr, said.sfsr
    ));
    text
}

/// What a gdb that only watches is told of a stop. It planted nothing and steps nothing, so that it is none of its breakpoints or steps: signal 0 is
/// a stop for no reason of gdb's.
pub(crate) fn watched_reason(stop: &Stop) -> SingleThreadStopReason<u32> {
    SingleThreadStopReason::Signal(match stop.reason {
        DebugStopReason::Fault => signal(stop),
        _ => Signal::SIGZERO,
    })
}

/// Before gdb's own line, which does not say why.
pub(crate) fn watched_remark(stop: &Stop) -> String {
    remark(stop).unwrap_or_else(|| format!("{}\n", reason(stop)))
}

/// To a gdb that only watches, of an application that runs.
pub(crate) const RUNS: &str = "the application runs: its memory can be read, its registers are not known; `continue` waits for its next stop\n";

/// What gdb is told of a stop of this machine's.
pub(crate) fn stop_reason(machine: &Machine, stop: &Stop) -> SingleThreadStopReason<u32> {
    match stop.reason {
        DebugStopReason::Breakpoint => match machine.kind_at(stop) {
            Kind::Planted => SingleThreadStopReason::SwBreak(()),
            Kind::Hardware => SingleThreadStopReason::HwBreak(()),
        },
        DebugStopReason::Step => SingleThreadStopReason::DoneStep,
        DebugStopReason::Halt => SingleThreadStopReason::Signal(Signal::SIGINT),
        DebugStopReason::Fault => SingleThreadStopReason::Signal(signal(stop)),
        // Said as one of gdb's own breakpoints it would be passed over.
        DebugStopReason::Instruction | DebugStopReason::Start | DebugStopReason::Unspecified => {
            SingleThreadStopReason::Signal(Signal::SIGTRAP)
        }
    }
}

fn signal(stop: &Stop) -> Signal {
    let cfsr = stop.said.cfsr;
    match stop.said.fault() {
        CrashKind::Bus => Signal::SIGBUS,
        CrashKind::Usage if cfsr & CFSR_DIVISION != 0 => Signal::SIGFPE,
        CrashKind::Usage if cfsr & CFSR_UNALIGNED != 0 => Signal::SIGBUS,
        CrashKind::Usage if cfsr & CFSR_STACK != 0 => Signal::SIGSEGV,
        CrashKind::Usage if cfsr & CFSR_UNDEFINED != 0 => Signal::SIGILL,
        CrashKind::Usage | CrashKind::ForgedReturn => Signal::SIGILL,
        CrashKind::Hung | CrashKind::InterruptFlood => Signal::SIGXCPU,
        CrashKind::Memory | CrashKind::Secure | CrashKind::StackOverflow => Signal::SIGSEGV,
        _ => Signal::SIGABRT,
    }
}

/// What a person should read before gdb's own line, if anything.
pub(crate) fn remark(stop: &Stop) -> Option<String> {
    match stop.reason {
        DebugStopReason::Fault => {
            Some(format!("{}(it ends when it goes on; held for a while only)\n", fault(stop)))
        }
        DebugStopReason::Instruction => {
            Some(format!("{}: it is passed when the application goes on\n", reason(stop)))
        }
        _ => None,
    }
}

/// Why it did not go on, and gdb is not told that it stands.
pub(crate) fn waits(problem: DebugProblem) -> String {
    format!("not done: {}\n", crate::debug::machine::words(problem, 0))
}

/// Why it did not go on.
pub(crate) fn not_done(problem: DebugProblem, at: u32) -> String {
    format!("it does not go on: {}\n", crate::debug::machine::words(problem, at))
}

/// It was started in place of the one before.
pub(crate) fn other_version(version: &str) -> String {
    format!(
        "it is another version, {version}, and without your breakpoints: Ctrl-C halts it, and they are set when it then goes on. \
         Its ELF file is another, too\n"
    )
}

fn info(debugged: &Debugged) -> String {
    let machine = &debugged.machine;
    let about = machine.about();
    let elf = match machine.program() {
        None => "none: code is read from the device",
        Some(program) if program.is_running() => "what the device runs: code is read from it",
        Some(_) => "not what the device runs: code is read from the device, and lines may be wrong",
    };
    let mut pairs = debugged.facts.clone();
    pairs.extend([
        ("board", about.board.clone()),
        ("microvisor", about.microvisor.clone()),
        ("application", about.version.clone()),
        ("manifest", about.manifest_digest.clone()),
        ("ELF file", elf.to_owned()),
        ("may", if about.read_only { "watch" } else { "read and write" }.to_owned()),
        ("faults are held", format!("{} s", about.hold_s)),
        ("breakpoints", count(machine.count_breakpoints(Kind::Planted))),
        ("of the hardware", count(machine.count_breakpoints(Kind::Hardware))),
    ]);
    for region in &about.regions {
        let memory = match region.memory {
            DebugMemory::Code => "code",
            DebugMemory::Ram => "ram",
            _ => "peripheral",
        };
        pairs.push(("memory", format!("{:#010x} {:#x} {memory}", region.at, region.bytes)));
    }
    let width = pairs.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    pairs.iter().map(|(name, value)| format!("{name:width$}  {value}\n")).collect()
}

fn count((there, most): (usize, usize)) -> String {
    format!("{there} of {most}")
}

fn cache(debugged: &Debugged) -> String {
    let cost = debugged.machine.cost();
    let plain = if debugged.machine.is_plain() { "off\n" } else { "" };
    format!(
        "{plain}{} round trips, {} calls; {} B from the device, {} B from the cache, {} B from the ELF file\n",
        cost.round_trips, cost.calls, cost.bytes_from_device, cost.bytes_from_cache, cost.bytes_from_elf
    )
}
