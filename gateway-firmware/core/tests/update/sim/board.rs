//! The board's ports in memory. What must survive a power cut or be looked at from outside is shared with the bench.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

use gateway_core::Facts;
use gateway_core::crash::{Crash, region_bytes};
use gateway_core::ports::*;
use gateway_core::update::slots::Layout;
use wire::cose::{P256, Verify};
use wire::manifest::Version;
use wire::msg::SlotStatus;
use wire::{Digest, PublicKey, Signature};

use super::debugger::{Debugged, SimDebugger};
use super::{Device, Firmware, Maker, SimFirmware, SimFlash};

/// What an application does, by the first word of its image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Behaviour {
    #[default]
    Healthy,
    NeverHealthy,
    Crash,
    Hang,
}

/// Everything of a board that a test wants to see or set; devices come and go on it.
#[derive(Debug, Clone)]
pub(crate) struct Bench {
    pub flash: SimFlash,
    /// Where memory of a crash is kept; none: the board keeps none.
    pub crash_flash: Option<SimFlash>,
    pub app: Rc<RefCell<AppWorld>>,
    pub floor: Rc<Cell<u64>>,
    /// The counter cannot be read.
    pub counter_fails: Rc<Cell<bool>>,
    /// The counter cannot be raised.
    pub raise_fails: Rc<Cell<bool>>,
    /// How often it was to be raised.
    pub raises: Rc<Cell<u32>>,
    pub now_ms: Rc<Cell<u64>>,
    entropy: Rc<Cell<u64>>,
    pub facts: Facts,
    /// A first stage and two slots of a microvisor; none: nothing exchanges it.
    pub firmware: Option<Rc<Firmware>>,
}

/// The application's side.
#[derive(Debug, Default)]
pub(crate) struct AppWorld {
    /// Names of whole areas, by digest: what is started must be one of them.
    pub known: HashMap<Digest, (String, Behaviour)>,
    /// Names of what was started, in order; `?` for bytes nobody made.
    pub started: Vec<String>,
    pub running: Option<(String, Behaviour)>,
    /// It was told that an update waits.
    pub told: bool,
    pub apply: bool,
    pub network: NetworkDemand,
    /// Why it was started, in order.
    pub reasons: Vec<StartReason>,
    /// What the board knows of its end.
    pub crash: Option<Crash>,
    /// What it says of the board.
    pub tested: Option<u32>,
    /// What a debugger does to it.
    pub debugged: Debugged,
}

impl Bench {
    pub(crate) fn new(geometry: Geometry, maker: &Maker) -> Bench {
        let mut root_key_hashes = heapless::Vec::new();
        root_key_hashes.push(maker.root_hash()).unwrap();
        Bench {
            flash: SimFlash::new(geometry),
            crash_flash: Some(SimFlash::new(Geometry {
                bytes: region_bytes(geometry.erase_bytes),
                ..geometry
            })),
            app: Rc::default(),
            floor: Rc::default(),
            counter_fails: Rc::default(),
            raise_fails: Rc::default(),
            raises: Rc::default(),
            now_ms: Rc::new(Cell::new(1000)),
            entropy: Rc::new(Cell::new(7)),
            facts: Facts {
                hardware_id: "hw-1".try_into().unwrap(),
                board: "sim".try_into().unwrap(),
                microvisor: Version { major: 1, minor: 0, patch: 0 },
                root_key_hashes,
                root_threshold: 1,
                build_time_s: 1_700_000_000,
            },
            firmware: None,
        }
    }

    /// Another board in the same condition.
    pub(crate) fn fork(&self) -> Bench {
        let app = AppWorld { known: self.app.borrow().known.clone(), ..AppWorld::default() };
        Bench {
            flash: self.flash.fork(),
            crash_flash: self.crash_flash.as_ref().map(SimFlash::fork),
            app: Rc::new(RefCell::new(app)),
            floor: Rc::new(Cell::new(self.floor.get())),
            counter_fails: Rc::new(Cell::new(self.counter_fails.get())),
            raise_fails: Rc::new(Cell::new(self.raise_fails.get())),
            raises: Rc::default(),
            now_ms: Rc::new(Cell::new(self.now_ms.get())),
            entropy: Rc::new(Cell::new(self.entropy.get())),
            facts: self.facts.clone(),
            firmware: self.firmware.as_ref().map(|firmware| Rc::new(firmware.fork())),
        }
    }

    pub(crate) fn ports(&self) -> Ports<SimBoard> {
        let firmware = self.firmware.as_ref();
        Ports {
            firmware: firmware.map_or_else(SimFirmware::default, |firmware| firmware.port(&self.flash)),
            flash: self.flash.clone(),
            crash_flash: self.crash_flash.clone(),
            counter: SimCounter {
                value: self.floor.clone(),
                fails: self.counter_fails.clone(),
                raise_fails: self.raise_fails.clone(),
                raises: self.raises.clone(),
            },
            keys: SimKeys,
            clock: SimClock(self.now_ms.clone()),
            entropy: SimEntropy(self.entropy.clone()),
            reset: SimReset,
            watchdog: SimWatchdog,
            app: SimApp(self.app.clone()),
            probe: SimDebugger(self.app.clone()),
            verify: CachedVerify,
        }
    }

    /// Power on: whatever ran before is gone. The clock starts anew.
    pub(crate) fn boot(&self) -> Device {
        self.try_boot().expect("the device comes up")
    }

    pub(crate) fn try_boot(&self) -> Result<Device, gateway_core::device::BootError> {
        self.flash.power_on();
        self.crash_flash.iter().for_each(SimFlash::power_on);
        self.boot_with_a_cut_to_come()
    }

    /// Like `try_boot`, keeping a cut that was set.
    pub(crate) fn boot_with_a_cut_to_come(&self) -> Result<Device, gateway_core::device::BootError> {
        self.now_ms.set(1000);
        let mut app = self.app.borrow_mut();
        app.running = None;
        app.started.clear();
        app.reasons.clear();
        (app.told, app.apply, app.tested) = (false, false, None);
        app.debugged = Debugged::default();
        drop(app);
        let mut facts = self.facts.clone();
        if let Some(firmware) = &self.firmware {
            // Without power nothing comes up, and nobody looks at what would have.
            if let Some(handover) = firmware.start(&self.flash, &facts) {
                facts.microvisor = handover.version.parse().unwrap();
                // As a board does.
                let mut index = 0..;
                facts.root_key_hashes.retain(|_| handover.revoked >> index.next().unwrap_or(0) & 1 == 0);
            }
        }
        // A test's device lives as long as it does.
        Device::boot(self.ports(), facts, Box::leak(Box::default()))
    }

    pub(crate) fn advance_ms(&self, milliseconds: u64) {
        self.now_ms.set(self.now_ms.get() + milliseconds);
    }

    /// Makes touching the confirmed slot a violation, as the device has journaled it.
    pub(crate) fn guard(&self, device: &Device) {
        let layout = Layout::new(self.flash.geometry()).unwrap();
        let confirmed = device.slots().iter().position(|slot| slot.status == SlotStatus::Confirmed);
        self.flash.protect(confirmed.filter(|index| *index < 2).map(|index| {
            let place = layout.slots[index];
            place.envelope_at..place.area_at + layout.area_bytes
        }));
    }

    /// Name of what runs.
    pub(crate) fn running(&self) -> Option<String> {
        self.app.borrow().running.as_ref().map(|(name, _)| name.clone())
    }
}

/// The board.
#[derive(Debug)]
pub(crate) struct SimBoard;

impl Board for SimBoard {
    type Flash = SimFlash;
    type Counter = SimCounter;
    type Keys = SimKeys;
    type Clock = SimClock;
    type Entropy = SimEntropy;
    type Reset = SimReset;
    type Watchdog = SimWatchdog;
    type App = SimApp;
    type Firmware = SimFirmware;
    type Probe = SimDebugger;
    type Verify = CachedVerify;
}

#[derive(Debug)]
pub(crate) struct SimCounter {
    value: Rc<Cell<u64>>,
    fails: Rc<Cell<bool>>,
    raise_fails: Rc<Cell<bool>>,
    raises: Rc<Cell<u32>>,
}

impl Counter for SimCounter {
    fn value(&mut self) -> Result<u64, CounterError> {
        if self.fails.get() { Err(CounterError) } else { Ok(self.value.get()) }
    }

    fn raise(&mut self, to: u64) -> Result<(), CounterError> {
        self.raises.set(self.raises.get() + 1);
        if self.raise_fails.get() {
            return Err(CounterError);
        }
        self.value.set(self.value.get().max(to));
        Ok(())
    }
}

/// No test here signs as a device.
#[derive(Debug)]
pub(crate) struct SimKeys;

impl Keys for SimKeys {
    fn public_key(&mut self) -> Result<[u8; 65], KeysError> {
        Err(KeysError)
    }

    fn sign(&mut self, _message: &[u8]) -> Result<[u8; 64], KeysError> {
        Err(KeysError)
    }
}

#[derive(Debug)]
pub(crate) struct SimClock(Rc<Cell<u64>>);

impl Clock for SimClock {
    fn now_ms(&self) -> u64 {
        self.0.get()
    }
}

#[derive(Debug)]
pub(crate) struct SimEntropy(Rc<Cell<u64>>);

impl Entropy for SimEntropy {
    fn fill(&mut self, into: &mut [u8]) -> Result<(), EntropyError> {
        for byte in into {
            self.0.set(self.0.get().wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
            *byte = (self.0.get() >> 33) as u8;
        }
        Ok(())
    }
}

#[derive(Debug)]
pub(crate) struct SimReset;

impl Reset for SimReset {
    fn reason(&self) -> BootReason {
        BootReason::PowerOn
    }
}

#[derive(Debug)]
pub(crate) struct SimWatchdog;

impl Watchdog for SimWatchdog {
    fn feed(&mut self) {}
}

#[derive(Debug)]
pub(crate) struct SimApp(Rc<RefCell<AppWorld>>);

impl App for SimApp {
    fn start(&mut self, image: Image, flash: &mut dyn Flash, reason: StartReason) -> Result<(), AppError> {
        let mut bytes = vec![0; image.bytes as usize];
        flash.read(image.at, &mut bytes).map_err(|_| AppError)?;
        let mut app = self.0.borrow_mut();
        let found = app.known.get(&Digest::of(&bytes)).cloned();
        let (name, behaviour) = found.unwrap_or(("?".to_owned(), Behaviour::Healthy));
        app.started.push(name.clone());
        app.reasons.push(reason);
        app.running = Some((name, behaviour));
        (app.told, app.apply, app.network) = (false, false, NetworkDemand::NeverAsked);
        app.tested = None;
        app.debugged.start();
        Ok(())
    }

    fn stop(&mut self) {
        let mut app = self.0.borrow_mut();
        app.running = None;
        app.debugged.stop();
    }

    fn status(&mut self) -> AppStatus {
        let app = self.0.borrow();
        let life = match app.running.as_ref().map(|(_, behaviour)| behaviour) {
            None => Life::Stopped,
            Some(Behaviour::Healthy | Behaviour::NeverHealthy) => Life::Running,
            Some(Behaviour::Crash) => Life::Crashed,
            Some(Behaviour::Hang) => Life::Hung,
        };
        let healthy = matches!(app.running, Some((_, Behaviour::Healthy)));
        AppStatus { life, healthy, apply: app.apply, network: app.network }
    }

    fn update_waits(&mut self) {
        let mut app = self.0.borrow_mut();
        (app.told, app.apply) = (true, false);
    }

    fn tested(&mut self) -> Option<u32> {
        self.0.borrow().tested
    }

    fn take_crash(&mut self) -> Option<Crash> {
        self.0.borrow_mut().crash.take()
    }
}

type Seen = HashMap<(PublicKey, Digest, [u8; 64]), bool>;

/// Real P-256, each signature checked once in a thread.
#[derive(Debug)]
pub(crate) struct CachedVerify;

thread_local! {
    static SEEN: RefCell<Seen> = RefCell::default();
}

impl Verify for CachedVerify {
    fn verify(&self, key: &PublicKey, message: &[&[u8]], signature: &Signature) -> bool {
        let asked = (*key, Digest::of_parts(message), signature.0);
        let known = SEEN.with_borrow(|seen| seen.get(&asked).copied());
        known.unwrap_or_else(|| {
            let verdict = P256.verify(key, message, signature);
            SEEN.with_borrow_mut(|seen| seen.insert(asked, verdict));
            verdict
        })
    }
}
