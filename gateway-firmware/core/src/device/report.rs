//! What the device says of itself: slots, progress, results, counters and notices. Nothing here changes an update.

use super::Device;
use super::api::{BootId, Counters, Notice, Progress, SlotReport, Wanted};
use crate::ports::Board;
use crate::store::StoreError;
use crate::update::fetch::Fetch;
use crate::update::ledger::Status;
use crate::update::{Event, UpdateResult};

impl<B: Board> Device<'_, B> {
    /// Both slots of the application.
    pub fn slots(&self) -> [SlotReport; 2] {
        let running = self.running.as_ref().map(|running| running.slot);
        core::array::from_fn(|index| {
            let slot = &self.ledger.slots[index];
            SlotReport {
                status: slot.status.into(),
                manifest: (slot.status != Status::Empty).then_some(slot.manifest),
                version: slot.version.clone(),
                security_counter: slot.security_counter,
                running: running == Some(index),
            }
        })
    }

    /// The update under way, if any.
    pub fn progress(&self) -> Option<Progress> {
        let slot = &self.ledger.slots[self.ledger.staged().or(self.ledger.trial())?];
        let (bytes_done, bytes_total) = self.fetch.as_ref().map(Fetch::bytes).unwrap_or_default();
        Some(Progress {
            sequence: self.sequence,
            deployment: slot.deployment,
            manifest: slot.manifest,
            state: self.state,
            bytes_done,
            bytes_total,
            attempts: self.ledger.attempts,
        })
    }

    /// What is missing of the version being fetched, if that can go on now.
    pub fn wanted(&self) -> Option<Wanted> {
        self.fetch.as_ref()?.wanted(self.envelope)
    }

    /// Results not yet acknowledged, oldest first.
    pub fn results(&self) -> &[UpdateResult] {
        &self.ledger.results
    }

    /// The service has stored this result: it is forgotten. False when there is none of that name.
    pub fn acknowledge(&mut self, boot: BootId, sequence: u32) -> Result<bool, StoreError> {
        let mut changed = self.ledger.clone();
        changed.results.retain(|result| (result.boot, result.sequence) != (boot, sequence));
        if changed.results.len() == self.ledger.results.len() {
            return Ok(false);
        }
        self.journal(changed)?;
        if self.ledger.results.is_empty() {
            self.happen(Event::Acknowledged);
        }
        Ok(true)
    }

    /// Nobody is left who would acknowledge them.
    pub(crate) fn forget_results(&mut self) -> Result<(), StoreError> {
        if self.ledger.results.is_empty() {
            return Ok(());
        }
        let mut changed = self.ledger.clone();
        changed.results.clear();
        self.journal(changed)?;
        self.happen(Event::Acknowledged);
        Ok(())
    }

    /// Lowest security counter that is still accepted; nothing while the counter cannot be read.
    pub fn floor(&self) -> Option<u64> {
        self.floor
    }

    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// The oldest notice not taken yet.
    pub fn take_notice(&mut self) -> Option<Notice> {
        self.notices.pop_front()
    }
}
