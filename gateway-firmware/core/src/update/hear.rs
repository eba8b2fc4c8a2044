//! Directives: what each order does here. Whatever is not signed for this device and its newest hello is counted and
//! otherwise never happened; what is refused for a reason becomes a result.

use wire::directive::{self, Directive, DirectiveError, Order, Target};
use wire::manifest::{Component, Manifest, Version};
use wire::msg::UpdateReason;
use wire::{DeploymentId, Digest, Nonce};

use super::fetch::Fetch;
use super::ledger::{Ledger, MICROVISOR, RESULTS_MAX, Slot, Status};
use super::{Event, Outcome, State, UpdateResult, check};
use crate::device::{Device, DirectiveRefused, Heard, Notice};
use crate::mutation::mutated;
use crate::ports::{Board, Counter as _, Firmware as _};

/// Room kept in the list of results when an install directive is acted on: for the version it supersedes, for its own
/// end, and for a fall back.
const RESULTS_RESERVED: usize = 3;

impl<B: Board> Device<'_, B> {
    /// A hello with this nonce was sent: only directives that answer it are heard from now on.
    pub fn hello_sent(&mut self, nonce: Nonce) {
        self.nonce = Some(nonce);
    }

    /// Acts on a directive; `envelope` goes with kind install and is empty otherwise.
    pub fn hear(&mut self, directive: &[u8], envelope: &[u8]) -> Result<Heard, DirectiveRefused> {
        let heard = self.open_directive(directive).and_then(|directive| {
            self.raise_time(directive.issued_at_s);
            match directive.order {
                Order::Time => Ok(Heard::Acted),
                Order::Install(target) => self.install(target, envelope),
                Order::Go(target) => self.go(target),
                Order::Cancel(target) => self.cancel(target),
                Order::Commit(target, counter) => self.commit(target, counter),
            }
        });
        if heard.is_err() {
            self.counters.directives_refused = self.counters.directives_refused.saturating_add(1);
        }
        heard
    }

    fn open_directive(&self, bytes: &[u8]) -> Result<Directive, DirectiveRefused> {
        let ready = self.who.zip(self.keyset()).zip(self.nonce);
        let (((device, _), keyset), nonce) = ready.ok_or(DirectiveRefused::NotReady)?;
        let verify = &self.ports.verify;
        match directive::open(bytes, &keyset.director_key, &device, &nonce, verify) {
            Err(DirectiveError::Nonce) if mutated!(DirectiveNonce) => {
                directive::open_any(bytes, &keyset.director_key, verify)
            }
            opened => opened,
        }
        .map_err(DirectiveRefused::Directive)
    }

    fn install(&mut self, target: Target, envelope: &[u8]) -> Result<Heard, DirectiveRefused> {
        if self.ledger.results.iter().any(|result| ends(result, &target)) {
            return Ok(Heard::Already);
        }
        let under_way = self.ledger.under_way().map(|index| &self.ledger.slots[index]);
        if under_way.is_some_and(|slot| is_target(slot, &target)) {
            return Ok(Heard::Already);
        }
        // Nothing that is staged gives way to another component: both are wanted, one after the other.
        let other = self.ledger.staged().is_some_and(|index| (index == MICROVISOR) != is_microvisor(&target));
        let busy = other || self.state.after(Event::Directed).is_err();
        if busy || self.ledger.results.len() + RESULTS_RESERVED > RESULTS_MAX {
            return Ok(Heard::Later);
        }
        if self.is_running(&target) {
            return self.already_running(target);
        }
        let accepted = self.accept(target, envelope);
        let accepted = match accepted {
            Ok(_) if is_microvisor(&target) && !self.may_be_exchanged() => Err(UpdateReason::Flash),
            accepted => accepted,
        };
        match accepted {
            Ok(slot) => self.stage(target.component, slot, envelope),
            Err(reason) => self.refuse(target, reason),
        }
    }

    /// The slot entry of a manifest that may be installed.
    fn accept(&self, target: Target, envelope: &[u8]) -> Result<Slot, UpdateReason> {
        let has_exchange = self.ports.firmware.handover().is_some();
        if is_microvisor(&target) && !has_exchange && !mutated!(ComponentName) {
            return Err(UpdateReason::WrongComponent);
        }
        if self.ledger.is_rejected(target.manifest, target.deployment) && !mutated!(Rejection) {
            return Err(UpdateReason::RejectedBefore);
        }
        let keyset = self.keyset().ok_or(UpdateReason::UnknownKey)?;
        let here = self.here(target.component)?;
        let manifest = check::examine(envelope, target.manifest, here, &keyset, &self.ports.verify)?;
        if is_microvisor(&target) {
            self.accept_microvisor(&manifest)?;
        }
        let slot = Slot {
            status: Status::Staged,
            manifest: manifest.digest,
            deployment: target.deployment,
            version: manifest.version.try_into().map_err(|_| UpdateReason::Malformed)?,
            security_counter: manifest.security_counter,
            envelope_bytes: envelope.len().try_into().map_err(|_| UpdateReason::TooLarge)?,
        };
        Ok(slot)
    }

    /// What else a microvisor must be: the application runs on it, and the first stage will believe who vouches for it.
    fn accept_microvisor(&self, manifest: &Manifest<'_>) -> Result<(), UpdateReason> {
        let version: Version = manifest.version.parse().map_err(|_| UpdateReason::Malformed)?;
        let too_old = self.running.as_ref().is_some_and(|running| running.microvisor_min > version);
        if too_old && !mutated!(ExchangeMinimum) {
            return Err(UpdateReason::MicrovisorTooOld);
        }
        if self.first_stage_believes() { Ok(()) } else { Err(UpdateReason::UnknownKey) }
    }

    /// Journals the new target in place of any older one, then writes its envelope and starts fetching.
    fn stage(
        &mut self,
        component: Component,
        slot: Slot,
        envelope: &[u8],
    ) -> Result<Heard, DirectiveRefused> {
        let mut changed = self.ledger.clone();
        self.supersede(&mut changed);
        changed.stage(component, slot).map_err(|_| DirectiveRefused::Misplaced)?;
        if mutated!(EnvelopeFirst) {
            let _ = self.write_envelope(component, envelope);
        }
        self.journal(changed)?;
        self.fetch = None;
        self.happen(Event::Directed);
        match self.write_envelope(component, envelope) {
            Ok(fetch) => self.fetch = Some(fetch),
            Err(reason) => self.give_up(reason),
        }
        Ok(Heard::Acted)
    }

    fn write_envelope(&mut self, component: Component, envelope: &[u8]) -> Result<Fetch, UpdateReason> {
        let index = match component {
            Component::App => {
                let spare = self.ledger.spare().ok_or(UpdateReason::Flash)?;
                let flash = &mut self.ports.flash;
                self.layout.write_envelope(flash, &spare, envelope).map_err(|_| UpdateReason::Flash)?;
                spare.slot()
            }
            Component::Microvisor => {
                self.write_microvisor_head(envelope).map_err(|_| UpdateReason::Flash)?;
                MICROVISOR
            }
        };
        self.read_envelope(index, envelope.len())?;
        if self.envelope != envelope {
            return Err(UpdateReason::Flash);
        }
        let manifest: Manifest<'_> = wire::manifest::read(self.envelope).map_err(check::reason)?;
        Ok(Fetch::new(self.envelope, &manifest))
    }

    fn already_running(&mut self, target: Target) -> Result<Heard, DirectiveRefused> {
        let mut changed = self.ledger.clone();
        let superseded = self.supersede(&mut changed);
        let entry = Slot { manifest: target.manifest, deployment: target.deployment, ..Slot::default() };
        self.add_result(&mut changed, &entry, Outcome::Confirmed, UpdateReason::AlreadyRunning, 0);
        self.journal(changed)?;
        if superseded {
            self.fetch = None;
            self.happen(Event::Dropped);
        }
        Ok(Heard::Acted)
    }

    /// What is staged gives way, with a result; whether anything was.
    fn supersede(&mut self, changed: &mut Ledger) -> bool {
        let Some(staged) = changed.staged() else { return false };
        let entry = changed.slots[staged].clone();
        self.add_result(changed, &entry, Outcome::Refused, UpdateReason::Superseded, 0);
        changed.unstage().is_ok()
    }

    fn refuse(&mut self, target: Target, reason: UpdateReason) -> Result<Heard, DirectiveRefused> {
        let mut changed = self.ledger.clone();
        let entry = Slot { manifest: target.manifest, deployment: target.deployment, ..Slot::default() };
        self.add_result(&mut changed, &entry, Outcome::Refused, reason, 0);
        self.journal(changed)?;
        self.note(Notice::UpdateRefused(reason));
        Ok(Heard::Refused(reason))
    }

    fn go(&mut self, target: Target) -> Result<Heard, DirectiveRefused> {
        let under_way = self.ledger.under_way().or(self.ledger.confirmed());
        let fits = under_way.is_some_and(|index| is_target(&self.ledger.slots[index], &target))
            || mutated!(GoTarget);
        match self.state {
            State::Ready if fits => {
                self.happen(Event::Granted);
                Ok(Heard::Acted)
            }
            State::Installing | State::Trial | State::Confirmed if fits => Ok(Heard::Already),
            _ => Err(DirectiveRefused::Misplaced),
        }
    }

    fn cancel(&mut self, target: Target) -> Result<Heard, DirectiveRefused> {
        let staged = self.ledger.staged().filter(|index| is_target(&self.ledger.slots[*index], &target));
        if staged.is_none() || !self.state.is_staging() {
            return Err(DirectiveRefused::Misplaced);
        }
        let mut changed = self.ledger.clone();
        self.supersede(&mut changed);
        self.journal(changed)?;
        self.fetch = None;
        self.happen(Event::Dropped);
        Ok(Heard::Acted)
    }

    /// The floor rises to at most the confirmed, running version's own counter: nobody can lock a device out of what it
    /// runs.
    fn commit(&mut self, target: Target, counter: u64) -> Result<Heard, DirectiveRefused> {
        if is_microvisor(&target) {
            return self.commit_microvisor(&target, counter);
        }
        let confirmed = self.ledger.confirmed().map(|index| &self.ledger.slots[index]);
        let fits = confirmed
            .is_some_and(|slot| slot.manifest == target.manifest && counter <= slot.security_counter);
        if !fits || !self.is_running(&target) {
            return Err(DirectiveRefused::Misplaced);
        }
        Ok(if self.raise_floor(counter) { Heard::Acted } else { Heard::Already })
    }

    /// Raises the floor; whether it rose.
    pub(crate) fn raise_floor(&mut self, counter: u64) -> bool {
        if self.floor.is_none_or(|floor| floor >= counter) || self.ports.counter.raise(counter).is_err() {
            return false;
        }
        self.floor = Some(counter);
        self.note(Notice::FloorRaised(counter));
        true
    }

    /// This manifest is the confirmed one, and its application is up or waits for its next start.
    fn is_running(&self, target: &Target) -> bool {
        if is_microvisor(target) {
            return self.runs_microvisor(target);
        }
        let running = self.running.as_ref().map(|running| &self.ledger.slots[running.slot]);
        running.is_some_and(|slot| slot.status == Status::Confirmed && slot.manifest == target.manifest)
    }

    /// Adds a result to a ledger about to be journaled.
    pub(crate) fn add_result(
        &mut self,
        ledger: &mut Ledger,
        entry: &Slot,
        outcome: Outcome,
        reason: UpdateReason,
        attempts: u8,
    ) {
        if mutated!(ResultJournal) {
            return;
        }
        self.sequence = self.sequence.saturating_add(1);
        let Slot { manifest, deployment, .. } = *entry;
        let (boot, sequence) = (self.boot, self.sequence);
        if ledger.results.is_full() {
            // Not reached while RESULTS_RESERVED holds: the newest tells most.
            ledger.results.remove(0);
        }
        let _ = ledger.results.push(UpdateResult {
            boot,
            sequence,
            deployment,
            manifest,
            outcome,
            reason,
            attempts,
        });
    }
}

fn is_microvisor(target: &Target) -> bool {
    target.component == Component::Microvisor
}

/// This result is how the target ended.
fn ends(result: &UpdateResult, target: &Target) -> bool {
    is_same(result.manifest, result.deployment, target)
}

fn is_target(slot: &Slot, target: &Target) -> bool {
    is_same(slot.manifest, slot.deployment, target)
}

fn is_same(manifest: Digest, deployment: DeploymentId, target: &Target) -> bool {
    manifest == target.manifest && deployment == target.deployment
}
