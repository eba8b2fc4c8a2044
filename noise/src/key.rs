//! Static keys, and how a device vouches for its own: by its identity key, which the registry knows.

use core::fmt;

use wire::DeviceId;
use x25519_dalek::StaticSecret;

/// Bytes of a key's private and of its public half.
pub const KEY_BYTES: usize = 32;
/// The public half of an X25519 key.
pub type PublicKey = [u8; KEY_BYTES];

/// Bytes of a [`Voucher`].
pub const VOUCHER_BYTES: usize = IDENTITY_BYTES + SIGNATURE_BYTES;
const IDENTITY_BYTES: usize = 65;
const SIGNATURE_BYTES: usize = 64;

const STATEMENT: &[u8; 19] = b"holdfast debug key\0";
const STATEMENT_BYTES: usize = STATEMENT.len() + DeviceId::BYTES + KEY_BYTES;

/// An end's own key.
#[derive(Clone)]
pub struct StaticKey(StaticSecret);

impl StaticKey {
    /// Of 32 random bytes.
    pub fn new(random: [u8; KEY_BYTES]) -> Self {
        Self(StaticSecret::from(random))
    }

    pub fn public(&self) -> PublicKey {
        x25519_dalek::PublicKey::from(&self.0).to_bytes()
    }

    pub(crate) fn secret(&self) -> &[u8; KEY_BYTES] {
        self.0.as_bytes()
    }
}

impl fmt::Debug for StaticKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StaticKey(…)")
    }
}

/// What a device says of its static key in message 2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Voucher {
    /// The device's P-256 identity key, SEC1 uncompressed.
    pub identity: [u8; IDENTITY_BYTES],
    /// By that key over the [`statement`]: ECDSA with SHA-256, r ++ s.
    pub signature: [u8; SIGNATURE_BYTES],
}

impl Voucher {
    pub(crate) fn bytes(&self) -> [u8; VOUCHER_BYTES] {
        let mut bytes = [0; VOUCHER_BYTES];
        bytes[..IDENTITY_BYTES].copy_from_slice(&self.identity);
        bytes[IDENTITY_BYTES..].copy_from_slice(&self.signature);
        bytes
    }

    pub(crate) fn read(bytes: &[u8; VOUCHER_BYTES]) -> Self {
        let mut voucher = Self { identity: [0; IDENTITY_BYTES], signature: [0; SIGNATURE_BYTES] };
        voucher.identity.copy_from_slice(&bytes[..IDENTITY_BYTES]);
        voucher.signature.copy_from_slice(&bytes[IDENTITY_BYTES..]);
        voucher
    }
}

/// What the identity key signs: that this static key is this device's.
pub fn statement(device: DeviceId, key: &PublicKey) -> [u8; STATEMENT_BYTES] {
    let mut bytes = [0; STATEMENT_BYTES];
    let (words, rest) = bytes.split_at_mut(STATEMENT.len());
    let (id, public) = rest.split_at_mut(DeviceId::BYTES);
    words.copy_from_slice(STATEMENT);
    id.copy_from_slice(device.text().as_bytes());
    public.copy_from_slice(key);
    bytes
}
