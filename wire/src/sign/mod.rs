//! Making signed objects: for the CLI, svc-ota and tests. Firmware is built without this.

use crate::key::{PublicKey, Signature};

/// Whoever holds a private key: a file, a PKCS#11 command, a KMS.
pub trait Signer {
    /// Its public half.
    fn public_key(&self) -> PublicKey;

    /// ECDSA P-256 with SHA-256 over the message.
    fn sign(&self, message: &[u8]) -> Result<Signature, SignError>;
}

/// The signer could not sign.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("signing failed: {0}")]
pub struct SignError(pub alloc::string::String);
