//! A device as the registry publishes it, and what its hellos told.

use std::time::SystemTime;

use wire::manifest::{Component, Version};
use wire::{DeviceId, Digest, Nonce, TenantId};

use super::life::{Life, Place};
use super::report::{Boot, Moment};

/// A device that exists.
#[derive(Clone, Debug)]
pub(crate) struct Device {
    pub(crate) tenant: TenantId,
    pub(crate) id: DeviceId,
    pub(crate) board: String,
    /// SHA-256 of the public key it has now.
    pub(crate) key: Digest,
    pub(crate) revoked: bool,
    /// Two boards use its identity: it is told nothing, and nothing it says counts, until an operator decided.
    pub(crate) quarantined: bool,
    /// None: nothing is proved of its boots.
    pub(crate) life: Option<Life>,
}

impl Device {
    /// How a boot of it stands to others.
    pub(crate) fn place(&self, boot: Boot) -> Place {
        self.life.as_ref().map_or(Place::Counted, |life| life.place(boot))
    }
}

/// The newest hello of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hello {
    pub(crate) nonce: Nonce,
    pub(crate) moment: Moment,
    pub(crate) heard_at: SystemTime,
    /// The key of the device that said it: what was said with another one is no longer this device's.
    pub(crate) key: Digest,
    /// Version of the keyset the device said it holds; 0: none, or it did not say.
    pub(crate) keyset: u32,
}

/// The newest hello there was something to answer or record about, and the facts of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) hello: Hello,
    pub(crate) facts: Facts,
}

/// What a device runs and accepts, as far as deployments care.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Facts {
    /// Lowest security counter it accepts for each component.
    pub(crate) floors: Floors,
    /// Version of the microvisor that runs; none: it was not said, or is no version.
    pub(crate) microvisor: Option<Version>,
    /// Manifests of its confirmed slots.
    pub(crate) confirmed: Vec<Digest>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Floors {
    pub(crate) app: u64,
    pub(crate) microvisor: u64,
}

impl Floors {
    pub(crate) fn of(self, component: Component) -> u64 {
        match component {
            Component::App => self.app,
            Component::Microvisor => self.microvisor,
        }
    }
}
