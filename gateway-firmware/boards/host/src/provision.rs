//! `provision.json`: what a board is given once, before it ever connects. Written by `holdfast claim create --out DIR`.
//!
//! It holds the claim's private key, so it is a secret: `Debug` shows nothing of it. Everything is parsed here, once;
//! a file that is not complete is refused with the name of the field.

use std::fmt;
use std::path::Path;
use std::str::FromStr as _;

use anyhow::{Context as _, bail};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use serde::Deserialize;
use wire::key::KeyHash;
use wire::limits::{BOARD_BYTES_MAX, ROOT_KEYS_MAX};

/// Bytes of the file, at most.
const PROVISION_BYTES_MAX: u64 = 64 * 1024;

#[derive(Deserialize)]
struct File {
    enroll_address: String,
    server_ca_pem: String,
    claim_certificate_pem: String,
    claim_key_pem: String,
    root_key_hashes: Vec<String>,
    /// How many of them must have signed the first keyset; a newer CLI says so.
    #[serde(default = "one")]
    root_threshold: u8,
    board: String,
}

fn one() -> u8 {
    1
}

/// The parsed file.
pub(crate) struct Provision {
    /// host:port of the enrolment listener.
    pub(crate) enroll_address: String,
    pub(crate) server_ca: Vec<CertificateDer<'static>>,
    pub(crate) claim_certificate: CertificateDer<'static>,
    pub(crate) claim_key: PrivatePkcs8KeyDer<'static>,
    pub(crate) root_key_hashes: Vec<KeyHash>,
    pub(crate) root_threshold: u8,
    pub(crate) board: String,
}

impl fmt::Debug for Provision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Provision")
            .field("enroll_address", &self.enroll_address)
            .field("board", &self.board)
            .finish_non_exhaustive()
    }
}

impl Provision {
    pub(crate) fn read(path: &Path) -> anyhow::Result<Self> {
        let length =
            std::fs::metadata(path).with_context(|| format!("cannot read {}", path.display()))?.len();
        if length > PROVISION_BYTES_MAX {
            bail!("{} has {length} bytes, more than {PROVISION_BYTES_MAX}", path.display());
        }
        let text =
            std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        Self::parse(&text).with_context(|| format!("{} is not a provisioning file", path.display()))
    }

    fn parse(text: &str) -> anyhow::Result<Self> {
        let file: File = serde_json::from_str(text)?;
        let server_ca = CertificateDer::pem_slice_iter(file.server_ca_pem.as_bytes())
            .collect::<Result<Vec<_>, _>>()
            .context("server_ca_pem")?;
        if server_ca.is_empty() {
            bail!("server_ca_pem holds no certificate");
        }
        if !(1..=ROOT_KEYS_MAX).contains(&file.root_key_hashes.len()) {
            bail!("root_key_hashes: between 1 and {ROOT_KEYS_MAX} are needed");
        }
        if !(1..=file.root_key_hashes.len()).contains(&usize::from(file.root_threshold)) {
            bail!("root_threshold: between 1 and the number of root_key_hashes is needed");
        }
        if !(1..=BOARD_BYTES_MAX).contains(&file.board.len()) {
            bail!("board: between 1 and {BOARD_BYTES_MAX} bytes are needed");
        }
        if !file.enroll_address.contains(':') {
            bail!("enroll_address: host:port is needed");
        }
        Ok(Self {
            enroll_address: file.enroll_address,
            server_ca,
            claim_certificate: CertificateDer::from_pem_slice(file.claim_certificate_pem.as_bytes())
                .context("claim_certificate_pem")?,
            claim_key: PrivatePkcs8KeyDer::from_pem_slice(file.claim_key_pem.as_bytes())
                .context("claim_key_pem")?,
            root_key_hashes: file
                .root_key_hashes
                .iter()
                .map(|hash| KeyHash::from_str(hash))
                .collect::<Result<_, _>>()
                .context("root_key_hashes")?,
            root_threshold: file.root_threshold,
            board: file.board,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complete() -> serde_json::Value {
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::new(vec![]).unwrap().self_signed(&key).unwrap();
        serde_json::json!({
            "enroll_address": "localhost:1",
            "server_ca_pem": certificate.pem(),
            "claim_certificate_pem": certificate.pem(),
            "claim_key_pem": key.serialize_pem(),
            "root_key_hashes": ["ab".repeat(32)],
            "board": "host",
        })
    }

    #[test]
    fn a_complete_file_is_read_and_shows_no_secret() {
        let provision = Provision::parse(&complete().to_string()).unwrap();
        assert_eq!(provision.root_key_hashes.len(), 1);
        assert!(!format!("{provision:?}").contains("PRIVATE"));
    }

    #[test]
    fn a_missing_or_wrong_field_is_named() {
        for field in [
            "enroll_address",
            "server_ca_pem",
            "claim_certificate_pem",
            "claim_key_pem",
            "root_key_hashes",
            "board",
        ] {
            let mut missing = complete();
            missing.as_object_mut().unwrap().remove(field);
            let mut wrong = complete();
            wrong[field] =
                if field == "root_key_hashes" { serde_json::json!(["zz"]) } else { serde_json::json!("") };
            for file in [missing, wrong] {
                let error = format!("{:#}", Provision::parse(&file.to_string()).unwrap_err());
                assert!(error.contains(field), "{field}: {error}");
            }
        }
    }
}
