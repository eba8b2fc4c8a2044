//! The board's two keys: its identity, made here at the first start, and the claim key the factory gave.
//!
//! Neither leaves: what is asked for is a public key or a signature. TLS signs through the same two calls.

use chip::flash::Window;
use gateway_core::ports::{Entropy, Keys, KeysError};
use gateway_core::provision::Provision;
use gateway_core::secret::{self, Health};
use gateway_link::tls::{SignError, Signer};
use p256::ecdsa::signature::Signer as _;
use p256::ecdsa::{Signature, SigningKey};
use spin::Once;
use zeroize::Zeroizing;

/// A random string that is no P-256 key comes once in 2^32: so many are tried.
const DRAWS_MAX: usize = 8;

static IDENTITY: Once<SigningKey> = Once::new();
static CLAIM: Once<SigningKey> = Once::new();

/// The core's handle to both.
#[derive(Debug)]
pub(crate) struct BoardKeys {
    _one: (),
}

impl BoardKeys {
    /// Finds the identity key, or makes it. A key that cannot be kept is not used: every start would make another board of us.
    pub(crate) fn open(provision: &Provision<'_>, entropy: &mut impl Entropy) -> (Self, Health) {
        let mut region = Window::identity();
        let (found, health) = secret::read(&mut region);
        let found = found.map(Zeroizing::new).and_then(|secret| SigningKey::from_slice(secret.as_slice()).ok());
        let identity = found.or_else(|| make(&mut region, entropy));
        if let Some(identity) = identity {
            IDENTITY.call_once(|| identity);
        }
        if let Ok(claim) = SigningKey::from_slice(provision.claim_key) {
            CLAIM.call_once(|| claim);
        }
        (Self { _one: () }, health)
    }
}

fn make(region: &mut Window, entropy: &mut impl Entropy) -> Option<SigningKey> {
    let mut secret = Zeroizing::new([0; secret::SECRET_BYTES]);
    let key = (0..DRAWS_MAX).find_map(|_| {
        entropy.fill(secret.as_mut_slice()).ok()?;
        SigningKey::from_slice(secret.as_slice()).ok()
    })?;
    secret::write(region, &secret).ok()?;
    Some(key)
}

impl Keys for BoardKeys {
    fn public_key(&mut self) -> Result<[u8; 65], KeysError> {
        let key = IDENTITY.get().ok_or(KeysError)?;
        let point = key.verifying_key().to_sec1_point(false);
        point.as_bytes().try_into().map_err(|_| KeysError)
    }

    fn sign(&mut self, message: &[u8]) -> Result<[u8; 64], KeysError> {
        sign(&IDENTITY, message)
    }

    fn sign_as_claim(&mut self, message: &[u8]) -> Result<[u8; 64], KeysError> {
        sign(&CLAIM, message)
    }
}

/// RFC 6979: no randomness is needed, and none can be bad.
fn sign(key: &Once<SigningKey>, message: &[u8]) -> Result<[u8; 64], KeysError> {
    let signature: Signature = key.get().ok_or(KeysError)?.try_sign(message).map_err(|_| KeysError)?;
    Ok(signature.to_bytes().into())
}

/// The identity key, for TLS.
#[derive(Debug)]
pub(crate) struct IdentitySigner;

impl Signer for IdentitySigner {
    fn sign(&self, message: &[u8]) -> Result<[u8; 64], SignError> {
        sign(&IDENTITY, message).map_err(|_| SignError)
    }
}

/// The claim key, for TLS.
#[derive(Debug)]
pub(crate) struct ClaimSigner;

impl Signer for ClaimSigner {
    fn sign(&self, message: &[u8]) -> Result<[u8; 64], SignError> {
        sign(&CLAIM, message).map_err(|_| SignError)
    }
}
