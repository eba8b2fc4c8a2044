//! From a verified chain to a peer: common name and the digests svc-registry compares.
//!
//! Holds: the issuer is the one certificate whose key verifies the leaf's signature, whatever else the client sent
//! along and whatever name it carries: two tenants' authorities of the same name are told apart by key.

use aws_lc_rs::digest::{SHA256, digest};
use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::model::limits::CHAIN_MAX;
use crate::model::peer::{Digests, Listener, NameError, Peer};

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CertificateError {
    #[error("no certificate")]
    Missing,
    #[error("certificate does not parse")]
    Malformed,
    #[error("more than {CHAIN_MAX} certificates")]
    ChainTooLong,
    #[error("certificate has not exactly one common name")]
    CommonName,
    #[error("no certificate sent or trusted issued the leaf")]
    Issuer,
    #[error(transparent)]
    Name(#[from] NameError),
}

/// `chain` is what rustls verified, leaf first; `roots` are the listener's.
pub(crate) fn peer(
    listener: Listener,
    chain: &[CertificateDer<'_>],
    roots: &[CertificateDer<'_>],
) -> Result<Peer, CertificateError> {
    let (der, rest) = chain.split_first().ok_or(CertificateError::Missing)?;
    if chain.len() > CHAIN_MAX {
        return Err(CertificateError::ChainTooLong);
    }
    let leaf = parse(der)?;
    let issuer_key = rest.iter().chain(roots).find_map(|candidate| issuer_key(&leaf, candidate));
    let digests = Digests {
        public_key: sha256(leaf.public_key().raw),
        issuer_key: issuer_key.ok_or(CertificateError::Issuer)?,
        certificate: sha256(der),
    };
    Ok(Peer::new(listener, common_name(&leaf)?, digests)?)
}

fn parse<'a>(der: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, CertificateError> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        _ => Err(CertificateError::Malformed),
    }
}

fn common_name<'a>(leaf: &X509Certificate<'a>) -> Result<&'a str, CertificateError> {
    let mut names = leaf.tbs_certificate.subject.iter_common_name();
    match (names.next().map(|name| name.as_str()), names.next()) {
        (Some(Ok(name)), None) => Ok(name),
        _ => Err(CertificateError::CommonName),
    }
}

/// The candidate's key digest, if it issued the leaf.
fn issuer_key(leaf: &X509Certificate<'_>, candidate: &CertificateDer<'_>) -> Option<[u8; 32]> {
    let candidate = parse(candidate).ok()?;
    let issued = candidate.subject().as_raw() == leaf.issuer().as_raw()
        && leaf.verify_signature(Some(candidate.public_key())).is_ok();
    issued.then(|| sha256(candidate.public_key().raw))
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    digest(&SHA256, bytes).as_ref().try_into().expect("SHA-256 has 32 bytes")
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

    const DEVICE: &str = "dv00000000000000000000000000000001";

    struct Authority {
        certificate: CertificateDer<'static>,
        issuer: Issuer<'static, KeyPair>,
    }

    fn authority(name: &str) -> Authority {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap().der().clone();
        Authority { certificate, issuer: Issuer::new(params, key) }
    }

    fn leaf(names: &[&str], by: &Authority) -> CertificateDer<'static> {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        for name in names {
            params.distinguished_name.push(DnType::CommonName, *name);
        }
        params.signed_by(&KeyPair::generate().unwrap(), &by.issuer).unwrap().der().clone()
    }

    #[test]
    fn two_authorities_of_one_name_are_told_apart_by_key() {
        let (ours, theirs) = (authority("Device CA"), authority("Device CA"));
        let leaf = leaf(&[DEVICE], &ours);
        let own = peer(Listener::Device, &[leaf.clone(), ours.certificate.clone()], &[]).unwrap();
        let decoy = peer(
            Listener::Device,
            &[leaf.clone(), theirs.certificate.clone(), ours.certificate.clone()],
            &[],
        )
        .unwrap();
        assert_eq!(own, decoy, "a decoy in front changes nothing");
        assert_eq!(
            peer(Listener::Device, &[leaf, theirs.certificate], &[]).err(),
            Some(CertificateError::Issuer),
            "a name alone is no issuer"
        );
        assert_eq!(own.common_name, DEVICE);
        assert_eq!(own.digests.issuer_key, sha256(parse(&ours.certificate).unwrap().public_key().raw));
    }

    #[test]
    fn a_leaf_issued_by_a_root_finds_it_among_the_listeners() {
        let root = authority("Enrolment root");
        let leaf = leaf(&["cl00000000000000000000000000000001"], &root);
        assert!(peer(Listener::Enroll, &[leaf], &[root.certificate]).is_ok());
    }

    #[test]
    fn names_that_are_not_one_are_refused() {
        let root = authority("root");
        let roots = [root.certificate.clone()];
        let error = |leaf| peer(Listener::Device, &[leaf], &roots).err();
        assert_eq!(error(leaf(&[], &root)), Some(CertificateError::CommonName));
        assert_eq!(error(leaf(&["svc-ota"], &root)), Some(CertificateError::Name(NameError)));
        assert_eq!(error(CertificateDer::from(vec![0x30, 0x03, 1, 2, 3])), Some(CertificateError::Malformed));
        assert_eq!(peer(Listener::Device, &[], &roots).err(), Some(CertificateError::Missing));
        let long = vec![leaf(&[DEVICE], &root); CHAIN_MAX + 1];
        assert_eq!(peer(Listener::Device, &long, &roots).err(), Some(CertificateError::ChainTooLong));
    }
}
