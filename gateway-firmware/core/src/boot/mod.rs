//! Which version runs: slot choice and measurement, at boot and whenever a trial begins or ends.
//!
//! Always holds: nothing is started that was not measured (the journal's manifest, signed, for this device, not below
//! the floor, the whole area as the manifest says). A version on trial is chosen first, then the confirmed one, then, if
//! that is damaged, the version before it; if none is whole nothing is started and the device is online all the same.

pub mod first;

use wire::Digest;
use wire::key::Hasher;
use wire::limits::DEBUG_KEYS_MAX;
use wire::manifest::{
    self, Component, ConnectivityPolicy, CrashPolicy, Manifest, ManifestError, UpdatePolicy, Version,
};
use wire::msg::UpdateReason;

use crate::commission::Stage;
use crate::device::{Device, Notice, STORE_RETRY_MS};
use crate::mutation::mutated;
use crate::ports::{
    App as _, Board, Counter as _, Exchange, Firmware as _, Flash as _, Image, NetworkDemand, Ports,
    StartReason, Watchdog as _,
};
use crate::store::Key;
use crate::update::check::{self, Here};
use crate::update::fetch::Fetch;
use crate::update::held::Held;
use crate::update::layers::Layers;
use crate::update::ledger::{MICROVISOR, Slot, Status};
use crate::update::slots::{self, BLOCK, Layout};
use crate::update::{Event, Outcome, State, codec};

/// The version that runs, as it was measured.
#[derive(Debug, Clone)]
pub(crate) struct Running {
    pub(crate) slot: usize,
    pub(crate) image: Image,
    /// Of its area.
    pub(crate) area_digest: Digest,
    pub(crate) update: UpdatePolicy,
    pub(crate) crash: CrashPolicy,
    pub(crate) connectivity: ConnectivityPolicy,
    /// Who may debug it.
    pub(crate) debug_keys: heapless::Vec<[u8; 32], DEBUG_KEYS_MAX>,
    pub(crate) held: Held,
    /// The oldest microvisor it runs on.
    pub(crate) microvisor_min: Version,
    /// Since when it has been confirmed in this boot.
    pub(crate) confirmed_ms: u64,
}

impl<B: Board> Device<'_, B> {
    /// Reads the ledger, starts what it says and goes on with what was under way.
    pub(crate) fn restore_update(&mut self) {
        let mut bytes = [0; crate::update::ledger::LEDGER_BYTES_MAX];
        if let Ok(Some(record)) = self.store.read(&mut self.ports.flash, Key::Ledger, &mut bytes) {
            self.ledger = codec::decode(record).unwrap_or_default();
        }
        if self.floor.is_none() {
            self.mend_floor();
        }
        self.restore_microvisor();
        self.state = self.restored_state();
        if self.own.leaves() {
            return;
        }
        self.start_chosen();
        if self.ledger.trial().is_none() {
            self.state = self.restored_state();
        }
        self.resume_staged();
    }

    /// The counter cannot be read: power went in its first raise, or it is damaged. It never rose above what is confirmed, so with that for
    /// a floor nothing older is taken than before; without a floor nothing could be started or installed ever again. Where nothing is
    /// confirmed, a floor has nothing to stand on.
    fn mend_floor(&mut self) {
        let floor =
            self.ledger.confirmed().map_or(0, |confirmed| self.ledger.slots[confirmed].security_counter);
        // If it cannot be written either, the next start comes to the same.
        let _ = self.ports.counter.begin_anew(floor);
        self.floor = Some(floor);
        self.note(Notice::FloorMended(floor));
    }

    /// Starts what tests the hardware while that is to be tested, and nothing where the test failed; otherwise the version on
    /// trial, else the confirmed one, else the one before it.
    pub(crate) fn start_chosen(&mut self) {
        match self.commission.stage {
            Stage::Production => {}
            Stage::Failed(_) => return self.run_none(),
            Stage::Testing => {
                return match self.measured_test() {
                    Some(measured) => self.start(measured),
                    None => self.run_none(),
                };
            }
        }
        if let Some(trial) = self.ledger.trial() {
            match self.measure(trial) {
                Ok(measured) if self.ledger.attempts < measured.update.attempts_max => {
                    return self.start_attempt(measured);
                }
                // Started as often as it may be, and each time the power or the whole board went.
                Ok(_) => self.take_back(UpdateReason::Crashed),
                Err(reason) => self.take_back(reason),
            }
            return;
        }
        self.start_confirmed();
    }

    /// Starts the confirmed version, or the one before it if that is all there is.
    pub(crate) fn start_confirmed(&mut self) {
        let Some(confirmed) = self.ledger.confirmed() else { return self.run_none() };
        match self.measure(confirmed) {
            Ok(measured) => self.start(measured),
            Err(reason) => match self.ledger.find(Status::Previous).map(|previous| self.measure(previous)) {
                Some(Ok(measured)) => self.fall_back(confirmed, measured, reason),
                Some(Err(_)) | None => self.run_none(),
            },
        }
    }

    /// Counts the attempt in the journal, then starts the version on trial.
    pub(crate) fn start_attempt(&mut self, measured: Running) {
        let mut changed = self.ledger.clone();
        let counted =
            changed.count_attempt().is_ok() && (mutated!(AttemptJournal) || self.journal(changed).is_ok());
        if !counted {
            self.stop_running();
            self.running = Some(measured);
            return self.life.wait(self.store_retry_ms.max(self.now_ms()));
        }
        self.start(measured);
        self.happen(Event::Started);
    }

    /// Starts a measured version in place of whatever runs.
    pub(crate) fn start(&mut self, measured: Running) {
        self.stop_running();
        let (image, slot) = (measured.image, measured.slot);
        let trial = self.ledger.slots[slot].status == Status::Trial;
        self.running = Some(measured);
        self.counters.app_starts = self.counters.app_starts.saturating_add(1);
        self.note(Notice::AppStarted { slot: image.slot, trial });
        // A version that cannot be started shows as not running, which counts as a crash.
        let mut why = core::mem::replace(&mut self.why, StartReason::Crash);
        if self.commission.stage == Stage::Testing {
            why = StartReason::Test;
        }
        if why == StartReason::Update {
            // Another version: how the one before it ended delays it no more.
            self.life.off();
        }
        self.before_start();
        self.crash_memory.interrupt();
        let _ = self.ports.app.start(image, &mut self.ports.flash, why);
        self.agent.started(&mut self.ports.probe);
        (self.apply_taken, self.demand) = (false, NetworkDemand::NeverAsked);
        self.life.started(self.now_ms());
    }

    /// Checks all that must be so before a slot's image may run. Uses the envelope buffer.
    pub(crate) fn measure(&mut self, slot: usize) -> Result<Running, UpdateReason> {
        let entry = self.ledger.slots[slot].clone();
        self.measure_entry(slot, &entry)
    }

    /// The same of what this entry says of the slot.
    pub(crate) fn measure_entry(&mut self, slot: usize, entry: &Slot) -> Result<Running, UpdateReason> {
        self.agent.before_measure(&mut self.ports.probe);
        self.read_envelope(slot, usize::from(entry.envelope_bytes))?;
        let (running, area_digest) = self.describe(slot, &self.believe(entry, Component::App)?);
        let read = self.area_digest(slot, running.image.bytes)?;
        if read != area_digest && !mutated!(Measure) {
            return Err(UpdateReason::DigestMismatch);
        }
        Ok(running)
    }

    /// What the device is, as far as manifests of a component care.
    pub(crate) fn here(&self, component: Component) -> Result<Here<'_>, UpdateReason> {
        let (board, microvisor) = (&*self.facts.board, self.facts.microvisor);
        Ok(match component {
            Component::App => Here {
                component,
                board,
                microvisor,
                area_bytes: self.layout.area_bytes,
                floor: self.floor.ok_or(UpdateReason::Flash)?,
            },
            Component::Microvisor => Here {
                component,
                board,
                microvisor,
                area_bytes: self.microvisor_bytes,
                floor: self.microvisor_floor,
            },
        })
    }

    /// Reads the envelope of an entry of the ledger into the buffer.
    pub(crate) fn read_envelope(&mut self, index: usize, bytes: usize) -> Result<(), UpdateReason> {
        self.envelope.clear();
        self.envelope.resize_default(bytes).map_err(|_| UpdateReason::Malformed)?;
        let read = match (index, self.ports.firmware.exchange()) {
            (MICROVISOR, Some(Exchange { slots, layout, handover, .. })) => {
                let place = Layout::of_microvisor(slots.geometry(), &layout);
                slots.read(place.slots[handover.slot.other().index()].envelope_at, self.envelope)
            }
            (MICROVISOR, None) => return Err(UpdateReason::WrongComponent),
            (slot, _) => self.ports.flash.read(self.layout.slots[slot].envelope_at, self.envelope),
        };
        read.map_err(|_| UpdateReason::Flash)
    }

    /// The manifest in the buffer, if it is the entry's and signed. A confirmed version whose release key has since left
    /// the keyset, or is good for less in it, may still run: it was verified when it was installed, and the floor is what ends old versions.
    fn believe(&self, entry: &Slot, component: Component) -> Result<Manifest<'_>, UpdateReason> {
        let manifest = check::fits(self.envelope, entry.manifest, self.here(component)?)?;
        let signed = match self.keyset() {
            Some(keyset) => manifest::open(self.envelope, &keyset, &self.ports.verify).map(|_| ()),
            None => Err(ManifestError::UnknownKey),
        };
        let proven = matches!(entry.status, Status::Confirmed | Status::Previous);
        match signed {
            Ok(()) => Ok(manifest),
            Err(ManifestError::UnknownKey | ManifestError::KeyScope) if proven => Ok(manifest),
            Err(_) if mutated!(ManifestSignature) => Ok(manifest),
            Err(error) => Err(check::reason(error)),
        }
    }

    /// When the running version may do without a connection.
    pub(crate) fn connectivity(&self) -> ConnectivityPolicy {
        self.running.as_ref().map(|running| running.connectivity).unwrap_or_default()
    }

    /// What is kept of a slot's manifest, and the digest its area must have.
    fn describe(&self, slot: usize, manifest: &Manifest<'_>) -> (Running, Digest) {
        let running = Running {
            slot,
            image: Image {
                slot: slot as u8,
                at: self.layout.slots[slot].area_at,
                bytes: manifest.area_bytes,
            },
            area_digest: manifest.area_digest,
            update: manifest.update,
            crash: manifest.crash,
            connectivity: manifest.connectivity,
            debug_keys: manifest.debug_keys.clone(),
            microvisor_min: manifest.microvisor_min,
            held: Held { slot, layers: Layers::new(self.envelope, manifest) },
            confirmed_ms: self.now_ms(),
        };
        (running, manifest.area_digest)
    }

    fn area_digest(&mut self, slot: usize, bytes: u32) -> Result<Digest, UpdateReason> {
        let Ports { flash, watchdog, .. } = &mut self.ports;
        let mut hasher = Hasher::new();
        for block in 0..bytes / BLOCK {
            watchdog.feed();
            let at = self.layout.block_at(slot, block);
            slots::hash(flash, &mut hasher, at, BLOCK).map_err(|_| UpdateReason::Flash)?;
        }
        Ok(hasher.finish())
    }

    /// The confirmed slot is damaged; the version before it takes its place, and a result says so.
    fn fall_back(&mut self, damaged: usize, measured: Running, reason: UpdateReason) {
        let entry = self.ledger.slots[damaged].clone();
        let mut changed = self.ledger.clone();
        let fits = changed.fall_back().is_ok();
        self.add_result(&mut changed, &entry, Outcome::Reverted, reason, 0);
        if fits && self.journal(changed).is_ok() {
            self.note(Notice::FellBack(reason));
            self.start(measured);
        } else {
            self.run_none();
        }
    }

    fn run_none(&mut self) {
        self.stop_running();
        self.life.off();
        self.note(Notice::NoApp);
    }

    fn stop_running(&mut self) {
        if self.running.is_some() {
            self.stop_app();
            self.report_late_crash();
            self.running = None;
        }
    }

    /// The state that the ledger stands for.
    fn restored_state(&self) -> State {
        if self.ledger.tries_microvisor() {
            return State::Trial;
        }
        if self.ledger.trial().is_some() {
            return if self.ledger.attempts == 0 { State::Installing } else { State::Trial };
        }
        if self.ledger.staged().is_some() {
            return State::Fetching;
        }
        match self.ledger.results.last().map(|result| result.outcome) {
            Some(Outcome::Confirmed) => State::Confirmed,
            Some(Outcome::Reverted) => State::Reverted,
            Some(Outcome::Refused) | None => State::Idle,
        }
    }

    /// Goes on fetching what was staged, if its envelope is all there; otherwise forgets it, to be directed again.
    fn resume_staged(&mut self) {
        let Some(staged) = self.ledger.staged() else { return };
        let entry = self.ledger.slots[staged].clone();
        let component = if staged == MICROVISOR { Component::Microvisor } else { Component::App };
        let read = self.read_envelope(staged, usize::from(entry.envelope_bytes));
        let fetch = read
            .and_then(|()| self.believe(&entry, component))
            .map(|manifest| Fetch::new(self.envelope, &manifest));
        match fetch {
            Ok(fetch) => self.fetch = Some(fetch),
            Err(_) => {
                let mut changed = self.ledger.clone();
                if changed.unstage().is_ok() && self.journal(changed).is_ok() {
                    self.state = self.restored_state();
                } else {
                    self.store_retry_ms = self.now_ms().saturating_add(STORE_RETRY_MS);
                }
            }
        }
    }
}
