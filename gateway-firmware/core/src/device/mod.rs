//! One device: its store, keys, slots and application behind the calls that `net` and the board make.
//!
//! A board boots it once and calls [`Device::poll`] whenever the returned time comes, after every call that changed
//! something, and when the application's status changed. Every call does a bounded piece of work and returns.
//!
//! The RAM copies (ledger, keyset, time bound) are never ahead of the store: a change is journaled first and then acted
//! on. When it cannot be journaled nothing happens, and it is tried again later.

mod api;
mod debug;
mod report;
mod trust;

pub use api::*;
pub use trust::IDENTITY_RECORD_BYTES;

use heapless::{Deque, Vec};
use wire::limits::{ENVELOPE_BYTES_MAX, KEYSET_BYTES_MAX};
use wire::{DeviceId, Nonce, TenantId};

use crate::boot::Running;
use crate::commission::Commission;
use crate::crash::{CrashMemory, Reports};
use crate::debug::Agent;
use crate::ports::{
    Board, BootReason, Clock as _, Counter as _, Entropy as _, Flash as _, NetworkDemand, Ports, Reset as _,
    StartReason, Watchdog as _,
};
use crate::store::{Health, Key, Store, StoreError};
use crate::supervise::Supervisor;
use crate::telemetry::Telemetry;
use crate::update::fetch::Fetch;
use crate::update::ledger::Ledger;
use crate::update::microvisor::Own;
use crate::update::slots::Layout;
use crate::update::{Event, State, codec};

/// Wait before a journal entry that failed is tried again: every attempt may cost an erase.
pub const STORE_RETRY_MS: u64 = 60_000;

/// What is too large to be moved about: a board lends it for good.
#[derive(Debug, Default)]
pub struct Memory {
    envelope: Vec<u8, ENVELOPE_BYTES_MAX>,
    keyset: Vec<u8, KEYSET_BYTES_MAX>,
    crashes: Reports,
    telemetry: Telemetry,
    agent: Agent,
}

impl Memory {
    /// Nothing in it.
    pub const fn new() -> Self {
        Self {
            envelope: Vec::new(),
            keyset: Vec::new(),
            crashes: Reports::new(),
            telemetry: Telemetry::new(),
            agent: Agent::new(),
        }
    }
}

/// A running device.
#[derive(Debug)]
pub struct Device<'b, B: Board> {
    pub(crate) ports: Ports<B>,
    pub(crate) facts: Facts,
    pub(crate) layout: Layout,
    pub(crate) store: Store,
    pub(crate) boot: BootId,
    pub(crate) commission: Commission,
    pub(crate) who: Option<(DeviceId, TenantId)>,
    /// The signed keyset; empty before enrolment.
    pub(crate) keyset: &'b mut Vec<u8, KEYSET_BYTES_MAX>,
    pub(crate) time_bound_s: u64,
    /// The time bound as the store has it.
    pub(crate) time_kept_s: u64,
    /// Nothing until a counter that cannot be read was begun anew.
    pub(crate) floor: Option<u64>,
    /// Lowest security counter of a microvisor that may run, as the first stage's record has it.
    pub(crate) microvisor_floor: u64,
    /// Room for a microvisor's image in a slot; 0: nothing exchanges it.
    pub(crate) microvisor_bytes: u32,
    pub(crate) own: Own,
    pub(crate) ledger: Ledger,
    pub(crate) state: State,
    /// The staged version's envelope; scratch while nothing is staged.
    pub(crate) envelope: &'b mut Vec<u8, ENVELOPE_BYTES_MAX>,
    pub(crate) fetch: Option<Fetch>,
    pub(crate) running: Option<Running>,
    pub(crate) life: Supervisor,
    pub(crate) agent: &'b mut Agent,
    /// Whose session may write, if there is one.
    debugger: Option<noise::PublicKey>,
    /// Why the next start happens.
    pub(crate) why: StartReason,
    /// The application's `apply` was taken as leave for the update that waits.
    pub(crate) apply_taken: bool,
    /// What the application wants of the network.
    pub(crate) demand: NetworkDemand,
    pub(crate) crashes: &'b mut Reports,
    pub(crate) crash_memory: CrashMemory,
    pub(crate) telemetry: &'b mut Telemetry,
    pub(crate) polite_until_ms: u64,
    pub(crate) store_retry_ms: u64,
    pub(crate) nonce: Option<Nonce>,
    /// A signed time was heard in this boot.
    pub(crate) time_heard: bool,
    pub(crate) sequence: u32,
    pub(crate) counters: Counters,
    pub(crate) notices: Deque<Notice, NOTICES_MAX>,
}

impl<'b, B: Board> Device<'b, B> {
    /// Mounts the store, chooses a slot and starts the application, or comes up without one.
    pub fn boot(ports: Ports<B>, facts: Facts, memory: &'b mut Memory) -> Result<Self, BootError> {
        let mut device = Self::mount(ports, facts, memory)?;
        device.restore();
        Ok(device)
    }

    /// The first half of `boot`: a device that has counted this start and done nothing else. A board puts it where it stays,
    /// for what comes then needs the stack.
    pub fn mount(mut ports: Ports<B>, facts: Facts, memory: &'b mut Memory) -> Result<Self, BootError> {
        let Memory { envelope, keyset, crashes, telemetry, agent } = memory;
        envelope.clear();
        keyset.clear();
        crashes.clear();
        telemetry.clear();
        *agent = Agent::new();
        let layout = Layout::new(ports.flash.geometry()).map_err(BootError::Layout)?;
        let mut store = Store::mount(&mut ports.flash, layout.store_at)?;
        let boot = next_boot(&mut ports, &mut store)?;
        let health = store.health();
        let mut device = Device {
            floor: ports.counter.value().ok(),
            time_bound_s: facts.build_time_s,
            time_kept_s: 0,
            microvisor_floor: 0,
            microvisor_bytes: 0,
            own: Own::default(),
            ports,
            facts,
            layout,
            store,
            boot,
            commission: Commission::default(),
            who: None,
            keyset,
            ledger: Ledger::default(),
            state: State::Idle,
            envelope,
            fetch: None,
            running: None,
            life: Supervisor::default(),
            agent,
            debugger: None,
            why: StartReason::Boot,
            apply_taken: false,
            demand: NetworkDemand::NeverAsked,
            crashes,
            crash_memory: CrashMemory::default(),
            telemetry,
            polite_until_ms: 0,
            store_retry_ms: 0,
            nonce: None,
            time_heard: false,
            sequence: 0,
            counters: Counters::default(),
            notices: Deque::new(),
        };
        match health {
            Health::Sound => {}
            Health::Repaired => device.note(Notice::StoreRepaired),
            Health::Unrepaired => device.note(Notice::StoreUnrepaired),
            Health::Formatted => device.note(Notice::StoreFormatted),
        }
        Ok(device)
    }

    /// The second half: takes up what the store holds, and starts the application.
    #[inline(never)]
    pub fn restore(&mut self) {
        self.restore_trust();
        self.crashes.restore(&mut self.ports.flash, &self.store);
        if let Some(flash) = &mut self.ports.crash_flash {
            self.crash_memory.restore(flash);
        }
        self.restore_commission();
        self.restore_update();
    }

    /// Does a bounded piece of whatever is due.
    pub fn poll(&mut self) -> Next {
        let now_ms = self.now_ms();
        self.ports.watchdog.feed();
        let microvisor = self.poll_microvisor(now_ms);
        if self.own.leaves() {
            return microvisor;
        }
        let commission = self.poll_commission(now_ms);
        let debug = self.poll_debug(now_ms);
        // Before the application: what is to be kept of the one that ended is there until the next one starts.
        let debug = debug.min(self.poll_crash_memory());
        let life = debug.min(self.poll_app(now_ms));
        let update = self.poll_update(now_ms);
        let floor = self.poll_floor(now_ms);
        microvisor.min(commission).min(life).min(update).min(floor).min(self.poll_crashes(now_ms))
    }

    /// The board's own ports.
    pub fn ports_mut(&mut self) -> &mut Ports<B> {
        &mut self.ports
    }

    pub fn ports(&self) -> &Ports<B> {
        &self.ports
    }

    pub fn now_ms(&self) -> u64 {
        self.ports.clock.now_ms()
    }

    pub fn boot_id(&self) -> BootId {
        self.boot
    }

    pub fn boot_reason(&self) -> BootReason {
        self.ports.reset.reason()
    }

    /// Journals the changed ledger, then believes it.
    pub(crate) fn journal(&mut self, changed: Ledger) -> Result<(), StoreError> {
        let kept = self.store.put(&mut self.ports.flash, Key::Ledger, &codec::encode(&changed));
        match kept {
            Ok(()) => self.ledger = changed,
            Err(error) => {
                self.store_retry_ms = self.now_ms().saturating_add(STORE_RETRY_MS);
                self.note(Notice::StoreFailed(error));
            }
        }
        kept
    }

    /// Moves the update by the table; a move that is not in it is a fault of the caller and changes nothing.
    pub(crate) fn happen(&mut self, event: Event) -> bool {
        let Ok(state) = self.state.after(event) else { return false };
        self.enter(state);
        true
    }

    pub(crate) fn enter(&mut self, state: State) {
        // A new question, or none: what was allowed before is not what is allowed now.
        self.apply_taken &= matches!(state, State::Ready | State::Installing);
        self.state = state;
        self.sequence = self.sequence.saturating_add(1);
        self.note(Notice::Update(state));
    }

    pub(crate) fn note(&mut self, notice: Notice) {
        if self.notices.is_full() {
            self.notices.pop_front();
        }
        // Cannot fail: there is room now.
        let _ = self.notices.push_back(notice);
    }
}

/// Counts the boot. A store that cannot be written does not keep the device from coming up: the random half of the boot
/// id still tells boots apart.
fn next_boot<B: Board>(ports: &mut Ports<B>, store: &mut Store) -> Result<BootId, BootError> {
    let mut bytes = [0; 4];
    let before = match store.read(&mut ports.flash, Key::Boot, &mut bytes) {
        Ok(Some(_)) => u32::from_le_bytes(bytes),
        Ok(None) | Err(_) => 0,
    };
    let counter = before.saturating_add(1);
    let _ = store.put(&mut ports.flash, Key::Boot, &counter.to_le_bytes());
    let mut random = [0; 8];
    ports.entropy.fill(&mut random).map_err(|_| BootError::Entropy)?;
    Ok(BootId { counter, random: u64::from_le_bytes(random) })
}
