//! Keysets: the keys a device believes, signed by the root keys of the keyset before (docs/bundle.md, Keyset).
//!
//! A keyset from [`open_first`] or [`open_next`] was signed by the threshold of *distinct* root keys, is the next
//! version, and holds no key that is off the curve; one from [`open_provisioned`] is that but for the version. Keys are
//! counted, never signatures. [`read`] is for keysets that were accepted before.

use crate::cbor::{CborError, Reader};
use crate::cose::{CoseError, Sign, Verify};
use crate::id::TenantId;
use crate::key::{KeyError, KeyHash, PublicKey};
use crate::limits::{BOARD_BYTES_MAX, BROKER_ANCHORS_MAX, KEYSET_BYTES_MAX, RELEASE_KEYS_MAX, ROOT_KEYS_MAX};
use crate::manifest::Component;

/// Header 3 of every keyset.
pub const CONTENT_TYPE: &str = "application/holdfast-keyset+cbor";

/// Keys of the payload.
pub(crate) mod key {
    pub(crate) const TENANT: i64 = 1;
    pub(crate) const VERSION: i64 = 2;
    pub(crate) const ROOT_KEYS: i64 = 3;
    pub(crate) const ROOT_THRESHOLD: i64 = 4;
    pub(crate) const RELEASE_KEYS: i64 = 5;
    pub(crate) const DIRECTOR_KEY: i64 = 6;
    pub(crate) const CRASH_KEY: i64 = 7;
    pub(crate) const BROKER_ANCHORS: i64 = 8;
}

/// The keys a device believes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keyset<'a> {
    /// Whose.
    pub tenant: TenantId,
    /// From 1; only the next is ever accepted.
    pub version: u32,
    /// Who may sign the next keyset; distinct.
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
    /// How many of them must have signed the first keyset, even if that names a lower threshold; at least 1.
    pub threshold: u8,
}

/// Why a keyset is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeysetError {
    /// Longer than [`KEYSET_BYTES_MAX`].
    #[error("keyset is longer than {KEYSET_BYTES_MAX} bytes")]
    TooLong,
    /// Not a COSE_Sign we read.
    #[error("not a signed keyset: {0}")]
    Cose(CoseError),
    /// Not a keyset's content type, or a detached payload.
    #[error("not a keyset")]
    ContentType,
    /// The payload is not deterministic CBOR of the right shape.
    #[error("malformed keyset: {0}")]
    Cbor(CborError),
    /// A value is out of its limits; the field's name.
    #[error("{0} is out of its limits")]
    Field(&'static str),
    /// A key is malformed.
    #[error("keyset holds a malformed key")]
    Key,
    /// A root key is there twice.
    #[error("keyset holds a root key twice")]
    KeyTwice,
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

impl From<CborError> for KeysetError {
    fn from(error: CborError) -> KeysetError {
        KeysetError::Cbor(error)
    }
}

impl From<CoseError> for KeysetError {
    fn from(error: CoseError) -> KeysetError {
        KeysetError::Cose(error)
    }
}

impl From<KeyError> for KeysetError {
    fn from(_: KeyError) -> KeysetError {
        KeysetError::Key
    }
}

/// Reads a keyset already accepted, as from flash; checks no signature.
pub fn read(bytes: &[u8]) -> Result<Keyset<'_>, KeysetError> {
    decode(bytes).map(|(_, keyset)| keyset)
}

/// Reads version 1 and checks that its own threshold of root keys signed it, and enough provisioned ones among them.
pub fn open_first<'a>(
    bytes: &'a [u8],
    provisioned: &Provisioned<'_>,
    verify: &impl Verify,
) -> Result<Keyset<'a>, KeysetError> {
    let (signed, keyset) = decode_first(bytes)?;
    let threshold = keyset.root_threshold.max(provisioned.threshold);
    check_threshold(&signed, &provisioned.roots_of(&keyset), threshold, verify)?;
    Ok(keyset)
}

/// Reads a keyset of any version and checks that enough provisioned root keys signed it: for a first stage, which knows
/// no keyset before it. A root key counts while the keyset still names it, since a signature names only a hash.
pub fn open_provisioned<'a>(
    bytes: &'a [u8],
    provisioned: &Provisioned<'_>,
    verify: &impl Verify,
) -> Result<Keyset<'a>, KeysetError> {
    let (signed, keyset) = decode(bytes)?;
    check_threshold(&signed, &provisioned.roots_of(&keyset), provisioned.threshold, verify)?;
    keyset.check_keys()?;
    Ok(keyset)
}

/// Reads version 1 and checks that its own threshold signed it: for a tenant's first upload, which nothing else can
/// vouch for. Never for a device.
pub fn open_self_signed<'a>(bytes: &'a [u8], verify: &impl Verify) -> Result<Keyset<'a>, KeysetError> {
    let (signed, keyset) = decode_first(bytes)?;
    check_threshold(&signed, &keyset.root_keys, keyset.root_threshold, verify)?;
    Ok(keyset)
}

/// Reads the next version and checks that `current`'s threshold of distinct root keys signed it.
pub fn open_next<'a>(
    bytes: &'a [u8],
    current: &Keyset<'_>,
    verify: &impl Verify,
) -> Result<Keyset<'a>, KeysetError> {
    let (signed, keyset) = decode(bytes)?;
    if keyset.tenant != current.tenant {
        return Err(KeysetError::Tenant);
    }
    if Some(keyset.version) != current.version.checked_add(1) {
        return Err(KeysetError::Version);
    }
    check_threshold(&signed, &current.root_keys, current.root_threshold, verify)?;
    keyset.check_keys()?;
    Ok(keyset)
}

impl Provisioned<'_> {
    /// Those root keys of a keyset that are provisioned.
    fn roots_of(&self, keyset: &Keyset<'_>) -> heapless::Vec<PublicKey, ROOT_KEYS_MAX> {
        let is_provisioned =
            |key: &&PublicKey| key.hash().is_ok_and(|hash| self.root_key_hashes.contains(&hash));
        keyset.root_keys.iter().filter(is_provisioned).copied().collect()
    }
}

impl Keyset<'_> {
    /// Every key is a point on the curve. Done once, at acceptance: it costs a square root a key.
    fn check_keys(&self) -> Result<(), KeysetError> {
        let keys = self.root_keys.iter().chain(self.release_keys.iter().map(|release| &release.key));
        keys.chain([&self.director_key]).try_for_each(|key| key.point().map(drop).map_err(KeysetError::from))
    }
}

impl ReleaseKey<'_> {
    /// Whether it may sign manifests for this component and board.
    pub fn covers(&self, component: Component, board: &str) -> bool {
        self.component.is_none_or(|it| it == component) && self.board.is_none_or(|it| it == board)
    }
}

fn decode_first(bytes: &[u8]) -> Result<(Sign<'_>, Keyset<'_>), KeysetError> {
    let (signed, keyset) = decode(bytes)?;
    if keyset.version != 1 {
        return Err(KeysetError::Version);
    }
    keyset.check_keys()?;
    Ok((signed, keyset))
}

/// Keys that signed, each once however often it signed (RFC 9052 has no such rule; CVE-2026-6966 is what happens
/// without).
fn check_threshold(
    signed: &Sign<'_>,
    keys: &[PublicKey],
    threshold: u8,
    verify: &impl Verify,
) -> Result<(), KeysetError> {
    match signed.signers(keys, verify) >= usize::from(threshold.max(1)) {
        true => Ok(()),
        false => Err(KeysetError::Threshold),
    }
}

fn decode(bytes: &[u8]) -> Result<(Sign<'_>, Keyset<'_>), KeysetError> {
    if bytes.len() > KEYSET_BYTES_MAX {
        return Err(KeysetError::TooLong);
    }
    let signed = Sign::decode(bytes)?;
    match (signed.content_type, signed.payload) {
        (Some(CONTENT_TYPE), Some(payload)) => {
            let keyset = decode_payload(payload)?;
            Ok((signed, keyset))
        }
        _ => Err(KeysetError::ContentType),
    }
}

pub(crate) fn decode_payload(payload: &[u8]) -> Result<Keyset<'_>, KeysetError> {
    let mut reader = Reader::new(payload);
    let mut fields = reader.fields()?;
    let tenant = fields.required(key::TENANT)?.text()?.parse().map_err(|_| KeysetError::Field("tenant"))?;
    let version = fields.required(key::VERSION)?.u32()?;
    let root_keys = decode_root_keys(fields.required(key::ROOT_KEYS)?)?;
    let root_threshold = fields.required(key::ROOT_THRESHOLD)?.uint()?;
    if !(1..=root_keys.len() as u64).contains(&root_threshold) {
        return Err(KeysetError::Field("root threshold"));
    }
    let keyset = Keyset {
        tenant,
        version,
        root_threshold: root_threshold as u8,
        root_keys,
        release_keys: decode_release_keys(fields.required(key::RELEASE_KEYS)?)?,
        director_key: decode_key(fields.required(key::DIRECTOR_KEY)?)?,
        crash_key: decode_crash_key(fields.required(key::CRASH_KEY)?)?,
        broker_anchors: decode_anchors(fields.required(key::BROKER_ANCHORS)?)?,
    };
    fields.finish()?;
    reader.finish()?;
    if keyset.version == 0 {
        return Err(KeysetError::Field("version"));
    }
    Ok(keyset)
}

fn decode_key(reader: &mut Reader<'_>) -> Result<PublicKey, KeysetError> {
    Ok(PublicKey::from_compressed(reader.bytes()?)?)
}

fn decode_root_keys(reader: &mut Reader<'_>) -> Result<heapless::Vec<PublicKey, ROOT_KEYS_MAX>, KeysetError> {
    let mut keys = heapless::Vec::new();
    for _ in 0..reader.array()? {
        let key = decode_key(reader)?;
        if keys.contains(&key) {
            return Err(KeysetError::KeyTwice);
        }
        keys.push(key).map_err(|_| KeysetError::Field("root keys"))?;
    }
    if keys.is_empty() { Err(KeysetError::Field("root keys")) } else { Ok(keys) }
}

fn decode_release_keys<'a>(
    reader: &mut Reader<'a>,
) -> Result<heapless::Vec<ReleaseKey<'a>, RELEASE_KEYS_MAX>, KeysetError> {
    let mut keys = heapless::Vec::new();
    for _ in 0..reader.array()? {
        reader.array_of(3)?;
        let release = ReleaseKey {
            key: decode_key(reader)?,
            component: decode_component(reader)?,
            board: decode_board(reader)?,
        };
        keys.push(release).map_err(|_| KeysetError::Field("release keys"))?;
    }
    if keys.is_empty() { Err(KeysetError::Field("release keys")) } else { Ok(keys) }
}

fn decode_component(reader: &mut Reader<'_>) -> Result<Option<Component>, KeysetError> {
    if reader.null()? {
        return Ok(None);
    }
    reader.text()?.parse().map(Some).map_err(|_| KeysetError::Field("component"))
}

fn decode_board<'a>(reader: &mut Reader<'a>) -> Result<Option<&'a str>, KeysetError> {
    if reader.null()? {
        return Ok(None);
    }
    let board = reader.text()?;
    match (1..=BOARD_BYTES_MAX).contains(&board.len()) {
        true => Ok(Some(board)),
        false => Err(KeysetError::Field("board")),
    }
}

fn decode_crash_key(reader: &mut Reader<'_>) -> Result<Option<[u8; 32]>, KeysetError> {
    if reader.null()? { Ok(None) } else { Ok(Some(*reader.bytes_exact()?)) }
}

fn decode_anchors<'a>(
    reader: &mut Reader<'a>,
) -> Result<heapless::Vec<&'a [u8], BROKER_ANCHORS_MAX>, KeysetError> {
    let mut anchors = heapless::Vec::new();
    for _ in 0..reader.array()? {
        anchors.push(reader.bytes()?).map_err(|_| KeysetError::Field("broker anchors"))?;
    }
    match anchors.iter().all(|anchor: &&[u8]| !anchor.is_empty()) && !anchors.is_empty() {
        true => Ok(anchors),
        false => Err(KeysetError::Field("broker anchors")),
    }
}
