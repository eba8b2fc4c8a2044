//! The application on the device, as one asks of it here: registers, memory, breakpoints, go.
//!
//! It exists to spare round trips. What belongs to one action goes in one call; registers, stack and the memory that was looked at before come with
//! the stop that ends it; the rest of memory is read in lines and kept until the application runs again or anything is written; code comes from
//! the ELF file when that is what the device runs. The breakpoints there should be are said with the next `go`, if they changed.
//!
//! What comes from the device is judged here: an answer that cannot be ends the session ([`Gone::Nonsense`]), it never panics.

use std::collections::{BTreeSet, VecDeque};

use proto::device::v1::{
    DebugAnswer, DebugCall, DebugGo, DebugProblem, DebugRead, DebugRegister, DebugState, DebugStop,
    DebugStopReason, DebugWrite,
};
use wire::limits::DEBUG_READS_MAX;

use crate::debug::about::{About, Region};
use crate::debug::cache::{Cache, LINE_BYTES, line_of};
use crate::debug::link::{CALLS_MAX, Gone, Link};
use crate::debug::program::Program;

/// Words of the registers: `DebugStop.registers`.
pub(crate) const REGISTERS: usize = 20;
pub(crate) const SP: usize = 13;
pub(crate) const PC: usize = 15;
/// The last of those that are set with the next call instead of by one of their own: r0 to pc can always be set.
const LAST_LAZY: usize = PC;
/// Of the stack, with a stop.
const STACK_BYTES: u32 = 1024;
/// Lines read beyond what was asked for, and before it.
const AHEAD_LINES: usize = 6;
const BEFORE_LINES: usize = 1;

pub(crate) type Registers = [u32; REGISTERS];
/// Addresses and lengths.
type Ranges = Vec<(u32, u32)>;
/// What was to be read, and what is there.
type Read = ((u32, u32), Vec<u8>);

/// Why something was not done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Trouble {
    #[error("{}", words(*.0, *.1))]
    Problem(DebugProblem, u32),
    #[error(transparent)]
    Gone(#[from] Gone),
}

/// Where it halted, and why.
#[derive(Debug, Clone)]
pub(crate) struct Stop {
    pub(crate) reason: DebugStopReason,
    pub(crate) registers: Registers,
    /// The device's own words, for what is asked of them.
    pub(crate) said: DebugStop,
}

#[derive(Debug, Clone)]
enum State {
    Running,
    Absent,
    Halted(Box<Stop>),
}

/// What happened while it ran.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum News {
    Stopped,
    /// It was to go on, and does not.
    NotDone(DebugProblem, u32),
    /// It ended; the device will start it again.
    Ended,
    /// The device started it anew.
    StartedAnew,
}

/// How it is to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Go {
    Continue,
    Step,
    Range(u32, u32),
}

/// What it cost so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Cost {
    pub(crate) calls: u64,
    /// Times somebody waited for the device: calls made together count once.
    pub(crate) round_trips: u64,
    pub(crate) bytes_from_device: u64,
    pub(crate) bytes_from_cache: u64,
    pub(crate) bytes_from_elf: u64,
}

/// A call that is not answered.
#[derive(Debug)]
struct Pending {
    number: u32,
    reads: Ranges,
    /// Answered when the application stands.
    deferred: bool,
}

#[derive(Debug)]
pub(crate) struct Machine {
    link: Link,
    about: About,
    program: Option<Program>,
    /// Each request is a call, and nothing is kept.
    plain: bool,
    cache: Cache,
    state: State,
    /// Times the device started the application.
    starts: u32,
    breakpoints: BTreeSet<u32>,
    /// What the device was last told of them.
    planted: Option<BTreeSet<u32>>,
    /// Set here, and not yet there.
    dirty: BTreeSet<usize>,
    number: u32,
    answered: u32,
    pending: VecDeque<Pending>,
    last_go: u32,
    /// The most of the stack that comes with a stop.
    stack_asked: u32,
    interrupted: bool,
    /// What there is to debug may be another by now.
    is_stale: bool,
    news: VecDeque<News>,
    cost: Cost,
}

impl Machine {
    /// Of a session in which nothing was said yet: asks what there is. The application goes on meanwhile.
    pub(crate) async fn open(mut link: Link, plain: bool) -> Result<Machine, Gone> {
        let call = DebugCall { number: 1, describe: true, ..DebugCall::default() };
        link.calls.send(call).await.map_err(|_| Link::lost())?;
        let answer = link.answers.recv().await.ok_or_else(Link::lost)??;
        if answer.call != 1 {
            return Err(Gone::Nonsense("an answer to a call that was not made"));
        }
        let about = About::of(answer.target.ok_or(Gone::Nonsense("nothing of what there is to debug"))?)?;
        let state = match DebugState::try_from(answer.state) {
            Ok(DebugState::Absent) => State::Absent,
            // Of one that is halted the first halt tells where.
            _ => State::Running,
        };
        Ok(Machine {
            link,
            about,
            program: None,
            plain,
            cache: Cache::default(),
            state,
            starts: answer.starts,
            breakpoints: BTreeSet::new(),
            planted: Some(BTreeSet::new()),
            dirty: BTreeSet::new(),
            number: 1,
            answered: 1,
            pending: VecDeque::new(),
            last_go: 0,
            stack_asked: 0,
            interrupted: false,
            is_stale: false,
            news: VecDeque::new(),
            cost: Cost { calls: 1, round_trips: 1, ..Cost::default() },
        })
    }

    /// Code is answered from this from now on.
    pub(crate) fn set_program(&mut self, mut program: Program) {
        program.compare(self.about.image_digest, self.about.image_bytes);
        self.program = Some(program);
    }

    pub(crate) fn program(&self) -> Option<&Program> {
        self.program.as_ref()
    }

    pub(crate) fn about(&self) -> &About {
        &self.about
    }

    pub(crate) fn cost(&self) -> Cost {
        self.cost
    }

    pub(crate) fn is_plain(&self) -> bool {
        self.plain
    }

    pub(crate) fn breakpoints(&self) -> &BTreeSet<u32> {
        &self.breakpoints
    }

    /// Where it stands, if it does.
    pub(crate) fn stop(&self) -> Option<&Stop> {
        match &self.state {
            State::Halted(stop) => Some(stop),
            _ => None,
        }
    }

    /// What happened since last asked.
    pub(crate) fn take_news(&mut self) -> Vec<News> {
        self.news.drain(..).collect()
    }

    /// The next answer, when there is one. May be given up at any time.
    pub(crate) async fn answer(&mut self) -> Result<DebugAnswer, Gone> {
        self.link.answers.recv().await.ok_or_else(Link::lost)?
    }

    /// Forgets what was read.
    pub(crate) fn void(&mut self) {
        self.cache.void();
    }

    /// Halts it, and waits until it stands.
    pub(crate) fn halt(&mut self) -> Result<(), Trouble> {
        if matches!(self.state, State::Halted(_)) {
            return Ok(());
        }
        self.begin_halt()?;
        self.until_it_stands()
    }

    /// Halts it; the stop is news.
    pub(crate) fn interrupt(&mut self) -> Result<(), Gone> {
        if matches!(self.state, State::Halted(_)) || self.interrupted {
            return Ok(());
        }
        self.interrupted = true;
        self.begin_halt()
    }

    fn begin_halt(&mut self) -> Result<(), Gone> {
        self.forget_stops();
        // A call that lets it run has asked for what it wants with the stop.
        let is_awaited = self.pending.iter().any(|call| call.deferred);
        let stack_bytes = if self.plain || is_awaited { 0 } else { self.stack_bytes() };
        self.stack_asked = self.stack_asked.max(stack_bytes);
        self.cost.round_trips += 1;
        self.call(
            DebugCall { go: DebugGo::Halt.into(), stack_bytes, ..DebugCall::default() },
            Vec::new(),
            true,
        )
    }

    /// Starts it anew, halted before its first instruction.
    pub(crate) fn restart(&mut self) -> Result<(), Trouble> {
        self.dirty.clear();
        self.go(DebugGo::Restart, (0, 0))?;
        self.until_it_stands()
    }

    /// Lets it go on. The stop that ends this is news.
    pub(crate) fn resume(&mut self, go: Go) -> Result<(), Gone> {
        match go {
            Go::Continue => self.go(DebugGo::Continue, (0, 0)),
            Go::Step => self.go(DebugGo::Step, (0, 0)),
            // An empty range is one step.
            Go::Range(from, to) if from >= to => self.go(DebugGo::Step, (0, 0)),
            Go::Range(from, to) => self.go(DebugGo::Range, (from, to)),
        }
    }

    /// Nobody debugs it any more: no breakpoints, and it goes on.
    pub(crate) fn let_go(&mut self) -> Result<(), Gone> {
        self.breakpoints.clear();
        match &self.state {
            State::Halted(_) => self.go(DebugGo::Continue, (0, 0)),
            // It is told with the next `go`, or by the end of the session.
            State::Running | State::Absent => Ok(()),
        }
    }

    fn go(&mut self, go: DebugGo, range: (u32, u32)) -> Result<(), Gone> {
        let (stack_bytes, reads) =
            if self.plain { (0, Vec::new()) } else { (self.stack_bytes(), self.wanted()) };
        let plant = self.planted.as_ref() != Some(&self.breakpoints);
        let call = DebugCall {
            registers: self.take_dirty(),
            plant,
            breakpoints: if plant { self.breakpoints.iter().copied().collect() } else { Vec::new() },
            go: go.into(),
            range_from: range.0,
            range_to: range.1,
            catch_faults: true,
            stack_bytes,
            ..DebugCall::default()
        };
        self.cache.void();
        self.state = State::Running;
        self.forget_stops();
        self.planted = Some(self.breakpoints.clone());
        self.stack_asked = stack_bytes;
        // This call's wishes take the place of those of one before.
        self.pending.retain(|call| !call.deferred);
        self.interrupted = false;
        self.last_go = self.number + 1;
        self.cost.round_trips += 1;
        self.call(call, reads, true)
    }

    /// News of stops that are over.
    fn forget_stops(&mut self) {
        self.news.retain(|news| matches!(news, News::Ended | News::StartedAnew));
    }

    fn stack_bytes(&self) -> u32 {
        STACK_BYTES.min(self.about.read_bytes_max / 2)
    }

    /// What to read with the next stop: what was looked at since the last one, but for what comes by itself.
    fn wanted(&mut self) -> Ranges {
        let Some(stop) = self.stop() else { return Vec::new() };
        let (sp, begins_at_sp) = (stop.registers[SP], stop.said.stack_at == 0);
        let mut lines = self.cache.take_wanted();
        let is_on_stack = |line: &u32| line_of(sp) <= *line && *line - line_of(sp) < STACK_BYTES;
        lines.retain(|line| !is_on_stack(line));
        if begins_at_sp {
            // gdb reads whole lines of its own, and a function that is called puts its frame below.
            lines.insert(0, line_of(sp));
            lines.extend(line_of(sp).checked_sub(LINE_BYTES));
        }
        self.ranges_of(lines, self.about.read_bytes_max.saturating_sub(self.stack_bytes()))
    }

    /// As many of these lines as there is room for, the first ones first.
    fn ranges_of(&self, lines: Vec<u32>, mut room: u32) -> Ranges {
        let mut ranges = Vec::new();
        for line in lines {
            let Some(region) = self.about.region(line).filter(|region| !region.is_peripheral()) else {
                continue;
            };
            let (at, bytes) = piece(region, line);
            let is_in_file = self.program.as_ref().is_some_and(|program| program.at(at).is_some());
            if bytes <= room && !is_in_file {
                room -= bytes;
                ranges.push((at, bytes));
            }
        }
        ranges.sort_unstable();
        ranges.dedup();
        merged(ranges)
    }

    pub(crate) fn registers(&mut self) -> Result<Registers, Trouble> {
        if self.plain {
            // A halt of one that stands is answered at once, with where.
            self.halt()?;
            self.ask(vec![(DebugCall { go: DebugGo::Halt.into(), ..DebugCall::default() }, Vec::new())])?;
        }
        // The device may have started it anew while it was held here: an update is not kept waiting.
        self.halt()?;
        match &self.state {
            State::Halted(stop) => Ok(stop.registers),
            _ => Err(Trouble::Problem(DebugProblem::Absent, 0)),
        }
    }

    /// By its place in [`Registers`].
    pub(crate) fn set_register(&mut self, number: usize, value: u32) -> Result<(), Trouble> {
        let at = u32::try_from(number).unwrap_or(u32::MAX);
        if self.about.read_only {
            return Err(Trouble::Problem(DebugProblem::ReadOnly, at));
        }
        let State::Halted(stop) = &mut self.state else {
            return Err(Trouble::Problem(DebugProblem::Running, at));
        };
        let Some(register) = stop.registers.get_mut(number) else {
            return Err(Trouble::Problem(DebugProblem::Register, at));
        };
        if *register == value {
            return Ok(());
        }
        let before = std::mem::replace(register, value);
        self.dirty.insert(number);
        if number <= LAST_LAZY && !self.plain {
            return Ok(());
        }
        let registers = self.take_dirty();
        let asked = self.ask(vec![(DebugCall { registers, ..DebugCall::default() }, Vec::new())]);
        if asked.is_err()
            && let State::Halted(stop) = &mut self.state
        {
            stop.registers[number] = before;
        }
        asked.map(drop)
    }

    fn take_dirty(&mut self) -> Vec<DebugRegister> {
        let State::Halted(stop) = &self.state else {
            self.dirty.clear();
            return Vec::new();
        };
        let numbers = std::mem::take(&mut self.dirty);
        let register = |number: usize| DebugRegister {
            number: u32::try_from(number).unwrap_or(u32::MAX),
            value: stop.registers[number],
        };
        // Never more than a call may set: there are 16 that wait.
        numbers.into_iter().map(register).collect()
    }

    /// Reads from `at` on, as much as lies in one region; how many bytes.
    pub(crate) fn read(&mut self, at: u32, into: &mut [u8]) -> Result<usize, Trouble> {
        let forbidden = Trouble::Problem(DebugProblem::Forbidden, at);
        let region = self.about.region(at).ok_or(forbidden.clone())?;
        let length = u32::try_from(into.len()).unwrap_or(u32::MAX).min(region.end() - at);
        let into = &mut into[..length as usize];
        let read = if self.plain || region.is_peripheral() || self.stop().is_none() {
            self.read_directly(at, into)?
        } else {
            self.cache.want(at, length);
            self.read_cached(region, at, into)?
        };
        if read == 0 && length > 0 { Err(forbidden) } else { Ok(read) }
    }

    fn read_directly(&mut self, at: u32, into: &mut [u8]) -> Result<usize, Trouble> {
        let mut ranges = Vec::new();
        let (mut next, mut left) = (at, u32::try_from(into.len()).unwrap_or(u32::MAX));
        while left > 0 {
            let bytes = left.min(self.about.read_bytes_max);
            ranges.push((next, bytes));
            (next, left) = (next + bytes, left - bytes);
        }
        let mut read = 0;
        for data in self.fetch(ranges)? {
            let whole = data.1.len() == data.0.1 as usize;
            into[read..read + data.1.len()].copy_from_slice(&data.1);
            read += data.1.len();
            if !whole {
                break;
            }
        }
        Ok(read)
    }

    /// Code from the ELF file, the rest from the cache, which is filled first.
    fn read_cached(&mut self, region: Region, at: u32, into: &mut [u8]) -> Result<usize, Trouble> {
        let mut read = 0;
        while read < into.len() {
            let here = at + u32::try_from(read).unwrap_or(u32::MAX);
            let left = into.len() - read;
            if let Some(bytes) = self.program.as_ref().and_then(|program| program.at(here)) {
                let bytes = &bytes[..bytes.len().min(left)];
                into[read..read + bytes.len()].copy_from_slice(bytes);
                self.cost.bytes_from_elf += bytes.len() as u64;
                read += bytes.len();
                continue;
            }
            let until = self.program.as_ref().and_then(|program| program.next(here));
            let bytes = until.map_or(left, |until| left.min((until - here) as usize));
            let length = u32::try_from(bytes).unwrap_or(u32::MAX);
            if self.cache.has(here, length) {
                self.cost.bytes_from_cache += bytes as u64;
            } else {
                self.fill(region, here, length)?;
            }
            let got = self.cache.copy(here, &mut into[read..read + bytes]);
            read += got;
            if got < bytes {
                break;
            }
        }
        Ok(read)
    }

    /// Reads what of this range is not known, and what lies around it while there is room.
    fn fill(&mut self, region: Region, at: u32, length: u32) -> Result<(), Trouble> {
        let first = line_of(at);
        let count = (at - first + length).div_ceil(LINE_BYTES) as usize;
        let lines = |from: u32| {
            std::iter::successors(Some(from), |line| line.checked_add(LINE_BYTES))
                .take_while(|line| *line < region.end())
        };
        let mut wanted: Vec<u32> =
            lines(first).take(count).filter(|line| !self.is_known(region, *line)).collect();
        let room = (self.about.read_bytes_max / LINE_BYTES) as usize;
        let ahead = lines(first).skip(count).take(AHEAD_LINES);
        let before = (1..=BEFORE_LINES as u32).filter_map(|n| first.checked_sub(n * LINE_BYTES));
        let around = ahead.chain(before.filter(|line| *line >= line_of(region.at)));
        for line in around {
            if wanted.len() < room && !self.is_known(region, line) {
                wanted.push(line);
            }
        }
        wanted.sort_unstable();
        let ranges = wanted.into_iter().map(|line| piece(region, line)).collect();
        for ((from, _), data) in self.fetch(ranges)? {
            self.cache.put(from, &data);
        }
        Ok(())
    }

    fn is_known(&self, region: Region, line: u32) -> bool {
        let (from, bytes) = piece(region, line);
        self.cache.has(from, bytes)
    }

    /// Reads these from the device: as much in one call as fits, and all calls before the first answer is waited for.
    fn fetch(&mut self, ranges: Ranges) -> Result<Vec<Read>, Trouble> {
        let mut calls = Vec::new();
        for group in grouped(ranges, self.about.read_bytes_max) {
            calls.push((DebugCall::default(), group));
        }
        let mut all = Vec::new();
        let mut rest = calls.into_iter().peekable();
        while rest.peek().is_some() {
            let batch: Vec<_> = rest.by_ref().take(CALLS_MAX - 1).collect();
            for (reads, answer) in self.ask(batch)? {
                for (range, data) in reads.into_iter().zip(answer.data) {
                    self.cost.bytes_from_device += data.data.len() as u64;
                    all.push((range, data.data));
                }
            }
        }
        Ok(all)
    }

    /// All of it, or an error: then what was written before the error stays.
    pub(crate) fn write(&mut self, at: u32, bytes: &[u8]) -> Result<(), Trouble> {
        if self.about.read_only {
            return Err(Trouble::Problem(DebugProblem::ReadOnly, at));
        }
        if bytes.is_empty() {
            return Ok(());
        }
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let region = self.about.region(at).filter(|region| length <= region.end() - at);
        region.ok_or(Trouble::Problem(DebugProblem::Forbidden, at))?;
        self.cache.void();
        if let Some(program) = &mut self.program {
            program.forget(at, length);
        }
        // gdb looks anew after it wrote: what it saw before comes with the answer.
        let seen = self.cache.wanted();
        let mut again = if self.plain { Vec::new() } else { self.ranges_of(seen, self.about.read_bytes_max) };
        let (mut at, mut pieces) = (at, bytes.chunks(self.about.write_bytes_max).peekable());
        while let Some(piece) = pieces.next() {
            let writes = vec![DebugWrite { address: at, data: piece.to_vec() }];
            let reads = if pieces.peek().is_none() { std::mem::take(&mut again) } else { Vec::new() };
            for (reads, answer) in self.ask(vec![(DebugCall { writes, ..DebugCall::default() }, reads)])? {
                for ((at, _), data) in reads.into_iter().zip(answer.data) {
                    self.cost.bytes_from_device += data.data.len() as u64;
                    self.cache.put(at, &data.data);
                }
            }
            at = at.wrapping_add(u32::try_from(piece.len()).unwrap_or(u32::MAX));
        }
        Ok(())
    }

    /// There is to be a breakpoint, from the next `go` on.
    pub(crate) fn add_breakpoint(&mut self, at: u32) -> Result<(), Trouble> {
        let code = self.about.region(at).filter(|region| !region.is_peripheral() && at & 1 == 0);
        code.ok_or(Trouble::Problem(DebugProblem::Forbidden, at))?;
        if self.about.read_only {
            return Err(Trouble::Problem(DebugProblem::ReadOnly, at));
        }
        if self.breakpoints.len() >= self.about.breakpoints_max && !self.breakpoints.contains(&at) {
            return Err(Trouble::Problem(DebugProblem::TooMuch, at));
        }
        self.breakpoints.insert(at);
        self.plant_now()
    }

    /// Whether there was one.
    pub(crate) fn remove_breakpoint(&mut self, at: u32) -> Result<bool, Trouble> {
        let was = self.breakpoints.remove(&at);
        self.plant_now()?;
        Ok(was)
    }

    fn plant_now(&mut self) -> Result<(), Trouble> {
        if !self.plain || self.planted.as_ref() == Some(&self.breakpoints) {
            return Ok(());
        }
        let breakpoints = self.breakpoints.iter().copied().collect();
        self.planted = None;
        self.ask(vec![(DebugCall { plant: true, breakpoints, ..DebugCall::default() }, Vec::new())])?;
        self.planted = Some(self.breakpoints.clone());
        Ok(())
    }

    /// Makes these calls together, and waits for their answers.
    fn ask(&mut self, mut calls: Vec<(DebugCall, Ranges)>) -> Result<Vec<(Ranges, DebugAnswer)>, Trouble> {
        if self.is_stale {
            // A call of its own: its answer needs the room.
            calls.insert(0, (DebugCall { describe: true, ..DebugCall::default() }, Vec::new()));
        }
        let mut left = calls.len();
        self.cost.round_trips += u64::from(left > 0);
        for (mut call, reads) in calls {
            call.registers.extend(self.take_dirty());
            self.call(call, reads, false)?;
        }
        let mut answers = Vec::new();
        let mut problem = None;
        while left > 0 {
            let answer = self.link.answers.blocking_recv().ok_or_else(Link::lost)??;
            if let Some((reads, answer)) = self.hear(answer)? {
                left -= 1;
                if answer.problem() != DebugProblem::Unspecified {
                    problem.get_or_insert(Trouble::Problem(answer.problem(), answer.problem_at));
                }
                answers.push((reads, answer));
            }
        }
        problem.map_or(Ok(answers), Err)
    }

    fn until_it_stands(&mut self) -> Result<(), Trouble> {
        loop {
            while let Some(news) = self.news.pop_front() {
                match news {
                    News::Stopped => return Ok(()),
                    News::NotDone(problem, at) => return Err(Trouble::Problem(problem, at)),
                    News::Ended | News::StartedAnew => {}
                }
            }
            let answer = self.link.answers.blocking_recv().ok_or_else(Link::lost)??;
            self.hear(answer)?;
        }
    }

    fn call(&mut self, mut call: DebugCall, reads: Ranges, deferred: bool) -> Result<(), Gone> {
        self.number =
            self.number.checked_add(1).ok_or(Gone::Ended("too many calls for one session".into()))?;
        call.number = self.number;
        call.reads = reads.iter().map(|&(address, length)| DebugRead { address, length }).collect();
        self.pending.push_back(Pending { number: self.number, reads, deferred });
        self.cost.calls += 1;
        self.link.calls.blocking_send(call).map_err(|_| Link::lost())
    }

    /// Takes an answer in. Of a call that is answered at once, it is returned with what the call read; everything else is news.
    pub(crate) fn hear(&mut self, mut answer: DebugAnswer) -> Result<Option<(Ranges, DebugAnswer)>, Gone> {
        if answer.call > self.number || answer.call < self.answered {
            return Err(Gone::Nonsense("an answer to a call that was not made"));
        }
        self.answered = answer.call;
        let problem = answer.problem();
        let state = DebugState::try_from(answer.state).unwrap_or(DebugState::Unspecified);
        let taken = self.take_pending(&answer)?;
        self.begin_anew(&answer);
        if let Some(target) = answer.target.take() {
            self.about = About::of(target)?;
            self.is_stale = false;
            if let Some(program) = &mut self.program {
                program.compare(self.about.image_digest, self.about.image_bytes);
            }
        }
        let halted_at = answer.stop.take();
        if let Some(stop) = halted_at {
            if state != DebugState::Halted {
                return Err(Gone::Nonsense("it halted, and is not halted"));
            }
            self.check_stop(&stop)?;
            // Of before the newest `go`: that is over.
            if answer.call >= self.last_go {
                self.stopped(stop)?;
            }
        } else if state != DebugState::Halted {
            self.not_halted(state, answer.call);
        }
        match taken {
            Some(pending) if !pending.deferred => {
                check_data(&pending.reads, &answer, problem)?;
                Ok(Some((pending.reads, answer)))
            }
            Some(pending) => {
                // Of a call that another took the place of, what it read is of no use.
                if answer.data.len() == pending.reads.len() {
                    check_data(&pending.reads, &answer, problem)?;
                    if matches!(self.state, State::Halted(_)) {
                        for ((at, _), data) in pending.reads.iter().zip(&answer.data) {
                            self.cost.bytes_from_device += data.data.len() as u64;
                            self.cache.put(*at, &data.data);
                        }
                    }
                }
                if problem != DebugProblem::Unspecified {
                    // It stands where it stood; that is no news.
                    self.forget_stops();
                    self.planted = None;
                    self.news.push_back(News::NotDone(problem, answer.problem_at));
                }
                Ok(None)
            }
            None => Ok(None),
        }
    }

    /// The call that this answers: that of its number; or, of a stop, all that waited for one, as one.
    fn take_pending(&mut self, answer: &DebugAnswer) -> Result<Option<Pending>, Gone> {
        let own = self.pending.iter().position(|call| call.number == answer.call && !call.deferred);
        let before = own.unwrap_or(self.pending.len());
        let is_left_out = |call: &Pending| !call.deferred && call.number < answer.call;
        if self.pending.iter().take(before).any(is_left_out) {
            // Each of these has an answer of its own, before the next call is taken.
            return Err(Gone::Nonsense("a call without an answer"));
        }
        if let Some(place) = own {
            return Ok(self.pending.remove(place));
        }
        if answer.problem() != DebugProblem::Unspecified {
            let refused = self.pending.iter().position(|call| call.number == answer.call);
            return Ok(refused.and_then(|place| self.pending.remove(place)));
        }
        if answer.stop.is_none() {
            return Ok(None);
        }
        let mut all: Option<Pending> = None;
        while let Some(call) = self.pending.pop_front_if(|call| call.number <= answer.call) {
            match &mut all {
                Some(all) => all.reads.extend(call.reads),
                None => all = Some(call),
            }
        }
        Ok(all)
    }

    /// Another start of the application: all that was known of the one before is void.
    fn begin_anew(&mut self, answer: &DebugAnswer) {
        if answer.starts == self.starts {
            return;
        }
        self.starts = answer.starts;
        self.cache.void();
        self.dirty.clear();
        self.news.push_back(News::StartedAnew);
        // It may be another image by now: the next call asks.
        self.is_stale = true;
        if let Some(program) = &mut self.program {
            program.compare(None, 0);
        }
    }

    fn check_stop(&mut self, stop: &DebugStop) -> Result<(), Gone> {
        if stop.registers.len() != REGISTERS * 4 {
            return Err(Gone::Nonsense("registers of another machine"));
        }
        if stop.stack.len() > self.stack_asked as usize {
            return Err(Gone::Nonsense("more of the stack than was asked for"));
        }
        Ok(())
    }

    fn stopped(&mut self, stop: DebugStop) -> Result<(), Gone> {
        let mut registers = [0; REGISTERS];
        for (register, word) in registers.iter_mut().zip(stop.registers.chunks_exact(4)) {
            *register = u32::from_le_bytes([word[0], word[1], word[2], word[3]]);
        }
        let reason = DebugStopReason::try_from(stop.reason).unwrap_or(DebugStopReason::Unspecified);
        let was_running = !matches!(&self.state, State::Halted(before) if before.said.number == stop.number);
        if !was_running && !self.dirty.is_empty() {
            // It says what it was before it is told otherwise.
            return Ok(());
        }
        if was_running {
            self.cache.void();
            self.cost.bytes_from_device += stop.stack.len() as u64;
        }
        if !self.plain {
            let at = if stop.stack_at == 0 { registers[SP] } else { stop.stack_at };
            self.cache.put(at, &stop.stack);
        }
        self.state = State::Halted(Box::new(Stop { reason, registers, said: stop }));
        if was_running {
            self.news.push_back(News::Stopped);
        }
        Ok(())
    }

    fn not_halted(&mut self, state: DebugState, call: u32) {
        if call < self.last_go {
            return;
        }
        if matches!(self.state, State::Halted(_)) {
            self.cache.void();
        }
        match state {
            DebugState::Absent => {
                if !matches!(self.state, State::Absent) {
                    self.news.push_back(News::Ended);
                }
                self.state = State::Absent;
            }
            _ => self.state = State::Running,
        }
    }
}

/// What of a line lies in a region.
fn piece(region: Region, line: u32) -> (u32, u32) {
    let from = line.max(region.at);
    (from, (LINE_BYTES - (from - line)).min(region.end() - from))
}

/// Neighbours as one.
fn merged(ranges: Ranges) -> Ranges {
    let mut all: Ranges = Vec::new();
    for (at, bytes) in ranges {
        match all.last_mut() {
            Some(last) if last.0 + last.1 == at => last.1 += bytes,
            _ => all.push((at, bytes)),
        }
    }
    all.truncate(DEBUG_READS_MAX);
    all
}

/// As many as one call may have, in one call; neighbours as one, what is too long in pieces.
fn grouped(ranges: Ranges, bytes_max: u32) -> Vec<Ranges> {
    let mut groups: Vec<Ranges> = Vec::new();
    let mut room = 0;
    for (mut at, mut left) in ranges {
        while left > 0 {
            let is_full = room == 0 || groups.last().is_none_or(|group| group.len() >= DEBUG_READS_MAX);
            if is_full {
                groups.push(Vec::new());
                room = bytes_max.max(1);
            }
            let bytes = left.min(room);
            if let Some(group) = groups.last_mut() {
                match group.last_mut() {
                    Some(last) if last.0.wrapping_add(last.1) == at => last.1 += bytes,
                    _ => group.push((at, bytes)),
                }
            }
            room -= bytes;
            left -= bytes;
            at = at.wrapping_add(bytes);
        }
    }
    groups
}

/// As many pieces as were asked for, each whole or not at all.
fn check_data(reads: &[(u32, u32)], answer: &DebugAnswer, problem: DebugProblem) -> Result<(), Gone> {
    if problem != DebugProblem::Unspecified && answer.data.is_empty() {
        return Ok(());
    }
    let fits = |(read, data): (&(u32, u32), &proto::device::v1::DebugData)| {
        data.data.is_empty() || data.data.len() == read.1 as usize
    };
    if answer.data.len() != reads.len() || !reads.iter().zip(&answer.data).all(fits) {
        return Err(Gone::Nonsense("other memory than was asked for"));
    }
    Ok(())
}

/// What a problem means, for people.
pub(crate) fn words(problem: DebugProblem, at: u32) -> String {
    match problem {
        DebugProblem::Unspecified => "the device gives no reason".into(),
        DebugProblem::Forbidden => {
            format!("{at:#010x} is not the application's memory, or may not be changed")
        }
        DebugProblem::Running => "the application runs: halt it first".into(),
        DebugProblem::Absent => "there is no application on the device now".into(),
        DebugProblem::TooMuch => "that is more than the device has room for".into(),
        DebugProblem::ReadOnly => "this session may only read".into(),
        DebugProblem::Register => format!("register {at} cannot be set to that"),
        DebugProblem::Malformed => {
            "the device does not understand the call: is this holdfast newer than its microvisor?".into()
        }
        DebugProblem::Updating => "an update takes the application's place".into(),
    }
}
