//! The cryptography of the link: one suite, one group, one signature, over RustCrypto.
//!
//! rustls decides what is done; this says how. TLS_AES_128_GCM_SHA256, ECDHE and ECDSA over P-256 are what RFC 8446 §9.1 makes
//! every server speak, and what the device's own key is. Private keys never come here: signing is the board's.

mod aead;
mod exchange;
mod hash;
mod hmac;
mod verify;

use alloc::sync::Arc;
use alloc::vec;

use rustls::crypto::tls13::HkdfUsingHmac;
use rustls::crypto::{CipherSuiteCommon, CryptoProvider, GetRandomFailed, KeyProvider, SecureRandom};
use rustls::pki_types::PrivateKeyDer;
use rustls::sign::SigningKey;
use rustls::{CipherSuite, Error, SupportedCipherSuite, Tls13CipherSuite};

/// Records under one key: draft-irtf-cfrg-aead-limits, and what rustls has for the same suite elsewhere.
const RECORDS_PER_KEY_MAX: u64 = 1 << 24;

static SUITE: Tls13CipherSuite = Tls13CipherSuite {
    common: CipherSuiteCommon {
        suite: CipherSuite::TLS13_AES_128_GCM_SHA256,
        hash_provider: &hash::Sha256,
        confidentiality_limit: RECORDS_PER_KEY_MAX,
    },
    hkdf_provider: &HkdfUsingHmac(&hmac::HmacSha256),
    aead_alg: &aead::Aes128Gcm,
    quic: None,
};

/// The provider a configuration names.
pub fn provider() -> CryptoProvider {
    CryptoProvider {
        cipher_suites: vec![SupportedCipherSuite::Tls13(&SUITE)],
        kx_groups: vec![&exchange::Secp256r1],
        signature_verification_algorithms: verify::ALGORITHMS,
        secure_random: &Random,
        key_provider: &NoKeys,
    }
}

#[derive(Debug)]
struct Random;

impl SecureRandom for Random {
    fn fill(&self, into: &mut [u8]) -> Result<(), GetRandomFailed> {
        if crate::random::fill(into) { Ok(()) } else { Err(GetRandomFailed) }
    }
}

/// Keys do not leave the board, so none is ever loaded.
#[derive(Debug)]
struct NoKeys;

impl KeyProvider for NoKeys {
    fn load_private_key(&self, _key: PrivateKeyDer<'static>) -> Result<Arc<dyn SigningKey>, Error> {
        Err(Error::General(alloc::string::String::new()))
    }
}
