//! Certificates of every kind a broker meets, made for one rig.

use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PublicKeyData,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

#[derive(Debug, Clone)]
pub struct Authority {
    pub der: CertificateDer<'static>,
    pub pem: String,
    pub spki: Vec<u8>,
    issuer: Arc<Issuer<'static, KeyPair>>,
    /// Sent along by who it issued for; roots are not.
    intermediate: bool,
}

/// A certificate with its key and what is sent along.
#[derive(Debug, Clone)]
pub struct Identity {
    pub name: String,
    pub chain: Vec<CertificateDer<'static>>,
    pub pem: String,
    pub key_pem: String,
    pub spki: Vec<u8>,
    pub issuer_spki: Vec<u8>,
    key: Arc<Vec<u8>>,
}

impl Authority {
    pub fn root(name: &str) -> Authority {
        let (params, key) = (authority_params(name), KeyPair::generate().unwrap());
        let certificate = params.self_signed(&key).unwrap();
        Authority {
            der: certificate.der().clone(),
            pem: certificate.pem(),
            spki: key.subject_public_key_info(),
            issuer: Arc::new(Issuer::new(params, key)),
            intermediate: false,
        }
    }

    pub fn intermediate(&self, name: &str) -> Authority {
        let (params, key) = (authority_params(name), KeyPair::generate().unwrap());
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Authority {
            der: certificate.der().clone(),
            pem: certificate.pem(),
            spki: key.subject_public_key_info(),
            issuer: Arc::new(Issuer::new(params, key)),
            intermediate: true,
        }
    }

    pub fn client(&self, name: &str) -> Identity {
        self.issue(name, ExtendedKeyUsagePurpose::ClientAuth, vec![])
    }

    pub fn server(&self, name: &str) -> Identity {
        self.issue(name, ExtendedKeyUsagePurpose::ServerAuth, vec!["localhost".into(), "127.0.0.1".into()])
    }

    fn issue(&self, name: &str, usage: ExtendedKeyUsagePurpose, hosts: Vec<String>) -> Identity {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(hosts).unwrap();
        params.distinguished_name = named(name);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![usage];
        params.is_ca = IsCa::ExplicitNoCa;
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let mut chain = vec![certificate.der().clone()];
        let mut pem = certificate.pem();
        if self.intermediate {
            chain.push(self.der.clone());
            pem.push_str(&self.pem);
        }
        Identity {
            name: name.to_owned(),
            chain,
            pem,
            key_pem: key.serialize_pem(),
            spki: key.subject_public_key_info(),
            issuer_spki: self.spki.clone(),
            key: Arc::new(key.serialize_der()),
        }
    }
}

impl Identity {
    pub fn key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key.to_vec()))
    }

    /// What this certificate would issue if it were a CA: the leaf signs another leaf.
    pub fn issue_as_ca(&self, name: &str) -> Identity {
        let key = KeyPair::try_from(&PrivatePkcs8KeyDer::from(self.key.to_vec())).unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name = named(&self.name);
        let pretender = Authority {
            der: self.chain[0].clone(),
            pem: self.pem.clone(),
            spki: self.spki.clone(),
            issuer: Arc::new(Issuer::new(params, key)),
            intermediate: false,
        };
        let mut issued = pretender.client(name);
        issued.chain.extend(self.chain.iter().cloned());
        issued
    }
}

fn authority_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = named(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn named(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}
