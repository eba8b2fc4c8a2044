//! What happens to an update by itself: blocks and read-back, politeness, the switch, the trial and the floor.

use wire::msg::UpdateReason;

use super::fetch::{Ground, Step};
use super::ledger::{MICROVISOR, Status};
use super::slots::Layout;
use super::trial::{Verdict, after, judge};
use super::{Event, Outcome, State};
use crate::device::{BlockRefused, Device, Next, Notice, STORE_RETRY_MS};
use crate::mutation::mutated;
use crate::ports::{
    App as _, AppStatus, Board, Exchange, Firmware as _, Flash, Life, NetworkDemand, Ports, StartReason,
};
use crate::supervise::{Phase, Uptime};
use wire::Digest;

/// Blocks between two reports of progress.
const PROGRESS_BLOCKS: u32 = 8;

impl<B: Board> Device<'_, B> {
    /// Verifies and writes one whole block (or a layer's shorter last one) of what is wanted.
    pub fn take_block(&mut self, layer: &Digest, offset: u32, bytes: &[u8]) -> Result<(), BlockRefused> {
        let taken = self.on_ground(|fetch, ground| fetch.take(ground, layer, offset, bytes));
        let taken = taken.unwrap_or(Err(BlockRefused::NotWanted));
        match taken {
            Ok(()) if (offset / super::slots::BLOCK + 1).is_multiple_of(PROGRESS_BLOCKS) => {
                self.sequence = self.sequence.saturating_add(1);
            }
            Ok(()) | Err(BlockRefused::NotWanted) => {}
            Err(refused) => {
                self.counters.blocks_refused = self.counters.blocks_refused.saturating_add(1);
                if refused == BlockRefused::Flash {
                    self.give_up(UpdateReason::Flash);
                }
            }
        }
        taken
    }

    /// Brings the update one step further.
    pub(crate) fn poll_update(&mut self, now_ms: u64) -> Next {
        match self.state {
            State::Fetching => self.poll_fetch(now_ms),
            State::Verified => self.ask_application(now_ms),
            State::Polite => self.poll_polite(now_ms),
            State::Installing => self.switch(now_ms),
            State::Idle | State::Ready | State::Trial | State::Confirmed | State::Reverted => Next::Never,
        }
    }

    /// Looks at the application: starts, restarts, judges.
    pub(crate) fn poll_app(&mut self, now_ms: u64) -> Next {
        match self.life.phase() {
            Phase::Off => Next::Never,
            Phase::Waits { until_ms } if now_ms < until_ms => Next::At(until_ms),
            // It is copied in turns: then there is another one.
            Phase::Waits { .. } if self.crash_memory.is_copying() && !mutated!(CrashMemoryCopy) => Next::Now,
            Phase::Waits { .. } => {
                self.restart();
                Next::Now
            }
            Phase::Up(_) => {
                let status = self.app_status();
                let held = self.is_held();
                self.life.hold(held, now_ms);
                self.demand = status.network;
                match self.life.observe(status, now_ms) {
                    Some(_) if self.asks_restart(status) => self.grant_restart(now_ms),
                    Some(uptime) if self.ledger.trial().is_some() => self.judge_trial(status, uptime, now_ms),
                    _ => self.watch_confirmed(status, now_ms),
                }
            }
        }
    }

    /// Raises the floor by itself when the running version's manifest says so.
    pub(crate) fn poll_floor(&mut self, now_ms: u64) -> Next {
        let Some(running) = &self.running else { return Next::Never };
        let slot = &self.ledger.slots[running.slot];
        let counter = slot.security_counter;
        let due = self.floor.is_some_and(|floor| floor < counter) && slot.status == Status::Confirmed;
        let Some(wait_s) = running.update.commit_after_s.filter(|_| due) else { return Next::Never };
        let due_ms = after(running.confirmed_ms, wait_s);
        let long_ago = self.time_bound_s >= self.ledger.confirmed_at_s.saturating_add(wait_s.into());
        if now_ms < due_ms && !long_ago {
            return Next::At(due_ms);
        }
        if now_ms < self.store_retry_ms && !mutated!(FloorFlood) {
            return Next::At(self.store_retry_ms);
        }
        if self.raise_floor(counter) {
            return Next::Never;
        }
        self.store_retry_ms = now_ms.saturating_add(STORE_RETRY_MS);
        Next::At(self.store_retry_ms)
    }

    /// Ends what is staged with a result. When that cannot be journaled the version is only not gone on with.
    pub(crate) fn give_up(&mut self, reason: UpdateReason) {
        self.fetch = None;
        let Some(staged) = self.ledger.staged() else { return };
        let entry = self.ledger.slots[staged].clone();
        let mut changed = self.ledger.clone();
        self.add_result(&mut changed, &entry, Outcome::Refused, reason, 0);
        if changed.unstage().is_ok() && self.journal(changed).is_ok() {
            self.happen(Event::Dropped);
            self.note(Notice::UpdateRefused(reason));
        }
    }

    /// Ends the trial: back to the version confirmed before, with the reason as a result.
    pub(crate) fn take_back(&mut self, reason: UpdateReason) {
        let Some(trial) = self.ledger.trial() else { return };
        let entry = self.ledger.slots[trial].clone();
        let mut changed = self.ledger.clone();
        let attempts = changed.attempts;
        self.add_result(&mut changed, &entry, Outcome::Reverted, reason, attempts);
        if changed.revert().is_err() {
            return;
        }
        if mutated!(RevertJournal) {
            self.ledger = changed;
        } else if self.journal(changed).is_err() {
            return self.life.wait(self.store_retry_ms);
        }
        self.happen(Event::TakenBack);
        self.why = StartReason::Update;
        if self.crash_memory.is_copying() {
            // What ran before comes as soon as the memory of what ended is kept.
            self.stop_app();
            self.running = None;
            return self.life.wait(self.now_ms());
        }
        self.start_confirmed();
    }

    fn poll_fetch(&mut self, now_ms: u64) -> Next {
        match self.on_ground(|fetch, ground| fetch.step(ground)) {
            Some(Ok(Step::Worked)) => return Next::Now,
            Some(Ok(Step::Waits)) => return Next::Never,
            Some(Ok(Step::ReadBack)) => {
                self.happen(Event::ReadBack);
            }
            Some(Ok(Step::Mismatch)) => self.give_up(UpdateReason::DigestMismatch),
            Some(Err(_)) => self.give_up(UpdateReason::Flash),
            // It was to be given up and that could not be journaled.
            None if now_ms >= self.store_retry_ms => self.give_up(UpdateReason::Flash),
            None => return Next::At(self.store_retry_ms),
        }
        Next::Now
    }

    /// Politeness belongs to the running version: without one, or without a ceiling, nobody is asked.
    fn ask_application(&mut self, now_ms: u64) -> Next {
        match self.running.as_ref().map(|running| running.update.polite_s) {
            Some(polite_s) if polite_s > 0 => {
                self.polite_until_ms = after(now_ms, polite_s);
                self.ports.app.update_waits();
                self.happen(Event::Asked);
            }
            _ => {
                self.happen(Event::Allowed);
            }
        }
        Next::Now
    }

    fn poll_polite(&mut self, now_ms: u64) -> Next {
        let status = self.app_status();
        let allowed = status.apply || status.life != Life::Running;
        self.apply_taken = status.apply;
        if !allowed && now_ms < self.polite_until_ms {
            return Next::At(self.polite_until_ms);
        }
        self.happen(Event::Allowed);
        Next::Now
    }

    /// Journals that what is staged is to be tried; otherwise when to come again.
    pub(crate) fn journal_switch(&mut self, now_ms: u64) -> Result<(), Next> {
        if now_ms < self.store_retry_ms {
            return Err(Next::At(self.store_retry_ms));
        }
        let mut changed = self.ledger.clone();
        changed.switch().map_err(|_| Next::Never)?;
        self.journal(changed).map_err(|_| Next::At(self.store_retry_ms))?;
        self.fetch = None;
        Ok(())
    }

    /// Journals the switch, then starts the new version on trial in place of the old one.
    fn switch(&mut self, now_ms: u64) -> Next {
        if self.ledger.under_way() == Some(MICROVISOR) {
            return self.switch_microvisor(now_ms);
        }
        if self.ledger.trial().is_none() {
            if let Err(next) = self.journal_switch(now_ms) {
                return next;
            }
        } else if self.life.phase() != Phase::Off {
            // The first start could not be counted yet; `restart` does it.
            return Next::Never;
        }
        self.why = StartReason::Update;
        self.start_chosen();
        Next::Now
    }

    fn restart(&mut self) {
        match self.running.take() {
            Some(running) if self.ledger.slots[running.slot].status == Status::Trial => {
                let max = running.update.attempts_max;
                if self.ledger.attempts >= max {
                    // Only when taking it back could not be journaled before.
                    self.running = Some(running);
                    return self.take_back(UpdateReason::Crashed);
                }
                self.start_attempt(running);
            }
            Some(running) => self.start(running),
            None => self.start_chosen(),
        }
    }

    fn judge_trial(&mut self, status: AppStatus, uptime: Uptime, now_ms: u64) -> Next {
        let Some(running) = &self.running else { return Next::Never };
        let crash = running.crash;
        let verdict = judge(&running.update, self.ledger.attempts, status.life, uptime, now_ms);
        if status.life != Life::Running {
            self.note_end(status.life);
        }
        match verdict {
            Verdict::Wait { until_ms } => return Next::At(until_ms),
            Verdict::Keep => return self.keep(now_ms),
            Verdict::Restart => {
                self.stop_app();
                self.why = StartReason::Crash;
                self.life.ended(&crash, now_ms);
            }
            Verdict::TakeBack(reason) => self.take_back(reason),
        }
        Next::Now
    }

    /// The trial is passed: the new version is the confirmed one.
    fn keep(&mut self, now_ms: u64) -> Next {
        if now_ms < self.store_retry_ms {
            return Next::At(self.store_retry_ms);
        }
        let Some(trial) = self.ledger.trial() else { return Next::Never };
        let entry = self.ledger.slots[trial].clone();
        let mut changed = self.ledger.clone();
        let attempts = changed.attempts;
        self.add_result(&mut changed, &entry, Outcome::Confirmed, UpdateReason::Unspecified, attempts);
        if changed.confirm(self.time_bound_s).is_err() {
            return Next::Never;
        }
        if mutated!(ConfirmJournal) {
            self.ledger = changed;
        } else if self.journal(changed).is_err() {
            return Next::At(self.store_retry_ms);
        }
        if let Some(running) = &mut self.running {
            running.confirmed_ms = now_ms;
        }
        if mutated!(FloorAtConfirm) {
            self.raise_floor(entry.security_counter);
        }
        self.happen(Event::Kept);
        Next::Now
    }

    /// A confirmed version that ended is started again after its delay, for ever.
    fn watch_confirmed(&mut self, status: AppStatus, now_ms: u64) -> Next {
        if status.life == Life::Running {
            return Next::Never;
        }
        let Some(running) = &self.running else { return Next::Never };
        let crash = running.crash;
        self.note_end(status.life);
        self.stop_app();
        self.why = StartReason::Crash;
        self.life.ended(&crash, now_ms);
        Next::Now
    }

    /// It asks to be started anew, and not for the update that waits for its leave: that start is the exchange.
    fn asks_restart(&self, status: AppStatus) -> bool {
        let is_for_update =
            self.apply_taken || matches!(self.state, State::Verified | State::Polite | State::Installing);
        status.life == Life::Running && status.apply && !is_for_update
    }

    /// Ends it, to be started again: at once when it ran for long, after its policy's delay when it did not.
    fn grant_restart(&mut self, now_ms: u64) -> Next {
        let Some(running) = &self.running else { return Next::Never };
        let crash = running.crash;
        self.note(Notice::AppRestarts);
        self.stop_app();
        self.report_late_crash();
        self.demand = NetworkDemand::NeverAsked;
        self.why = StartReason::Restart;
        self.life.asked(&crash, now_ms);
        Next::Now
    }

    fn note_end(&mut self, life: Life) {
        self.report_crash(life);
        self.demand = NetworkDemand::NeverAsked;
        self.counters.app_crashes = self.counters.app_crashes.saturating_add(1);
        self.note(if life == Life::Hung { Notice::AppHung } else { Notice::AppCrashed });
    }

    /// Runs a step of the fetch with everything it needs; nothing while nothing is fetched.
    fn on_ground<R>(
        &mut self,
        step: impl FnOnce(&mut super::fetch::Fetch, &mut Ground<'_>) -> R,
    ) -> Option<R> {
        let fetch = self.fetch.as_mut()?;
        let Ports { flash, firmware, .. } = &mut self.ports;
        if self.ledger.staged()? == MICROVISOR {
            let Exchange { slots, layout, handover, .. } = firmware.exchange()?;
            let layout = Layout::of_microvisor(slots.geometry(), &layout);
            let spare = self.ledger.spare_microvisor(handover.slot)?;
            // Two builds of a microvisor have hardly a block in common: none is looked for.
            let (flash, layout, envelope): (&mut dyn Flash, _, _) = (slots, &layout, &self.envelope[..]);
            return Some(step(fetch, &mut Ground { flash, layout, spare, envelope, held: None }));
        }
        let flash: &mut dyn Flash = flash;
        let held = self.running.as_ref().map(|running| &running.held);
        let (layout, envelope, spare) = (&self.layout, &self.envelope[..], self.ledger.spare()?);
        let mut ground = Ground { flash, layout, spare, envelope, held };
        Some(step(fetch, &mut ground))
    }
}
