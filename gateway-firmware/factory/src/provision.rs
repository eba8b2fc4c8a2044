//! From `provision.json` (`holdfast claim create --out DIR`) to the record a board is given.
//!
//! The file holds the claim's private key: a secret, of which `Debug` shows nothing.

use std::fmt;
use std::net::Ipv4Addr;
use std::path::Path;

use gateway_core::net::x509::Certificate;
use gateway_core::provision::{self, HEADER_BYTES, HOSTS_MAX, key};
use serde::Deserialize;
use wire::KeyHash;
use wire::cbor::Writer;
use wire::sign::{Signer as _, SoftKey};

use crate::memory::BOARD;
use crate::{Error, Result, map};

/// The file, as the CLI writes it.
#[derive(Clone, Deserialize)]
pub struct Provision {
    enroll_address: String,
    server_ca_pem: String,
    claim_certificate_pem: String,
    claim_key_pem: String,
    root_key_hashes: Vec<String>,
    #[serde(default = "one")]
    root_threshold: u8,
    board: String,
}

fn one() -> u8 {
    1
}

impl fmt::Debug for Provision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Provision")
            .field("enroll_address", &self.enroll_address)
            .field("board", &self.board)
            .finish_non_exhaustive()
    }
}

/// A name that the board resolves without DNS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    pub name: String,
    pub ipv4: Ipv4Addr,
}

impl std::str::FromStr for Host {
    type Err = Error;

    fn from_str(text: &str) -> Result<Host> {
        let wrong = || Error::Host(text.to_owned());
        let (name, ipv4) = text.split_once('=').filter(|(name, _)| !name.is_empty()).ok_or_else(wrong)?;
        Ok(Host { name: name.to_owned(), ipv4: ipv4.parse().map_err(|_| wrong())? })
    }
}

impl Provision {
    pub fn read(path: &Path) -> Result<Provision> {
        let read = std::fs::read_to_string(path);
        Provision::parse(&read.map_err(|source| Error::Read { path: path.to_owned(), source })?)
    }

    /// The file's text.
    pub fn parse(text: &str) -> Result<Provision> {
        serde_json::from_str(text).map_err(Error::Json)
    }

    /// Whether a board of ours can enrol with it now: what the board itself would find out in the field.
    pub fn check(&self, now_s: u64) -> Result<()> {
        if self.board != BOARD {
            return Err(Error::Board { found: self.board.clone(), wanted: BOARD });
        }
        let claim = certificate("claim_certificate_pem", &self.claim_certificate_pem)?;
        let claim = Certificate::parse(&claim)
            .ok_or_else(|| unreadable("claim_certificate_pem", "is no certificate"))?;
        if claim.not_after_s <= now_s {
            return Err(Error::ClaimEnded { ended_s: claim.not_after_s });
        }
        let key = self.claim_key()?.public_key().spki_der();
        match key.is_ok_and(|key| key == claim.public_key) {
            true => Ok(()),
            false => Err(unreadable("claim_key_pem", "is not the claim certificate's")),
        }
    }

    fn claim_key(&self) -> Result<SoftKey> {
        SoftKey::from_pkcs8_pem(&self.claim_key_pem)
            .map_err(|_| unreadable("claim_key_pem", "is no P-256 key in PKCS#8 PEM"))
    }

    /// The whole region: two copies, read back as the board will read them.
    pub fn region(&self, hardware_id: &str, hosts: &[Host], build_time_s: u64) -> Result<Vec<u8>> {
        let map = self.map(hardware_id, hosts, build_time_s)?;
        let copy_bytes = map::PROVISION_BYTES as usize / 2;
        if HEADER_BYTES + map.len() > copy_bytes {
            let (what, bytes) = ("a copy of the provisioning", HEADER_BYTES + map.len());
            return Err(Error::TooLarge { what, bytes, room: copy_bytes });
        }
        let mut region = vec![0xff; map::PROVISION_BYTES as usize];
        for copy in region.chunks_mut(copy_bytes) {
            copy[..HEADER_BYTES].copy_from_slice(&provision::header(&map));
            copy[HEADER_BYTES..HEADER_BYTES + map.len()].copy_from_slice(&map);
        }
        if let Err(error) = provision::read(&region) {
            return Err(unreadable(error.name(), "is nothing a board would take"));
        }
        Ok(region)
    }

    fn map(&self, hardware_id: &str, hosts: &[Host], build_time_s: u64) -> Result<Vec<u8>> {
        if hosts.len() > HOSTS_MAX {
            return Err(Error::Host(format!("{} hosts", hosts.len())));
        }
        let mut writer = Writer::new();
        writer.map(10);
        writer.int(key::HARDWARE_ID).text(hardware_id);
        writer.int(key::BOARD).text(&self.board);
        writer.int(key::ENROLL_ADDRESS).text(&self.enroll_address);
        writer.int(key::SERVER_CA).bytes(&certificate("server_ca_pem", &self.server_ca_pem)?);
        let claim = certificate("claim_certificate_pem", &self.claim_certificate_pem)?;
        writer.int(key::CLAIM_CERTIFICATE).bytes(&claim);
        writer.int(key::CLAIM_KEY).bytes(&self.claim_key()?.to_scalar());
        writer.int(key::ROOT_KEY_HASHES).array(self.root_key_hashes.len());
        for hash in &self.root_key_hashes {
            let hash = hash.parse::<KeyHash>().map_err(|_| unreadable("root_key_hashes", "is no hash"))?;
            writer.bytes(&hash.0);
        }
        writer.int(key::ROOT_THRESHOLD).uint(self.root_threshold.into());
        writer.int(key::HOSTS).array(hosts.len());
        for host in hosts {
            writer.array(2).text(&host.name).bytes(&host.ipv4.octets());
        }
        writer.int(key::BUILD_TIME).uint(build_time_s);
        Ok(writer.into_vec())
    }
}

/// The one certificate of a PEM text.
fn certificate(field: &'static str, pem: &str) -> Result<Vec<u8>> {
    let blocks = pem::parse_many(pem).map_err(|_| unreadable(field, "is no PEM"))?;
    let mut all = blocks.into_iter().filter(|block| block.tag() == "CERTIFICATE");
    match (all.next(), all.next()) {
        (Some(one), None) => Ok(one.into_contents()),
        (None, _) => Err(unreadable(field, "holds no certificate")),
        (Some(_), Some(_)) => {
            Err(unreadable(field, "holds more than one certificate, and a board has room for one"))
        }
    }
}

pub(crate) fn unreadable(field: &'static str, what: &'static str) -> Error {
    Error::Field { field, what }
}
