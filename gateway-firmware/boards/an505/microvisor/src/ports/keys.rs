//! The board's keys: the identity key, made here at the first start, and the claim key it was provisioned with.
//!
//! Nothing exports a private key: it is in the identity region of the flash, in this module's memory while it runs, and
//! nowhere else. Signatures are deterministic (RFC 6979), so that no lack of randomness can give a key away.

use chip::flash::Window;
use gateway_core::ports::{Entropy as _, Keys, KeysError};
use gateway_core::secret::{self, Health, SECRET_BYTES};
use p256::ecdsa::signature::hazmat::PrehashSigner as _;
use p256::ecdsa::{Signature, SigningKey};
use wire::Digest;

use super::random::Random;
use super::single::Single;

/// Draws before it is given up: a scalar is out of range once in 2^32.
const DRAWS_MAX: u32 = 4;

struct Held {
    identity: Option<SigningKey>,
    claim: Option<SigningKey>,
}

static HELD: Single<Held> = Single::new(Held { identity: None, claim: None });

/// Which key signs: what a TLS stack is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signer {
    Identity,
    Claim,
}

impl Signer {
    /// ECDSA over SHA-256 of the message: r ++ s.
    pub(crate) fn sign(self, message: &[u8]) -> Result<[u8; 64], KeysError> {
        self.with(|key| {
            let signature: Signature = key.sign_prehash(&Digest::of(message).0).map_err(|_| KeysError)?;
            Ok(signature.to_bytes().into())
        })
    }

    /// SEC1 uncompressed public point.
    pub(crate) fn public_key(self) -> Result<[u8; 65], KeysError> {
        self.with(|key| key.verifying_key().to_sec1_point(false).as_bytes().try_into().map_err(|_| KeysError))
    }

    fn with<R>(self, use_key: impl FnOnce(&SigningKey) -> Result<R, KeysError>) -> Result<R, KeysError> {
        let used = |held: &mut Held| {
            let key = match self {
                Signer::Identity => &held.identity,
                Signer::Claim => &held.claim,
            };
            use_key(key.as_ref().ok_or(KeysError)?)
        };
        HELD.with(used).ok_or(KeysError)?
    }
}

/// The keys as the core's port.
#[derive(Debug)]
pub(crate) struct BoardKeys {
    /// How the identity key was found. After `Health::Blank` another was made, and after `Health::Lost` too: the device has
    /// become another one.
    pub(crate) health: Health,
}

impl BoardKeys {
    /// Reads the identity key, mends a damaged copy, or makes the key if there is none.
    pub(crate) fn open(claim_key: &[u8; SECRET_BYTES]) -> Result<BoardKeys, KeysError> {
        let mut flash = Window::identity();
        let (secret, health) = secret::read(&mut flash);
        let identity = match secret.and_then(|secret| SigningKey::from_slice(&secret).ok()) {
            Some(identity) => identity,
            None => make(&mut flash)?,
        };
        let claim = SigningKey::from_slice(claim_key).ok();
        HELD.with(|held| *held = Held { identity: Some(identity), claim }).ok_or(KeysError)?;
        Ok(BoardKeys { health })
    }
}

impl Keys for BoardKeys {
    fn public_key(&mut self) -> Result<[u8; 65], KeysError> {
        Signer::Identity.public_key()
    }

    fn sign(&mut self, message: &[u8]) -> Result<[u8; 64], KeysError> {
        Signer::Identity.sign(message)
    }

    fn sign_as_claim(&mut self, message: &[u8]) -> Result<[u8; 64], KeysError> {
        Signer::Claim.sign(message)
    }
}

/// Makes a key; it is in both copies before it is used.
fn make(flash: &mut Window) -> Result<SigningKey, KeysError> {
    let mut scalar = [0; SECRET_BYTES];
    for _ in 0..DRAWS_MAX {
        Random.fill(&mut scalar).map_err(|_| KeysError)?;
        if let Ok(key) = SigningKey::from_slice(&scalar) {
            secret::write(flash, &scalar).map_err(|_| KeysError)?;
            return Ok(key);
        }
    }
    Err(KeysError)
}
