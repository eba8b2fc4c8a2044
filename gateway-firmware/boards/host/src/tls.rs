//! TLS 1.3 towards the brokers: our certificate, their chain, and a time of our own.
//!
//! The verifier judges a chain at the time the core gives, moved to where every certificate shown has begun; the
//! operating system's clock decides nothing (a board's may say 1970, or 2046). Server certificates must be under the
//! provisioned anchors or those of the device's keyset.

use std::sync::Arc;

use anyhow::Context as _;
use gateway_core::net::link::End;
use gateway_link::verify::{self, BoundVerifier};
use rustls::crypto::CryptoProvider;
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};

/// What a connection is made with.
#[derive(Debug)]
pub(crate) struct Credential {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: PrivateKeyDer<'static>,
}

/// A client configuration for one connection.
pub(crate) fn config(
    anchors: impl Iterator<Item = CertificateDer<'static>>,
    credential: Credential,
    time_bound_s: u64,
    clock: OsClock,
) -> anyhow::Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    // An anchor that cannot be read is one that vouches for nobody.
    roots.add_parsable_certificates(anchors);
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    anyhow::ensure!(!roots.is_empty(), "no usable server anchor");
    let algorithms = provider.signature_verification_algorithms;
    let verifier = BoundVerifier { roots: Arc::new(roots), algorithms, time_bound_s };
    let mut config = ClientConfig::builder_with_details(provider, Arc::new(clock))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_auth_cert(credential.chain, credential.key)
        .context("client certificate and key do not fit")?;
    config.resumption = rustls::client::Resumption::disabled();
    Ok(Arc::new(config))
}

/// What the operating system's clock says: nothing that matters, which `--clock` proves.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct OsClock(pub(crate) Option<u64>);

impl TimeProvider for OsClock {
    fn current_time(&self) -> Option<UnixTime> {
        match self.0 {
            Some(unix_s) => Some(UnixTime::since_unix_epoch(std::time::Duration::from_secs(unix_s))),
            None => Some(UnixTime::now()),
        }
    }
}

/// Why a connection or handshake failed, as the core wants to know it.
pub(crate) fn end_of(error: &std::io::Error, handshake: bool) -> End {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match tls {
        Some(error) => verify::end_of(error, handshake),
        None if handshake => End::Unreachable,
        None => End::Lost,
    }
}

/// The provider every configuration here names; installed as the default too, for whatever asks.
pub(crate) fn install_provider() {
    let provider: CryptoProvider = rustls::crypto::aws_lc_rs::default_provider();
    // An error says that one is installed already.
    let _ = provider.install_default();
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{
        BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, date_time_ymd,
    };
    use rustls::client::danger::{ServerCertVerified, ServerCertVerifier as _};
    use rustls_pki_types::ServerName;

    const AT_2024: u64 = 1_704_067_200;
    const AT_2046: u64 = 2_398_377_600;

    struct Pki {
        anchor: CertificateDer<'static>,
        issuer: Issuer<'static, KeyPair>,
    }

    impl Pki {
        fn new() -> Self {
            let key = KeyPair::generate().unwrap();
            let mut params = CertificateParams::new(vec![]).unwrap();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.not_before = date_time_ymd(2000, 1, 1);
            params.not_after = date_time_ymd(2100, 1, 1);
            let anchor = params.self_signed(&key).unwrap().der().clone();
            Self { anchor, issuer: Issuer::new(params, key) }
        }

        /// A server certificate of these years.
        fn server(&self, from: i32, to: i32) -> CertificateDer<'static> {
            let key = KeyPair::generate().unwrap();
            let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
            params.not_before = date_time_ymd(from, 1, 1);
            params.not_after = date_time_ymd(to, 1, 1);
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
            params.signed_by(&key, &self.issuer).unwrap().der().clone()
        }

        fn verdict(
            &self,
            server: &CertificateDer<'_>,
            bound_s: u64,
            os_s: u64,
        ) -> Result<ServerCertVerified, rustls::Error> {
            let mut roots = RootCertStore::empty();
            roots.add(self.anchor.clone()).unwrap();
            let algorithms = rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms;
            let name = ServerName::try_from("localhost").unwrap();
            let os = OsClock(Some(os_s)).current_time().unwrap();
            BoundVerifier { roots: Arc::new(roots), algorithms, time_bound_s: bound_s }.verify_server_cert(
                server,
                &[],
                &name,
                &[],
                os,
            )
        }
    }

    #[test]
    fn the_operating_systems_clock_decides_nothing() {
        let pki = Pki::new();
        let server = pki.server(2025, 2030);
        for os_s in [0, AT_2024, AT_2046] {
            assert!(pki.verdict(&server, AT_2024, os_s).is_ok(), "{os_s}");
        }
    }

    #[test]
    fn an_expired_server_is_refused_by_the_bound_alone() {
        let pki = Pki::new();
        let server = pki.server(2020, 2023);
        for os_s in [0, AT_2046] {
            assert!(pki.verdict(&server, AT_2024, os_s).is_err());
            assert!(pki.verdict(&server, 0, os_s).is_ok());
        }
    }

    #[test]
    fn a_server_under_another_anchor_is_refused() {
        let server = Pki::new().server(2020, 2040);
        assert!(Pki::new().verdict(&server, AT_2024, AT_2024).is_err());
    }
}
