//! Whom we believe, at a time of our own.
//!
//! A chain is judged by the rules of rustls (path, name, key usage, constraints) at the time the core gives, moved to where
//! every certificate shown has begun; no clock decides anything (DESIGN: "Freshness without a clock"). These are the parts
//! that `WebPkiServerVerifier` is made of, without its revocation lists: brokers are revoked by a new keyset.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use gateway_core::net::clock::verification_time_s;
use gateway_core::net::link::End;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    AlertDescription, DigitallySignedStruct, Error, PeerIncompatible, RootCertStore, SignatureScheme,
};

/// Certificate rules of rustls, at a time of ours, for TLS 1.3.
#[derive(Debug)]
pub struct BoundVerifier {
    pub roots: Arc<RootCertStore>,
    pub algorithms: WebPkiSupportedAlgorithms,
    /// The lower bound of the time.
    pub time_bound_s: u64,
}

impl ServerCertVerifier for BoundVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let chain = core::iter::once(end_entity).chain(intermediates).map(|certificate| certificate.as_ref());
        let time_s = verification_time_s(self.time_bound_s, chain);
        let now = UnixTime::since_unix_epoch(Duration::from_secs(time_s));
        let certificate = ParsedCertificate::try_from(end_entity)?;
        verify_server_cert_signed_by_trust_anchor(
            &certificate,
            &self.roots,
            intermediates,
            now,
            self.algorithms.all,
        )?;
        verify_server_name(&certificate, server_name)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
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
