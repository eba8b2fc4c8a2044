//! Directives: what the director tells one device to do, in answer to one of its hellos (docs/bundle.md, Directive).
//!
//! A directive that [`open`] returns names this device and this nonce and carries the director key's signature.

use crate::cose::Verify;
use crate::id::{DeploymentId, DeviceId, Nonce};
use crate::key::{Digest, PublicKey};
use crate::manifest::Component;

/// What one device is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Directive {
    /// Who is told.
    pub device: DeviceId,
    /// The hello it answers.
    pub nonce: Nonce,
    /// Unix seconds; also the signed time.
    pub issued_at_s: u64,
    /// What to do.
    pub order: Order,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Fetch and verify this manifest's layers.
    Install(Target),
    /// Install what is ready.
    Go(Target),
    /// Raise the floor to this counter, never lower it.
    Commit(Target, u64),
    /// Only the time.
    Time,
    /// Drop what is not yet installed.
    Cancel(Target),
}

/// What an order is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// The bundle.
    pub manifest: Digest,
    /// The deployment that asks for it.
    pub deployment: DeploymentId,
    /// The component it replaces.
    pub component: Component,
}

/// Why a directive is ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DirectiveError {
    /// Not a directive.
    #[error("malformed directive")]
    Malformed,
    /// Not signed by the director key.
    #[error("not signed by the director key")]
    Signature,
    /// Names another device.
    #[error("names another device")]
    Device,
    /// Answers another hello.
    #[error("answers another hello")]
    Nonce,
}

/// Reads a directive and checks signature, device and nonce.
pub fn open(
    bytes: &[u8],
    director: &PublicKey,
    device: &DeviceId,
    nonce: &Nonce,
    verify: &impl Verify,
) -> Result<Directive, DirectiveError> {
    let _ = (bytes, director, device, nonce, verify);
    Err(DirectiveError::Malformed)
}
