//! The identity key: made on the device at its first start, kept in a file that only its owner reads (0600).
//!
//! The claim key beside it comes from provisioning and only ever vouches for enrolments.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, ParsedPublicKey,
};
use gateway_core::ports::{Keys, KeysError};
use rustls_pki_types::PrivatePkcs8KeyDer;
use wire::key::{KeyError, KeyHash};
use wire::{PublicKey, Signature};

/// Public keys a thread keeps ready: those of a few keysets.
const KNOWN_MAX: usize = 32;

/// One device's keys.
pub(crate) struct FileKeys {
    identity: EcdsaKeyPair,
    claim: Arc<EcdsaKeyPair>,
}

impl fmt::Debug for FileKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FileKeys(…)")
    }
}

/// The key pair of a PKCS#8 document.
pub(crate) fn pair(pkcs8: &[u8]) -> anyhow::Result<EcdsaKeyPair> {
    EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8)
        .map_err(|_| anyhow::anyhow!("not a P-256 key"))
}

impl FileKeys {
    /// Reads the key, or makes it. Its PKCS#8 document is returned for the board's own TLS stack.
    pub(crate) fn open(
        path: &Path,
        claim: Arc<EcdsaKeyPair>,
    ) -> anyhow::Result<(Self, PrivatePkcs8KeyDer<'static>)> {
        if !path.exists() {
            make(path).with_context(|| format!("cannot make {}", path.display()))?;
        }
        let pkcs8 = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        let identity = pair(&pkcs8).with_context(|| path.display().to_string())?;
        Ok((Self { identity, claim }, PrivatePkcs8KeyDer::from(pkcs8)))
    }
}

/// A key that is there is complete: it appears under its name only when all of it was written.
fn make(path: &Path) -> anyhow::Result<()> {
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new())
        .map_err(|_| anyhow::anyhow!("no randomness"))?;
    let draft = path.with_extension("draft");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
    file.write_all(pkcs8.as_ref())?;
    std::fs::rename(draft, path)?;
    Ok(())
}

fn sign(key: &EcdsaKeyPair, message: &[u8]) -> Result<[u8; 64], KeysError> {
    let signature = key.sign(&SystemRandom::new(), message).map_err(|_| KeysError)?;
    signature.as_ref().try_into().map_err(|_| KeysError)
}

impl Keys for FileKeys {
    fn public_key(&mut self) -> Result<[u8; 65], KeysError> {
        self.identity.public_key().as_ref().try_into().map_err(|_| KeysError)
    }

    fn sign(&mut self, message: &[u8]) -> Result<[u8; 64], KeysError> {
        sign(&self.identity, message)
    }

    fn sign_as_claim(&mut self, message: &[u8]) -> Result<[u8; 64], KeysError> {
        sign(&self.claim, message)
    }
}

/// Signature checks by aws-lc, some ten times faster than portable code.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FastVerify;

impl wire::cose::Verify for FastVerify {
    fn verify(&self, key: &PublicKey, message: &[&[u8]], signature: &Signature) -> bool {
        let message = message.concat();
        with_known(key, |known| known.point.verify_sig(&message, &signature.0).is_ok()).unwrap_or(false)
    }

    fn key_hash(&self, key: &PublicKey) -> Result<KeyHash, KeyError> {
        with_known(key, |known| known.name)
    }
}

/// A key as it is used; making it from 33 bytes takes two square roots.
struct Known {
    key: PublicKey,
    point: ParsedPublicKey,
    name: KeyHash,
}

thread_local! {
    /// Newest first: thousands of devices of one tenant meet the same few keys.
    static KNOWN: RefCell<VecDeque<Known>> = const { RefCell::new(VecDeque::new()) };
}

fn with_known<R>(key: &PublicKey, used: impl FnOnce(&Known) -> R) -> Result<R, KeyError> {
    KNOWN.with_borrow_mut(|all| {
        let at = match all.iter().position(|known| known.key == *key) {
            Some(at) => at,
            None => {
                let name = key.hash()?;
                let point = ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key.as_bytes());
                all.truncate(KNOWN_MAX - 1);
                all.push_front(Known { key: *key, point: point.map_err(|_| KeyError)?, name });
                0
            }
        };
        all.get(at).map(used).ok_or(KeyError)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;
    use wire::cose::Verify as _;

    fn claim() -> Arc<EcdsaKeyPair> {
        let pkcs8 =
            EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new()).unwrap();
        Arc::new(pair(pkcs8.as_ref()).unwrap())
    }

    #[test]
    fn the_key_is_made_once_and_only_its_owner_may_read_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        let (mut first, _) = FileKeys::open(&path, claim()).unwrap();
        let (mut again, _) = FileKeys::open(&path, claim()).unwrap();
        assert_eq!(first.public_key(), again.public_key());
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn signatures_verify_with_the_compressed_key_and_not_after_a_change() {
        let directory = tempfile::tempdir().unwrap();
        let (mut keys, _) = FileKeys::open(&directory.path().join("key"), claim()).unwrap();
        let key = PublicKey::from_sec1(&keys.public_key().unwrap()).unwrap();
        let mut signature = Signature(keys.sign(b"onetwo").unwrap());
        assert!(FastVerify.verify(&key, &[b"one", b"two"], &signature));
        assert!(!FastVerify.verify(&key, &[b"one", b"too"], &signature));
        signature.0[9] ^= 1;
        assert!(!FastVerify.verify(&key, &[b"one", b"two"], &signature));
    }
}
