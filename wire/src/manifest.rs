//! Manifests: our profile of SUIT (docs/bundle.md, Bundle), decoded strictly.
//!
//! A [`Manifest`] from [`open`] was signed by a release key of the keyset whose scope covers its component and board;
//! one from [`read`] only holds together (digest, layers, limits).

use core::fmt;
use core::str::FromStr;

use crate::cose::Verify;
use crate::key::Digest;
use crate::keyset::Keyset;
use crate::limits::{DEBUG_KEYS_MAX, LAYERS_MAX};

/// What a bundle replaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Component {
    /// The customer's application.
    App,
    /// The microvisor itself.
    Microvisor,
}

impl Component {
    /// `app` or `microvisor`.
    pub const fn name(self) -> &'static str {
        match self {
            Component::App => "app",
            Component::Microvisor => "microvisor",
        }
    }
}

/// A semantic version without pre-release or build parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// Breaks.
    pub major: u16,
    /// Adds.
    pub minor: u16,
    /// Repairs.
    pub patch: u16,
}

/// One piece of the area.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layer<'a> {
    /// SHA-256 of its bytes: its name.
    pub digest: Digest,
    /// Its length.
    pub bytes: u32,
    /// Offset in the area, a multiple of 16 KiB.
    pub destination: u32,
    /// Digests of its blocks, 32 bytes each; see [`Layer::block_digest`].
    pub blocks: &'a [u8],
}

/// When a trial counts as good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Confirm {
    /// The application called `healthy`, then stayed up for `stable_s`.
    Healthy,
    /// The application merely ran for `stable_s`.
    Running,
}

/// How an update is tried and confirmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UpdatePolicy {
    /// Seconds a trial has to become healthy.
    pub trial_s: u32,
    /// Seconds it must then stay up.
    pub stable_s: u32,
    /// What counts.
    pub confirm: Confirm,
    /// Starts of the trial version, at most; 1 to 16.
    pub attempts_max: u8,
    /// Seconds an application may put off an update, at most.
    pub polite_s: u32,
    /// The floor rises by itself this long after confirmation; none: only on a signed commit.
    pub commit_after_s: Option<u32>,
}

/// How a crashing application is restarted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CrashPolicy {
    /// First delay before a restart.
    pub backoff_min_ms: u32,
    /// Longest delay.
    pub backoff_max_ms: u32,
    /// Seconds without a crash after which the delay is the first one again.
    pub hold_s: u32,
}

/// How often the device must be heard of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectivityPolicy {
    /// Seconds between hellos, at most.
    pub check_in_s: u32,
}

/// A bundle's manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest<'a> {
    /// The bundle's name: SHA-256 of the bstr-wrapped SUIT_Manifest.
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
    /// Longer than [`crate::limits::ENVELOPE_BYTES_MAX`].
    #[error("envelope is too long")]
    TooLong,
    /// Not an envelope of our profile.
    #[error("malformed manifest")]
    Malformed,
    /// The digest that was signed is not the manifest's.
    #[error("signed digest is not the manifest's")]
    Digest,
    /// Signed by a key the keyset does not name.
    #[error("signed by an unknown key")]
    UnknownKey,
    /// Signed by a release key of another component or board.
    #[error("signed by a release key of another component or board")]
    KeyScope,
    /// The signature does not verify.
    #[error("bad signature")]
    Signature,
}

/// Reads an envelope and checks everything but who signed it.
pub fn read(envelope: &[u8]) -> Result<Manifest<'_>, ManifestError> {
    let _ = envelope;
    Err(ManifestError::Malformed)
}

/// Reads an envelope and checks that a release key of `keyset` for this component and board signed it.
pub fn open<'a>(
    envelope: &'a [u8],
    keyset: &Keyset<'_>,
    verify: &impl Verify,
) -> Result<Manifest<'a>, ManifestError> {
    let _ = (keyset, verify);
    read(envelope)
}

impl Layer<'_> {
    /// Blocks it has.
    pub fn block_count(&self) -> usize {
        self.blocks.len() / 32
    }

    /// The digest block `index` must have, padded with 0xFF to 16 KiB.
    pub fn block_digest(&self, index: usize) -> Option<Digest> {
        self.blocks.as_chunks::<32>().0.get(index).copied().map(Digest)
    }
}

impl fmt::Display for Component {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The text is not `app` or `microvisor`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a component: expected app or microvisor")]
pub struct ComponentError;

impl FromStr for Component {
    type Err = ComponentError;

    fn from_str(text: &str) -> Result<Self, ComponentError> {
        [Component::App, Component::Microvisor].into_iter().find(|it| it.name() == text).ok_or(ComponentError)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

/// The text is not `MAJOR.MINOR.PATCH`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a version: expected MAJOR.MINOR.PATCH")]
pub struct VersionError;

impl FromStr for Version {
    type Err = VersionError;

    fn from_str(text: &str) -> Result<Self, VersionError> {
        let mut parts = text.split('.').map(parse_part);
        let (Some(Some(major)), Some(Some(minor)), Some(Some(patch)), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(VersionError);
        };
        Ok(Version { major, minor, patch })
    }
}

/// One number without sign or leading zeros (semver 2.0.0 §2).
fn parse_part(text: &str) -> Option<u16> {
    let plain = text.bytes().all(|b| b.is_ascii_digit()) && (text.len() == 1 || !text.starts_with('0'));
    plain.then(|| text.parse().ok()).flatten()
}
