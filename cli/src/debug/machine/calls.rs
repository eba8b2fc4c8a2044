//! Calls to the device, and what its answers say: which call they answer, where the application stands, what is void.

use std::time::Instant;

use proto::device::v1::{
    DebugAnswer, DebugCall, DebugProblem, DebugRead, DebugState, DebugStop, DebugStopReason,
};

use super::{Machine, News, Pending, REGISTERS, Ranges, Registers, SP, State, Stop, Trouble};
use crate::debug::about::About;
use crate::debug::link::{Gone, Link};

/// Bytes of `DebugStop.registers`.
const REGISTERS_BYTES: usize = 4 * REGISTERS;

impl Machine {
    /// Makes these calls together, and waits for their answers.
    pub(super) fn ask(
        &mut self,
        mut calls: Vec<(DebugCall, Ranges)>,
    ) -> Result<Vec<(Ranges, DebugAnswer)>, Trouble> {
        self.settle()?;
        if self.is_stale {
            // A call of its own: its answer needs the room.
            calls.insert(0, (DebugCall { describe: true, ..DebugCall::default() }, Vec::new()));
        }
        let (mut left, first) = (calls.len(), self.number.saturating_add(1));
        self.cost.round_trips += u64::from(left > 0);
        for (mut call, reads) in calls {
            call.registers.extend(self.take_dirty());
            self.call(call, reads, false)?;
        }
        let mut answers = Vec::new();
        let mut problem = None;
        while left > 0 {
            let answer = self.link.answers.blocking_recv().ok_or_else(Link::lost)??;
            // What only keeps the session may be unanswered yet.
            if let Some((reads, answer)) = self.hear(answer)?
                && answer.call >= first
            {
                left -= 1;
                if answer.problem() != DebugProblem::Unspecified {
                    problem.get_or_insert(Trouble::Problem(answer.problem(), answer.problem_at));
                }
                answers.push((reads, answer));
            }
        }
        problem.map_or(Ok(answers), Err)
    }

    /// Somebody wants it to, and sees where: whichever start it is by then. Which version that is stays news.
    pub(super) fn until_it_stands(&mut self) -> Result<(), Trouble> {
        let mut version = None;
        loop {
            while let Some(news) = self.news.pop_front() {
                let outcome = match news {
                    News::Stopped => Ok(()),
                    News::NotDone(problem, at) => Err(Trouble::Problem(problem, at)),
                    News::Waits(problem) => Err(Trouble::Problem(problem, 0)),
                    News::OtherVersion(_) => {
                        version = Some(news);
                        continue;
                    }
                    News::Ended | News::StartedAnew | News::Interrupted => continue,
                };
                self.told_starts = self.starts;
                self.news.extend(version);
                return outcome;
            }
            let answer = self.link.answers.blocking_recv().ok_or_else(Link::lost)??;
            self.hear(answer)?;
        }
    }

    pub(super) fn call(&mut self, mut call: DebugCall, reads: Ranges, deferred: bool) -> Result<(), Gone> {
        self.number =
            self.number.checked_add(1).ok_or(Gone::Ended("too many calls for one session".into()))?;
        call.number = self.number;
        let changes = call.plant || !call.writes.is_empty() || !call.registers.is_empty() || call.go != 0;
        // Whoever is gone lets go of whatever runs by then.
        let is_of_a_start = changes && (!self.is_alone || !call.registers.is_empty());
        call.starts = if is_of_a_start { self.starts } else { 0 };
        call.reads = reads.iter().map(|&(address, length)| DebugRead { address, length }).collect();
        self.pending.push_back(Pending { number: self.number, reads, deferred });
        self.cost.calls += 1;
        self.quiet.said(Instant::now());
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
            let about = About::of(target)?;
            if (about.hardware_breakpoints_max, about.read_only)
                != (self.about.hardware_breakpoints_max, self.about.read_only)
            {
                return Err(Gone::Nonsense("another board, or another session"));
            }
            if about.manifest_digest != self.about.manifest_digest {
                self.tell(News::OtherVersion(about.version.clone()));
            }
            self.about = about;
            self.is_stale = false;
            if let Some(program) = &mut self.program {
                program.compare(self.about.image_digest, self.about.image_bytes);
            }
        }
        let was_second_due = self.is_second_due();
        let halted_at = answer.stop.take();
        if let Some(stop) = halted_at {
            if state != DebugState::Halted {
                return Err(Gone::Nonsense("it halted, and is not halted"));
            }
            self.check_stop(&stop)?;
            // Of before the newest `go`: that is over.
            if answer.call >= self.last_go {
                self.stopped(stop, answer.call);
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
                if self.is_second_due() && !was_second_due {
                    self.expect_second(answer.call, pending.reads.clone());
                }
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
                    let is_go = pending.number == self.last_go;
                    self.interrupted &= is_go;
                    self.tell(match problem {
                        DebugProblem::StartedAnew => News::Waits(problem),
                        DebugProblem::Absent | DebugProblem::Updating if is_go => News::Waits(problem),
                        _ => News::NotDone(problem, answer.problem_at),
                    });
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
        (self.stepped, self.chain) = (None, None);
        // Another version begins without breakpoints.
        self.planted = None;
        self.tell(News::StartedAnew);
        // It may be another image by now: the next call asks.
        self.is_stale = true;
        if let Some(program) = &mut self.program {
            program.compare(None, 0);
        }
    }

    pub(super) fn check_stop(&mut self, stop: &DebugStop) -> Result<(), Gone> {
        // None: its stack was not there to take them, as after an overflow.
        if !matches!(stop.registers.len(), 0 | REGISTERS_BYTES) {
            return Err(Gone::Nonsense("registers of another machine"));
        }
        if stop.stack.len() > self.stack_asked as usize {
            return Err(Gone::Nonsense("more of the stack than was asked for"));
        }
        Ok(())
    }

    pub(super) fn stopped(&mut self, stop: DebugStop, call: u32) {
        let registers = registers(&stop.registers);
        let was_running = !matches!(&self.state, State::Halted(before) if before.said.number == stop.number);
        if !was_running && !self.dirty.is_empty() {
            // It says what it was before it is told otherwise.
            return;
        }
        let mut reason = DebugStopReason::try_from(stop.reason).unwrap_or(DebugStopReason::Unspecified);
        if was_running {
            reason = self.chained(call, reason, registers);
            self.seen += 1;
            self.quiet.used(Instant::now());
            self.cache.void();
            self.cost.bytes_from_device += stop.stack.len() as u64;
        } else if let Some(before) = self.stop() {
            reason = before.reason;
        }
        let at =
            if stop.stack_at == 0 { registers.map(|registers| registers[SP]) } else { Some(stop.stack_at) };
        if let Some(at) = at.filter(|_| !self.plain) {
            self.cache.put(at, &stop.stack);
        }
        self.state = State::Halted(Box::new(Stop { reason, registers, said: stop }));
        if was_running {
            self.tell(News::Stopped);
        }
    }

    fn not_halted(&mut self, state: DebugState, call: u32) {
        // Gone on from the first of two stops, which is what gdb was told of.
        let is_known = self.is_second_due() && state == DebugState::Running;
        if call < self.last_go || is_known {
            return;
        }
        if matches!(self.state, State::Halted(_)) {
            self.cache.void();
        }
        match state {
            DebugState::Absent => {
                self.chain = None;
                if !matches!(self.state, State::Absent) {
                    self.tell(News::Ended);
                }
                self.state = State::Absent;
            }
            _ => self.state = State::Running,
        }
    }
}

/// What they are, if they are known.
pub(crate) fn registers(said: &[u8]) -> Option<Registers> {
    let mut registers = [0; REGISTERS];
    for (register, word) in registers.iter_mut().zip(said.chunks_exact(4)) {
        *register = u32::from_le_bytes([word[0], word[1], word[2], word[3]]);
    }
    (said.len() == REGISTERS_BYTES).then_some(registers)
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
