//! Certificates made for one test: a server CA, a service CA, and a foreign one.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use kit::config::TlsFiles;
use kit::tls::Tls;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
};
use rustls::ServerConfig;
use rustls::server::WebPkiClientVerifier;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

type Issuer = CertifiedIssuer<'static, KeyPair>;

/// The CAs, and the folder certificates are written to.
pub(crate) struct Pki {
    server: Issuer,
    service: Issuer,
    foreign: Issuer,
    folder: tempfile::TempDir,
}

/// Which CA signs.
#[derive(Clone, Copy)]
pub(crate) enum By {
    Server,
    Service,
    Foreign,
}

impl Pki {
    pub(crate) fn new() -> Self {
        kit::tls::install_provider();
        Self {
            server: authority("server CA"),
            service: authority("service CA"),
            foreign: authority("service CA"),
            folder: tempfile::tempdir().unwrap(),
        }
    }

    /// Certificate and key in PEM.
    pub(crate) fn leaf(&self, by: By, name: &str) -> (String, String) {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = match by {
            By::Server => vec![ExtendedKeyUsagePurpose::ServerAuth],
            By::Service | By::Foreign => vec![ExtendedKeyUsagePurpose::ClientAuth],
        };
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        let certificate = params.signed_by(&key, self.issuer(by)).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    pub(crate) fn ca(&self, by: By) -> String {
        self.issuer(by).pem()
    }

    /// What a service of this name is configured with.
    pub(crate) fn files(&self, name: &str) -> TlsFiles {
        let (cert, key) = self.leaf(By::Server, "localhost");
        let (service_cert, service_key) = self.leaf(By::Service, name);
        TlsFiles {
            cert: self.write("cert", &cert),
            key: self.write("key", &key),
            service_ca: self.write("service-ca", &self.ca(By::Service)),
            service_cert: self.write(&format!("{name}-cert"), &service_cert),
            service_key: self.write(&format!("{name}-key"), &service_key),
            server_ca: self.write("server-ca", &self.ca(By::Server)),
        }
    }

    pub(crate) fn tls(&self, name: &str) -> Tls {
        Tls::load(&self.files(name)).unwrap()
    }

    /// A broker's side: demands a service certificate.
    pub(crate) fn broker(&self) -> Arc<ServerConfig> {
        let (cert, key) = self.leaf(By::Server, "localhost");
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.service.der().clone()).unwrap();
        let clients = WebPkiClientVerifier::builder(Arc::new(roots)).build().unwrap();
        let chain = vec![CertificateDer::from_pem_slice(cert.as_bytes()).unwrap()];
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
        let config = ServerConfig::builder().with_client_cert_verifier(clients).with_single_cert(chain, key);
        Arc::new(config.unwrap())
    }

    fn issuer(&self, by: By) -> &Issuer {
        match by {
            By::Server => &self.server,
            By::Service => &self.service,
            By::Foreign => &self.foreign,
        }
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path: &Path = self.folder.path();
        let path = path.join(name);
        std::fs::write(&path, text).unwrap();
        path
    }
}

fn authority(name: &str) -> Issuer {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, name);
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    CertifiedIssuer::self_signed(params, key).unwrap()
}
