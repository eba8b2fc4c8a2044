//! Public keys, their names, digests and signatures: fixed-size bytes with types.
//!
//! A [`PublicKey`] is a SEC1 compressed P-256 point whose first byte was checked; whether the point is on the curve is
//! decided where it is used (a signature by a key off the curve never verifies) and once when a keyset is accepted.

use core::fmt;

use p256::elliptic_curve::sec1::ToSec1Point;
use sha2::Digest as _;

use crate::id::{parse_hex, write_hex};

/// The bytes are not a P-256 public key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a P-256 public key")]
pub struct KeyError;

/// A SHA-256 digest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 32]);

/// SHA-256 of a key's SubjectPublicKeyInfo in DER (point uncompressed): the COSE `kid`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyHash(pub [u8; 32]);

/// A P-256 public key, SEC1 compressed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey([u8; 33]);

/// An ECDSA signature: r and s, 32 bytes each, big-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signature(pub [u8; 64]);

/// SHA-256 over bytes that come in pieces.
#[derive(Clone, Default)]
pub struct Hasher(sha2::Sha256);

impl Hasher {
    /// Nothing hashed yet.
    pub fn new() -> Hasher {
        Hasher::default()
    }

    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest of all that was added.
    pub fn finish(self) -> Digest {
        Digest(self.0.finalize().into())
    }
}

impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hasher(…)")
    }
}

impl Digest {
    /// The digest of these bytes.
    pub fn of(bytes: &[u8]) -> Digest {
        Digest::of_parts(&[bytes])
    }

    /// The digest of these parts, one after the other.
    pub fn of_parts(parts: &[&[u8]]) -> Digest {
        let mut hasher = Hasher::new();
        parts.iter().for_each(|part| hasher.update(part));
        hasher.finish()
    }
}

/// DER of a P-256 SubjectPublicKeyInfo up to the point (RFC 5480 §2).
const SPKI_PREFIX: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86,
    0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

impl PublicKey {
    /// A key from its SEC1 bytes, compressed (33) or not (65), its point checked.
    pub fn from_sec1(bytes: &[u8]) -> Result<PublicKey, KeyError> {
        match bytes.first() {
            // SEC1 also has a compact form (5), which names the same point in yet another way.
            Some(2..=4) => {}
            _ => return Err(KeyError),
        }
        let point = p256::PublicKey::from_sec1_bytes(bytes).map_err(|_| KeyError)?;
        Ok(PublicKey::from_point(&point))
    }

    /// A key from its SubjectPublicKeyInfo in DER, its point checked.
    pub fn from_spki_der(der: &[u8]) -> Result<PublicKey, KeyError> {
        der.strip_prefix(&SPKI_PREFIX)
            .filter(|point| point.len() == 65)
            .ok_or(KeyError)
            .and_then(PublicKey::from_sec1)
    }

    /// A key from compressed bytes whose shape is checked here and whose point is checked where it is used.
    pub fn from_compressed(bytes: &[u8]) -> Result<PublicKey, KeyError> {
        match bytes.first() {
            Some(2 | 3) => bytes.try_into().map(PublicKey).map_err(|_| KeyError),
            _ => Err(KeyError),
        }
    }

    /// SEC1 compressed.
    pub const fn as_bytes(&self) -> &[u8; 33] {
        &self.0
    }

    /// SubjectPublicKeyInfo in DER.
    pub fn spki_der(&self) -> Result<[u8; 91], KeyError> {
        let point = self.point()?.to_sec1_point(false);
        let mut der = [0; 91];
        let (prefix, rest) = der.split_at_mut(SPKI_PREFIX.len());
        prefix.copy_from_slice(&SPKI_PREFIX);
        rest.copy_from_slice(point.as_bytes());
        Ok(der)
    }

    /// Its name in COSE; an error when the point is not on the curve.
    pub fn hash(&self) -> Result<KeyHash, KeyError> {
        self.spki_der().map(|der| KeyHash(Digest::of(&der).0))
    }

    pub(crate) fn point(&self) -> Result<p256::PublicKey, KeyError> {
        p256::PublicKey::from_sec1_bytes(&self.0).map_err(|_| KeyError)
    }

    pub(crate) fn from_point(point: &p256::PublicKey) -> PublicKey {
        let point = point.to_sec1_point(true);
        PublicKey(point.as_bytes().try_into().expect("a compressed point has 33 bytes"))
    }
}

macro_rules! hex_text {
    ($($name:ident),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_hex(f, &self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_hex(f, &self.0)
            }
        }
    )*};
}

hex_text!(Digest, KeyHash, PublicKey);

/// The text is not 64 lower-case hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not 64 lower-case hex digits")]
pub struct HexError;

macro_rules! digest_like {
    ($($name:ident),*) => {$(
        impl core::str::FromStr for $name {
            type Err = HexError;

            fn from_str(text: &str) -> Result<Self, HexError> {
                parse_hex(text.as_bytes()).map($name).ok_or(HexError)
            }
        }

        impl TryFrom<&[u8]> for $name {
            type Error = core::array::TryFromSliceError;

            fn try_from(bytes: &[u8]) -> Result<Self, Self::Error> {
                bytes.try_into().map($name)
            }
        }
    )*};
}

digest_like!(Digest, KeyHash);
