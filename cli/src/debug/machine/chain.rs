//! `next` over a call in two round trips instead of three.
//!
//! gdb steps a range, which leaves it into the function that is called; plants a breakpoint where that function returns, and lets it go on;
//! and steps the rest of the range from there. The last is foreseen: the device is asked to step the range by itself when it comes out at that
//! breakpoint, with the stack as it was, and tells both stops. gdb is shown the first; the second is here when it asks for it.
//!
//! Always holds: the second stop is never lost, and never taken for what it is not. What needs the device between the two waits for the
//! second, and is done to the application as it is then; the next time gdb lets it go on, that stop is what it is told. Registers are not set
//! meanwhile, for gdb would set them by what it saw at the first.

use std::time::Duration;

use proto::device::v1::DebugStopReason;

use super::{Breakpoints, Go, LR, Machine, PC, Pending, Ranges, Registers, SP, State, Stop, Trouble};
use crate::debug::link::Gone;

/// How long the second stop is waited for before the application is halted where it is: that may be a loop which never leaves its line.
const SECOND_MAX: Duration = Duration::from_millis(500);

/// A range that was stepped, and nothing was changed since.
#[derive(Debug, Clone)]
pub(super) struct Stepped {
    pub(super) ranges: Ranges,
    /// The breakpoints there were.
    pub(super) breakpoints: Breakpoints,
}

/// Where what was stepped over is to come out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Then {
    pub(super) at: u32,
    pub(super) sp: u32,
}

/// A `go` of two stops.
#[derive(Debug, Clone, Copy)]
pub(super) struct Chain {
    pub(super) call: u32,
    /// The number of a call that halts it: from there on it stays where it halts.
    pub(super) until: u32,
    pub(super) then: Then,
    pub(super) stage: Stage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// It runs to the first.
    First,
    /// That was told: it runs to the second.
    Second,
    /// That is known here, and gdb was not told.
    Untold,
}

impl Stepped {
    /// Whether going on from this stop with these breakpoints is gdb's way over a call that left the range.
    pub(super) fn then(&self, stop: &Stop, breakpoints: &Breakpoints) -> Option<Then> {
        let registers = stop.registers?;
        let is_within = |at: u32| self.ranges.iter().any(|(from, to)| (*from..*to).contains(&at));
        let back = registers[LR] & !1;
        let is_in_call = stop.reason == DebugStopReason::Step && !is_within(registers[PC]) && is_within(back);
        // One of the user's own there is to be seen: it stops for them.
        let mut with_it = self.breakpoints.clone();
        let is_new = with_it.insert(back);
        // Before its first instruction a function has not moved sp: it is the caller's.
        (is_in_call && is_new && with_it == *breakpoints).then_some(Then { at: back, sp: registers[SP] })
    }
}

impl Chain {
    pub(super) fn new(call: u32, then: Then) -> Chain {
        Chain { call, until: u32::MAX, then, stage: Stage::First }
    }

    fn is_of(&self, call: u32) -> bool {
        (self.call..self.until).contains(&call)
    }
}

impl Then {
    fn is_at(&self, reason: DebugStopReason, registers: Option<Registers>) -> bool {
        let is_there = |registers: Registers| registers[PC] == self.at && registers[SP] == self.sp;
        reason == DebugStopReason::Breakpoint && registers.is_some_and(is_there)
    }
}

impl Machine {
    /// A person was shown where it stands: what comes next is theirs, as `finish` would be, and not gdb's own way of stepping over a call.
    pub(crate) fn shown(&mut self) {
        self.stepped = None;
    }

    /// The continue that follows is asked to go on by itself there.
    pub(super) fn then(&self) -> Option<Then> {
        let (stepped, stop) = (self.stepped.as_ref()?, self.stop()?);
        let may = !self.plain && self.dirty.is_empty();
        stepped.then(stop, &self.breakpoints).filter(|_| may)
    }

    /// The application is further than gdb was told, or will be.
    pub(super) fn is_ahead(&self) -> bool {
        self.chain.is_some_and(|chain| chain.stage != Stage::First)
    }

    /// The second stop is still to come.
    pub(crate) fn is_second_due(&self) -> bool {
        self.chain.is_some_and(|chain| chain.stage == Stage::Second)
    }

    /// Of a `go` that is not needed: the stop that ends it is the second one. That may be in the next function that the line calls.
    pub(super) fn go_on_to_second(&mut self, go: Go) {
        if let Go::Range(from, to) = go {
            let ranges = self.with_besides((from, to));
            self.stepped = Some(Stepped { ranges, breakpoints: self.breakpoints.clone() });
        }
        if self.is_second_due() {
            self.state = State::Running;
        } else {
            // It is news already.
            self.chain = None;
        }
    }

    /// Sees to it that the application stands where it is known to.
    pub(super) fn settle(&mut self) -> Result<(), Gone> {
        if !self.is_second_due() {
            return Ok(());
        }
        let runtime = self.runtime.clone();
        let mut halts = self.interrupted;
        while self.is_second_due() {
            let in_time = async {
                let patience = if halts { Duration::MAX } else { SECOND_MAX };
                tokio::time::timeout(patience, self.answer()).await
            };
            match runtime.block_on(in_time) {
                Ok(answer) => drop(self.hear(answer?)?),
                Err(_) => {
                    self.begin_halt()?;
                    halts = true;
                }
            }
        }
        Ok(())
    }

    /// For a gdb that comes and knows nothing: it stands, and where is known.
    pub(crate) fn stand(&mut self) -> Result<(), Trouble> {
        if self.is_watching() {
            return Ok(self.look_on()?);
        }
        self.is_alone = false;
        self.settle()?;
        (self.chain, self.stepped) = (None, None);
        self.forget_stops();
        self.halt()
    }

    /// What a stop is to gdb: of such a `go`, too.
    pub(super) fn chained(
        &mut self,
        call: u32,
        reason: DebugStopReason,
        registers: Option<Registers>,
    ) -> DebugStopReason {
        let Some(mut chain) = self.chain.take() else { return reason };
        match chain.stage {
            Stage::First if chain.is_of(call) && chain.then.is_at(reason, registers) => {
                chain.stage = Stage::Second;
                self.chain = Some(chain);
                reason
            }
            Stage::First => reason,
            Stage::Second => {
                let is_told = !matches!(self.state, State::Halted(_));
                chain.stage = Stage::Untold;
                self.chain = (!is_told).then_some(chain);
                self.seen_by_gdb(&chain.then, reason, registers)
            }
            Stage::Untold => {
                self.chain = Some(chain);
                reason
            }
        }
    }

    /// gdb steps a range: a halt of our own in it, and a breakpoint that it has taken away, are to it steps, and it goes on if it wants to.
    fn seen_by_gdb(
        &self,
        then: &Then,
        reason: DebugStopReason,
        registers: Option<Registers>,
    ) -> DebugStopReason {
        let is_at = registers.is_some_and(|registers| registers[PC] == then.at);
        match reason {
            DebugStopReason::Halt if !self.interrupted => DebugStopReason::Step,
            DebugStopReason::Breakpoint if is_at && !self.breakpoints.contains(then.at) => {
                DebugStopReason::Step
            }
            reason => reason,
        }
    }

    /// The next call halts it.
    pub(super) fn halts_next(&mut self) {
        let next = self.number.saturating_add(1);
        if let Some(chain) = &mut self.chain {
            chain.until = chain.until.min(next);
        }
    }

    /// The reads of such a `go` come with the second stop, too.
    pub(super) fn expect_second(&mut self, call: u32, reads: Ranges) {
        self.pending.push_front(Pending { number: call, reads, deferred: true });
    }
}
