//! Why the broker cannot start.

use std::io;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{listener} listener cannot be bound to {address}")]
    Bind { listener: &'static str, address: std::net::SocketAddr, source: io::Error },
    #[error("{path} cannot be used as PEM")]
    Pem { path: String, source: rustls::pki_types::pem::Error },
    #[error("{path} holds no certificate")]
    NoCertificate { path: String },
    #[error("service CA or server certificate cannot be used: {0}")]
    Trust(String),
    #[error(transparent)]
    Tls(#[from] kit::tls::TlsError),
    #[error(transparent)]
    Telemetry(#[from] kit::telemetry::TelemetryError),
    #[error("an address cannot be told")]
    Address(#[from] io::Error),
    #[error(transparent)]
    Serve(#[from] kit::serve::ServeError),
    #[error(transparent)]
    Run(#[from] kit::run::RunError),
}
