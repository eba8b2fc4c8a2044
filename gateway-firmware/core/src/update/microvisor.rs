//! The exchange of the microvisor itself: the one update whose subject is who carries it out.
//!
//! It is staged like an application, into the slot that does not run, with the keyset that vouches for it. Then: the ledger says
//! that it is tried, the first stage's record says which slot to try, the board starts anew, and the first stage counts. What
//! runs then looks at both and knows what became of it ([`judge_start`]). On trial it waits for a word that the director signed in
//! answer to a hello of this very start: who was heard and answered can be updated again. Without one it goes back when its
//! time is over. What crashes or hangs the first stage takes back, and the one before finds out.
//!
//! Always holds: the slot that runs is never written, and the other one only while that is whole or neither is; a trial begins only
//! after the whole slot was read back, and only of what the first stage will believe; a result is in the ledger before the record
//! forgets the trial.

use wire::Digest;
use wire::cbor::Reader;
use wire::directive::Target;
use wire::key::Hasher;
use wire::keyset::{self, Provisioned};
use wire::limits::{ENVELOPE_BYTES_MAX, MICROVISOR_TRIAL_S_MAX};
use wire::manifest::{self, Component};
use wire::msg::UpdateReason;

use super::ledger::{MICROVISOR, Slot, Status};
use super::slots::{BLOCK, Layout, hash};
use super::trial::after;
use super::{Event, Outcome};
use crate::boot::first::{Handover, Record, Slot as Place, Verdict};
use crate::device::{Device, Next, Notice, STORE_RETRY_MS};
use crate::mutation::mutated;
use crate::ports::{Board, Exchange, Firmware as _, Flash as _, FlashError, Watchdog as _};

/// Between the decision to start anew and doing it: what is on its way to the server may get there.
pub const RESTART_GRACE_MS: u64 = 100;

/// Bytes of an image, and what they must hash to.
pub(super) type Area = (u32, Digest);

/// What the microvisor that runs knows of itself.
#[derive(Debug, Default)]
pub(crate) struct Own {
    /// On trial, until then at the latest.
    trial_until_ms: Option<u64>,
    /// How a trial ended, while that is not in the ledger.
    ended: Option<End>,
    pub(super) commit_after_s: Option<u32>,
    /// Its image.
    area: Option<Area>,
    restart_at_ms: Option<u64>,
    /// It was started because the confirmed one may not run.
    pub(super) last_resort: bool,
    /// The keyset or a slot has changed since roots were looked at.
    pub(crate) roots_due: bool,
    /// Provisioned roots that were revoked since this start; bit n is root n.
    pub(crate) revoked: u8,
}

impl Own {
    /// The microvisor that runs waits for a word of the server.
    pub(crate) fn is_on_trial(&self) -> bool {
        self.trial_until_ms.is_some()
    }

    /// The board is about to start anew: nothing else is begun.
    pub(crate) fn leaves(&self) -> bool {
        self.restart_at_ms.is_some()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Kept,
    Reverted(UpdateReason),
}

/// What a start makes of an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Start {
    /// None is under way.
    Steady,
    /// This is the start of a trial.
    OnTrial,
    /// The trial has ended already and the first stage does not know yet.
    Over,
    /// The trial has ended and the ledger does not know yet.
    Ended(End),
}

/// Compares the ledger's entry with what the first stage chose; `active` is the slot its record calls confirmed.
fn judge_start(entry: &Slot, handover: &Handover, active: Place) -> Start {
    let same = entry.manifest == handover.manifest;
    match (handover.attempt > 0, entry.status) {
        (true, Status::Trial) if same => Start::OnTrial,
        // The store was lost under it, and with it who asked: it may prove itself all the same.
        (true, Status::Empty) => Start::OnTrial,
        (true, _) => Start::Over,
        (false, Status::Trial) if same && active == handover.slot => Start::Ended(End::Kept),
        // It runs because the other one is damaged.
        (false, Status::Trial) if same => Start::Ended(End::Reverted(UpdateReason::Failed)),
        (false, Status::Trial) => {
            Start::Ended(End::Reverted(match handover.verdicts[handover.slot.other().index()] {
                Verdict::Refused(_) => UpdateReason::Failed,
                // Power went between two words: whether it would have been good nobody knows.
                Verdict::Unseen | Verdict::Runs => UpdateReason::Inconclusive,
            }))
        }
        (false, _) => Start::Steady,
    }
}

impl<B: Board> Device<'_, B> {
    /// At every start, before anything else of updates.
    pub(crate) fn restore_microvisor(&mut self) {
        let entry = &self.ledger.slots[MICROVISOR];
        let Some(Exchange { record, layout, handover, .. }) = self.ports.firmware.exchange() else { return };
        let (record, _) = Record::read(record);
        let start = judge_start(entry, handover, record.active);
        self.own.last_resort =
            handover.attempt == 0 && record.active != handover.slot && !mutated!(FloorLastResort);
        self.microvisor_floor = record.floor.max(self.ledger.microvisor_floor);
        self.microvisor_bytes = layout.image_bytes;
        self.read_own_policy();
        self.own.roots_due = true;
        match start {
            Start::Steady | Start::OnTrial => {}
            Start::Over => self.go_back(self.now_ms()),
            Start::Ended(end) => self.end_exchange(end),
        }
        if start != Start::OnTrial {
            self.own.trial_until_ms = None;
        }
    }

    /// What is due of the exchange of the microvisor.
    pub(crate) fn poll_microvisor(&mut self, now_ms: u64) -> Next {
        if let Some(at_ms) = self.own.restart_at_ms {
            if now_ms < at_ms {
                return Next::At(at_ms);
            }
            self.ports.firmware.restart();
            return Next::Never;
        }
        if let Some(end) = self.own.ended {
            if now_ms >= self.store_retry_ms {
                self.end_exchange(end);
            }
            return if self.own.ended.is_some() { Next::At(self.store_retry_ms) } else { Next::Now };
        }
        let Some(until_ms) = self.own.trial_until_ms else {
            if self.own.roots_due && self.ledger.under_way().is_none() {
                self.own.roots_due = false;
                self.settle_roots();
                self.settle_floor();
            }
            return self.poll_microvisor_floor(now_ms);
        };
        let heard = self.time_heard || mutated!(ExchangeWord);
        if heard && now_ms >= self.store_retry_ms {
            self.keep_microvisor(now_ms);
            return Next::Now;
        }
        if heard {
            return Next::At(self.store_retry_ms);
        }
        if now_ms < until_ms {
            return Next::At(until_ms);
        }
        if now_ms < self.store_retry_ms {
            return Next::At(self.store_retry_ms);
        }
        self.note(Notice::MicrovisorReverted(UpdateReason::Inconclusive));
        if self.ledger.tries_microvisor() {
            // If it cannot be written, who comes next finds the same end by itself.
            self.end_exchange(End::Reverted(UpdateReason::Inconclusive));
        }
        self.go_back(now_ms);
        Next::Now
    }

    /// Journals the switch, tells the first stage, and has the board start anew.
    pub(crate) fn switch_microvisor(&mut self, now_ms: u64) -> Next {
        if self.own.leaves() {
            return Next::Never;
        }
        if !self.ledger.tries_microvisor()
            && let Err(next) = self.journal_switch(now_ms)
        {
            return next;
        }
        // What runs is what a failed trial goes back to, whatever was called active before.
        let begun = self.change_record(|record, running| Record { active: running, ..record }.begin_trial());
        if begun.is_err() {
            self.end_exchange(End::Reverted(UpdateReason::Flash));
            return Next::Now;
        }
        self.own.restart_at_ms = Some(now_ms.saturating_add(RESTART_GRACE_MS));
        Next::Now
    }

    /// Whether this manifest is what runs, confirmed.
    pub(crate) fn runs_microvisor(&self, target: &Target) -> bool {
        let handover = self.ports.firmware.handover();
        !self.own.is_on_trial() && handover.is_some_and(|it| it.manifest == target.manifest)
    }

    /// Whether the first stage will believe the keyset that would go with a microvisor.
    pub(crate) fn first_stage_believes(&self) -> bool {
        let provisioned = Provisioned {
            root_key_hashes: &self.facts.root_key_hashes,
            threshold: self.facts.root_threshold,
        };
        keyset::open_provisioned(self.keyset, &provisioned, &self.ports.verify).is_ok()
            || mutated!(ExchangeRoots)
    }

    /// Whether the slot that does not run may be written. While it is, what runs is all that there is, so that must be whole in its slot
    /// still, and not only in the memory where it runs. Where neither is whole there is nothing to lose: without a new one the next
    /// start finds none.
    pub(crate) fn may_be_exchanged(&mut self) -> bool {
        let Some(running) = self.ports.firmware.handover().map(|handover| handover.slot) else {
            return false;
        };
        let own = self.own.area;
        if own.is_some_and(|area| self.is_whole(running, area)) || mutated!(ExchangeWhole) {
            return true;
        }
        // What is staged may be whole by now, and its envelope is in the buffer.
        self.ledger.staged().is_none() && !self.other_is_whole(running.other()) && !mutated!(ExchangeHopeless)
    }

    /// Whether the first stage would run what is in the slot that does not run.
    fn other_is_whole(&mut self, other: Place) -> bool {
        let whole = self.is_vouched_for(other)
            && self.other_manifest().is_some_and(|(_, area)| self.is_whole(other, area));
        // That slot's keyset was in its place. Without it nothing can be written either.
        self.restore_keyset();
        whole || self.keyset.is_empty()
    }

    /// Whether a slot's keyset and manifest are signed as they should be. Leaves that keyset in the place of what is held.
    #[inline(never)]
    fn is_vouched_for(&mut self, slot: Place) -> bool {
        let roots = self.facts.root_key_hashes.clone();
        if self.vouching(slot, &roots).is_err() {
            return false;
        }
        self.keyset.clear();
        // Cannot fail: it was read with the length of the longest.
        let _ = self.keyset.extend_from_slice(self.envelope);
        let keyset = Reader::new(self.keyset).item().ok().and_then(|bytes| keyset::read(bytes).ok());
        let Some((keyset, exchange)) = keyset.zip(self.ports.firmware.exchange()) else { return false };
        let Exchange { slots, layout, .. } = exchange;
        let at = Layout::of_microvisor(slots.geometry(), &layout).slots[slot.index()].envelope_at;
        // Cannot fail: it is as long as it can be.
        let _ = self.envelope.resize_default(ENVELOPE_BYTES_MAX);
        slots.read(at, self.envelope).is_ok()
            && Reader::new(self.envelope)
                .item()
                .is_ok_and(|bytes| manifest::open(bytes, &keyset, &self.ports.verify).is_ok())
    }

    /// Whether an image is in a slot as it was signed.
    fn is_whole(&mut self, slot: Place, (bytes, digest): Area) -> bool {
        let Some(Exchange { slots, layout, .. }) = self.ports.firmware.exchange() else { return false };
        if bytes > layout.image_bytes {
            return false;
        }
        let at = Layout::of_microvisor(slots.geometry(), &layout).slots[slot.index()].area_at;
        let mut hasher = Hasher::new();
        for block in (0..bytes).step_by(BLOCK as usize) {
            self.ports.watchdog.feed();
            if hash(slots, &mut hasher, at + block, BLOCK.min(bytes - block)).is_err() {
                return false;
            }
        }
        hasher.finish() == digest
    }

    /// Erases the slot that does not run and writes who vouches for the new version; read back.
    pub(crate) fn write_microvisor_head(&mut self, envelope: &[u8]) -> Result<(), FlashError> {
        // Where the record calls the other slot active (what runs is what was left), the first stage would run what is being written
        // there as soon as it is whole: untried, and for good.
        self.change_record(|record, running| Record { active: running, trial: None, attempts: 0, ..record })?;
        let Some(Exchange { slots, layout, handover, .. }) = self.ports.firmware.exchange() else {
            return Err(FlashError::Range);
        };
        let spare = self.ledger.spare_microvisor(handover.slot).ok_or(FlashError::Range)?;
        let place = Layout::of_microvisor(slots.geometry(), &layout);
        let keyset_at = place.keyset_at(spare.slot(), &layout);
        // The envelope goes first: while it is not there nothing is gone on with, and the keyset is written anew.
        place.write_envelope(slots, &spare, &[])?;
        place.write_keyset(slots, &spare, keyset_at, self.keyset)?;
        place.write_envelope(slots, &spare, envelope)?;
        let mut piece = [0; 64];
        let mut at = keyset_at;
        for expected in self.keyset.chunks(piece.len()) {
            let piece = &mut piece[..expected.len()];
            slots.read(at, piece)?;
            if piece != expected {
                return Err(FlashError::Failed);
            }
            at += expected.len() as u32;
        }
        Ok(())
    }

    /// Heard and answered: the first stage's record first, for what it does not say is taken back.
    fn keep_microvisor(&mut self, now_ms: u64) {
        let kept = self.change_record(|record, running| match record.confirm() {
            _ if mutated!(ExchangeRecord) => record,
            Ok(confirmed) => confirmed,
            Err(_) => Record { active: running, trial: None, attempts: 0, ..record },
        });
        if kept.is_err() {
            self.store_retry_ms = now_ms.saturating_add(STORE_RETRY_MS);
            return;
        }
        self.own.trial_until_ms = None;
        self.own.roots_due = true;
        self.note(Notice::MicrovisorConfirmed);
        if self.ledger.tries_microvisor() {
            self.end_exchange(End::Kept);
        }
    }

    /// The end of an exchange in the ledger, with its result; tried again when it cannot be written.
    fn end_exchange(&mut self, end: End) {
        self.own.ended = Some(end);
        let entry = self.ledger.slots[MICROVISOR].clone();
        let mut changed = self.ledger.clone();
        let attempts = self.ports.firmware.handover().map_or(0, |handover| handover.attempt);
        let ended = match end {
            End::Kept => {
                self.add_result(
                    &mut changed,
                    &entry,
                    Outcome::Confirmed,
                    UpdateReason::Unspecified,
                    attempts,
                );
                changed.confirm_microvisor(self.time_bound_s)
            }
            End::Reverted(reason) => {
                self.add_result(&mut changed, &entry, Outcome::Reverted, reason, attempts);
                changed.revert_microvisor()
            }
        };
        if ended.is_ok() && self.journal(changed).is_err() {
            return;
        }
        self.own.ended = None;
        self.happen(match end {
            End::Kept => Event::Kept,
            End::Reverted(_) => Event::TakenBack,
        });
        if let End::Reverted(reason) = end {
            self.note(Notice::MicrovisorReverted(reason));
        }
    }

    /// Has the one before run again. Where the record cannot be written the first stage comes to it by counting.
    fn go_back(&mut self, now_ms: u64) {
        let _ = self.change_record(|record, _| record.take_back());
        self.own.restart_at_ms = Some(now_ms);
    }

    /// What the manifest of what runs says of its trial and its floor.
    fn read_own_policy(&mut self) {
        let Some(Exchange { slots, layout, handover, .. }) = self.ports.firmware.exchange() else { return };
        let at = Layout::of_microvisor(slots.geometry(), &layout).slots[handover.slot.index()].envelope_at;
        let envelope = &mut *self.envelope;
        // Cannot fail: it is as long as it can be.
        let _ = envelope.resize_default(ENVELOPE_BYTES_MAX);
        let read = slots.read(at, envelope);
        let policy =
            (|| {
                read.ok()?;
                let manifest = manifest::read(Reader::new(envelope).item().ok()?).ok()?;
                (manifest.component == Component::Microvisor && manifest.digest == handover.manifest)
                    .then_some((manifest.update, manifest.area_bytes, manifest.area_digest))
            })();
        // The first stage read it a moment ago. If it cannot be read now, nobody is believed and the trial is over at once.
        let update = policy.as_ref().map(|(update, ..)| update);
        let trial_s_max = if mutated!(ExchangeTrial) { u32::MAX } else { MICROVISOR_TRIAL_S_MAX };
        self.own.trial_until_ms = Some(update.map_or(0, |update| after(0, update.trial_s.min(trial_s_max))));
        self.own.commit_after_s = update.and_then(|update| update.commit_after_s);
        self.own.area = policy.as_ref().map(|(_, bytes, digest)| (*bytes, *digest));
    }

    /// Changes the first stage's record by one step; read back when this returns.
    pub(super) fn change_record(
        &mut self,
        step: impl FnOnce(Record, Place) -> Record,
    ) -> Result<(), FlashError> {
        let Some(Exchange { record: flash, handover, .. }) = self.ports.firmware.exchange() else {
            return Err(FlashError::Range);
        };
        let (record, _) = Record::read(flash);
        let changed = step(record, handover.slot);
        if changed == record { Ok(()) } else { changed.write_twice(flash) }
    }
}
