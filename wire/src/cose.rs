//! COSE signatures (RFC 9052) with ES256 (RFC 9053 §2.1): COSE_Sign1 and COSE_Sign, attached and detached, as strict
//! as docs/bundle.md.

use crate::key::{PublicKey, Signature};

/// Checks ECDSA P-256 with SHA-256. Boards and servers may bring a faster one than [`P256`].
pub trait Verify {
    /// Whether `signature` is `key`'s over SHA-256 of the parts, one after the other. A key off the curve, r or s out
    /// of range: no.
    fn verify(&self, key: &PublicKey, message: &[&[u8]], signature: &Signature) -> bool;
}

/// The p256 crate.
#[derive(Clone, Copy, Debug, Default)]
pub struct P256;

impl Verify for P256 {
    fn verify(&self, _key: &PublicKey, _message: &[&[u8]], _signature: &Signature) -> bool {
        false
    }
}
