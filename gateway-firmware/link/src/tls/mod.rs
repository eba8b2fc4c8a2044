//! TLS 1.3 towards the brokers: our certificate, their chain, and a time of our own.
//!
//! rustls without `std` is the machine, [`provider()`] its cryptography. No resumption, no early data, no earlier version.
//! Whatever a server sends ends the session at worst.

mod credential;
mod provider;
mod session;
mod verify;

use alloc::sync::Arc;
use core::time::Duration;

use gateway_core::net::link::End;
use rustls::client::Resumption;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, RootCertStore};

pub use credential::{Credential, SignError, Signer};
pub use provider::provider;
pub use session::{HANDSHAKE_BYTES_MAX, RECORD_BYTES_MAX, SEND_RECORD_BYTES_MAX, Session};
pub use verify::{BoundVerifier, end_of};

/// A client configuration for one connection: DER anchors, and the lower bound of the time.
pub fn config(
    anchors: &[&[u8]],
    credential: Credential<'_>,
    time_bound_s: u64,
) -> Result<Arc<ClientConfig>, End> {
    let mut roots = RootCertStore::empty();
    // An anchor that cannot be read is one that vouches for nobody.
    roots.add_parsable_certificates(anchors.iter().map(|der| CertificateDer::from_slice(der)));
    if roots.is_empty() {
        // There is nobody to talk to.
        return Err(End::Unreachable);
    }
    let provider = Arc::new(provider());
    let algorithms = provider.signature_verification_algorithms;
    let verifier = BoundVerifier { roots: Arc::new(roots), algorithms, time_bound_s };
    let ours = SingleCertAndKey::from(CertifiedKey::from(credential));
    let mut config = ClientConfig::builder_with_details(provider, Arc::new(Bound(time_bound_s)))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|_| End::Unreachable)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_cert_resolver(Arc::new(ours));
    config.resumption = Resumption::disabled();
    config.max_fragment_size = Some(SEND_RECORD_BYTES_MAX);
    Ok(Arc::new(config))
}

/// What rustls is told the time is; [`BoundVerifier`] does not listen to it.
#[derive(Debug)]
struct Bound(u64);

impl TimeProvider for Bound {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(self.0)))
    }
}
