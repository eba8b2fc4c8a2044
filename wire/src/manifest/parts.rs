//! What a manifest is made of: component, version, layers, policies.

use core::fmt;
use core::str::FromStr;

use crate::key::{Digest, Hasher};
use crate::limits::BLOCK_BYTES;

/// What a bundle replaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Component {
    /// The customer's application.
    App,
    /// The microvisor itself.
    Microvisor,
}

/// The text is not `app` or `microvisor`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a component: expected app or microvisor")]
pub struct ComponentError;

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

/// The text is not `MAJOR.MINOR.PATCH`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a version: expected MAJOR.MINOR.PATCH")]
pub struct VersionError;

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
    /// Longest delay; not below the first.
    pub backoff_max_ms: u32,
    /// Seconds without a crash after which the delay is the first one again.
    pub hold_s: u32,
    /// Seconds that a fault is held for a developer who debugs, at most, and since his last word; 0: it is not. At most
    /// [`DEBUG_HOLD_S_MAX`](crate::limits::DEBUG_HOLD_S_MAX).
    pub debug_hold_s: u32,
    /// Bytes of its memory that are kept of a crash and sent, at most; 0: none. At most
    /// [`CRASH_MEMORY_BYTES_MAX`](crate::limits::CRASH_MEMORY_BYTES_MAX).
    pub memory_bytes: u32,
}

/// When an application that asks for connections may do without one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConnectivityPolicy {
    /// Seconds without a connection, at most; 0: the device stays connected whatever the application says.
    pub check_in_s: u32,
    /// Seconds a connection is kept after nobody needs it any more; at most [`GRACE_S_MAX`](crate::limits::GRACE_S_MAX).
    pub grace_s: u32,
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

impl FromStr for Component {
    type Err = ComponentError;

    fn from_str(text: &str) -> Result<Self, ComponentError> {
        [Component::App, Component::Microvisor].into_iter().find(|it| it.name() == text).ok_or(ComponentError)
    }
}

impl fmt::Display for Component {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Version {
    type Err = VersionError;

    fn from_str(text: &str) -> Result<Self, VersionError> {
        let mut parts = text.split('.').map(parse_part);
        match (parts.next().flatten(), parts.next().flatten(), parts.next().flatten(), parts.next()) {
            (Some(major), Some(minor), Some(patch), None) => Ok(Version { major, minor, patch }),
            _ => Err(VersionError),
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

/// One number without sign or leading zeros (semver 2.0.0 §2).
fn parse_part(text: &str) -> Option<u16> {
    let is_plain = text.bytes().all(|b| b.is_ascii_digit()) && (text.len() == 1 || !text.starts_with('0'));
    if is_plain { text.parse().ok() } else { None }
}

impl Layer<'_> {
    /// Blocks it has.
    pub const fn block_count(&self) -> usize {
        (self.bytes as usize).div_ceil(BLOCK_BYTES)
    }

    /// Bytes of block `index`, 16 KiB but for the last one; 0 beyond it.
    pub fn block_bytes(&self, index: usize) -> usize {
        (self.bytes as usize).saturating_sub(index.saturating_mul(BLOCK_BYTES)).min(BLOCK_BYTES)
    }

    /// The digest block `index` must have, padded with 0xFF to 16 KiB.
    pub fn block_digest(&self, index: usize) -> Option<Digest> {
        self.blocks.as_chunks::<32>().0.get(index).copied().map(Digest)
    }

    /// Whether these are the bytes of block `index`, all of them and no more.
    pub fn block_matches(&self, index: usize, block: &[u8]) -> bool {
        block.len() == self.block_bytes(index) && self.block_digest(index) == Some(padded_digest(block))
    }
}

/// SHA-256 of a block, padded with 0xFF to 16 KiB.
pub(crate) fn padded_digest(block: &[u8]) -> Digest {
    const PADDING: [u8; 512] = [0xff; 512];
    let mut hasher = Hasher::new();
    hasher.update(block);
    let mut missing = BLOCK_BYTES.saturating_sub(block.len());
    while missing > 0 {
        let length = missing.min(PADDING.len());
        hasher.update(&PADDING[..length]);
        missing -= length;
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::string::ToString;

    #[test]
    fn a_version_is_three_plain_numbers() {
        let version: Version = "1.20.300".parse().expect("plain");
        assert_eq!(version.to_string(), "1.20.300");
        for text in ["", "1", "1.2", "1.2.3.4", "1.2.3-rc", "01.2.3", "+1.2.3", "1..3", "1.2.65536", "1.2.3 "]
        {
            assert_eq!(text.parse::<Version>(), Err(VersionError), "{text:?}");
        }
        assert!("1.10.0".parse::<Version>().expect("plain") > "1.9.9".parse().expect("plain"));
    }

    #[test]
    fn a_block_matches_only_all_of_its_own_bytes() {
        let bytes = std::vec![7; BLOCK_BYTES + 5];
        let blocks =
            [padded_digest(&bytes[..BLOCK_BYTES]).0, padded_digest(&bytes[BLOCK_BYTES..]).0].concat();
        let layer =
            Layer { digest: Digest::of(&bytes), bytes: bytes.len() as u32, destination: 0, blocks: &blocks };
        assert_eq!((layer.block_count(), layer.block_bytes(0), layer.block_bytes(1)), (2, BLOCK_BYTES, 5));
        assert!(layer.block_matches(0, &bytes[..BLOCK_BYTES]) && layer.block_matches(1, &[7; 5]));
        assert!(!layer.block_matches(1, &[7, 7, 7, 7, 8]));
        assert!(!layer.block_matches(1, &[7, 7, 7, 7, 7, 0xff]));
        assert!(!layer.block_matches(1, &[]) && !layer.block_matches(2, &[]));
        assert_eq!(layer.block_bytes(usize::MAX), 0);
    }
}
