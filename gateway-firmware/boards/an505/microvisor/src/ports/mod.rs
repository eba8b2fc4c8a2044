//! What the core needs of this board: `gateway_core::ports` over the machine.
//!
//! The supervisor alone uses them, in thread mode; handlers and the application's gateway have nothing to do here, but for
//! the clock. Nothing in here knows the scheduler.

mod firmware;
mod keys;
pub(crate) mod provision;
mod random;
mod simple;
mod single;

use chip::flash::Window;
use gateway_core::Facts;
use gateway_core::boot::first::Handover;
use gateway_core::ports::{Board, Entropy as _, KeysError, Ports};
use gateway_core::provision::{Provision, ProvisionError};
use gateway_link::random::SEED_BYTES;
use wire::cose::P256;
use zeroize::Zeroizing;

use crate::application::Application;
use crate::probe::BoardProbe;

pub(crate) use firmware::BoardFirmware;
pub(crate) use keys::{BoardKeys, Signer};
pub(crate) use random::Random;
pub(crate) use simple::{BoardClock, BoardReset, Feed, feed_if_alive, store};

/// The monotonic counter: two erase units of flash.
pub(crate) type BoardCounter = gateway_core::counter::FlashCounter<chip::flash::Window>;

/// The counter.
pub(crate) fn counter() -> BoardCounter {
    BoardCounter::new(chip::flash::Window::counter())
}

/// This board.
#[derive(Debug)]
pub(crate) enum An505 {}

impl Board for An505 {
    type Flash = Window;
    type Counter = BoardCounter;
    type Keys = BoardKeys;
    type Clock = BoardClock;
    type Entropy = Random;
    type Reset = BoardReset;
    type Watchdog = Feed;
    type App = Application;
    type Firmware = BoardFirmware;
    type Probe = BoardProbe;
    type Verify = P256;
}

/// Why the board cannot begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unfit {
    Provision(ProvisionError),
    /// No identity key is there, and none can be made and kept.
    Identity(KeysError),
}

/// All that the board is, read once.
#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) ports: Ports<An505>,
    pub(crate) facts: Facts,
    pub(crate) provision: Provision<'static>,
    /// Nothing if no first stage started this.
    pub(crate) handover: Option<Handover>,
}

/// Reads the handover and the provisioning, seeds the randomness, and finds or makes the identity key.
pub(crate) fn start() -> Result<Started, Unfit> {
    let handover = provision::handover();
    let provision = provision::read().map_err(Unfit::Provision)?;
    seed_link();
    let ports = Ports {
        flash: store(),
        crash_flash: Some(Window::crash()),
        counter: counter(),
        keys: BoardKeys::open(provision.claim_key).map_err(Unfit::Identity)?,
        clock: BoardClock,
        entropy: Random,
        reset: BoardReset::new(handover.as_ref()),
        watchdog: Feed,
        app: Application::default(),
        firmware: BoardFirmware::new(handover.clone()),
        probe: BoardProbe::default(),
        verify: P256,
    };
    Ok(Started { ports, facts: provision::facts(&provision, handover.as_ref()), provision, handover })
}

/// Mixes fresh randomness into what TLS draws from. Without any it has what it had; what never had any gives nothing.
pub(crate) fn seed_link() {
    let mut seed = Zeroizing::new([0; SEED_BYTES]);
    if Random.fill(seed.as_mut_slice()).is_ok() {
        gateway_link::random::seed(&seed);
    }
}

impl gateway_link::tls::Signer for Signer {
    fn sign(&self, message: &[u8]) -> Result<[u8; 64], gateway_link::tls::SignError> {
        Signer::sign(*self, message).map_err(|_| gateway_link::tls::SignError)
    }
}
