//! Whom we believe, at a time of our own.
//!
//! A chain is judged by the rules of rustls (path, names, key usage, constraints) at the time the core gives, moved to where
//! every certificate shown has begun; no clock decides anything (DESIGN: "Freshness without a clock").

use alloc::sync::Arc;
use core::time::Duration;

use gateway_core::net::clock::verification_time_s;
use gateway_core::net::link::End;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{AlertDescription, DigitallySignedStruct, Error, SignatureScheme};

/// Certificate rules of rustls, at a time of ours.
#[derive(Debug)]
pub struct BoundVerifier {
    pub inner: Arc<WebPkiServerVerifier>,
    /// The lower bound of the time.
    pub time_bound_s: u64,
}

impl ServerCertVerifier for BoundVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let chain = core::iter::once(end_entity).chain(intermediates).map(|certificate| certificate.as_ref());
        let now =
            UnixTime::since_unix_epoch(Duration::from_secs(verification_time_s(self.time_bound_s, chain)));
        self.inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> alloc::vec::Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// Why a connection or handshake failed, as the core wants to know it.
pub fn end_of(error: &Error, handshake: bool) -> End {
    match error {
        Error::InvalidCertificate(_) => End::ServerRefused,
        Error::AlertReceived(alert) if is_about_our_certificate(*alert) => End::CertificateRefused,
        _ if handshake => End::Unreachable,
        _ => End::Lost,
    }
}

/// RFC 8446 §6.2.
fn is_about_our_certificate(alert: AlertDescription) -> bool {
    matches!(
        alert,
        AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::CertificateRequired
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied
    )
}
