//! Reading what strangers send: requests, vouching certificates, signatures. Never panics; refuses what it does not
//! know; trailing bytes are an error.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use wire::key::{Digest, PublicKey};
use wire::{ClaimId, DeviceId};
use x509_parser::oid_registry::OID_SIG_ECDSA_WITH_SHA256;
use x509_parser::prelude::{AlgorithmIdentifier, FromDer, X509Certificate, X509CertificationRequest};

use super::Error;

/// A certificate of the enrolment root: what it names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Vouching {
    pub who: VouchingFor,
    pub key: PublicKey,
    /// SHA-256 of the certificate.
    pub digest: [u8; 32],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum VouchingFor {
    Claim(ClaimId),
    Device(DeviceId),
}

/// The public key of a PKCS#10 request whose self-signature is good. All else in it is ignored.
pub(crate) fn csr_public_key(der: &[u8]) -> Result<PublicKey, Error> {
    let (rest, csr) = X509CertificationRequest::from_der(der).map_err(|_| Error::Csr)?;
    let spki = csr.certification_request_info.subject_pki.raw;
    let key = PublicKey::from_spki_der(spki).map_err(|_| Error::Csr)?;
    let signed = csr.certification_request_info.raw;
    if rest.is_empty()
        && ecdsa(&csr.signature_algorithm)
        && verify_signature(&key, signed, &csr.signature_value.data)
    {
        Ok(key)
    } else {
        Err(Error::Csr)
    }
}

/// Checks that a certificate is one of `root`'s and not an authority itself. Whether it is still valid is for the row
/// it names to say: a claim's expiry is there, and a birth certificate has none.
pub(crate) fn vouching(der: &[u8], root: &[u8]) -> Result<Vouching, Error> {
    let (rest, certificate) = X509Certificate::from_der(der).map_err(|_| Error::NotVouched)?;
    let (_, root) = X509Certificate::from_der(root).map_err(|_| Error::NotVouched)?;
    let root_key = PublicKey::from_spki_der(root.public_key().raw).map_err(|_| Error::NotVouched)?;
    let signed = certificate.tbs_certificate.as_ref();
    if !rest.is_empty()
        || certificate.is_ca()
        || certificate.issuer() != root.subject()
        || !ecdsa(&certificate.signature_algorithm)
        || !verify_signature(&root_key, signed, &certificate.signature_value.data)
    {
        return Err(Error::NotVouched);
    }
    let key = PublicKey::from_spki_der(certificate.public_key().raw).map_err(|_| Error::NotVouched)?;
    let who = common_name(&certificate).and_then(VouchingFor::parse).ok_or(Error::NotVouched)?;
    Ok(Vouching { who, key, digest: Digest::of(der).0 })
}

/// ECDSA P-256 with SHA-256, ASN.1 DER.
pub(crate) fn verify_signature(key: &PublicKey, message: &[u8], signature: &[u8]) -> bool {
    let Ok(spki) = key.spki_der() else { return false };
    let Some((_, point)) = spki.split_last_chunk::<65>() else { return false };
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, point).verify(message, signature).is_ok()
}

/// SHA-256 of a key's SubjectPublicKeyInfo.
pub(crate) fn key_digest(key: &PublicKey) -> [u8; 32] {
    key.hash().expect("a key read from SubjectPublicKeyInfo is on the curve").0
}

/// Said to be signed as everything here is: ecdsa-with-SHA256, without parameters (RFC 5758 §3.2).
fn ecdsa(algorithm: &AlgorithmIdentifier<'_>) -> bool {
    algorithm.algorithm == OID_SIG_ECDSA_WITH_SHA256 && algorithm.parameters.is_none()
}

impl VouchingFor {
    fn parse(name: &str) -> Option<Self> {
        name.parse().map(Self::Claim).ok().or_else(|| name.parse().map(Self::Device).ok())
    }
}

fn common_name<'a>(certificate: &'a X509Certificate<'_>) -> Option<&'a str> {
    let mut names = certificate.subject().iter_common_name();
    match (names.next(), names.next()) {
        (Some(name), None) => name.as_str().ok(),
        _ => None,
    }
}
