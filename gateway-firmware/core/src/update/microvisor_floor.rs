//! The floor of microvisors, in two places. What the device still takes is in its ledger, and rises on commit. What the first stage
//! still runs is in its record, and follows one version behind.
//!
//! Always holds: the first stage's floor is never above the counter of what runs, nor of what is in the slot that does not run. That
//! is all there is to fall back on. What runs only because the active one is damaged commits nothing: it may be what failed its trial.

use wire::cbor::Reader;
use wire::directive::Target;
use wire::limits::ENVELOPE_BYTES_MAX;
use wire::manifest::{self, Component};

use super::ledger::Ledger;
use super::microvisor::Area;
use super::slots::Layout;
use super::trial::after;
use crate::device::{Device, DirectiveRefused, Heard, Next, Notice, STORE_RETRY_MS};
use crate::mutation::mutated;
use crate::ports::{Board, Exchange, Firmware as _, Flash as _};

impl<B: Board> Device<'_, B> {
    /// The floor rises to at most the counter of what runs, confirmed.
    pub(crate) fn commit_microvisor(
        &mut self,
        target: &Target,
        counter: u64,
    ) -> Result<Heard, DirectiveRefused> {
        let own = self.ports.firmware.handover().map_or(0, |handover| handover.security_counter);
        if !self.runs_microvisor(target) || counter > own || self.own.last_resort {
            return Err(DirectiveRefused::Misplaced);
        }
        Ok(if self.raise_microvisor_floor(counter) { Heard::Acted } else { Heard::Already })
    }

    fn raise_microvisor_floor(&mut self, counter: u64) -> bool {
        let changed = Ledger { microvisor_floor: counter, ..self.ledger.clone() };
        if self.microvisor_floor >= counter || self.journal(changed).is_err() {
            return false;
        }
        self.microvisor_floor = counter;
        self.own.roots_due = true;
        self.note(Notice::MicrovisorFloorRaised(counter));
        true
    }

    /// Raises the first stage's floor as far as it leaves what is in the other slot: that is all there is to fall back on. It
    /// follows when a newer one takes that slot. Uses the envelope's buffer.
    pub(super) fn settle_floor(&mut self) {
        let Some((other, _)) = self.other_manifest() else { return };
        let own = self.ports.firmware.handover().map_or(0, |handover| handover.security_counter);
        let mut floor = self.microvisor_floor;
        if !mutated!(FloorOverFallBack) {
            floor = floor.min(other);
        }
        if !mutated!(FloorOverRunning) {
            floor = floor.min(own);
        }
        // If it cannot be written, the next start tries again.
        let _ = self.change_record(|record, _| record.raise_floor(floor));
    }

    /// Security counter of the microvisor in the slot that does not run, and its area; none if no manifest is there. Uses the envelope's
    /// buffer.
    pub(super) fn other_manifest(&mut self) -> Option<(u64, Area)> {
        let Exchange { slots, layout, handover, .. } = self.ports.firmware.exchange()?;
        let place = Layout::of_microvisor(slots.geometry(), &layout).slots[handover.slot.other().index()];
        self.envelope.resize_default(ENVELOPE_BYTES_MAX).ok()?;
        slots.read(place.envelope_at, self.envelope).ok()?;
        let manifest = manifest::read(Reader::new(self.envelope).item().ok()?).ok()?;
        let area = (manifest.area_bytes, manifest.area_digest);
        (manifest.component == Component::Microvisor).then_some((manifest.security_counter, area))
    }

    /// Raises the floor by itself when the manifest of what runs says so.
    pub(super) fn poll_microvisor_floor(&mut self, now_ms: u64) -> Next {
        let counter = self.ports.firmware.handover().map_or(0, |handover| handover.security_counter);
        let due = self.microvisor_floor < counter && !self.own.last_resort;
        let Some(wait_s) = self.own.commit_after_s.filter(|_| due) else {
            return Next::Never;
        };
        let due_ms = after(0, wait_s);
        let long_ago =
            self.time_bound_s >= self.ledger.microvisor_confirmed_at_s.saturating_add(wait_s.into());
        if now_ms < due_ms && !long_ago {
            return Next::At(due_ms);
        }
        if now_ms < self.store_retry_ms {
            return Next::At(self.store_retry_ms);
        }
        if !self.raise_microvisor_floor(counter) {
            self.store_retry_ms = now_ms.saturating_add(STORE_RETRY_MS);
        }
        Next::Now
    }
}
