//! Keysets: the keys a device believes, signed by the root keys of the keyset before (docs/bundle.md, Keyset).

use crate::cose::Verify;
use crate::id::TenantId;
use crate::key::{KeyHash, PublicKey};
use crate::limits::{BROKER_ANCHORS_MAX, RELEASE_KEYS_MAX, ROOT_KEYS_MAX};
use crate::manifest::Component;

/// The keys a device believes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keyset<'a> {
    /// Whose.
    pub tenant: TenantId,
    /// From 1; only the next is ever accepted.
    pub version: u32,
    /// Who may sign the next keyset.
    pub root_keys: heapless::Vec<PublicKey, ROOT_KEYS_MAX>,
    /// How many distinct root keys must sign the next keyset.
    pub root_threshold: u8,
    /// Who may sign manifests.
    pub release_keys: heapless::Vec<ReleaseKey<'a>, RELEASE_KEYS_MAX>,
    /// Who may sign directives.
    pub director_key: PublicKey,
    /// To whom crash dumps are encrypted (X25519).
    pub crash_key: Option<[u8; 32]>,
    /// Certificates (DER) under which brokers' server certificates must be.
    pub broker_anchors: heapless::Vec<&'a [u8], BROKER_ANCHORS_MAX>,
}

/// Who may sign manifests, and for what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReleaseKey<'a> {
    /// The key.
    pub key: PublicKey,
    /// Only for this component; none: any.
    pub component: Option<Component>,
    /// Only for this board; none: any.
    pub board: Option<&'a str>,
}

/// What the immutable first stage holds.
#[derive(Clone, Copy, Debug)]
pub struct Provisioned<'a> {
    /// Hashes of root keys, revoked ones left out.
    pub root_key_hashes: &'a [KeyHash],
    /// How many of them must have signed the first keyset, whatever threshold that names.
    pub threshold: u8,
}

/// Why a keyset is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeysetError {
    /// Not a keyset.
    #[error("malformed keyset")]
    Malformed,
    /// Longer than [`crate::limits::KEYSET_BYTES_MAX`].
    #[error("keyset is too long")]
    TooLong,
    /// A key in it is not on the curve.
    #[error("keyset holds a malformed key")]
    Key,
    /// Not the next version.
    #[error("keyset version is not the next")]
    Version,
    /// Another tenant's.
    #[error("keyset belongs to another tenant")]
    Tenant,
    /// Too few distinct root keys signed it.
    #[error("too few distinct root keys signed the keyset")]
    Threshold,
}

/// Reads a keyset already accepted, as from flash; checks no signature.
pub fn read(bytes: &[u8]) -> Result<Keyset<'_>, KeysetError> {
    let _ = bytes;
    Err(KeysetError::Malformed)
}

/// Reads version 1 and checks that its own threshold of root keys, and enough provisioned ones, signed it.
pub fn open_first<'a>(
    bytes: &'a [u8],
    provisioned: &Provisioned<'_>,
    verify: &impl Verify,
) -> Result<Keyset<'a>, KeysetError> {
    let _ = (provisioned, verify);
    read(bytes)
}

/// Reads version 1 and checks that its own threshold signed it: for a tenant's first upload, which nothing else can
/// vouch for. Never for a device.
pub fn open_self_signed<'a>(bytes: &'a [u8], verify: &impl Verify) -> Result<Keyset<'a>, KeysetError> {
    let _ = verify;
    read(bytes)
}

/// Reads the next version and checks that `current`'s threshold of distinct root keys signed it.
pub fn open_next<'a>(
    bytes: &'a [u8],
    current: &Keyset<'_>,
    verify: &impl Verify,
) -> Result<Keyset<'a>, KeysetError> {
    let _ = (current, verify);
    read(bytes)
}
