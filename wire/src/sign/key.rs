//! A private key in memory: from a file the developer keeps, or one svc-ota unsealed.

use alloc::string::{String, ToString};
use core::fmt;

use p256::ecdsa::SigningKey;
use p256::ecdsa::signature::hazmat::PrehashSigner;
use p256::pkcs8::{DecodePrivateKey, EncodePrivateKey, LineEnding};

use super::{SignError, Signer};
use crate::key::{Digest, KeyError, PublicKey, Signature};

/// A P-256 private key. Wiped when dropped; never printed.
#[derive(Clone)]
pub struct SoftKey(SigningKey);

impl SoftKey {
    /// A key from 32 random bytes; an error for the few that are no scalar (then draw again).
    pub fn from_scalar(scalar: &[u8; 32]) -> Result<SoftKey, KeyError> {
        SigningKey::from_slice(scalar).map(SoftKey).map_err(|_| KeyError)
    }

    /// The 32 bytes it was made from: to be sealed, never to be shown.
    pub fn to_scalar(&self) -> [u8; 32] {
        self.0.to_bytes().into()
    }

    /// A key from PKCS#8 in PEM (`-----BEGIN PRIVATE KEY-----`).
    pub fn from_pkcs8_pem(pem: &str) -> Result<SoftKey, KeyError> {
        SigningKey::from_pkcs8_pem(pem).map(SoftKey).map_err(|_| KeyError)
    }

    /// PKCS#8 in PEM, for the key's owner to keep.
    pub fn to_pkcs8_pem(&self) -> Result<String, KeyError> {
        self.0.to_pkcs8_pem(LineEnding::LF).map(|pem| pem.to_string()).map_err(|_| KeyError)
    }
}

impl Signer for SoftKey {
    fn public_key(&self) -> PublicKey {
        PublicKey::from_point(&p256::PublicKey::from(self.0.verifying_key()))
    }

    fn sign(&self, message: &[u8]) -> Result<Signature, SignError> {
        let digest = Digest::of(message);
        let signature: p256::ecdsa::Signature =
            self.0.sign_prehash(&digest.0).map_err(|error| SignError::Signer(error.to_string()))?;
        Ok(Signature(signature.to_bytes().into()))
    }
}

impl fmt::Debug for SoftKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SoftKey({}, …)", self.public_key())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cose::{P256, Verify};

    #[test]
    fn a_key_survives_its_pem_and_its_scalar() {
        let key = SoftKey::from_scalar(&[7; 32]).expect("a scalar");
        let pem = key.to_pkcs8_pem().expect("encodes");
        assert!(pem.starts_with("-----BEGIN PRIVATE KEY-----\n"));
        assert_eq!(SoftKey::from_pkcs8_pem(&pem).expect("decodes").to_scalar(), key.to_scalar());
        assert_eq!(SoftKey::from_scalar(&[0; 32]).err(), Some(KeyError));
        assert_eq!(SoftKey::from_scalar(&[0xff; 32]).err(), Some(KeyError));
    }

    #[test]
    fn what_a_key_signs_verifies_in_parts_and_under_no_other_key() {
        let (key, other) =
            (SoftKey::from_scalar(&[7; 32]).expect("ok"), SoftKey::from_scalar(&[8; 32]).expect("ok"));
        let signature = key.sign(b"one two").expect("signs");
        assert!(P256.verify(&key.public_key(), &[b"one", b" two"], &signature));
        assert!(!P256.verify(&other.public_key(), &[b"one two"], &signature));
        assert!(!P256.verify(&key.public_key(), &[b"one twO"], &signature));
        assert!(!P256.verify(&key.public_key(), &[b"one two"], &Signature([0; 64])));
        assert!(!P256.verify(&key.public_key(), &[b"one two"], &Signature([0xff; 64])));
    }

    #[test]
    fn debug_shows_the_public_half_only() {
        let key = SoftKey::from_scalar(&[7; 32]).expect("ok");
        let text = alloc::format!("{key:?}");
        assert!(!text.contains("0707") && text.contains('…'));
    }
}
