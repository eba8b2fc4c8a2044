//! A device as the registry publishes it, and what its hellos told.

use std::time::SystemTime;

use wire::{DeviceId, Digest, Nonce, TenantId};

use super::report::Moment;

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
}

/// The newest hello of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hello {
    pub(crate) nonce: Nonce,
    pub(crate) moment: Moment,
    pub(crate) heard_at: SystemTime,
    /// The key of the device that said it: what was said with another one is no longer this device's.
    pub(crate) key: Digest,
}

/// The newest hello there was something to answer or record about, and the facts of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) hello: Hello,
    /// Lowest security counter it accepts for an application.
    pub(crate) app_floor: u64,
    /// Manifests of its confirmed slots.
    pub(crate) confirmed: Vec<Digest>,
}
