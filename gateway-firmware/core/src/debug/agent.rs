//! What a debug session does to the application: takes its calls one after the other, and says when it halts, ends or is started anew.
//!
//! Always holds: a call's limits are checked before anything of it is done; a session that may only read changes nothing, not even by being
//! there; nothing outside the application's memory is touched; when a session ends the application goes on as if there had been none. Its
//! device tells the agent before it stops or starts the application ([`Agent::stopping`], [`Agent::before_start`]), and never waits for it.

mod watch;

use heapless::{Deque, Vec};
use wire::Digest;
use wire::limits::{
    DEBUG_BREAKPOINTS_MAX, DEBUG_HARDWARE_BREAKPOINTS_MAX, DEBUG_RANGES_MAX, DEBUG_READ_BYTES_MAX,
    DEBUG_READS_MAX, DEBUG_WRITE_BYTES_MAX,
};
use wire::manifest::Version;
use wire::msg::{
    DebugCall, DebugGo, DebugProblem, DebugState, DebugStop, DebugStopReason, EnumValue, Message as _,
};

use super::answer::{Answer, Problem};
use super::breakpoints::{Breakpoints, bytes_left, hardware_max, is_code};
use super::step::{self, Code, Plan};
use crate::mutation::mutated;
use crate::ports::{Held, Probe, REGISTERS, Registers};

pub use watch::{WATCH_READ_BYTES_MAX, WATCH_STACK_BYTES, Watcher};

/// Between two looks at a step that was begun, if nothing else has the agent look.
pub const STEP_LOOK_MS: u64 = 1;

/// Bytes of a line of gdb's own cache of the stack: it reads whole ones.
const STACK_LINE_BYTES: u32 = 64;

const SP: usize = 13;
const LR: usize = 14;
const PC: usize = 15;
const XPSR: usize = 16;

/// What a session may do.
#[derive(Debug)]
pub enum Access<'w> {
    Write,
    /// Look at memory, and nothing else.
    Read(&'w mut Watcher),
}

/// Who calls, and with which call.
#[derive(Debug, Clone, Copy)]
struct Caller {
    number: u32,
    reads_only: bool,
}

impl Caller {
    fn read_bytes_max(self) -> u32 {
        if self.reads_only { WATCH_READ_BYTES_MAX as u32 } else { DEBUG_READ_BYTES_MAX as u32 }
    }
}

/// What the agent knows of the device.
#[derive(Debug, Clone, Copy)]
pub struct Scene<'a> {
    pub now_ms: u64,
    /// Times the application was started in this boot.
    pub starts: u32,
    /// There is an application that can be started.
    pub can_start: bool,
    /// An update is about to take its place.
    pub updating: bool,
    /// Of the application that runs, or ran last.
    pub manifest: Option<Digest>,
    pub version: &'a str,
    /// Of its area, as it was measured.
    pub image: Option<Digest>,
    pub image_bytes: u32,
    /// How long a fault is held without a word from the developer; 0: it is not.
    pub hold_s: u32,
    pub microvisor: Version,
    pub board: &'a str,
}

/// How the application is, as far as a session may know.
///
/// With a tag of its own, by which `Absent` is zero: what a board lends for the agent is then zeroed memory, and no part of its image.
#[derive(Debug, Clone, Copy)]
#[repr(u8)]
enum Mode {
    /// There is none now.
    Absent,
    /// It was started, and is held until its breakpoints are planted.
    Starts,
    Runs,
    /// `stays`: what is to be stepped leads to itself, and was not run.
    Steps {
        then: Then,
        stays: bool,
    },
    Halted(Stop),
}

/// What follows a step.
#[derive(Debug, Clone, Copy)]
enum Then {
    /// It was in the way of going on: a breakpoint is planted there.
    Run,
    Stop,
    /// Another one, while pc is in the range.
    Range {
        from: u32,
        to: u32,
    },
}

/// Where it halted.
#[derive(Debug, Clone, Copy)]
struct Stop {
    reason: DebugStopReason,
    pc: u32,
    uptime_us: u64,
    held: Held,
}

/// Where it is expected to come out, and what follows there by itself: stepping while pc is in the range.
#[derive(Debug, Clone, Copy)]
struct Chain {
    at: u32,
    sp: u32,
    from: u32,
    to: u32,
}

/// Deeds that wait for the log: those of one call.
pub const DEEDS_MAX: usize = 2 * DEBUG_READS_MAX + 1;

/// What a developer did to the application.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deed {
    Wrote { at: u32, bytes: u32 },
    SetRegister(u32),
    Restarted,
}

impl core::fmt::Display for Deed {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Deed::Wrote { at, bytes } => write!(f, "wrote {bytes} bytes at {at:#x}"),
            Deed::SetRegister(number) => write!(f, "set register {number}"),
            Deed::Restarted => f.write_str("started the application anew"),
        }
    }
}

/// What comes with the stop that answers a call.
#[derive(Debug)]
struct Awaited {
    reads: Vec<(u32, u32), DEBUG_READS_MAX>,
    stack_bytes: u32,
    describe: bool,
}

/// The agent of one device.
#[derive(Debug)]
pub struct Agent {
    /// Breakpoint instructions hold the application: somebody who may write was heard.
    attached: bool,
    /// The newest call taken of a session that may write.
    call: u32,
    /// Times it halted in this boot.
    stops: u32,
    mode: Mode,
    /// There is something to say that nobody asked for just now.
    tell: bool,
    awaited: Awaited,
    /// There until it halts anywhere else, or goes on from there.
    chain: Option<Chain>,
    /// Of the newest `go`: part of its range.
    ranges: Vec<(u32, u32), DEBUG_RANGES_MAX>,
    breakpoints: Breakpoints,
    /// The version that they are in, once there was one; and the first start of it.
    manifest: Option<Digest>,
    since: u32,
    /// Another version was started than the one before, and the session was not told.
    is_other: bool,
    /// A step is to end as soon as it can.
    halts: bool,
    /// The application's next start is held for the session.
    holds_start: bool,
    /// It is to be started anew.
    restart: bool,
    /// When the developer last said something.
    heard_ms: u64,
    hold_s: u32,
    /// When the agent last looked.
    looked_ms: u64,
    /// Done, and not in the log yet.
    done: Deque<Deed, DEEDS_MAX>,
}

impl Default for Agent {
    fn default() -> Self {
        Self::new()
    }
}

impl Agent {
    /// Nobody debugs.
    pub const fn new() -> Self {
        Self {
            attached: false,
            call: 0,
            stops: 0,
            mode: Mode::Absent,
            tell: false,
            awaited: Awaited { reads: Vec::new(), stack_bytes: 0, describe: false },
            chain: None,
            ranges: Vec::new(),
            breakpoints: Breakpoints::new(),
            manifest: None,
            since: 0,
            is_other: false,
            halts: false,
            holds_start: false,
            restart: false,
            heard_ms: 0,
            hold_s: 0,
            looked_ms: 0,
            done: Deque::new(),
        }
    }

    /// A session's first frame was verified. What it finds is touched when it first calls as one that may write.
    pub fn begin(&mut self, probe: &mut impl Probe) {
        self.end(probe);
    }

    /// The session is over: every planted breakpoint is out, and the application goes on.
    pub fn end(&mut self, probe: &mut impl Probe) {
        self.breakpoints.clear(probe);
        if let Mode::Halted(stop @ Stop { reason: DebugStopReason::Instruction, .. }) = self.mode {
            self.pass_own(stop, probe);
        }
        if self.attached {
            probe.catch_faults(false);
            probe.hold_start(false);
            probe.detach();
        }
        if !matches!(self.mode, Mode::Absent) {
            self.mode = Mode::Runs;
        }
        (self.attached, self.call, self.tell, self.is_other) = (false, 0, false, false);
        (self.halts, self.holds_start, self.restart) = (false, false, false);
        self.chain = None;
        self.awaited.clear();
    }

    /// Takes a call. `Some(n)`: the first n bytes of `out` are the answer. None: the next stop answers.
    pub fn take(
        &mut self,
        call: &[u8],
        access: Access<'_>,
        scene: &Scene<'_>,
        probe: &mut impl Probe,
        out: &mut [u8],
    ) -> Option<usize> {
        let call = DebugCall::decode(call);
        let caller = match access {
            Access::Read(watcher) => Caller { number: watcher.asks(self.seen(scene)), reads_only: true },
            Access::Write => {
                let is_word = call.as_ref().is_ok_and(|call| !says_nothing(call));
                Caller { number: self.hear(is_word, scene, probe), reads_only: false }
            }
        };
        let malformed = Problem::new(DebugProblem::Malformed, 0);
        let Ok(call) = call else {
            let answer = Answer::new(out, caller.number, self.state_for(caller), scene.starts);
            return Some(answer.end(Some(malformed)));
        };
        let checked = if call.number == caller.number {
            check(&call, caller, &self.breakpoints, probe)
        } else {
            Err(malformed)
        };
        let problem = match checked.and_then(|go| self.act(&call, go, scene, probe)) {
            Ok(false) => None,
            Ok(true) => {
                // It may have halted already.
                self.look(scene, probe);
                return if self.tell { self.say(scene, probe, out) } else { None };
            }
            Err(problem) => Some(problem),
        };
        Some(self.answer(&call, caller, problem, scene, probe, out))
    }

    /// A call of who may write; its number. `is_word`: it is the developer's, and not a program's that only keeps the session.
    fn hear(&mut self, is_word: bool, scene: &Scene<'_>, probe: &mut impl Probe) -> u32 {
        self.call = self.call.saturating_add(1);
        if is_word {
            self.heard_ms = scene.now_ms;
        }
        if !core::mem::replace(&mut self.attached, true) {
            probe.attach();
        }
        self.look(scene, probe);
        self.call
    }

    /// What there is to say by itself: it halted, ended, or was started anew.
    pub fn poll(&mut self, scene: &Scene<'_>, probe: &mut impl Probe, out: &mut [u8]) -> Option<usize> {
        self.look(scene, probe);
        if self.tell { self.say(scene, probe, out) } else { None }
    }

    /// When to ask again if nothing happens; `u64::MAX`: never.
    pub fn deadline_ms(&self) -> u64 {
        if self.tell { 0 } else { self.due_ms() }
    }

    /// When to look again, whether or not there is room to tell of it.
    pub fn due_ms(&self) -> u64 {
        match self.mode {
            _ if self.restart => 0,
            Mode::Halted(_) if self.chain.is_some() && !self.tell => 0,
            Mode::Steps { stays: true, .. } => 0,
            Mode::Steps { .. } | Mode::Starts => self.looked_ms.saturating_add(STEP_LOOK_MS),
            Mode::Halted(Stop { held: Held::Fault(_), .. }) => self.fault_until_ms(),
            Mode::Absent | Mode::Runs | Mode::Halted(_) => u64::MAX,
        }
    }

    /// The device is about to stop the application, or it ended.
    pub fn stopping(&mut self, probe: &mut impl Probe) {
        self.breakpoints.end_step(probe);
        self.breakpoints.take_out(probe);
        if !matches!(self.mode, Mode::Absent) {
            self.mode = Mode::Absent;
            // Who had it started anew is answered when that is done.
            self.tell = self.attached && !self.holds_start;
        }
        (self.halts, self.chain) = (false, None);
    }

    /// What runs is about to be measured: nothing of ours is in it until the agent looks again.
    pub fn before_measure(&mut self, probe: &mut impl Probe) {
        self.breakpoints.take_out(probe);
    }

    /// The device is about to start the application, of this manifest, for the time that makes it so many. In another version an address is another
    /// place: it begins without breakpoints, and with nothing of what was asked for of the one before, so that no session that is forgotten holds
    /// up its trial.
    pub fn before_start(&mut self, manifest: Option<Digest>, starts: u32, probe: &mut impl Probe) {
        self.stopping(probe);
        if self.manifest.is_some() && self.manifest != manifest && !mutated!(DebugOtherVersion) {
            self.breakpoints.clear(probe);
            (self.holds_start, self.restart) = (false, false);
            if self.attached {
                probe.catch_faults(false);
                // A halt that waits.
                probe.resume(false);
                self.is_other = true;
            }
        }
        if self.manifest != manifest {
            (self.manifest, self.since) = (manifest, starts);
        }
        if self.attached {
            probe.hold_start(self.holds_start || self.breakpoints.any_set());
        }
    }

    /// It did. Held, if there is something to be done before its first instruction.
    pub fn started(&mut self, probe: &mut impl Probe) {
        let held = self.attached && (self.holds_start || self.breakpoints.any_set());
        self.mode = if held { Mode::Starts } else { Mode::Runs };
        self.tell = self.attached && !self.holds_start;
        self.restart = false;
        if held && !self.holds_start && probe.held() == Some(Held::Start) {
            self.go_on_from_start(probe);
        }
    }

    /// GO_RESTART was called: the device is to start the application anew. Taken once.
    pub fn take_restart(&mut self) -> bool {
        core::mem::take(&mut self.restart)
    }

    /// The oldest deed not taken yet, for the log.
    pub fn take_done(&mut self) -> Option<Deed> {
        self.done.pop_front()
    }

    /// Looks at the application, and does the next thing that is due: at most one step.
    pub fn look(&mut self, scene: &Scene<'_>, probe: &mut impl Probe) {
        (self.looked_ms, self.hold_s) = (scene.now_ms, scene.hold_s);
        if !self.attached {
            return;
        }
        if self.breakpoints.is_out() && !matches!(self.mode, Mode::Absent | Mode::Starts) {
            self.breakpoints.put_back(probe);
        }
        match self.mode {
            Mode::Absent => {}
            Mode::Starts => match probe.held() {
                Some(Held::Start) if !self.holds_start => self.go_on_from_start(probe),
                Some(held) => {
                    self.breakpoints.put_back(probe);
                    self.holds_start = false;
                    self.halted(held, scene, probe);
                }
                None => {}
            },
            Mode::Runs => {
                if let Some(held) = probe.held() {
                    self.halted(held, scene, probe);
                }
            }
            Mode::Steps { then, stays } => self.look_at_step(then, stays, scene, probe),
            Mode::Halted(Stop { held: Held::Fault(_), .. }) if scene.now_ms >= self.fault_until_ms() => {
                // It ends now as it would have.
                probe.resume(false);
                self.mode = Mode::Runs;
            }
            Mode::Halted(_) if !self.tell => {
                // Only now that this stop is in a frame: how it looked here is gone then.
                if let Some(Chain { from, to, .. }) = self.chain.take() {
                    self.go_on(Then::Range { from, to }, probe);
                }
            }
            Mode::Halted(_) => {}
        }
    }

    fn fault_until_ms(&self) -> u64 {
        self.heard_ms.saturating_add(u64::from(self.hold_s) * 1000)
    }

    fn go_on_from_start(&mut self, probe: &mut impl Probe) {
        self.breakpoints.put_back(probe);
        probe.resume(false);
        self.mode = Mode::Runs;
    }

    fn look_at_step(&mut self, then: Then, stays: bool, scene: &Scene<'_>, probe: &mut impl Probe) {
        let held = match probe.held() {
            Some(held) => held,
            // It was let go by somebody else: whatever that was, the step is over.
            None if stays => Held::Asked,
            None => return,
        };
        let registers = probe.registers();
        let (pc, sp) = place(registers.as_ref());
        let arrived = stays || held == Held::Breakpoint && self.breakpoints.is_target(pc);
        self.breakpoints.end_step(probe);
        if !arrived {
            return self.halted(held, scene, probe);
        }
        let at_breakpoint = self.breakpoints.is_set(pc);
        let reason = match then {
            Then::Stop => DebugStopReason::Step,
            Then::Run | Then::Range { .. } if at_breakpoint => DebugStopReason::Breakpoint,
            _ if self.halts => DebugStopReason::Halt,
            Then::Run => {
                probe.resume(false);
                self.mode = Mode::Runs;
                return;
            }
            Then::Range { from, to } if self.is_within(from, to, pc) => return self.step(then, probe),
            Then::Range { .. } => DebugStopReason::Step,
        };
        self.stop(Stop { reason, pc, uptime_us: scene.now_ms.saturating_mul(1000), held }, sp);
    }

    fn is_within(&self, from: u32, to: u32, pc: u32) -> bool {
        self.ranges.iter().chain(&[(from, to)]).any(|(from, to)| (*from..*to).contains(&pc))
    }

    /// It is held, and not where a step was to come out.
    fn halted(&mut self, held: Held, scene: &Scene<'_>, probe: &mut impl Probe) {
        let (pc, sp) = place(probe.registers().as_ref());
        let reason = match held {
            Held::Asked => DebugStopReason::Halt,
            Held::Breakpoint if self.breakpoints.is_set(pc) => DebugStopReason::Breakpoint,
            Held::Breakpoint => DebugStopReason::Instruction,
            Held::Fault(_) => DebugStopReason::Fault,
            Held::Start => DebugStopReason::Start,
        };
        // The developer has as long as after a word of his.
        self.heard_ms = self.heard_ms.max(scene.now_ms);
        self.stop(Stop { reason, pc, uptime_us: scene.now_ms.saturating_mul(1000), held }, sp);
    }

    fn stop(&mut self, stop: Stop, sp: u32) {
        let is_expected = |chain: &Chain| {
            stop.reason == DebugStopReason::Breakpoint && (stop.pc, sp) == (chain.at, chain.sp)
        };
        self.chain = self.chain.filter(is_expected);
        self.stops = self.stops.saturating_add(1);
        self.mode = Mode::Halted(stop);
        (self.tell, self.halts) = (true, false);
    }

    fn state_for(&self, caller: Caller) -> DebugState {
        if caller.reads_only { self.shown() } else { self.state() }
    }

    /// As the session was told.
    fn state(&self) -> DebugState {
        match self.mode {
            Mode::Absent => DebugState::Absent,
            Mode::Halted(_) if !self.tell && self.chain.is_none() => DebugState::Halted,
            Mode::Halted(_) | Mode::Starts | Mode::Runs | Mode::Steps { .. } => DebugState::Running,
        }
    }

    /// Does what a call that was checked asks for, up to its reads; whether a stop answers it.
    fn act(
        &mut self,
        call: &DebugCall<'_>,
        go: DebugGo,
        scene: &Scene<'_>,
        probe: &mut impl Probe,
    ) -> Result<bool, Problem> {
        self.must_be_of_this_start(call, go, scene)?;
        for write in call.writes.iter().flatten() {
            self.must_be_halted(scene, write.address)?;
            self.write(write.address, write.data, probe)?;
        }
        for register in call.registers.iter().flatten() {
            self.must_be_halted(scene, register.number)?;
            self.must_be_logged(register.number)?;
            probe
                .set_register(register.number as usize, register.value)
                .map_err(|_| Problem::new(DebugProblem::Register, register.number))?;
            self.log(Deed::SetRegister(register.number));
        }
        if call.plant {
            let wanted: Vec<u32, DEBUG_BREAKPOINTS_MAX> = call.breakpoints.iter().flatten().collect();
            let hardware: Vec<u32, DEBUG_HARDWARE_BREAKPOINTS_MAX> =
                call.hardware_breakpoints.iter().flatten().collect();
            let set = self.breakpoints.set(&wanted, &hardware, probe);
            set.map_err(|at| Problem::new(DebugProblem::Forbidden, at))?;
        }
        let awaits = self.go(call, go, scene, probe)?;
        if awaits {
            self.awaited.add(call)?;
        } else if matches!(self.mode, Mode::Absent) && !call.reads.is_empty() {
            return Err(self.absent(scene, 0));
        }
        Ok(awaits)
    }

    fn write(&mut self, at: u32, bytes: &[u8], probe: &mut impl Probe) -> Result<(), Problem> {
        self.must_be_logged(at)?;
        self.breakpoints.write(at, bytes, probe).map_err(|_| Problem::new(DebugProblem::Forbidden, at))?;
        self.log(Deed::Wrote { at, bytes: bytes.len() as u32 });
        Ok(())
    }

    /// What cannot be logged is not done.
    fn must_be_logged(&self, at: u32) -> Result<(), Problem> {
        if self.done.is_full() { Err(Problem::new(DebugProblem::TooMuch, at)) } else { Ok(()) }
    }

    fn log(&mut self, deed: Deed) {
        // Cannot fail: there was room.
        let _ = self.done.push_back(deed);
    }

    fn absent(&self, scene: &Scene<'_>, at: u32) -> Problem {
        Problem::new(if scene.updating { DebugProblem::Updating } else { DebugProblem::Absent }, at)
    }

    fn must_be_halted(&self, scene: &Scene<'_>, at: u32) -> Result<(), Problem> {
        match self.state() {
            DebugState::Halted => Ok(()),
            DebugState::Absent => Err(self.absent(scene, at)),
            _ => Err(Problem::new(DebugProblem::Running, at)),
        }
    }

    /// A frame may be under way for as long as a connection is lost, and an update takes its time from nobody: what it was said of may be gone.
    /// Who wants to halt it, or to start it anew, may mean any start of the same version.
    fn must_be_of_this_start(
        &self,
        call: &DebugCall<'_>,
        go: DebugGo,
        scene: &Scene<'_>,
    ) -> Result<(), Problem> {
        let goes_on = matches!(go, DebugGo::Continue | DebugGo::Step | DebugGo::Range);
        let least = match go {
            _ if changes(call) || goes_on => scene.starts,
            DebugGo::Halt | DebugGo::Restart => self.since,
            _ => 0,
        };
        if call.starts != 0 && call.starts < least && !mutated!(DebugOtherStart) {
            return Err(Problem::new(DebugProblem::StartedAnew, 0));
        }
        // Before its breakpoints are planted in what runs.
        if goes_on { self.must_be_halted(scene, 0) } else { Ok(()) }
    }

    /// Whether the next stop answers.
    fn go(
        &mut self,
        call: &DebugCall<'_>,
        go: DebugGo,
        scene: &Scene<'_>,
        probe: &mut impl Probe,
    ) -> Result<bool, Problem> {
        if !matches!(go, DebugGo::Unspecified | DebugGo::Halt) {
            self.ranges = call.ranges.iter().flatten().map(|range| (range.from, range.to)).collect();
        }
        match go {
            DebugGo::Unspecified => return Ok(false),
            DebugGo::Halt => return self.halt(scene, probe),
            DebugGo::Restart => {
                if scene.updating || !scene.can_start {
                    return Err(self.absent(scene, 0));
                }
                self.must_be_logged(0)?;
                self.log(Deed::Restarted);
                (self.restart, self.holds_start, self.chain) = (true, true, None);
            }
            DebugGo::Continue => {
                self.must_be_halted(scene, 0)?;
                let (from, to) = (call.range_from, call.range_to);
                self.chain =
                    (call.then_at != 0).then_some(Chain { at: call.then_at, sp: call.then_sp, from, to });
                self.let_run(call, Then::Run, scene, probe);
            }
            DebugGo::Step => {
                self.must_be_halted(scene, 0)?;
                self.let_run(call, Then::Stop, scene, probe);
            }
            DebugGo::Range => {
                self.must_be_halted(scene, 0)?;
                let (from, to) = (call.range_from, call.range_to);
                self.let_run(call, Then::Range { from, to }, scene, probe);
            }
        }
        self.awaited.clear();
        Ok(true)
    }

    fn halt(&mut self, scene: &Scene<'_>, probe: &mut impl Probe) -> Result<bool, Problem> {
        // Wherever it halts now, there it stays.
        self.chain = None;
        match self.mode {
            Mode::Absent => return Err(self.absent(scene, 0)),
            Mode::Halted(_) => return Ok(self.tell),
            // Before its first instruction, then.
            Mode::Starts => self.holds_start = true,
            Mode::Steps { .. } => {
                self.halts = true;
                probe.halt();
            }
            Mode::Runs => probe.halt(),
        }
        Ok(true)
    }

    fn let_run(&mut self, call: &DebugCall<'_>, then: Then, scene: &Scene<'_>, probe: &mut impl Probe) {
        probe.catch_faults(call.catch_faults && scene.hold_s > 0);
        self.go_on(then, probe);
    }

    /// From where it halted.
    fn go_on(&mut self, then: Then, probe: &mut impl Probe) {
        let Mode::Halted(stop) = self.mode else { return };
        let passed = self.pass_own(stop, probe);
        let pc = probe.registers().map(|registers| registers[PC]);
        match (then, pc) {
            // Where it faulted, it ends; where its registers cannot be seen, nothing can be done one at a time.
            _ if matches!(stop.held, Held::Fault(_)) => self.run(probe),
            (_, None) => self.run(probe),
            (Then::Stop | Then::Range { .. }, _) if passed => self.mode = Mode::Steps { then, stays: true },
            (Then::Run, Some(pc)) if passed || !self.breakpoints.is_set(pc) => self.run(probe),
            (then, Some(_)) => self.step(then, probe),
        }
    }

    fn run(&mut self, probe: &mut impl Probe) {
        self.mode = Mode::Runs;
        probe.resume(false);
    }

    /// At a breakpoint instruction of the application's own, where it stopped for that or for one planted there: past it. Whether it was so. One
    /// that it only came to, by a step, it has not executed.
    fn pass_own(&mut self, stop: Stop, probe: &mut impl Probe) -> bool {
        let is_at_one = matches!(stop.reason, DebugStopReason::Breakpoint | DebugStopReason::Instruction);
        let Some(registers) = probe.registers().filter(|_| is_at_one) else { return false };
        let pc = registers[PC];
        let word = Memory { breakpoints: &self.breakpoints, probe }.halfword(pc);
        if pc != stop.pc || word.is_none_or(|word| word >> 8 != 0xbe) {
            return false;
        }
        // The condition flags stay; in an IT block it is the next one's turn.
        let _ = probe.set_register(XPSR, step::advance_it(registers[XPSR]));
        probe.set_register(PC, pc.wrapping_add(2)).is_ok()
    }

    fn step(&mut self, then: Then, probe: &mut impl Probe) {
        let Some(registers) = probe.registers() else { return self.run(probe) };
        let plan = step::plan(&registers, &mut Memory { breakpoints: &self.breakpoints, probe });
        match plan {
            Plan::Stays(link) => {
                if let Some(link) = link {
                    let _ = probe.set_register(LR, link);
                }
                self.mode = Mode::Steps { then, stays: true };
            }
            Plan::Run(targets) => {
                self.breakpoints.begin_step(registers[PC], &targets, probe);
                self.mode = Mode::Steps { then, stays: false };
                probe.resume(true);
            }
        }
    }

    /// The answer to a call that no stop answers.
    fn answer(
        &self,
        call: &DebugCall<'_>,
        caller: Caller,
        problem: Option<Problem>,
        scene: &Scene<'_>,
        probe: &mut impl Probe,
        out: &mut [u8],
    ) -> usize {
        let state = self.state_for(caller);
        let mut answer = Answer::new(out, caller.number, state, scene.starts);
        if state == DebugState::Halted && !(only_reads(call) && problem.is_none()) {
            let halts = call.go == EnumValue::Known(DebugGo::Halt) && problem.is_none();
            self.add_stop(&mut answer, if halts { call.stack_bytes } else { 0 }, probe);
        }
        if call.describe {
            answer.target(scene, caller.reads_only, probe);
        }
        if problem.is_none() {
            for read in call.reads.iter().flatten() {
                answer.data(read.address, read.length, &self.breakpoints, probe);
            }
        }
        answer.end(problem)
    }

    /// What nobody asked for just now, or asked for before it let the application run.
    fn say(&mut self, scene: &Scene<'_>, probe: &mut impl Probe, out: &mut [u8]) -> Option<usize> {
        self.tell = false;
        let is_halted = matches!(self.mode, Mode::Halted(_));
        let state = if is_halted { DebugState::Halted } else { self.state() };
        let mut answer = Answer::new(out, self.call, state, scene.starts);
        let is_other = core::mem::take(&mut self.is_other);
        if is_halted {
            self.add_stop(&mut answer, self.awaited.stack_bytes, probe);
            if self.awaited.describe {
                answer.target(scene, false, probe);
            }
            for (at, bytes) in &self.awaited.reads {
                answer.data(*at, *bytes, &self.breakpoints, probe);
            }
            self.awaited.describe = false;
            if self.chain.is_none() {
                self.awaited.clear();
            }
        }
        if is_other && answer.has_room_for_target() {
            answer.target(scene, false, probe);
        }
        Some(answer.end(None))
    }

    fn add_stop(&self, answer: &mut Answer<'_>, stack_bytes: u32, probe: &mut impl Probe) {
        let Mode::Halted(stop) = self.mode else { return };
        let mut message = DebugStop {
            number: self.stops,
            reason: EnumValue::Known(stop.reason),
            uptime_us: stop.uptime_us,
            ..Default::default()
        };
        if let Held::Fault(kind) = stop.held {
            message.fault = EnumValue::Known(kind);
            if let Some(status) = probe.fault() {
                (message.cfsr, message.hfsr, message.sfsr) = (status.cfsr, status.hfsr, status.sfsr);
                (message.mmfar, message.bfar, message.sfar) = (status.mmfar, status.bfar, status.sfar);
            }
        }
        let registers = probe.registers();
        let sp = registers.map_or(0, |registers| registers[SP]);
        // Where the line that sp is in begins in the application's memory, too.
        let line = sp & !(STACK_LINE_BYTES - 1);
        let stack_at = if bytes_left(probe.regions(), line) > 0 { line } else { sp };
        let stack_bytes = stack_bytes.min(bytes_left(probe.regions(), stack_at));
        message.stack_at = if stack_bytes > 0 { stack_at } else { 0 };
        answer.stop(&message, registers.as_ref(), stack_at, stack_bytes, &self.breakpoints, probe);
    }
}

impl Awaited {
    fn clear(&mut self) {
        self.reads.clear();
        (self.stack_bytes, self.describe) = (0, false);
    }

    /// What this call wants comes with the next stop, behind what was wanted before.
    fn add(&mut self, call: &DebugCall<'_>) -> Result<(), Problem> {
        self.describe |= call.describe;
        self.stack_bytes = self.stack_bytes.max(call.stack_bytes);
        let before = self.reads.len();
        let mut bytes = self.reads.iter().fold(self.stack_bytes, |sum, (_, bytes)| sum + bytes);
        for read in call.reads.iter().flatten() {
            bytes = bytes.saturating_add(read.length);
            let fits = bytes <= DEBUG_READ_BYTES_MAX as u32;
            if !fits || self.reads.push((read.address, read.length)).is_err() {
                self.reads.truncate(before);
                return Err(Problem::new(DebugProblem::TooMuch, read.address));
            }
        }
        Ok(())
    }
}

/// Asks for memory at most.
fn only_reads(call: &DebugCall<'_>) -> bool {
    !call.describe
        && !call.plant
        && call.writes.is_empty()
        && call.registers.is_empty()
        && call.go == EnumValue::Known(DebugGo::Unspecified)
}

/// Changes memory, registers or breakpoints.
fn changes(call: &DebugCall<'_>) -> bool {
    call.plant || !call.writes.is_empty() || !call.registers.is_empty()
}

/// Nothing but its number: it keeps the session, while the developer may be gone.
fn says_nothing(call: &DebugCall<'_>) -> bool {
    only_reads(call) && call.reads.is_empty()
}

/// Checks all of a call that can be checked without doing anything of it.
fn check(
    call: &DebugCall<'_>,
    caller: Caller,
    breakpoints: &Breakpoints,
    probe: &impl Probe,
) -> Result<DebugGo, Problem> {
    let malformed = |at| Problem::new(DebugProblem::Malformed, at);
    let too_much = |at| Problem::new(DebugProblem::TooMuch, at);
    let EnumValue::Known(go) = call.go else { return Err(malformed(0)) };
    if caller.reads_only && (changes(call) || go != DebugGo::Unspecified) && !mutated!(DebugReadOnly) {
        return Err(Problem::new(DebugProblem::ReadOnly, 0));
    }
    let mut bytes = 0usize;
    for (index, write) in call.writes.iter().enumerate() {
        let write = write.map_err(|_| malformed(0))?;
        bytes = bytes.saturating_add(write.data.len());
        if index >= DEBUG_READS_MAX || bytes > DEBUG_WRITE_BYTES_MAX {
            return Err(too_much(write.address));
        }
    }
    for (index, register) in call.registers.iter().enumerate() {
        let register = register.map_err(|_| malformed(0))?;
        if index >= DEBUG_READS_MAX {
            return Err(too_much(register.number));
        }
        if register.number as usize >= REGISTERS {
            return Err(Problem::new(DebugProblem::Register, register.number));
        }
    }
    let planted = call.breakpoints.iter().enumerate().map(|each| (each, DEBUG_BREAKPOINTS_MAX));
    let hardware = call.hardware_breakpoints.iter().enumerate().map(|each| (each, hardware_max(probe)));
    for ((index, at), most) in planted.chain(hardware) {
        let at = at.map_err(|_| malformed(0))?;
        if index >= most {
            return Err(too_much(at));
        }
        if !call.plant || !at.is_multiple_of(2) {
            return Err(malformed(at));
        }
        if !is_code(probe.regions(), at) {
            return Err(Problem::new(DebugProblem::Forbidden, at));
        }
    }
    let chains = call.then_at != 0;
    if (chains || go == DebugGo::Range) && call.range_from > call.range_to {
        return Err(malformed(call.range_from));
    }
    for (index, range) in call.ranges.iter().enumerate() {
        let range = range.map_err(|_| malformed(0))?;
        if index >= DEBUG_RANGES_MAX {
            return Err(too_much(range.from));
        }
        if range.from > range.to {
            return Err(malformed(range.from));
        }
    }
    let is_planted = match call.plant {
        true => call.breakpoints.iter().flatten().any(|at| at == call.then_at),
        false => breakpoints.is_set(call.then_at),
    };
    if chains && (go != DebugGo::Continue || !is_planted) {
        return Err(malformed(call.then_at));
    }
    let bytes_max = caller.read_bytes_max();
    let mut bytes = call.stack_bytes;
    for (index, read) in call.reads.iter().enumerate() {
        let read = read.map_err(|_| malformed(0))?;
        bytes = bytes.saturating_add(read.length);
        if index >= DEBUG_READS_MAX || bytes > bytes_max {
            return Err(too_much(read.address));
        }
    }
    if call.stack_bytes > bytes_max {
        return Err(too_much(0));
    }
    Ok(go)
}

/// pc and sp, where they can be seen.
fn place(registers: Option<&Registers>) -> (u32, u32) {
    registers.map_or((0, 0), |registers| (registers[PC], registers[SP]))
}

/// The application's memory, without our breakpoints.
struct Memory<'a, P> {
    breakpoints: &'a Breakpoints,
    probe: &'a mut P,
}

impl<P: Probe> Code for Memory<'_, P> {
    fn halfword(&mut self, at: u32) -> Option<u16> {
        let mut bytes = [0; 2];
        self.breakpoints.read(at, &mut bytes, self.probe).ok()?;
        Some(u16::from_le_bytes(bytes))
    }

    fn word(&mut self, at: u32) -> Option<u32> {
        let mut bytes = [0; 4];
        self.breakpoints.read(at, &mut bytes, self.probe).ok()?;
        Some(u32::from_le_bytes(bytes))
    }

    fn is_code(&self, at: u32) -> bool {
        is_code(self.probe.regions(), at)
    }
}
