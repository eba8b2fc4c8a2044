//! Making signed objects: for the CLI, svc-ota and tests. Firmware is built without this.
//!
//! A private key is only ever asked to sign, through [`Signer`], so that a file, a PKCS#11 command or a KMS can serve.
//! Every signature is checked before it leaves: a signer that answers with another key's signature is found here,
//! not on a device. What is built is read back by the strict decoder before it is returned.

mod directive;
mod key;
mod keyset;
mod manifest;

pub use directive::sign_directive;
pub use key::SoftKey;
pub use keyset::{KeysetSpec, ReleaseKeySpec, assemble_keyset, sign_keyset};
pub use manifest::{LayerSpec, ManifestSpec, SignedManifest};

use alloc::string::String;
use alloc::vec::Vec;

use crate::cbor::Writer;
use crate::cose::{self, HEADER_ALGORITHM, HEADER_CONTENT_TYPE, HEADER_KEY_ID, P256, Verify};
use crate::directive::DirectiveError;
use crate::key::{KeyError, KeyHash, PublicKey, Signature};
use crate::keyset::KeysetError;
use crate::manifest::ManifestError;

/// Whoever holds a private key: a file, a PKCS#11 command, a KMS.
pub trait Signer {
    /// Its public half.
    fn public_key(&self) -> PublicKey;

    /// ECDSA P-256 with SHA-256 over the message.
    fn sign(&self, message: &[u8]) -> Result<Signature, SignError>;

    /// What checks its signatures before they leave; one who signs much brings something faster than the default.
    fn check(&self) -> &dyn Verify {
        &P256
    }
}

/// Reads back what was just signed: its signature was checked when it was made.
struct ReadBack<'a>(&'a dyn Signer);

impl Verify for ReadBack<'_> {
    fn verify(&self, key: &PublicKey, _message: &[&[u8]], _signature: &Signature) -> bool {
        *key == self.0.public_key()
    }

    fn key_hash(&self, key: &PublicKey) -> Result<KeyHash, KeyError> {
        self.0.check().key_hash(key)
    }
}

/// Why nothing was signed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignError {
    /// The signer could not sign, in its own words.
    #[error("signing failed: {0}")]
    Signer(String),
    /// The signature is not the public key's.
    #[error("the signer's signature does not verify under its public key {0}")]
    WrongKey(PublicKey),
    /// The public key is not on the curve.
    #[error("malformed key")]
    Key,
    /// The manifest would be refused.
    #[error("the manifest would be refused: {0}")]
    Manifest(ManifestError),
    /// The directive would be refused.
    #[error("the directive would be refused: {0}")]
    Directive(DirectiveError),
    /// The keyset would be refused.
    #[error("the keyset would be refused: {0}")]
    Keyset(KeysetError),
}

/// The signer's signature over a message in parts, checked; and the key's name.
fn sign_parts(signer: &dyn Signer, message: &[&[u8]]) -> Result<(KeyHash, Signature), SignError> {
    let key = signer.public_key();
    let check = signer.check();
    let hash = check.key_hash(&key).map_err(|_| SignError::Key)?;
    let signature = signer.sign(&message.concat())?;
    match check.verify(&key, message, &signature) {
        true => Ok((hash, signature)),
        false => Err(SignError::WrongKey(key)),
    }
}

/// A COSE_Sign1 over a payload, attached or not.
fn sign1(
    signer: &dyn Signer,
    content_type: Option<&str>,
    payload: &[u8],
    is_attached: bool,
) -> Result<Vec<u8>, SignError> {
    let mut protected = Writer::new();
    protected.map(1 + usize::from(content_type.is_some())).int(HEADER_ALGORITHM).int(cose::ES256);
    if let Some(content_type) = content_type {
        protected.int(HEADER_CONTENT_TYPE).text(content_type);
    }
    let protected = protected.into_vec();
    let (hash, signature) =
        cose::sign1_structure(&protected, payload, |message| sign_parts(signer, message))?;
    let mut writer = Writer::new();
    writer.tag(cose::TAG_SIGN1).array(4).bytes(&protected);
    writer.map(1).int(HEADER_KEY_ID).bytes(&hash.0);
    match is_attached {
        true => writer.bytes(payload),
        false => writer.null(),
    };
    writer.bytes(&signature.0);
    Ok(writer.into_vec())
}
