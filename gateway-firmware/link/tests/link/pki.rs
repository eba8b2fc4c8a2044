//! Certificates of every kind that a server might show.

use std::sync::Arc;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use gateway_link::tls::{SignError, Signer};
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, PublicKeyData as _,
    date_time_ymd,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

/// The name every server here has.
pub(crate) const NAME: &str = "broker.test";
/// 2024-01-01: the bound of every connection here.
pub(crate) const AT_2024: u64 = 1_704_067_200;

/// A certificate, its chain, and its key.
pub(crate) struct Identity {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    key: KeyPair,
}

impl Identity {
    pub(crate) fn key(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.key.serialize_der()).into()
    }

    pub(crate) fn signer(&self) -> Arc<dyn Signer> {
        let key =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &self.key.serialize_der()).unwrap();
        Arc::new(KeyOfTest(key))
    }
}

#[derive(Debug)]
struct KeyOfTest(EcdsaKeyPair);

impl Signer for KeyOfTest {
    fn sign(&self, message: &[u8]) -> Result<[u8; 64], SignError> {
        let signature = self.0.sign(&SystemRandom::new(), message).map_err(|_| SignError)?;
        signature.as_ref().try_into().map_err(|_| SignError)
    }
}

/// A root, and what it has issued.
pub(crate) struct Pki {
    pub(crate) anchor: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

/// A leaf's years and use.
pub(crate) struct Leaf<'a> {
    pub(crate) name: &'a str,
    pub(crate) years: (i32, i32),
    pub(crate) usage: ExtendedKeyUsagePurpose,
}

impl Default for Leaf<'_> {
    fn default() -> Self {
        Self { name: NAME, years: (2020, 2040), usage: ExtendedKeyUsagePurpose::ServerAuth }
    }
}

impl Leaf<'_> {
    fn params(&self) -> CertificateParams {
        let mut params = CertificateParams::new(vec![self.name.to_owned()]).unwrap();
        params.not_before = date_time_ymd(self.years.0, 1, 1);
        params.not_after = date_time_ymd(self.years.1, 1, 1);
        params.extended_key_usages = vec![self.usage.clone()];
        params
    }
}

impl Pki {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![]).unwrap();
        // Roots of one name would differ by signature alone, which is another alert.
        let name = format!("root {:02x?}", &key.der_bytes()[1..9]);
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.not_before = date_time_ymd(2000, 1, 1);
        params.not_after = date_time_ymd(2100, 1, 1);
        let anchor = params.self_signed(&key).unwrap().der().clone();
        Self { anchor, issuer: Issuer::new(params, key) }
    }

    pub(crate) fn issue(&self, leaf: &Leaf<'_>) -> Identity {
        let key = KeyPair::generate().unwrap();
        let chain = vec![leaf.params().signed_by(&key, &self.issuer).unwrap().der().clone()];
        Identity { chain, key }
    }

    pub(crate) fn server(&self) -> Identity {
        self.issue(&Leaf::default())
    }

    pub(crate) fn device(&self) -> Identity {
        self.issue(&Leaf { name: "dv00", usage: ExtendedKeyUsagePurpose::ClientAuth, ..Leaf::default() })
    }

    /// A server certificate that a leaf of ours has issued, which it must not.
    pub(crate) fn by_a_leaf(&self) -> Identity {
        let middle_key = KeyPair::generate().unwrap();
        let middle = Leaf { name: "dv01", ..Leaf::default() }.params();
        let middle_der = middle.signed_by(&middle_key, &self.issuer).unwrap().der().clone();
        let key = KeyPair::generate().unwrap();
        let issuer = Issuer::new(middle, middle_key);
        let leaf = Leaf::default().params().signed_by(&key, &issuer).unwrap().der().clone();
        Identity { chain: vec![leaf, middle_der], key }
    }
}
