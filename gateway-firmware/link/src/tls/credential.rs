//! What a connection is made with: our certificates, and a way to have something signed.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt::Debug;

use p256::ecdsa::Signature;
use rustls::pki_types::CertificateDer;
use rustls::sign::{CertifiedKey, SigningKey};
use rustls::{Error, SignatureAlgorithm, SignatureScheme};

/// The key could not be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SignError;

/// A P-256 key somewhere else.
pub trait Signer: Debug + Send + Sync {
    /// ECDSA over SHA-256 of the message: r ++ s.
    fn sign(&self, message: &[u8]) -> Result<[u8; 64], SignError>;
}

/// Our side of mutual TLS.
#[derive(Debug, Clone)]
pub struct Credential<'a> {
    /// DER, the leaf first.
    pub chain: &'a [&'a [u8]],
    /// The leaf's key.
    pub signer: Arc<dyn Signer>,
}

impl From<Credential<'_>> for CertifiedKey {
    fn from(credential: Credential<'_>) -> Self {
        let chain: Vec<_> =
            credential.chain.iter().map(|der| CertificateDer::from_slice(der).into_owned()).collect();
        CertifiedKey::new(chain, Arc::new(Key(credential.signer)))
    }
}

#[derive(Debug, Clone)]
struct Key(Arc<dyn Signer>);

impl SigningKey for Key {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn rustls::sign::Signer>> {
        let ours = offered.contains(&SignatureScheme::ECDSA_NISTP256_SHA256);
        ours.then(|| Box::new(self.clone()) as Box<dyn rustls::sign::Signer>)
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::ECDSA
    }
}

impl rustls::sign::Signer for Key {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        let failed = || Error::General(String::from("signing failed"));
        let signature = self.0.sign(message).map_err(|SignError| failed())?;
        let signature = Signature::from_slice(&signature).map_err(|_| failed())?;
        Ok(signature.to_der().as_bytes().to_vec())
    }

    fn scheme(&self) -> SignatureScheme {
        SignatureScheme::ECDSA_NISTP256_SHA256
    }
}
