//! Certificates of one run, P-256: a device root with one intermediate, the services' CA, the servers' CA.
//!
//! All devices have one key and a certificate each: what a broker does with them is the same, and ten thousand are made
//! in a second.

use std::sync::Arc;

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose,
};
use rustls::client::Resumption;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::{CertifiedKey, SigningKey, SingleCertAndKey};
use rustls::{ClientConfig, RootCertStore};

use super::client::Identity;

/// An authority, with its certificate.
pub(crate) struct Authority {
    pub(crate) der: CertificateDer<'static>,
    pub(crate) pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key as files hold them.
pub(crate) struct Files {
    pub(crate) cert: String,
    pub(crate) key: String,
}

pub(crate) struct Pki {
    pub(crate) device_root: Authority,
    pub(crate) service_ca: Authority,
    pub(crate) server_ca: Authority,
    tenant: Authority,
    key: KeyPair,
    signing: Arc<dyn SigningKey>,
    /// Trusts the servers; each client puts its certificate in.
    client: ClientConfig,
}

impl Pki {
    pub(crate) fn new() -> Result<Pki> {
        let device_root = Authority::root("Holdfast device root")?;
        let tenant = device_root.intermediate("Device CA")?;
        let (service_ca, server_ca) = (Authority::root("Service CA")?, Authority::root("Server CA")?);
        let key = KeyPair::generate()?;
        let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let signing = rustls::crypto::aws_lc_rs::sign::any_supported_type(&der)?;
        let mut roots = RootCertStore::empty();
        roots.add(server_ca.der.clone())?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(roots)
            .with_no_client_auth();
        client.resumption = Resumption::disabled();
        Ok(Pki { device_root, service_ca, server_ca, tenant, key, signing, client })
    }

    /// What a device of this name connects with: its certificate and the intermediate.
    pub(crate) fn device(&self, name: &str) -> Result<Identity> {
        let leaf = self.tenant.sign(name, ExtendedKeyUsagePurpose::ClientAuth, &self.key)?;
        Ok(self.identity(name, vec![leaf.der().clone(), self.tenant.der.clone()]))
    }

    pub(crate) fn service(&self, name: &str) -> Result<Identity> {
        let leaf = self.service_ca.sign(name, ExtendedKeyUsagePurpose::ClientAuth, &self.key)?;
        Ok(self.identity(name, vec![leaf.der().clone()]))
    }

    fn identity(&self, name: &str, chain: Vec<CertificateDer<'static>>) -> Identity {
        let mut config = self.client.clone();
        let certified = CertifiedKey::new(chain, self.signing.clone());
        config.client_auth_cert_resolver = Arc::new(SingleCertAndKey::from(certified));
        Identity { name: name.to_owned(), tls: Arc::new(config) }
    }
}

impl Authority {
    fn root(name: &str) -> Result<Authority> {
        let (params, key) = (authority_params(name), KeyPair::generate()?);
        let certificate = params.self_signed(&key)?;
        Ok(Authority {
            der: certificate.der().clone(),
            pem: certificate.pem(),
            issuer: Issuer::new(params, key),
        })
    }

    fn intermediate(&self, name: &str) -> Result<Authority> {
        let (params, key) = (authority_params(name), KeyPair::generate()?);
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(Authority {
            der: certificate.der().clone(),
            pem: certificate.pem(),
            issuer: Issuer::new(params, key),
        })
    }

    /// A server's certificate with a key of its own.
    pub(crate) fn server(&self, name: &str) -> Result<Files> {
        self.files(name, ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// A client's.
    pub(crate) fn client(&self, name: &str) -> Result<Files> {
        self.files(name, ExtendedKeyUsagePurpose::ClientAuth)
    }

    fn files(&self, name: &str, usage: ExtendedKeyUsagePurpose) -> Result<Files> {
        let key = KeyPair::generate()?;
        let certificate = self.sign(name, usage, &key)?;
        Ok(Files { cert: certificate.pem(), key: key.serialize_pem() })
    }

    fn sign(&self, name: &str, usage: ExtendedKeyUsagePurpose, key: &KeyPair) -> Result<rcgen::Certificate> {
        let hosts = match usage {
            ExtendedKeyUsagePurpose::ServerAuth => vec!["localhost".to_owned()],
            _ => vec![],
        };
        let mut params = CertificateParams::new(hosts)?;
        params.distinguished_name = named(name);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![usage];
        params.is_ca = IsCa::ExplicitNoCa;
        params.signed_by(key, &self.issuer).with_context(|| format!("a certificate for {name}"))
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
