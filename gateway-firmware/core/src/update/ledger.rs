//! The ledger: everything about updates that survives power loss, one record of the store.
//!
//! Three entries: the application's two slots, and what is in the microvisor's slot that does not run. Always holds: at most
//! one of the application's is confirmed, at most one of the three is staged or on trial, and those are never the same. The
//! only way to a slot that may be written is [`Ledger::spare`] or [`Ledger::spare_microvisor`], which never name the
//! confirmed slot nor one on trial: law 5 is a property of this type. Each method is one step; the caller journals the changed copy
//! before it acts on it.

use heapless::{String, Vec};
use wire::limits::VERSION_BYTES_MAX;
use wire::manifest::Component;
use wire::msg::SlotStatus;
use wire::{DeploymentId, Digest};

use super::result::UpdateResult;
use crate::boot::first;
use crate::mutation::mutated;

/// Results kept until acknowledged.
pub const RESULTS_MAX: usize = 4;
/// Manifests remembered as taken back; the oldest is forgotten first.
pub const REJECTIONS_MAX: usize = 8;
/// Longest encoded ledger.
pub const LEDGER_BYTES_MAX: usize = 1024;
/// Slots of the application: the first entries.
pub const APP_SLOTS: usize = 2;
/// The entry of the microvisor that does not run.
pub const MICROVISOR: usize = APP_SLOTS;
/// All entries.
pub const ENTRIES: usize = APP_SLOTS + 1;

/// What a slot holds, as far as the journal knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum Status {
    #[default]
    Empty = 0,
    /// Being filled, or filled and not yet switched to.
    Staged = 1,
    /// Switched to, not confirmed.
    Trial = 2,
    Confirmed = 3,
    /// Confirmed once, replaced since.
    Previous = 4,
    /// Taken back.
    Rejected = 5,
}

/// One slot's entry. Everything but the status is meaningless when empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot {
    pub status: Status,
    pub manifest: Digest,
    pub deployment: DeploymentId,
    pub version: String<VERSION_BYTES_MAX>,
    pub security_counter: u64,
    /// Length of the envelope in the slot's header area.
    pub envelope_bytes: u16,
}

/// A manifest that was taken back, and for which deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rejection {
    pub manifest: Digest,
    pub deployment: DeploymentId,
}

/// Leave to write one slot. Only the ledger gives it.
#[derive(Debug)]
pub struct Spare(usize);

impl Spare {
    pub fn slot(&self) -> usize {
        self.0
    }
}

/// The step does not fit what the slots hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Misfit;

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ledger {
    pub slots: [Slot; ENTRIES],
    /// Starts of the application on trial.
    pub attempts: u8,
    /// Lower bound of the time when the confirmed version was confirmed.
    pub confirmed_at_s: u64,
    pub results: Vec<UpdateResult, RESULTS_MAX>,
    pub rejections: Vec<Rejection, REJECTIONS_MAX>,
    /// Lower bound of the time when the microvisor that runs was confirmed.
    pub microvisor_confirmed_at_s: u64,
    /// Lowest security counter of a microvisor that is still taken. The first stage's own floor may be lower, for what there is to fall
    /// back on.
    pub microvisor_floor: u64,
}

impl Default for Slot {
    fn default() -> Self {
        Slot {
            status: Status::Empty,
            manifest: Digest([0; 32]),
            deployment: DeploymentId::new([0; 16]),
            version: String::new(),
            security_counter: 0,
            envelope_bytes: 0,
        }
    }
}

impl Ledger {
    /// The application's slot with this status.
    pub fn find(&self, status: Status) -> Option<usize> {
        self.slots.iter().take(APP_SLOTS).position(|slot| slot.status == status)
    }

    pub fn confirmed(&self) -> Option<usize> {
        self.find(Status::Confirmed)
    }

    /// The application's slot on trial.
    pub fn trial(&self) -> Option<usize> {
        self.find(Status::Trial)
    }

    /// The entry being staged, of whichever component.
    pub fn staged(&self) -> Option<usize> {
        self.slots.iter().position(|slot| slot.status == Status::Staged)
    }

    /// The entry being staged or on trial, of whichever component: the update under way.
    pub fn under_way(&self) -> Option<usize> {
        self.slots.iter().position(|slot| matches!(slot.status, Status::Staged | Status::Trial))
    }

    /// The other microvisor is on trial, as far as this ledger knows.
    pub fn tries_microvisor(&self) -> bool {
        self.slots[MICROVISOR].status == Status::Trial
    }

    /// The application's slot that may be erased and written: none during a trial, else the one that is not confirmed.
    pub fn spare(&self) -> Option<Spare> {
        if self.trial().is_some() {
            return None;
        }
        let spare = self.confirmed().map_or(0, |confirmed| 1 - confirmed);
        Some(Spare(if mutated!(ConfirmedSlot) { 1 - spare } else { spare }))
    }

    /// The microvisor's slot that may be erased and written: none during its trial, else the one that does not run.
    pub fn spare_microvisor(&self, running: first::Slot) -> Option<Spare> {
        (!self.tries_microvisor()).then(|| Spare(running.other().index()))
    }

    /// Claims the spare slot of a component for a new version.
    pub fn stage(&mut self, component: Component, slot: Slot) -> Result<(), Misfit> {
        if self.under_way().is_some_and(|index| self.slots[index].status == Status::Trial) {
            return Err(Misfit);
        }
        let spare = match component {
            Component::App => self.spare().ok_or(Misfit)?.slot(),
            Component::Microvisor => MICROVISOR,
        };
        if self.staged().is_some_and(|staged| staged != spare) {
            return Err(Misfit);
        }
        self.slots[spare] = Slot { status: Status::Staged, ..slot };
        Ok(())
    }

    /// Gives the staged version up. Its slot is claimed to hold nothing.
    pub fn unstage(&mut self) -> Result<(), Misfit> {
        let staged = self.staged().ok_or(Misfit)?;
        self.slots[staged] = Slot::default();
        Ok(())
    }

    /// Makes the staged version the one to start, on trial. Of a microvisor the attempts are the first stage's to count.
    pub fn switch(&mut self) -> Result<(), Misfit> {
        let staged = self.staged().ok_or(Misfit)?;
        self.slots[staged].status = Status::Trial;
        self.attempts = 0;
        Ok(())
    }

    /// Counts a start of the version on trial.
    pub fn count_attempt(&mut self) -> Result<(), Misfit> {
        self.trial().ok_or(Misfit)?;
        self.attempts = self.attempts.saturating_add(1);
        Ok(())
    }

    /// Ends the trial: the new version is the confirmed one.
    pub fn confirm(&mut self, time_bound_s: u64) -> Result<(), Misfit> {
        let trial = self.trial().ok_or(Misfit)?;
        if let Some(confirmed) = self.confirmed() {
            self.slots[confirmed].status = Status::Previous;
        }
        let slot = &mut self.slots[trial];
        slot.status = Status::Confirmed;
        self.rejections.retain(|rejection| rejection.manifest != slot.manifest);
        self.attempts = 0;
        self.confirmed_at_s = time_bound_s;
        Ok(())
    }

    /// Ends the trial: the version confirmed before is the one to start again.
    pub fn revert(&mut self) -> Result<(), Misfit> {
        let trial = self.trial().ok_or(Misfit)?;
        let slot = &mut self.slots[trial];
        slot.status = Status::Rejected;
        let rejection = Rejection { manifest: slot.manifest, deployment: slot.deployment };
        self.reject(rejection);
        self.attempts = 0;
        Ok(())
    }

    /// Ends the microvisor's trial: it is the one that runs, and what the other slot holds is what ran before.
    pub fn confirm_microvisor(&mut self, time_bound_s: u64) -> Result<(), Misfit> {
        if !self.tries_microvisor() {
            return Err(Misfit);
        }
        let manifest = self.slots[MICROVISOR].manifest;
        self.rejections.retain(|rejection| rejection.manifest != manifest);
        self.slots[MICROVISOR] = Slot::default();
        self.microvisor_confirmed_at_s = time_bound_s;
        Ok(())
    }

    /// Ends the microvisor's trial: the one before runs again.
    pub fn revert_microvisor(&mut self) -> Result<(), Misfit> {
        if !self.tries_microvisor() {
            return Err(Misfit);
        }
        let slot = &mut self.slots[MICROVISOR];
        slot.status = Status::Rejected;
        let rejection = Rejection { manifest: slot.manifest, deployment: slot.deployment };
        self.reject(rejection);
        Ok(())
    }

    /// The confirmed slot turned out to be damaged and the previous version is whole: it is the confirmed one again.
    pub fn fall_back(&mut self) -> Result<(), Misfit> {
        let (confirmed, previous) = self.confirmed().zip(self.find(Status::Previous)).ok_or(Misfit)?;
        self.slots[confirmed] = Slot::default();
        self.slots[previous].status = Status::Confirmed;
        Ok(())
    }

    /// The manifest was taken back when this deployment asked for it.
    pub fn is_rejected(&self, manifest: Digest, deployment: DeploymentId) -> bool {
        self.rejections.contains(&Rejection { manifest, deployment })
    }

    fn reject(&mut self, rejection: Rejection) {
        self.rejections.retain(|known| known.manifest != rejection.manifest);
        if self.rejections.is_full() {
            self.rejections.remove(0);
        }
        // Cannot fail: there is room now.
        let _ = self.rejections.push(rejection);
    }
}

impl Status {
    pub(super) fn parse(byte: u8) -> Option<Status> {
        [Status::Empty, Status::Staged, Status::Trial, Status::Confirmed, Status::Previous, Status::Rejected]
            .into_iter()
            .find(|status| *status as u8 == byte)
    }
}

impl From<Status> for SlotStatus {
    fn from(status: Status) -> Self {
        match status {
            Status::Empty => SlotStatus::Empty,
            Status::Staged => SlotStatus::Staged,
            Status::Trial => SlotStatus::Trial,
            Status::Confirmed => SlotStatus::Confirmed,
            Status::Previous => SlotStatus::Previous,
            Status::Rejected => SlotStatus::Rejected,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(manifest: u8) -> Slot {
        Slot {
            manifest: Digest([manifest; 32]),
            deployment: DeploymentId::new([manifest; 16]),
            ..Slot::default()
        }
    }

    /// A ledger whose confirmed version is `manifest`.
    fn running(manifest: u8) -> Ledger {
        let mut ledger = Ledger::default();
        ledger.stage(Component::App, slot(manifest)).unwrap();
        ledger.switch().unwrap();
        ledger.confirm(0).unwrap();
        ledger
    }

    #[test]
    fn the_spare_slot_is_never_the_confirmed_one_nor_one_on_trial() {
        let mut ledger = running(1);
        for manifest in 2..20 {
            let confirmed = ledger.confirmed().unwrap();
            assert_ne!(ledger.spare().unwrap().slot(), confirmed);
            ledger.stage(Component::App, slot(manifest)).unwrap();
            assert_ne!(ledger.spare().unwrap().slot(), confirmed);
            ledger.switch().unwrap();
            assert!(ledger.spare().is_none());
            assert_eq!(ledger.stage(Component::App, slot(99)), Err(Misfit));
            if manifest % 3 == 0 { ledger.revert().unwrap() } else { ledger.confirm(0).unwrap() }
        }
    }

    #[test]
    fn steps_that_do_not_fit_are_refused() {
        let mut ledger = running(1);
        for step in
            [Ledger::switch, Ledger::unstage, Ledger::revert, Ledger::count_attempt, Ledger::fall_back]
        {
            assert_eq!(step(&mut ledger), Err(Misfit));
        }
        assert_eq!(ledger.confirm(0), Err(Misfit));
    }

    #[test]
    fn one_update_at_a_time_whichever_component_it_is_of() {
        let mut ledger = running(1);
        ledger.stage(Component::Microvisor, slot(7)).unwrap();
        assert_eq!(ledger.staged(), Some(MICROVISOR));
        assert_eq!(ledger.stage(Component::App, slot(2)), Err(Misfit));
        ledger.switch().unwrap();
        assert_eq!((ledger.trial(), ledger.under_way()), (None, Some(MICROVISOR)));
        for component in [Component::App, Component::Microvisor] {
            assert_eq!(ledger.stage(component, slot(3)), Err(Misfit));
        }
        ledger.revert_microvisor().unwrap();
        assert!(ledger.is_rejected(Digest([7; 32]), DeploymentId::new([7; 16])));
        ledger.stage(Component::App, slot(2)).unwrap();
        assert_eq!(ledger.stage(Component::Microvisor, slot(8)), Err(Misfit));
        ledger.unstage().unwrap();
        ledger.stage(Component::Microvisor, slot(7)).unwrap();
        ledger.switch().unwrap();
        ledger.confirm_microvisor(9).unwrap();
        assert_eq!(ledger.slots[MICROVISOR], Slot::default());
        assert!(!ledger.is_rejected(Digest([7; 32]), DeploymentId::new([7; 16])));
        assert_eq!((ledger.confirm_microvisor(9), ledger.revert_microvisor()), (Err(Misfit), Err(Misfit)));
    }

    #[test]
    fn the_microvisor_that_runs_or_is_tried_is_never_spare() {
        let mut ledger = Ledger::default();
        for running in first::Slot::BOTH {
            assert_eq!(ledger.spare_microvisor(running).unwrap().slot(), running.other().index());
        }
        ledger.stage(Component::Microvisor, slot(1)).unwrap();
        ledger.switch().unwrap();
        assert!(first::Slot::BOTH.into_iter().all(|slot| ledger.spare_microvisor(slot).is_none()));
    }

    #[test]
    fn a_rejection_holds_for_its_deployment_only_and_the_list_is_bounded() {
        let mut ledger = running(1);
        for manifest in 2..=(2 + REJECTIONS_MAX as u8) {
            ledger.stage(Component::App, slot(manifest)).unwrap();
            ledger.switch().unwrap();
            ledger.revert().unwrap();
        }
        assert_eq!(ledger.rejections.len(), REJECTIONS_MAX);
        let (manifest, deployment) = (Digest([3; 32]), DeploymentId::new([3; 16]));
        assert!(ledger.is_rejected(manifest, deployment));
        assert!(!ledger.is_rejected(manifest, DeploymentId::new([9; 16])));
        assert!(!ledger.is_rejected(Digest([2; 32]), DeploymentId::new([2; 16])), "the oldest is forgotten");
    }

    #[test]
    fn falling_back_makes_the_previous_version_the_confirmed_one() {
        let mut ledger = running(1);
        ledger.stage(Component::App, slot(2)).unwrap();
        ledger.switch().unwrap();
        ledger.confirm(7).unwrap();
        ledger.fall_back().unwrap();
        assert_eq!(ledger.slots[ledger.confirmed().unwrap()].manifest, Digest([1; 32]));
        assert_eq!(ledger.find(Status::Previous), None);
    }
}
