//! The certificates of one installation: a CA for services, another for servers, and what they sign.
//!
//! Two CAs, because who may speak as a service and who may be spoken to are different questions (DESIGN, "Identity").
//! The CA keys are dropped once everything is signed: a kept state directory holds leaves only.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

use crate::secret;

/// Every name a service certificate is made for.
pub(crate) const SERVICES: [&str; 5] =
    ["svc-registry", "svc-broker", "svc-ota", "svc-logs", "svc-debug-relay"];

/// The folder of PEM files.
#[derive(Clone, Debug)]
pub(crate) struct Pki {
    dir: PathBuf,
}

impl Pki {
    /// Makes everything in `dir`, or takes what an earlier run left there complete.
    pub(crate) fn make(dir: PathBuf) -> Result<Pki> {
        let pki = Pki { dir };
        let complete = pki.dir.join("complete");
        if complete.is_file() {
            return Ok(pki);
        }
        std::fs::create_dir_all(&pki.dir).with_context(|| format!("making {}", pki.dir.display()))?;
        let services = authority("Holdfast development services")?;
        let servers = authority("Holdfast development servers")?;
        secret::write(&pki.service_ca(), &services.0)?;
        secret::write(&pki.server_ca(), &servers.0)?;
        for name in SERVICES {
            pki.write(&pki.client(name), leaf(name, Usage::Client, &services.1)?)?;
            pki.write(&pki.server(name), leaf(name, Usage::Server, &servers.1)?)?;
        }
        secret::write(&complete, "")?;
        Ok(pki)
    }

    pub(crate) fn service_ca(&self) -> PathBuf {
        self.dir.join("service-ca.pem")
    }

    pub(crate) fn server_ca(&self) -> PathBuf {
        self.dir.join("server-ca.pem")
    }

    /// Certificate and key a service shows when it calls another.
    pub(crate) fn client(&self, service: &str) -> (PathBuf, PathBuf) {
        self.pair(service, "client")
    }

    /// Certificate and key a service shows when it is called.
    pub(crate) fn server(&self, service: &str) -> (PathBuf, PathBuf) {
        self.pair(service, "server")
    }

    fn pair(&self, service: &str, usage: &str) -> (PathBuf, PathBuf) {
        (self.dir.join(format!("{service}.{usage}.pem")), self.dir.join(format!("{service}.{usage}.key")))
    }

    fn write(&self, (certificate, key): &(PathBuf, PathBuf), pem: (String, String)) -> Result<()> {
        secret::write(certificate, &pem.0)?;
        secret::write(key, &pem.1)
    }
}

/// Reads a certificate or a key made here.
pub(crate) fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))
}

enum Usage {
    Client,
    Server,
}

fn authority(name: &str) -> Result<(String, Issuer<'static, KeyPair>)> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let certificate = params.self_signed(&key)?;
    Ok((certificate.pem(), Issuer::new(params, key)))
}

fn leaf(name: &str, usage: Usage, issuer: &Issuer<'static, KeyPair>) -> Result<(String, String)> {
    let key = KeyPair::generate()?;
    let mut params = match usage {
        Usage::Client => CertificateParams::default(),
        Usage::Server => CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()])?,
    };
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![match usage {
        Usage::Client => ExtendedKeyUsagePurpose::ClientAuth,
        Usage::Server => ExtendedKeyUsagePurpose::ServerAuth,
    }];
    params.use_authority_key_identifier_extension = true;
    Ok((params.signed_by(&key, issuer)?.pem(), key.serialize_pem()))
}
