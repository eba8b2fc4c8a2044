//! TLS from PEM files: our server side, our client side for gRPC, and our client side for MQTT.
//!
//! One provider, aws-lc-rs, chosen explicitly: with two in the tree rustls would panic when asked to guess. Server
//! certificates and service certificates come from different CAs, and neither is believed in the other's place.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity, ServerTlsConfig};

use crate::config::TlsFiles;
use crate::seal::Secret;

/// How long a connection to another service may take to open.
pub const CONNECT_MAX: Duration = Duration::from_secs(3);
/// How long a call to another service may take.
pub const CALL_MAX: Duration = Duration::from_secs(5);
/// How long a client may take over its TLS handshake with us.
pub const HANDSHAKE_MAX: Duration = Duration::from_secs(5);

#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("{path} cannot be read")]
    Read { path: String, source: std::io::Error },
    #[error("{path} holds no usable PEM")]
    Pem { path: String },
    #[error("certificate and key cannot be used")]
    Config(#[from] rustls::Error),
    #[error("{url} is not an address of a gRPC server")]
    Address { url: String, source: tonic::transport::Error },
    #[error("{url} does not begin with https")]
    Plain { url: String },
}

/// The loaded files. Replacing one on disk takes a restart.
#[derive(Debug, Clone)]
pub struct Tls {
    server: Pair,
    service_ca: Vec<u8>,
    service: Pair,
    server_ca: Vec<u8>,
    client: Arc<ClientConfig>,
}

#[derive(Debug, Clone)]
struct Pair {
    cert: Vec<u8>,
    key: Secret<Vec<u8>>,
}

/// Makes aws-lc-rs the process's provider. Idempotent.
pub fn install_provider() {
    // An error means that it is installed already.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

impl Tls {
    pub fn load(files: &TlsFiles) -> Result<Self, TlsError> {
        let service = Pair { cert: read(&files.service_cert)?, key: Secret::new(read(&files.service_key)?) };
        let server_ca = read(&files.server_ca)?;
        let roots = roots(&files.server_ca, &server_ca)?;
        let client =
            ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
                .with_safe_default_protocol_versions()?
                .with_root_certificates(roots)
                .with_client_auth_cert(
                    certificates(&files.service_cert, &service.cert)?,
                    private_key(&files.service_key, service.key.expose())?,
                )?;
        Ok(Self {
            server: Pair { cert: read(&files.cert)?, key: Secret::new(read(&files.key)?) },
            service_ca: read(&files.service_ca)?,
            service,
            server_ca,
            client: Arc::new(client),
        })
    }

    /// Our gRPC server: anyone may connect; who presents a certificate must hold one of the service CA's.
    pub fn grpc_server(&self) -> ServerTlsConfig {
        ServerTlsConfig::new()
            .identity(Identity::from_pem(&self.server.cert, self.server.key.expose()))
            .client_ca_root(Certificate::from_pem(&self.service_ca))
            .client_auth_optional(true)
            .timeout(HANDSHAKE_MAX)
    }

    /// A lazily connected channel to another service, with our service certificate.
    pub fn channel(&self, url: &str) -> Result<Channel, TlsError> {
        self.channel_as(url, None)
    }

    /// The same to a server whose certificate must hold this name; `None`: the host of the URL.
    pub fn channel_as(&self, url: &str, name: Option<&str>) -> Result<Channel, TlsError> {
        let config = name.iter().fold(ClientTlsConfig::new(), |config, name| config.domain_name(*name));
        let config = config
            .ca_certificate(Certificate::from_pem(&self.server_ca))
            .identity(Identity::from_pem(&self.service.cert, self.service.key.expose()));
        let address = |source| TlsError::Address { url: url.to_owned(), source };
        let endpoint = Endpoint::from_shared(url.to_owned()).map_err(address)?;
        // Tonic would speak to it without TLS, and whoever is on the way could answer in its name.
        if endpoint.uri().scheme_str() != Some("https") {
            return Err(TlsError::Plain { url: url.to_owned() });
        }
        Ok(endpoint
            .tls_config(config)
            .map_err(address)?
            .tcp_nodelay(true)
            .connect_timeout(CONNECT_MAX)
            .timeout(CALL_MAX)
            .http2_keep_alive_interval(Duration::from_secs(15))
            .keep_alive_timeout(Duration::from_secs(5))
            .keep_alive_while_idle(true)
            .connect_lazy())
    }

    /// PEM of who vouches for servers.
    pub(crate) fn server_ca(&self) -> &[u8] {
        &self.server_ca
    }

    /// rustls for other protocols: verifies servers by SERVER_CA, presents our service certificate.
    pub fn client_config(&self) -> Arc<ClientConfig> {
        self.client.clone()
    }

    /// rustls for servers that are not ours (a database): verifies by SERVER_CA, presents nothing.
    pub fn anonymous_client_config(&self) -> Result<ClientConfig, TlsError> {
        let mut store = RootCertStore::empty();
        for cert in CertificateDer::pem_slice_iter(&self.server_ca).flatten() {
            store.add(cert)?;
        }
        Ok(ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(store)
            .with_no_client_auth())
    }
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|source| TlsError::Read { path: path.display().to_string(), source })
}

fn roots(path: &Path, pem: &[u8]) -> Result<RootCertStore, TlsError> {
    let mut store = RootCertStore::empty();
    for cert in certificates(path, pem)? {
        store.add(cert)?;
    }
    Ok(store)
}

fn certificates(path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certs = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>().ok();
    certs.filter(|certs| !certs.is_empty()).ok_or_else(|| TlsError::Pem { path: path.display().to_string() })
}

fn private_key(path: &Path, pem: &[u8]) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_slice(pem).map_err(|_| TlsError::Pem { path: path.display().to_string() })
}
