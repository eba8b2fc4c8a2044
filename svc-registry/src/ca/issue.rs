//! Making certificates. Every one names its issuer's key (authorityKeyIdentifier), says what it is good for, and has
//! a random 127-bit serial number (RFC 5280 §4.1.2.2).

use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData, SerialNumber, SignatureAlgorithm,
    date_time_ymd,
};
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use wire::key::{Digest, PublicKey};
use wire::{ClaimId, DeviceId, TenantId};
use zeroize::Zeroizing;

use super::Error;

/// How far before its making a certificate is valid: a broker's clock may be behind ours.
const BACKDATE: Duration = Duration::from_secs(24 * 3600);
/// Life of a tenant's intermediate.
const INTERMEDIATE_LIFE: Duration = Duration::from_secs(30 * 365 * 24 * 3600);

/// A certificate authority's certificate and unsealed key.
pub(crate) struct Signer {
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

/// A new authority: its key leaves only to be sealed.
pub(crate) struct Made {
    pub certificate: Vec<u8>,
    /// SHA-256 of its SubjectPublicKeyInfo.
    pub key_digest: [u8; 32],
    pub pkcs8: Zeroizing<Vec<u8>>,
}

/// A certificate for someone else's key.
#[derive(Debug, Clone)]
pub(crate) struct Issued {
    pub der: Vec<u8>,
    pub serial: [u8; 16],
    /// SHA-256 of `der`.
    pub digest: [u8; 32],
    pub issued_at: SystemTime,
    /// None: never (RFC 5280 §4.1.2.5).
    pub expires_at: Option<SystemTime>,
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Signer(…)")
    }
}

impl std::fmt::Debug for Made {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Made(…)")
    }
}

impl Signer {
    /// From what the store kept: certificate and unsealed PKCS#8.
    pub(crate) fn new(certificate: &[u8], pkcs8: &[u8]) -> Result<Self, Error> {
        let key =
            KeyPair::from_pkcs8_der_and_sign_algo(&PrivatePkcs8KeyDer::from(pkcs8), &PKCS_ECDSA_P256_SHA256);
        let certificate = CertificateDer::from(certificate.to_vec());
        let issuer =
            Issuer::from_ca_cert_der(&certificate, key.map_err(Error::Stored)?).map_err(Error::Stored)?;
        Ok(Self { certificate, issuer })
    }

    pub(crate) fn certificate(&self) -> &[u8] {
        &self.certificate
    }
}

/// The root of the device listener's tree; brokers pin it, so it has no expiry.
pub(crate) fn device_root(now: SystemTime) -> Result<Made, Error> {
    root("Holdfast device root", BasicConstraints::Constrained(1), now)
}

/// The root of the enrolment listener's tree.
pub(crate) fn enroll_root(now: SystemTime) -> Result<Made, Error> {
    root("Holdfast enrolment root", BasicConstraints::Constrained(0), now)
}

/// A tenant's device CA. Names may collide and mean nothing: an intermediate is known by its key's digest.
pub(crate) fn intermediate(root: &Signer, tenant: TenantId, now: SystemTime) -> Result<Made, Error> {
    let (key, mut params) =
        authority(&format!("Holdfast devices of {tenant}"), BasicConstraints::Constrained(0), now)?;
    expire(&mut params, Some(now + INTERMEDIATE_LIFE));
    let certificate = params.signed_by(&key, &root.issuer).map_err(Error::Signing)?;
    Ok(made(&key, certificate.der()))
}

/// A device's certificate for the device listener.
pub(crate) fn leaf(
    issuer: &Signer,
    device: DeviceId,
    key: &PublicKey,
    life: Duration,
    now: SystemTime,
) -> Result<Issued, Error> {
    issue(issuer, &device.to_string(), key, Some(now + life), now)
}

/// A claim's certificate for the enrolment listener.
pub(crate) fn claim(
    issuer: &Signer,
    claim: ClaimId,
    key: &PublicKey,
    expires_at: SystemTime,
    now: SystemTime,
) -> Result<Issued, Error> {
    issue(issuer, &claim.to_string(), key, Some(expires_at), now)
}

/// A device's certificate for the enrolment listener, without expiry: a board may lie in a warehouse for years.
pub(crate) fn birth(
    issuer: &Signer,
    device: DeviceId,
    key: &PublicKey,
    now: SystemTime,
) -> Result<Issued, Error> {
    issue(issuer, &device.to_string(), key, None, now)
}

fn root(name: &str, constraints: BasicConstraints, now: SystemTime) -> Result<Made, Error> {
    let (key, mut params) = authority(name, constraints, now)?;
    expire(&mut params, None);
    let certificate = params.self_signed(&key).map_err(Error::Signing)?;
    Ok(made(&key, certificate.der()))
}

fn authority(
    name: &str,
    constraints: BasicConstraints,
    now: SystemTime,
) -> Result<(KeyPair, CertificateParams), Error> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(Error::Signing)?;
    let mut params = params(name, now);
    params.is_ca = IsCa::Ca(constraints);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.serial_number = Some(SerialNumber::from_slice(&serial()));
    Ok((key, params))
}

fn made(key: &KeyPair, certificate: &[u8]) -> Made {
    Made {
        certificate: certificate.to_vec(),
        key_digest: Digest::of(&key.subject_public_key_info()).0,
        pkcs8: Zeroizing::new(key.serialize_der()),
    }
}

fn issue(
    issuer: &Signer,
    common_name: &str,
    key: &PublicKey,
    expires_at: Option<SystemTime>,
    now: SystemTime,
) -> Result<Issued, Error> {
    let serial = serial();
    let mut params = params(common_name, now);
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    expire(&mut params, expires_at);
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    let subject = Subject::new(key)?;
    let der = params.signed_by(&subject, &issuer.issuer).map_err(Error::Signing)?.der().to_vec();
    Ok(Issued { digest: Digest::of(&der).0, der, serial, issued_at: now, expires_at })
}

fn params(common_name: &str, now: SystemTime) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.not_before = now.checked_sub(BACKDATE).unwrap_or(SystemTime::UNIX_EPOCH).into();
    params.use_authority_key_identifier_extension = true;
    params
}

/// None is 99991231235959Z: no well-defined expiration date (RFC 5280 §4.1.2.5).
fn expire(params: &mut CertificateParams, at: Option<SystemTime>) {
    params.not_after = match at {
        Some(at) => at.into(),
        None => date_time_ymd(9999, 12, 31) + Duration::from_secs(24 * 3600 - 1),
    };
}

fn serial() -> [u8; 16] {
    let mut serial = [0; 16];
    aws_lc_rs::rand::fill(&mut serial).expect("the system's random source works");
    // Positive, and always 16 bytes long in DER.
    serial[0] = serial[0] & 0x3f | 0x40;
    serial
}

/// Someone else's public key, in rcgen's terms.
struct Subject {
    point: Vec<u8>,
}

impl Subject {
    fn new(key: &PublicKey) -> Result<Self, Error> {
        let spki = key.spki_der().map_err(|_| Error::PublicKey)?;
        let (_, point) = spki.split_last_chunk::<65>().ok_or(Error::PublicKey)?;
        Ok(Self { point: point.to_vec() })
    }
}

impl PublicKeyData for Subject {
    fn der_bytes(&self) -> &[u8] {
        &self.point
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}
