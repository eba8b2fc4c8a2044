//! Certificates: who signs what, and what is read from those that come in.
//!
//! Two trees that never meet. *device root* -> one intermediate a tenant (path length 0) -> device leaf: the device
//! listener's. *enrolment root* -> claim and birth certificates: the enrolment listener's, so that neither ever opens
//! the device listener. All keys are P-256; subject and extensions are ours, from a request only the public key is
//! taken. No IO; private keys come unsealed and leave as PKCS#8 to be sealed.

mod issue;
mod read;

pub(crate) use issue::{Issued, Made, Signer, birth, claim, device_root, enroll_root, intermediate, leaf};
pub(crate) use read::{Vouching, VouchingFor, csr_public_key, key_digest, verify_signature, vouching};

/// A certificate or key that cannot be used, or a signature that cannot be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("not a certificate signing request for a P-256 key signed by itself")]
    Csr,
    #[error("not a certificate of this installation's enrolment root")]
    NotVouched,
    #[error("not a P-256 public key in SubjectPublicKeyInfo DER")]
    PublicKey,
    #[error("stored key or certificate cannot be used")]
    Stored(#[source] rcgen::Error),
    #[error("signing failed")]
    Signing(#[source] rcgen::Error),
}

#[cfg(test)]
mod tests;
