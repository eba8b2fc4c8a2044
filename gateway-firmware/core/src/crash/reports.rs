//! Reports not yet acknowledged: [`CRASH_REPORTS_MAX`] in memory, the oldest of them in the store as well.
//!
//! Always holds: no report is forgotten before the service names it, but for want of room, and then it is counted; a
//! report is never changed once it has its name. The store is written for a report at most once a boot and once every
//! [`CRASH_KEEP_MS`], whatever the application does, and holds [`CRASH_KEPT_STACK_BYTES`] of its stack.

use heapless::{String, Vec};
use wire::Digest;
use wire::limits::VERSION_BYTES_MAX;

use super::{Crash, codec};
use crate::device::BootId;
use crate::mutation::mutated;
use crate::ports::Flash;
use crate::store::{Key, Store, StoreError};

/// Reports held at one time.
pub const CRASH_REPORTS_MAX: usize = 2;
/// Within one boot the store takes a report at most so often.
pub const CRASH_KEEP_MS: u64 = 6 * 60 * 60 * 1000;
/// Bytes of the stack that are kept across power loss.
pub const CRASH_KEPT_STACK_BYTES: usize = 256;

/// With which a report is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Name {
    pub boot: BootId,
    pub sequence: u32,
}

/// How the application ended once, and which it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    pub name: Name,
    pub manifest: Digest,
    pub version: String<VERSION_BYTES_MAX>,
    /// Reports of its boot until then that could not be kept.
    pub dropped: u32,
    pub crash: Crash,
}

/// What is not acknowledged, oldest first.
#[derive(Debug, Default)]
pub struct Reports {
    held: Vec<Report, CRASH_REPORTS_MAX>,
    /// Of this boot, the newest.
    sequence: u32,
    /// Of this boot, and what the store held and nobody could read.
    dropped: u32,
    /// Which of them the store holds.
    kept: Option<Name>,
    /// From when on the store may be written for another.
    keep_from_ms: u64,
}

impl Reports {
    pub const fn new() -> Self {
        Self { held: Vec::new(), sequence: 0, dropped: 0, kept: None, keep_from_ms: 0 }
    }

    /// As new.
    pub(crate) fn clear(&mut self) {
        self.held.clear();
        (self.sequence, self.dropped, self.kept, self.keep_from_ms) = (0, 0, None, 0);
    }

    /// Takes up what the store holds from an earlier boot.
    // Kept out of its caller: once in a boot it needs a large frame.
    #[inline(never)]
    pub(crate) fn restore(&mut self, flash: &mut dyn Flash, store: &Store) {
        let mut bytes = [0; codec::BYTES_MAX];
        match store.read(flash, Key::Crash, &mut bytes) {
            Ok(None) => {}
            Ok(Some(record)) => match codec::decode(record) {
                Some(report) => {
                    self.kept = Some(report.name);
                    // Cannot fail: nothing is held yet.
                    let _ = self.held.push(report);
                }
                None => self.dropped = self.dropped.saturating_add(1),
            },
            Err(_) => self.dropped = self.dropped.saturating_add(1),
        }
    }

    /// Names and holds a report; None when there is no room, which is counted.
    #[inline(never)]
    pub(crate) fn add(
        &mut self,
        boot: BootId,
        manifest: Digest,
        version: &String<VERSION_BYTES_MAX>,
        crash: Crash,
    ) -> Option<&Report> {
        if self.held.is_full() {
            self.dropped = self.dropped.saturating_add(1);
            return None;
        }
        self.sequence = self.sequence.saturating_add(1);
        let name = Name { boot, sequence: self.sequence };
        let report = Report { name, manifest, version: version.clone(), dropped: self.dropped, crash };
        // Cannot fail: there is room.
        let _ = self.held.push(report);
        self.held.last()
    }

    /// When `keep` has something to do; None: nothing waits to be kept.
    pub(crate) fn keep_ms(&self) -> Option<u64> {
        let waits = self.kept.is_none() && !self.held.is_empty();
        waits.then_some(self.keep_from_ms)
    }

    /// Puts the oldest report in the store, if its time has come. A store that cannot be written is tried again as seldom.
    #[inline(never)]
    pub(crate) fn keep(
        &mut self,
        now_ms: u64,
        flash: &mut dyn Flash,
        store: &mut Store,
    ) -> Result<(), StoreError> {
        let due = self.keep_ms().is_some_and(|at_ms| now_ms >= at_ms);
        let Some(oldest) = self.held.first().filter(|_| due) else { return Ok(()) };
        if !mutated!(CrashWear) {
            self.keep_from_ms = now_ms.saturating_add(CRASH_KEEP_MS);
        }
        let name = oldest.name;
        store.put(flash, Key::Crash, &codec::encode(oldest))?;
        self.kept = Some(name);
        Ok(())
    }

    /// The service has stored this report: it is forgotten. False when there is none of that name.
    pub(crate) fn acknowledge(
        &mut self,
        name: Name,
        flash: &mut dyn Flash,
        store: &mut Store,
    ) -> Result<bool, StoreError> {
        let Some(index) = self.held.iter().position(|report| report.name == name) else { return Ok(false) };
        if self.kept == Some(name) {
            store.put(flash, Key::Crash, &[])?;
            self.kept = None;
        }
        self.held.remove(index);
        Ok(true)
    }

    /// Nobody is left who would acknowledge them.
    pub(crate) fn forget(&mut self, flash: &mut dyn Flash, store: &mut Store) -> Result<(), StoreError> {
        if self.kept.is_some() {
            store.put(flash, Key::Crash, &[])?;
            self.kept = None;
        }
        self.held.clear();
        Ok(())
    }

    /// Not acknowledged, oldest first.
    pub fn held(&self) -> &[Report] {
        &self.held
    }

    /// Reports of this boot so far that could not be kept.
    pub fn dropped(&self) -> u32 {
        self.dropped
    }
}
