//! The application on the device, as one asks of it here: registers, memory, breakpoints, go.
//!
//! It exists to spare round trips. What belongs to one action goes in one call; registers, stack and the memory that was looked at before come with
//! the stop that ends it; the rest of memory is read in lines and kept until the application runs again or anything is written; code comes from
//! the ELF file when that is what the device runs. The breakpoints there should be are said with the next `go`, if they changed.
//!
//! What comes from the device is judged here: an answer that cannot be ends the session ([`Gone::Nonsense`]), it never panics.

mod breakpoints;
mod calls;
mod chain;
mod memory;
mod watching;

use std::collections::{BTreeSet, VecDeque};
use std::time::Instant;

use breakpoints::Breakpoints;
pub(crate) use breakpoints::Kind;
pub(crate) use calls::registers;
use chain::{Chain, Stepped, Then};
use proto::device::v1::{
    DebugAnswer, DebugCall, DebugGo, DebugProblem, DebugRange, DebugRegister, DebugState, DebugStop,
    DebugStopReason,
};
use tokio::runtime::Handle;

use crate::debug::about::About;
use crate::debug::cache::Cache;
use crate::debug::link::{Gone, IDLE, Link};
use crate::debug::program::Program;
use crate::debug::quiet::{Due, KEEP_ALIVE, Quiet};

/// Words of the registers: `DebugStop.registers`.
pub(crate) const REGISTERS: usize = 20;
pub(crate) const SP: usize = 13;
const LR: usize = 14;
pub(crate) const PC: usize = 15;
/// The last of those that are set with the next call instead of by one of their own: r0 to pc can always be set.
const LAST_LAZY: usize = PC;
/// Of the stack, with a stop.
const STACK_BYTES: u32 = 1024;
/// Versions that may take each other's place while one is to be halted.
const HALTS_MAX: usize = 4;
/// News that nobody has taken: of more, the oldest are forgotten.
pub(crate) const NEWS_MAX: usize = 16;

pub(crate) type Registers = [u32; REGISTERS];
/// Addresses and lengths.
type Ranges = Vec<(u32, u32)>;

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
    /// None: they are not known, as after an overflow of the stack they would have been on.
    pub(crate) registers: Option<Registers>,
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
    /// It was to go on, and there is nothing that could, or another start of it: what comes is waited for.
    Waits(DebugProblem),
    /// It ended; the device will start it again.
    Ended,
    /// The device started it anew.
    StartedAnew,
    /// What it started is this, another version.
    OtherVersion(String),
    /// Who only watches waits no longer for the next stop.
    Interrupted,
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
    /// Times the device started the application, and how many of them gdb knows of.
    starts: u32,
    told_starts: u32,
    breakpoints: Breakpoints,
    /// What the device was last told of them, if it still has them.
    planted: Option<Breakpoints>,
    /// Set here, and not yet there.
    dirty: BTreeSet<usize>,
    number: u32,
    answered: u32,
    pending: VecDeque<Pending>,
    last_go: u32,
    /// The most of the stack that comes with a stop.
    stack_asked: u32,
    interrupted: bool,
    /// Nobody debugs it now: wherever it stops, it goes on.
    is_alone: bool,
    /// The newest `go` was of a range.
    stepped: Option<Stepped>,
    /// The newest `go` is of two stops.
    chain: Option<Chain>,
    runtime: Handle,
    /// What there is to debug may be another by now.
    is_stale: bool,
    /// Stops so far, and which of them gdb was shown last.
    seen: u64,
    told: u64,
    quiet: Quiet,
    news: VecDeque<News>,
    cost: Cost,
}

impl Machine {
    /// Of a session in which nothing was said yet: asks what there is. The application goes on meanwhile.
    pub(crate) async fn open(mut link: Link, plain: bool) -> Result<Machine, Gone> {
        let call = DebugCall { number: 1, describe: true, ..DebugCall::default() };
        link.calls.send(call).await.map_err(|_| Link::lost())?;
        let mut answer = link.answers.recv().await.ok_or_else(Link::lost)??;
        if answer.call != 1 {
            return Err(Gone::Nonsense("an answer to a call that was not made"));
        }
        let about =
            About::of(answer.target.take().ok_or(Gone::Nonsense("nothing of what there is to debug"))?)?;
        let state = match DebugState::try_from(answer.state) {
            Ok(DebugState::Absent) => State::Absent,
            // Of one that is halted the first halt tells where.
            _ => State::Running,
        };
        let mut machine = Machine {
            link,
            about,
            program: None,
            plain,
            cache: Cache::default(),
            state,
            starts: answer.starts,
            told_starts: answer.starts,
            breakpoints: Breakpoints::default(),
            planted: Some(Breakpoints::default()),
            dirty: BTreeSet::new(),
            number: 1,
            answered: 1,
            pending: VecDeque::new(),
            last_go: 0,
            stack_asked: 0,
            interrupted: false,
            is_alone: false,
            stepped: None,
            chain: None,
            runtime: Handle::current(),
            is_stale: false,
            seen: 0,
            told: 0,
            quiet: Quiet::new(KEEP_ALIVE, None, Instant::now()),
            news: VecDeque::new(),
            cost: Cost { calls: 1, round_trips: 1, ..Cost::default() },
        };
        if machine.is_watching() {
            machine.begin_watching(answer)?;
        }
        Ok(machine)
    }

    /// Code is answered from this from now on.
    pub(crate) fn set_program(&mut self, mut program: Program) {
        program.compare(self.about.image_digest, self.about.image_bytes);
        self.program = Some(program);
    }

    /// When it is to say something, and when it is over.
    pub(crate) fn set_quiet(&mut self, quiet: Quiet) {
        self.quiet = quiet;
    }

    /// When [`Machine::tick`] is next to be called.
    pub(crate) fn next_tick(&self) -> Option<Instant> {
        self.quiet.next()
    }

    /// gdb has said something.
    pub(crate) fn used(&mut self) {
        self.quiet.used(Instant::now());
    }

    /// Says something to a device that has heard nothing for long, and ends a session that nobody uses.
    pub(crate) fn tick(&mut self) -> Result<(), Gone> {
        match self.quiet.due(Instant::now()) {
            None => Ok(()),
            Some(Due::End) => Err(Gone::Ended(IDLE.into())),
            Some(Due::KeepAlive) if self.link.calls.capacity() > 0 && !self.is_unanswered() => {
                self.call(DebugCall::default(), Vec::new(), false)
            }
            // What waits to be said or answered is as good. And a relay that keeps frames back, to give the device one now and then when nobody is
            // here any more, has only this one.
            Some(Due::KeepAlive) => {
                self.quiet.said(Instant::now());
                Ok(())
            }
        }
    }

    /// A call that is answered at once is not yet.
    fn is_unanswered(&self) -> bool {
        self.pending.iter().any(|call| !call.deferred)
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

    /// Where it stands, if it does.
    pub(crate) fn stop(&self) -> Option<&Stop> {
        match &self.state {
            State::Halted(stop) => Some(stop),
            _ => None,
        }
    }

    /// What happened since last asked.
    pub(crate) fn take_news(&mut self) -> Vec<News> {
        if self.news.contains(&News::Stopped) {
            self.told = self.seen;
        }
        self.told_starts = self.starts;
        self.news.drain(..).collect()
    }

    /// The next answer, when there is one. May be given up at any time.
    pub(crate) async fn answer(&mut self) -> Result<DebugAnswer, Gone> {
        self.link.answers.recv().await.ok_or_else(Link::lost)?
    }

    /// The application was started anew, and gdb believes that it stands where it did. Until gdb lets it go on, which is when it can be told,
    /// nothing is done on its behalf: perhaps nobody is there, and the new one is on trial.
    pub(crate) fn is_untold(&self) -> bool {
        self.told_starts != self.starts
    }

    /// Forgets what was read.
    pub(crate) fn void(&mut self) {
        self.cache.void();
    }

    /// Halts it, and waits until it stands.
    pub(crate) fn halt(&mut self) -> Result<(), Trouble> {
        if self.is_watching() {
            return Ok(self.catch_up()?);
        }
        let mut outcome = Ok(());
        for _ in 0..HALTS_MAX {
            if matches!(self.state, State::Halted(_)) {
                return Ok(());
            }
            self.begin_halt()?;
            outcome = self.until_it_stands();
            // Of one that was another version by then. Now it is known which.
            if !matches!(outcome, Err(Trouble::Problem(DebugProblem::StartedAnew, _))) {
                break;
            }
        }
        outcome
    }

    /// Halts it; the stop is news. Who only watches waits no longer.
    pub(crate) fn interrupt(&mut self) -> Result<(), Gone> {
        if self.is_watching() {
            self.catch_up()?;
            self.tell(News::Interrupted);
            return Ok(());
        }
        let stands = matches!(self.state, State::Halted(_)) && !self.is_second_due();
        if stands || self.interrupted {
            return Ok(());
        }
        self.interrupted = true;
        self.begin_halt()
    }

    fn begin_halt(&mut self) -> Result<(), Gone> {
        self.forget_stops();
        self.halts_next();
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
        self.may_change(0)?;
        self.dirty.clear();
        self.go(DebugGo::Restart, &[], None)?;
        self.until_it_stands()
    }

    /// Lets it go on. The stop that ends this is news.
    pub(crate) fn resume(&mut self, go: Go) -> Result<(), Gone> {
        if self.is_watching() {
            return self.wait_for_stop();
        }
        if self.is_untold() {
            // Which it is now, and where it stands if it does, is news.
            return Ok(());
        }
        if self.is_ahead() {
            self.go_on_to_second(go);
            return Ok(());
        }
        match go {
            Go::Continue => {
                let then = self.then();
                let ranges = self.stepped.take().filter(|_| then.is_some()).map(|stepped| stepped.ranges);
                self.go(DebugGo::Continue, &ranges.unwrap_or_default(), then)
            }
            Go::Step => self.go(DebugGo::Step, &[], None),
            // An empty range is one step.
            Go::Range(from, to) if from >= to => self.go(DebugGo::Step, &[], None),
            Go::Range(from, to) => {
                let ranges = self.with_besides((from, to));
                self.go(DebugGo::Range, &ranges, None)?;
                self.stepped = Some(Stepped { ranges, breakpoints: self.breakpoints.clone() });
                Ok(())
            }
        }
    }

    /// This range, and those that gdb would go on through without showing anybody that it stopped there.
    fn with_besides(&self, (from, to): (u32, u32)) -> Ranges {
        let program = self.program.as_ref().filter(|_| !self.plain);
        let besides = program.map(|program| program.besides(from, to)).unwrap_or_default();
        [&[(from, to)], &besides[..]].concat()
    }

    /// Nobody debugs it any more: no breakpoints, and it goes on.
    pub(crate) fn let_go(&mut self) -> Result<(), Gone> {
        if self.is_watching() {
            return Ok(());
        }
        self.is_alone = true;
        self.breakpoints = Breakpoints::default();
        self.settle()?;
        if matches!(self.state, State::Halted(_)) {
            return self.go(DebugGo::Continue, &[], None);
        }
        if self.is_planted() {
            return Ok(());
        }
        // Where it was to stop it does so no more; a stop that is on its way is seen to when it comes.
        let call = self.plant(DebugCall::default());
        self.call(call, Vec::new(), false)
    }

    /// It stands, and nobody is there who wants it to.
    pub(crate) fn is_left(&self) -> bool {
        self.is_alone && matches!(self.state, State::Halted(_))
    }

    /// `ranges`: from an address up to another, each.
    fn go(&mut self, go: DebugGo, ranges: &[(u32, u32)], then: Option<Then>) -> Result<(), Gone> {
        let (stack_bytes, reads) =
            if self.plain { (0, Vec::new()) } else { (self.stack_bytes(), self.wanted()) };
        let call = DebugCall {
            registers: self.take_dirty(),
            go: go.into(),
            range_from: ranges.first().map_or(0, |range| range.0),
            range_to: ranges.first().map_or(0, |range| range.1),
            ranges: ranges.iter().skip(1).map(|&(from, to)| DebugRange { from, to }).collect(),
            then_at: then.map_or(0, |then| then.at),
            then_sp: then.map_or(0, |then| then.sp),
            catch_faults: true,
            stack_bytes,
            ..DebugCall::default()
        };
        let call = self.plant(call);
        self.cache.void();
        self.state = State::Running;
        self.forget_stops();
        self.stack_asked = stack_bytes;
        // This call's wishes take the place of those of one before.
        self.pending.retain(|call| !call.deferred);
        self.interrupted = false;
        self.last_go = self.number + 1;
        self.stepped = None;
        self.chain = then.map(|then| Chain::new(self.last_go, then));
        self.cost.round_trips += 1;
        self.call(call, reads, true)
    }

    fn tell(&mut self, news: News) {
        if self.news.len() >= NEWS_MAX {
            self.news.pop_front();
        }
        self.news.push_back(news);
    }

    /// News of stops that are over.
    fn forget_stops(&mut self) {
        let is_stop = |news: &News| matches!(news, News::Stopped | News::NotDone(..) | News::Interrupted);
        self.news.retain(|news| !is_stop(news));
    }

    fn stack_bytes(&self) -> u32 {
        STACK_BYTES.min(self.about.read_bytes_max / 2)
    }

    /// None: they are not known.
    pub(crate) fn registers(&mut self) -> Result<Option<Registers>, Trouble> {
        if self.is_watching() {
            self.catch_up()?;
            return Ok(self.stop().and_then(|stop| stop.registers));
        }
        if self.is_untold() {
            return Ok(None);
        }
        if self.plain {
            // A halt of one that stands is answered at once, with where.
            self.halt()?;
            self.ask(vec![(DebugCall { go: DebugGo::Halt.into(), ..DebugCall::default() }, Vec::new())])?;
        }
        self.halt()?;
        match &self.state {
            State::Halted(stop) => Ok(stop.registers),
            _ => Err(Trouble::Problem(DebugProblem::Absent, 0)),
        }
    }

    /// By its place in [`Registers`].
    pub(crate) fn set_register(&mut self, number: usize, value: u32) -> Result<(), Trouble> {
        let at = u32::try_from(number).unwrap_or(u32::MAX);
        self.may_change(at)?;
        self.settle()?;
        self.must_be_told(at)?;
        // gdb would set it by what it saw elsewhere.
        let is_elsewhere = self.is_ahead();
        let State::Halted(stop) = &mut self.state else {
            return Err(Trouble::Problem(DebugProblem::Running, at));
        };
        if is_elsewhere {
            return Err(Trouble::Problem(DebugProblem::Running, at));
        }
        let registers = stop.registers.as_mut();
        let Some(register) = registers.and_then(|registers| registers.get_mut(number)) else {
            return Err(Trouble::Problem(DebugProblem::Register, at));
        };
        if *register == value {
            return Ok(());
        }
        let before = std::mem::replace(register, value);
        self.stepped = None;
        self.dirty.insert(number);
        if number <= LAST_LAZY && !self.plain {
            return Ok(());
        }
        let registers = self.take_dirty();
        let asked = self.ask(vec![(DebugCall { registers, ..DebugCall::default() }, Vec::new())]);
        if asked.is_err()
            && let State::Halted(stop) = &mut self.state
            && let Some(registers) = &mut stop.registers
        {
            registers[number] = before;
        }
        asked.map(drop)
    }

    /// gdb would change what it does not know.
    pub(crate) fn must_be_told(&self, at: u32) -> Result<(), Trouble> {
        if self.is_untold() { Err(Trouble::Problem(DebugProblem::StartedAnew, at)) } else { Ok(()) }
    }

    fn take_dirty(&mut self) -> Vec<DebugRegister> {
        let numbers = std::mem::take(&mut self.dirty);
        let Some(registers) = self.stop().and_then(|stop| stop.registers) else { return Vec::new() };
        let register = |number: usize| DebugRegister {
            number: u32::try_from(number).unwrap_or(u32::MAX),
            value: registers[number],
        };
        // Never more than a call may set: there are 16 that wait.
        numbers.into_iter().map(register).collect()
    }
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
        DebugProblem::ReadOnly => "this session only watches".into(),
        DebugProblem::Register => format!("register {at} cannot be set to that"),
        DebugProblem::Malformed => {
            "the device does not understand the call: is this holdfast newer than its microvisor?".into()
        }
        DebugProblem::Updating => "an update takes the application's place".into(),
        DebugProblem::StartedAnew => {
            "the application was started anew meanwhile, and runs: Ctrl-C halts it".into()
        }
    }
}
