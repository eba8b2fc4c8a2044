//! What the certificates say, read back by another parser, and what is refused of those that come in.

use std::time::{Duration, SystemTime};

use proptest::prelude::*;
use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use wire::key::PublicKey;
use wire::{ClaimId, DeviceId, TenantId};
use x509_parser::prelude::{FromDer, X509Certificate, X509CertificationRequest};

use super::*;

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

fn signer(made: &Made) -> Signer {
    Signer::new(&made.certificate, &made.pkcs8).unwrap()
}

fn public(key: &KeyPair) -> PublicKey {
    PublicKey::from_sec1(key.public_key_raw()).unwrap()
}

fn parse(der: &[u8]) -> X509Certificate<'_> {
    let (rest, certificate) = X509Certificate::from_der(der).unwrap();
    assert!(rest.is_empty());
    certificate
}

fn assert_client_only(certificate: &X509Certificate<'_>) {
    assert!(!certificate.is_ca());
    assert!(certificate.basic_constraints().unwrap().is_some(), "CA:false is said, not left out");
    let usage = certificate.key_usage().unwrap().unwrap().value;
    assert!(usage.digital_signature() && !usage.key_cert_sign());
    let extended = certificate.extended_key_usage().unwrap().unwrap().value;
    assert!(extended.client_auth && !extended.server_auth && !extended.any);
}

#[test]
fn a_leaf_chains_to_the_device_root_and_is_a_client_only() {
    let root = device_root(now()).unwrap();
    let tenant = intermediate(&signer(&root), TenantId::new([1; 16]), now()).unwrap();
    let key = KeyPair::generate().unwrap();
    let id = DeviceId::new([3; 16]);
    let leaf = leaf(&signer(&tenant), id, &public(&key), Duration::from_secs(3600), now()).unwrap();

    let (root, middle, leaf) = (parse(&root.certificate), parse(&tenant.certificate), parse(&leaf.der));
    root.verify_signature(None).unwrap();
    middle.verify_signature(Some(root.public_key())).unwrap();
    leaf.verify_signature(Some(middle.public_key())).unwrap();
    assert_eq!(middle.basic_constraints().unwrap().unwrap().value.path_len_constraint, Some(0));
    assert_client_only(&leaf);
    assert_eq!(leaf.subject().iter_common_name().next().unwrap().as_str().unwrap(), id.to_string());
    assert_eq!(leaf.validity().not_after.timestamp(), 1_800_003_600);
    assert!(leaf.validity().not_before.timestamp() < 1_800_000_000 - 3600, "backdated");
}

#[test]
fn from_a_request_only_the_public_key_is_used() {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["victim.example".to_owned()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, "dv00000000000000000000000000000000");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let csr = params.serialize_request(&key).unwrap();

    let read = csr_public_key(csr.der()).unwrap();
    assert_eq!(read, public(&key));
    let root = device_root(now()).unwrap();
    let mine = DeviceId::new([9; 16]);
    let leaf = leaf(&signer(&root), mine, &read, Duration::from_secs(60), now()).unwrap();
    let leaf = parse(&leaf.der);
    assert_client_only(&leaf);
    assert!(leaf.subject_alternative_name().unwrap().is_none());
    assert_eq!(leaf.subject().to_string(), format!("CN={mine}"));
}

#[test]
fn a_request_not_signed_by_its_own_key_is_refused() {
    let key = KeyPair::generate().unwrap();
    let csr = CertificateParams::default().serialize_request(&key).unwrap().der().to_vec();
    assert!(csr_public_key(&csr).is_ok());
    let signed = |der: &[u8]| {
        let (_, csr) = X509CertificationRequest::from_der(der).unwrap();
        csr.certification_request_info.raw.to_vec()
    };
    for at in 0..csr.len() {
        let mut bad = csr.clone();
        bad[at] ^= 0x10;
        // Of the wrapper a bit may change unnoticed; of what is signed none.
        assert!(csr_public_key(&bad).is_err() || signed(&bad) == signed(&csr), "byte {at}");
    }
    let mut longer = csr.clone();
    longer.push(0);
    assert!(csr_public_key(&longer).is_err());
    assert!(csr_public_key(&csr[..csr.len() - 1]).is_err());
}

#[test]
fn a_request_for_another_curve_is_refused() {
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
    let csr = CertificateParams::default().serialize_request(&key).unwrap();
    assert!(csr_public_key(csr.der()).is_err());
}

#[test]
fn claim_and_birth_certificates_vouch_and_a_birth_certificate_never_ends() {
    let root = enroll_root(now()).unwrap();
    let key = KeyPair::generate().unwrap();
    let claim_id = ClaimId::new([4; 16]);
    let end = now() + Duration::from_secs(60);
    let claim = claim(&signer(&root), claim_id, &public(&key), end, now()).unwrap();
    let read = vouching(&claim.der, &root.certificate).unwrap();
    assert_eq!(read.who, VouchingFor::Claim(claim_id));
    assert_eq!((read.key, read.digest), (public(&key), claim.digest));

    let device = DeviceId::new([5; 16]);
    let birth = birth(&signer(&root), device, &public(&key), now()).unwrap();
    assert_eq!(vouching(&birth.der, &root.certificate).unwrap().who, VouchingFor::Device(device));
    assert_eq!(birth.expires_at, None);
    assert_client_only(&parse(&birth.der));
    let text = b"99991231235959Z";
    assert!(birth.der.windows(text.len()).any(|w| w == text), "RFC 5280 §4.1.2.5");
}

#[test]
fn what_another_root_signed_does_not_vouch() {
    let (ours, theirs) = (enroll_root(now()).unwrap(), enroll_root(now()).unwrap());
    let key = KeyPair::generate().unwrap();
    let foreign = birth(&signer(&theirs), DeviceId::new([5; 16]), &public(&key), now()).unwrap();
    assert!(vouching(&foreign.der, &ours.certificate).is_err(), "same names, another key");
    let device_tree = device_root(now()).unwrap();
    let leaf =
        leaf(&signer(&device_tree), DeviceId::new([5; 16]), &public(&key), Duration::from_secs(9), now());
    assert!(vouching(&leaf.unwrap().der, &ours.certificate).is_err(), "a device leaf does not enrol");
    assert!(vouching(&ours.certificate, &ours.certificate).is_err(), "an authority does not vouch itself");
}

#[test]
fn a_flipped_bit_in_a_vouching_certificate_is_noticed() {
    let root = enroll_root(now()).unwrap();
    let key = KeyPair::generate().unwrap();
    let birth = birth(&signer(&root), DeviceId::new([5; 16]), &public(&key), now()).unwrap();
    for at in 0..birth.der.len() {
        let mut bad = birth.der.clone();
        bad[at] ^= 1;
        // Of unsigned bytes (the outer algorithm's) a change may pass, but then it is another certificate by digest.
        if let Ok(read) = vouching(&bad, &root.certificate) {
            assert_ne!(read.digest, birth.digest, "byte {at}");
            assert_eq!(read.key, public(&key), "byte {at}");
        }
    }
}

proptest! {
    #[test]
    fn no_bytes_make_a_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let root = [0x30, 0x00];
        let _ = csr_public_key(&bytes);
        let _ = vouching(&bytes, &root);
        let key = PublicKey::from_compressed(&[2; 33]).unwrap();
        let _ = verify_signature(&key, b"", &bytes);
    }
}
