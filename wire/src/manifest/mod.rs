//! Manifests: our profile of SUIT (docs/bundle.md, Bundle), decoded strictly.
//!
//! A [`Manifest`] from [`open`] was signed by a release key of the keyset whose scope covers its component and board;
//! one from [`read`] only holds together: digest, encoding, limits, layers in order and apart.
//!
//! A bundle's name is the digest its signer signed: SHA-256 of the encoded SUIT_Manifest inside its byte string.

mod area;
mod class;
pub(crate) mod decode;
pub(crate) mod parts;

pub use area::AreaHasher;
pub use class::class_identifier;
pub use parts::{
    Component, ComponentError, Confirm, ConnectivityPolicy, CrashPolicy, Layer, UpdatePolicy, Version,
    VersionError,
};

use crate::cbor::CborError;
use crate::cose::Verify;
use crate::key::{Digest, KeyHash, PublicKey};
use crate::keyset::{Keyset, ReleaseKey};
use crate::limits::{DEBUG_KEYS_MAX, ENVELOPE_BYTES_MAX, LAYERS_MAX};
use crate::suit::{Envelope, SuitError};

/// A bundle's manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest<'a> {
    /// The bundle's name.
    pub digest: Digest,
    /// What it replaces.
    pub component: Component,
    /// On which board.
    pub board: &'a str,
    /// The bundle's version.
    pub version: &'a str,
    /// SUIT's sequence number; informational.
    pub sequence_number: u64,
    /// What the floor is compared with.
    pub security_counter: u64,
    /// Oldest microvisor it runs on.
    pub microvisor_min: Version,
    /// SHA-256 of the whole area as it must read back.
    pub area_digest: Digest,
    /// Length of the area, a multiple of 16 KiB.
    pub area_bytes: u32,
    /// 1 to 8, ascending and apart.
    pub layers: heapless::Vec<Layer<'a>, LAYERS_MAX>,
    /// How it is tried and confirmed.
    pub update: UpdatePolicy,
    /// X25519 keys that may attach a debugger.
    pub debug_keys: heapless::Vec<[u8; 32], DEBUG_KEYS_MAX>,
    /// How it is restarted.
    pub crash: CrashPolicy,
    /// How often it is heard of.
    pub connectivity: ConnectivityPolicy,
    /// Unix seconds.
    pub build_time_s: u64,
}

/// Why a manifest is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// Longer than [`ENVELOPE_BYTES_MAX`].
    #[error("envelope is longer than {ENVELOPE_BYTES_MAX} bytes")]
    TooLong,
    /// Not a SUIT envelope, or its digest is not the manifest's.
    #[error("not a SUIT envelope: {0}")]
    Suit(SuitError),
    /// Not deterministic CBOR of the profile's shape.
    #[error("malformed manifest: {0}")]
    Cbor(CborError),
    /// A member or command of SUIT that the profile leaves out.
    #[error("SUIT member or command outside the profile")]
    Profile,
    /// A value is out of its limits; the field's name.
    #[error("{0} is out of its limits")]
    Field(&'static str),
    /// Neither `app` nor `microvisor`.
    #[error("unknown component")]
    Component,
    /// The class identifier is not the board's.
    #[error("class identifier is not the board's")]
    Class,
    /// Layers are not in ascending order, or overlap.
    #[error("layers are out of order or overlap")]
    LayerOrder,
    /// A layer is empty, too long, misaligned, or reaches beyond the area.
    #[error("a layer is empty, misaligned or beyond the area")]
    LayerRange,
    /// A layer has another number of block digests than blocks, or equal layers differ in them.
    #[error("block digests do not fit the layer")]
    Blocks,
    /// Not exactly one signature, with the key's hash as key id.
    #[error("not signed exactly once with a key id")]
    Unsigned,
    /// Signed by a key the keyset does not name.
    #[error("signed by an unknown key")]
    UnknownKey,
    /// Signed by a release key of another component or board.
    #[error("signed by a release key of another component or board")]
    KeyScope,
    /// The signature does not verify.
    #[error("signature does not verify")]
    Signature,
}

impl From<SuitError> for ManifestError {
    fn from(error: SuitError) -> ManifestError {
        ManifestError::Suit(error)
    }
}

impl From<CborError> for ManifestError {
    fn from(error: CborError) -> ManifestError {
        ManifestError::Cbor(error)
    }
}

/// Reads an envelope and checks everything but who signed it.
pub fn read(envelope: &[u8]) -> Result<Manifest<'_>, ManifestError> {
    decode::manifest(&read_envelope(envelope)?)
}

/// Reads an envelope and checks that a release key of `keyset` for this component and board signed it.
pub fn open<'a>(
    envelope: &'a [u8],
    keyset: &Keyset<'_>,
    verify: &impl Verify,
) -> Result<Manifest<'a>, ManifestError> {
    let envelope = read_envelope(envelope)?;
    let signer = signer(&envelope)?;
    let is_signer = |release: &&ReleaseKey<'_>| verify.key_hash(&release.key) == Ok(signer);
    let key = keyset.release_keys.iter().find(is_signer).ok_or(ManifestError::UnknownKey)?.key;
    check_signature(&envelope, &key, verify)?;
    let manifest = decode::manifest(&envelope)?;
    let mut scopes = keyset.release_keys.iter().filter(|release| release.key == key);
    match scopes.any(|scope| scope.covers(manifest.component, manifest.board)) {
        true => Ok(manifest),
        false => Err(ManifestError::KeyScope),
    }
}

/// Reads an envelope and checks that this very key signed it, whatever its scope: for tools.
pub fn open_with_key<'a>(
    envelope: &'a [u8],
    key: &PublicKey,
    verify: &impl Verify,
) -> Result<Manifest<'a>, ManifestError> {
    let envelope = read_envelope(envelope)?;
    if verify.key_hash(key) != Ok(signer(&envelope)?) {
        return Err(ManifestError::UnknownKey);
    }
    check_signature(&envelope, key, verify)?;
    decode::manifest(&envelope)
}

impl Manifest<'_> {
    /// Bytes of all distinct layers: what a bundle holds besides its envelope.
    pub fn layer_bytes(&self) -> u64 {
        self.distinct_layers().map(|layer| u64::from(layer.bytes)).sum()
    }

    /// The layers in order, those with the digest of an earlier one left out: what a bundle file holds.
    pub fn distinct_layers(&self) -> impl Iterator<Item = &Layer<'_>> {
        let is_first =
            |at: usize, digest: Digest| self.layers.iter().take(at).all(|layer| layer.digest != digest);
        self.layers
            .iter()
            .enumerate()
            .filter(move |(at, layer)| is_first(*at, layer.digest))
            .map(|(_, layer)| layer)
    }
}

fn read_envelope(bytes: &[u8]) -> Result<Envelope<'_>, ManifestError> {
    if bytes.len() > ENVELOPE_BYTES_MAX {
        return Err(ManifestError::TooLong);
    }
    Ok(Envelope::decode(bytes)?)
}

/// The one key that claims to have signed.
fn signer(envelope: &Envelope<'_>) -> Result<KeyHash, ManifestError> {
    match envelope.authentication.blocks.as_slice() {
        [block] if block.content_type.is_none() => block.key_id.ok_or(ManifestError::Unsigned),
        _ => Err(ManifestError::Unsigned),
    }
}

fn check_signature(
    envelope: &Envelope<'_>,
    key: &PublicKey,
    verify: &impl Verify,
) -> Result<(), ManifestError> {
    if envelope.is_signed_by(key, verify) { Ok(()) } else { Err(ManifestError::Signature) }
}
