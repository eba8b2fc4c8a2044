//! This board behind the core's ports, over the chip's registers.
//!
//! What a port keeps in flash is decided in the core (`counter`, `secret`, `provision`); here it meets its region. The
//! application's port is `application`, the network's is `gateway-link`.

pub(crate) mod entropy;
pub(crate) mod keys;
pub(crate) mod watchdog;

use chip::clock::now_us;
use chip::flash::Window;
use chip::kept;
use gateway_core::Facts;
use gateway_core::boot::first::Handover;
use gateway_core::counter::FlashCounter;
use gateway_core::ports::{Board, BootReason, Clock, Ports, Reset};
use gateway_core::provision::{self, Provision, ProvisionError};
use heapless::{String, Vec};
use wire::KeyHash;
use wire::cose::P256;
use wire::limits::ROOT_KEYS_MAX;

use crate::application::Application;

/// This board.
#[derive(Debug)]
pub(crate) enum An505 {}

impl Board for An505 {
    type Flash = Window;
    type Counter = FlashCounter<Window>;
    type Keys = keys::BoardKeys;
    type Clock = BoardClock;
    type Entropy = entropy::BoardEntropy;
    type Reset = FirstStage;
    type Watchdog = watchdog::IdleWatchdog;
    type App = Application;
    type Verify = P256;
}

/// Why the board cannot begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unfit {
    /// Nobody handed over: this was not started by the first stage.
    Handover,
    Provision(ProvisionError),
    /// The manifest's version is no version.
    Version,
}

/// All that the board is, read once.
#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) ports: Ports<An505>,
    pub(crate) facts: Facts,
    pub(crate) provision: Provision<'static>,
    pub(crate) handover: Handover,
    /// How the identity key and the counter were found.
    pub(crate) identity: gateway_core::secret::Health,
    pub(crate) counter: gateway_core::pair::Health,
}

/// Reads the handover and the provisioning, seeds the randomness, and finds or makes the identity key.
pub(crate) fn start() -> Result<Started, Unfit> {
    let handover = Handover::decode(&kept::handover()).ok_or(Unfit::Handover)?;
    let provision = provision::read(chip::flash::provision()).map_err(Unfit::Provision)?;
    let mut entropy = entropy::BoardEntropy::start();
    let (keys, identity) = keys::BoardKeys::open(&provision, &mut entropy);
    let mut counter = FlashCounter::new(Window::counter());
    let counter_health = counter.health();
    let facts = Facts {
        // They fit: the provisioning's limits are the same.
        hardware_id: String::try_from(provision.hardware_id).unwrap_or_default(),
        board: String::try_from(provision.board).unwrap_or_default(),
        microvisor: handover.version.parse().map_err(|_| Unfit::Version)?,
        root_key_hashes: unrevoked(&provision, handover.revoked),
        root_threshold: provision.root_threshold,
        build_time_s: provision.build_time_s.max(handover.build_time_s),
    };
    let ports = Ports {
        flash: Window::store(),
        counter,
        keys,
        clock: BoardClock,
        entropy,
        reset: FirstStage(handover.reason),
        watchdog: watchdog::IdleWatchdog,
        app: Application::default(),
        verify: P256,
    };
    Ok(Started { ports, facts, provision, handover, identity, counter: counter_health })
}

/// Bit n of the first stage's bitmap revokes root key n.
fn unrevoked(provision: &Provision<'_>, revoked: u8) -> Vec<KeyHash, ROOT_KEYS_MAX> {
    let bit = |index: usize| 1_u8.checked_shl(index as u32).unwrap_or(0);
    let all = provision.root_key_hashes.iter().enumerate();
    all.filter(|(index, _)| revoked & bit(*index) == 0).map(|(_, hash)| *hash).collect()
}

/// Time since the first stage started.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BoardClock;

impl Clock for BoardClock {
    fn now_ms(&self) -> u64 {
        now_us() / 1000
    }
}

/// What the first stage said of this start.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FirstStage(BootReason);

impl Reset for FirstStage {
    fn reason(&self) -> BootReason {
        self.0
    }
}
