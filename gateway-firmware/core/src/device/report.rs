//! What the device says of itself: slots, progress, results, counters and notices. Nothing here changes an update.

use super::Device;
use super::api::{BootId, Counters, Next, Notice, Progress, SLOTS_MAX, SlotReport, Wanted};
use crate::crash::{Crash, CrashMemory, Name, Reports};
use crate::mutation::mutated;
use crate::ports::{App as _, Board, Clock as _, Firmware as _, FlashError, Life, Ports};
use crate::store::StoreError;
use crate::update::fetch::Fetch;
use crate::update::ledger::{APP_SLOTS, MICROVISOR, Slot, Status};
use crate::update::{Event, UpdateResult};
use heapless::Vec;
use wire::manifest::Component;
use wire::msg::{CrashKind, SlotStatus};

impl<B: Board> Device<'_, B> {
    /// Both slots of the application, then what is known of the microvisor's.
    pub fn slots(&self) -> Vec<SlotReport, SLOTS_MAX> {
        let running = self.running.as_ref().map(|running| running.slot);
        let app =
            |index: usize| report(&self.ledger.slots[index], Component::App, index, running == Some(index));
        let mut slots: Vec<_, SLOTS_MAX> = (0..APP_SLOTS).map(app).collect();
        let Some(handover) = self.ports.firmware.handover() else { return slots };
        let on_trial = self.own.is_on_trial();
        // Cannot fail: there are two of either component at most.
        let _ = slots.push(SlotReport {
            component: Component::Microvisor,
            index: handover.slot as u8,
            status: if on_trial { SlotStatus::Trial } else { SlotStatus::Confirmed },
            manifest: Some(handover.manifest),
            version: handover.version.clone(),
            security_counter: handover.security_counter,
            running: true,
        });
        let other = &self.ledger.slots[MICROVISOR];
        if other.status != Status::Empty && other.manifest != handover.manifest {
            let index = handover.slot.other().index();
            let _ = slots.push(report(other, Component::Microvisor, index, false));
        }
        slots
    }

    /// The microvisor is on trial, and nothing signed has answered a hello of this start.
    pub(crate) fn needs_answer(&self) -> bool {
        self.own.is_on_trial() && !self.time_heard
    }

    /// Lowest security counter of a microvisor that may run.
    pub fn microvisor_floor(&self) -> u64 {
        self.microvisor_floor
    }

    /// The update under way, if any.
    pub fn progress(&self) -> Option<Progress> {
        let index = self.ledger.under_way()?;
        let slot = &self.ledger.slots[index];
        let attempts = match self.ports.firmware.handover() {
            Some(handover) if index == MICROVISOR => handover.attempt,
            Some(_) | None => self.ledger.attempts,
        };
        let (bytes_done, bytes_total) = self.fetch.as_ref().map(Fetch::bytes).unwrap_or_default();
        Some(Progress {
            sequence: self.sequence,
            deployment: slot.deployment,
            manifest: slot.manifest,
            state: self.state,
            bytes_done,
            bytes_total,
            attempts,
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
        self.crashes.forget(&mut self.ports.flash, &mut self.store)?;
        if let Some(flash) = &mut self.ports.crash_flash {
            self.crash_memory.forget(flash);
        }
        let mut changed = self.ledger.clone();
        changed.results.clear();
        // Nor would anybody go on with what they directed to: it would be in the way of all that comes.
        let staged = changed.unstage().is_ok();
        if changed == self.ledger {
            return Ok(());
        }
        self.journal(changed)?;
        if staged {
            self.fetch = None;
        }
        self.happen(if staged { Event::Dropped } else { Event::Acknowledged });
        Ok(())
    }

    /// Crash reports not yet acknowledged.
    pub fn crashes(&self) -> &Reports {
        self.crashes
    }

    /// The service has stored this crash report: it is forgotten. False when there is none of that name.
    pub fn acknowledge_crash(&mut self, name: Name) -> Result<bool, StoreError> {
        self.crashes.acknowledge(name, &mut self.ports.flash, &mut self.store)
    }

    /// Takes down how the running application ended, before it is stopped.
    #[inline(never)]
    pub(crate) fn report_crash(&mut self, life: Life) {
        let now_us = self.ports.clock.now_ms().saturating_mul(1000);
        let kind = if life == Life::Hung { CrashKind::Hung } else { CrashKind::Other };
        let crash = self.ports.app.take_crash().unwrap_or_else(|| Crash::new(kind, now_us));
        self.add_crash(crash);
    }

    /// The same for one that was just stopped: it may have ended by itself after it was last looked at, and the report is its own
    /// and not that of what is started next.
    #[inline(never)]
    pub(crate) fn report_late_crash(&mut self) {
        if let Some(crash) = self.ports.app.take_crash() {
            self.counters.app_crashes = self.counters.app_crashes.saturating_add(1);
            self.add_crash(crash);
        }
    }

    fn add_crash(&mut self, crash: Crash) {
        let Some(running) = &self.running else { return };
        let slot = &self.ledger.slots[running.slot];
        let (manifest, memory_bytes) = (slot.manifest, running.crash.memory_bytes);
        let (now_ms, sp) = (self.ports.clock.now_ms(), crash.sp());
        let added = self.crashes.add(self.boot, manifest, &slot.version, crash);
        let Some((name, kind)) = added.map(|report| (report.name, report.crash.kind)) else {
            if memory_bytes > 0 {
                self.crash_memory.miss();
            }
            return;
        };
        self.crash_memory.begin(now_ms, name, manifest, memory_bytes, sp, &self.ports.probe);
        self.note(Notice::CrashReport { sequence: name.sequence, kind });
    }

    /// Keeps some more of the memory of the application that ended, or looks at what an earlier boot kept.
    pub(crate) fn poll_crash_memory(&mut self) -> Next {
        let Ports { crash_flash: Some(flash), probe, .. } = &mut self.ports else { return Next::Never };
        if self.crash_memory.poll(flash, probe) { Next::Now } else { Next::Never }
    }

    /// Memory of a crash that is kept.
    pub fn crash_memory(&self) -> &CrashMemory {
        &self.crash_memory
    }

    /// Some of what [`CrashMemory::held`] names. What cannot be read is not held any more.
    pub fn read_crash_memory(&mut self, at: u32, into: &mut [u8]) -> Result<(), FlashError> {
        let flash = self.ports.crash_flash.as_mut().ok_or(FlashError::Range)?;
        let read = self.crash_memory.read(flash, at, into);
        if read.is_err_and(|error| error != FlashError::Range) {
            self.crash_memory.spoil();
        }
        read
    }

    /// The service has stored so much of the memory of that report: with all of it, it is forgotten, and this true.
    pub fn acknowledge_crash_memory(&mut self, name: Name, stored_up_to: u32) -> Result<bool, FlashError> {
        let Some(flash) = &mut self.ports.crash_flash else { return Ok(false) };
        self.crash_memory.acknowledge(flash, name, stored_up_to)
    }

    /// Keeps the oldest crash report across power loss.
    pub(crate) fn poll_crashes(&mut self, now_ms: u64) -> Next {
        if self.crashes.keep_ms().is_some_and(|at_ms| now_ms >= at_ms)
            && !mutated!(CrashKept)
            && let Err(error) = self.crashes.keep(now_ms, &mut self.ports.flash, &mut self.store)
        {
            self.note(Notice::StoreFailed(error));
        }
        self.crashes.keep_ms().filter(|at_ms| *at_ms > now_ms).map_or(Next::Never, Next::At)
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

fn report(slot: &Slot, component: Component, index: usize, running: bool) -> SlotReport {
    SlotReport {
        component,
        index: index as u8,
        status: slot.status.into(),
        manifest: (slot.status != Status::Empty).then_some(slot.manifest),
        version: slot.version.clone(),
        security_counter: slot.security_counter,
        running,
    }
}
