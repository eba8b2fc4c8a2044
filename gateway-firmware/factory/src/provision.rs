//! From `provision.json` (`holdfast claim create --out DIR`) to the record a board is given.
//!
//! The file holds the claim's private key: a secret, of which `Debug` shows nothing.

use std::fmt;
use std::net::Ipv4Addr;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use gateway_core::provision::{self, HEADER_BYTES, key};
use serde::Deserialize;
use wire::KeyHash;
use wire::cbor::Writer;
use wire::sign::SoftKey;

use crate::map;

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
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Host> {
        let (name, ipv4) = text.split_once('=').context("write NAME=IPv4")?;
        Ok(Host { name: name.to_owned(), ipv4: ipv4.parse().context("write NAME=IPv4")? })
    }
}

impl Provision {
    pub fn read(path: &Path) -> Result<Provision> {
        let text =
            std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        serde_json::from_str(&text).with_context(|| format!("{} is not a provisioning file", path.display()))
    }

    /// The board it is for.
    pub fn board(&self) -> &str {
        &self.board
    }

    /// The whole region: two copies, read back as the board will read them.
    pub fn region(&self, hardware_id: &str, hosts: &[Host], build_time_s: u64) -> Result<Vec<u8>> {
        let map = self.map(hardware_id, hosts, build_time_s)?;
        let copy_bytes = map::PROVISION_BYTES as usize / 2;
        if HEADER_BYTES + map.len() > copy_bytes {
            bail!("the provisioning has {} bytes, more than {copy_bytes}", HEADER_BYTES + map.len());
        }
        let mut region = vec![0xff; map::PROVISION_BYTES as usize];
        for copy in region.chunks_mut(copy_bytes) {
            copy[..HEADER_BYTES].copy_from_slice(&provision::header(&map));
            copy[HEADER_BYTES..HEADER_BYTES + map.len()].copy_from_slice(&map);
        }
        if let Err(error) = provision::read(&region) {
            bail!("the board would not take this provisioning: {}", error.name());
        }
        Ok(region)
    }

    fn map(&self, hardware_id: &str, hosts: &[Host], build_time_s: u64) -> Result<Vec<u8>> {
        let mut writer = Writer::new();
        writer.map(10);
        writer.int(key::HARDWARE_ID).text(hardware_id);
        writer.int(key::BOARD).text(&self.board);
        writer.int(key::ENROLL_ADDRESS).text(&self.enroll_address);
        writer.int(key::SERVER_CA).bytes(&certificate(&self.server_ca_pem).context("server_ca_pem")?);
        let claim = certificate(&self.claim_certificate_pem).context("claim_certificate_pem")?;
        writer.int(key::CLAIM_CERTIFICATE).bytes(&claim);
        let scalar = SoftKey::from_pkcs8_pem(&self.claim_key_pem).ok().context("claim_key_pem")?.to_scalar();
        writer.int(key::CLAIM_KEY).bytes(&scalar);
        writer.int(key::ROOT_KEY_HASHES).array(self.root_key_hashes.len());
        for hash in &self.root_key_hashes {
            writer.bytes(&hash.parse::<KeyHash>().context("root_key_hashes")?.0);
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
fn certificate(pem: &str) -> Result<Vec<u8>> {
    let mut all = pem::parse_many(pem)?.into_iter().filter(|block| block.tag() == "CERTIFICATE");
    match (all.next(), all.next()) {
        (Some(one), None) => Ok(one.into_contents()),
        (None, _) => bail!("holds no certificate"),
        (Some(_), Some(_)) => bail!("holds more than one certificate; a board has room for one"),
    }
}
