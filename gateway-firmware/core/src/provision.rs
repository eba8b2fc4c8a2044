//! What a factory writes into a board once: who it is, whom it believes first, and what it may enrol with.
//!
//! A record is a header (kind, length, CRC-32) and a CBOR map; the region holds it twice, half a region each, since no
//! firmware ever writes there again. Reading borrows from the region. The claim key is a secret: `Debug` shows none.

use core::fmt;

use heapless::Vec;
use wire::KeyHash;
use wire::cbor::{CborError, Reader};
use wire::limits::{BOARD_BYTES_MAX, HARDWARE_ID_BYTES_MAX, ROOT_KEYS_MAX};

use crate::crc::Crc;
use crate::net::identity::{BROKER_BYTES_MAX, CERTIFICATE_BYTES_MAX};

/// First bytes of a record.
pub const KIND: [u8; 4] = *b"HFP1";
/// Bytes before the map: kind, length of the map, CRC-32 over both and the map.
pub const HEADER_BYTES: usize = 12;
/// Names with an address of their own.
pub const HOSTS_MAX: usize = 4;
/// Bytes of a host's name.
pub const HOST_BYTES_MAX: usize = 64;

/// Keys of the map.
pub mod key {
    pub const HARDWARE_ID: i64 = 1;
    pub const BOARD: i64 = 2;
    pub const ENROLL_ADDRESS: i64 = 3;
    pub const SERVER_CA: i64 = 4;
    pub const CLAIM_CERTIFICATE: i64 = 5;
    pub const CLAIM_KEY: i64 = 6;
    pub const ROOT_KEY_HASHES: i64 = 7;
    pub const ROOT_THRESHOLD: i64 = 8;
    pub const HOSTS: i64 = 9;
    pub const BUILD_TIME: i64 = 10;
}

/// A name that needs no DNS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Host<'a> {
    pub name: &'a str,
    pub ipv4: [u8; 4],
}

/// A board's provisioning.
#[derive(Clone, PartialEq, Eq)]
pub struct Provision<'a> {
    pub hardware_id: &'a str,
    pub board: &'a str,
    /// host:port of the enrolment listener.
    pub enroll_address: &'a str,
    /// DER of the CA of that listener's certificate.
    pub server_ca: &'a [u8],
    /// DER.
    pub claim_certificate: &'a [u8],
    /// P-256 scalar, big-endian.
    pub claim_key: &'a [u8; 32],
    /// 1 to 4, in the order that the first stage's revocation bitmap counts.
    pub root_key_hashes: Vec<KeyHash, ROOT_KEYS_MAX>,
    /// How many of them must have signed.
    pub root_threshold: u8,
    pub hosts: Vec<Host<'a>, HOSTS_MAX>,
    /// The first lower bound of the time, Unix seconds.
    pub build_time_s: u64,
}

impl fmt::Debug for Provision<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Provision")
            .field("hardware_id", &self.hardware_id)
            .field("board", &self.board)
            .field("enroll_address", &self.enroll_address)
            .finish_non_exhaustive()
    }
}

/// Why a board has no provisioning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProvisionError {
    /// Nothing was ever written.
    Blank,
    /// Written, and damaged.
    Damaged,
    /// Whole, and not a record this firmware reads.
    Cbor(CborError),
    /// A value out of its limits; the field's name.
    Field(&'static str),
}

impl ProvisionError {
    /// For a console: the field's name where one is at fault.
    pub const fn name(self) -> &'static str {
        match self {
            ProvisionError::Blank => "blank",
            ProvisionError::Damaged => "damaged",
            ProvisionError::Cbor(_) => "malformed",
            ProvisionError::Field(name) => name,
        }
    }
}

impl From<CborError> for ProvisionError {
    fn from(error: CborError) -> Self {
        ProvisionError::Cbor(error)
    }
}

/// Reads the first whole copy of a region; if none is, why the first is not.
pub fn read(region: &[u8]) -> Result<Provision<'_>, ProvisionError> {
    let (first, second) = region.split_at(region.len() / 2);
    read_copy(first).or_else(|error| read_copy(second).map_err(|_| error))
}

/// Whom a first stage believes: all that it reads of a region, so that it outlives what is added to the rest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProvisionedRoots {
    pub hashes: Vec<KeyHash, ROOT_KEYS_MAX>,
    pub threshold: u8,
}

/// Reads the root keys of the first whole copy of a region.
pub fn roots(region: &[u8]) -> Result<ProvisionedRoots, ProvisionError> {
    let (first, second) = region.split_at(region.len() / 2);
    let map = whole_map(first).or_else(|error| whole_map(second).map_err(|_| error))?;
    let mut reader = Reader::new(map);
    let mut roots = ProvisionedRoots { hashes: Vec::new(), threshold: 0 };
    for _ in 0..reader.map()? {
        match reader.int()? {
            key::ROOT_KEY_HASHES => roots.hashes = decode_hashes(&mut reader)?,
            key::ROOT_THRESHOLD => roots.threshold = decode_threshold(&mut reader)?,
            _ => drop(reader.item()?),
        }
    }
    check_threshold(&roots.hashes, roots.threshold)?;
    Ok(roots)
}

/// Which copies of a region are whole.
pub fn whole_copies(region: &[u8]) -> [bool; 2] {
    let (first, second) = region.split_at(region.len() / 2);
    [first, second].map(|copy| read_copy(copy).is_ok())
}

/// The header of this map.
pub fn header(map: &[u8]) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[..4].copy_from_slice(&KIND);
    // A map too long for the region does not fit its copy either: whoever writes it learns there.
    header[4..8].copy_from_slice(&(map.len() as u32).to_le_bytes());
    let mut crc = Crc::new(0);
    crc.update(&header[..8]);
    crc.update(map);
    header[8..].copy_from_slice(&crc.finish().to_le_bytes());
    header
}

fn read_copy(copy: &[u8]) -> Result<Provision<'_>, ProvisionError> {
    decode(whole_map(copy)?)
}

fn whole_map(copy: &[u8]) -> Result<&[u8], ProvisionError> {
    let (head, rest) = copy.split_first_chunk::<HEADER_BYTES>().ok_or(ProvisionError::Damaged)?;
    if *head == [0xff; HEADER_BYTES] {
        return Err(ProvisionError::Blank);
    }
    let [.., l0, l1, l2, l3, _, _, _, _] = *head;
    let length = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
    rest.get(..length).filter(|map| header(map) == *head).ok_or(ProvisionError::Damaged)
}

fn decode(map: &[u8]) -> Result<Provision<'_>, ProvisionError> {
    let mut reader = Reader::new(map);
    let mut fields = reader.fields()?;
    let provision = Provision {
        hardware_id: text(fields.required(key::HARDWARE_ID)?, HARDWARE_ID_BYTES_MAX, "hardware id")?,
        board: text(fields.required(key::BOARD)?, BOARD_BYTES_MAX, "board")?,
        enroll_address: text(fields.required(key::ENROLL_ADDRESS)?, BROKER_BYTES_MAX, "enroll address")?,
        server_ca: certificate(fields.required(key::SERVER_CA)?, "server CA")?,
        claim_certificate: certificate(fields.required(key::CLAIM_CERTIFICATE)?, "claim certificate")?,
        claim_key: fields.required(key::CLAIM_KEY)?.bytes_exact()?,
        root_key_hashes: decode_hashes(fields.required(key::ROOT_KEY_HASHES)?)?,
        root_threshold: decode_threshold(fields.required(key::ROOT_THRESHOLD)?)?,
        hosts: decode_hosts(fields.required(key::HOSTS)?)?,
        build_time_s: fields.required(key::BUILD_TIME)?.uint()?,
    };
    fields.finish()?;
    reader.finish()?;
    check_threshold(&provision.root_key_hashes, provision.root_threshold)?;
    Ok(provision)
}

fn decode_threshold(reader: &mut Reader<'_>) -> Result<u8, ProvisionError> {
    reader.uint()?.try_into().map_err(|_| ProvisionError::Field("root threshold"))
}

fn check_threshold(hashes: &[KeyHash], threshold: u8) -> Result<(), ProvisionError> {
    match (1..=hashes.len()).contains(&usize::from(threshold)) {
        true => Ok(()),
        false => Err(ProvisionError::Field("root threshold")),
    }
}

/// Text of so many bytes at most that is safe on a terminal.
fn text<'a>(
    reader: &mut Reader<'a>,
    bytes_max: usize,
    name: &'static str,
) -> Result<&'a str, ProvisionError> {
    let text = reader.text()?;
    match (1..=bytes_max).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic()) {
        true => Ok(text),
        false => Err(ProvisionError::Field(name)),
    }
}

fn certificate<'a>(reader: &mut Reader<'a>, name: &'static str) -> Result<&'a [u8], ProvisionError> {
    let der = reader.bytes()?;
    match (1..=CERTIFICATE_BYTES_MAX).contains(&der.len()) {
        true => Ok(der),
        false => Err(ProvisionError::Field(name)),
    }
}

fn decode_hashes(reader: &mut Reader<'_>) -> Result<Vec<KeyHash, ROOT_KEYS_MAX>, ProvisionError> {
    let mut hashes = Vec::new();
    for _ in 0..reader.array()? {
        let hash = KeyHash(*reader.bytes_exact()?);
        if hashes.contains(&hash) || hashes.push(hash).is_err() {
            return Err(ProvisionError::Field("root key hashes"));
        }
    }
    Ok(hashes)
}

fn decode_hosts<'a>(reader: &mut Reader<'a>) -> Result<Vec<Host<'a>, HOSTS_MAX>, ProvisionError> {
    let mut hosts = Vec::new();
    for _ in 0..reader.array()? {
        reader.array_of(2)?;
        let host = Host { name: text(reader, HOST_BYTES_MAX, "host")?, ipv4: *reader.bytes_exact()? };
        hosts.push(host).map_err(|_| ProvisionError::Field("hosts"))?;
    }
    Ok(hosts)
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::string::ToString as _;
    use std::vec::Vec;

    use proptest::prelude::*;
    use wire::cbor::Writer;

    use super::*;

    fn map(change: impl Fn(i64, &mut Writer) -> bool) -> Vec<u8> {
        let mut writer = Writer::new();
        writer.map(10);
        for field in 1..=10 {
            writer.int(field);
            if change(field, &mut writer) {
                continue;
            }
            match field {
                key::HARDWARE_ID => writer.text("an505-1"),
                key::BOARD => writer.text("an505"),
                key::ENROLL_ADDRESS => writer.text("broker.test:8884"),
                key::SERVER_CA => writer.bytes(&[0x30; 500]),
                key::CLAIM_CERTIFICATE => writer.bytes(&[0x31; 600]),
                key::CLAIM_KEY => writer.bytes(&[7; 32]),
                key::ROOT_KEY_HASHES => writer.array(2).bytes(&[1; 32]).bytes(&[2; 32]),
                key::ROOT_THRESHOLD => writer.uint(2),
                key::HOSTS => writer.array(1).array(2).text("broker.test").bytes(&[10, 0, 2, 2]),
                _ => writer.uint(1_790_000_000),
            };
        }
        writer.into_vec()
    }

    fn region(map: &[u8]) -> Vec<u8> {
        let mut region = std::vec![0xff; 16 * 1024];
        for at in [0, 8 * 1024] {
            region[at..at + HEADER_BYTES].copy_from_slice(&header(map));
            region[at + HEADER_BYTES..at + HEADER_BYTES + map.len()].copy_from_slice(map);
        }
        region
    }

    #[test]
    fn a_record_says_what_was_written_and_shows_no_secret() {
        let region = region(&map(|_, _| false));
        let provision = read(&region).unwrap();
        assert_eq!((provision.hardware_id, provision.board), ("an505-1", "an505"));
        assert_eq!(provision.enroll_address, "broker.test:8884");
        assert_eq!((provision.server_ca.len(), provision.claim_certificate.len()), (500, 600));
        assert_eq!((provision.claim_key, provision.root_threshold), (&[7; 32], 2));
        assert_eq!(provision.root_key_hashes, [KeyHash([1; 32]), KeyHash([2; 32])]);
        assert_eq!(provision.hosts, [Host { name: "broker.test", ipv4: [10, 0, 2, 2] }]);
        assert_eq!(provision.build_time_s, 1_790_000_000);
        assert!(!std::format!("{provision:?}").contains('7'));
        assert_eq!(whole_copies(&region), [true, true]);
        let expected = ProvisionedRoots { hashes: provision.root_key_hashes, threshold: 2 };
        assert_eq!(roots(&region), Ok(expected));
    }

    #[test]
    fn a_first_stage_reads_its_roots_whatever_else_is_there() {
        let mut newer = map(|field, writer| {
            let other = field == key::HOSTS;
            if other {
                writer.text("of a shape to come");
            }
            other
        });
        let mut field = Writer::new();
        newer.extend(field.int(11).text("added").clone().into_vec());
        newer[0] += 1;
        let region = region(&newer);
        assert!(read(&region).is_err());
        assert_eq!(roots(&region).unwrap().threshold, 2);
        assert_eq!(roots(&[0xff; 1024]), Err(ProvisionError::Blank));
    }

    #[test]
    fn one_whole_copy_is_enough_and_none_is_an_error() {
        let good = region(&map(|_, _| false));
        let mut bad = good.clone();
        bad[40] ^= 1;
        assert_eq!(read(&bad), read(&good));
        assert_eq!(whole_copies(&bad), [false, true]);
        bad[8 * 1024 + 40] ^= 1;
        assert_eq!(read(&bad), Err(ProvisionError::Damaged));
        assert_eq!(read(&[0xff; 16 * 1024]), Err(ProvisionError::Blank));
        assert_eq!(read(&[]), Err(ProvisionError::Damaged));
    }

    #[test]
    fn every_limit_is_refused_by_its_name() {
        let refused = |field, write: &dyn Fn(&mut Writer)| {
            let map = map(|at, writer| {
                let here = at == field;
                if here {
                    write(writer);
                }
                here
            });
            read(&region(&map)).unwrap_err()
        };
        let field = ProvisionError::Field;
        assert_eq!(refused(1, &|w| drop(w.text(&"x".repeat(65)))), field("hardware id"));
        assert_eq!(refused(2, &|w| drop(w.text(""))), field("board"));
        assert_eq!(refused(3, &|w| drop(w.text("a b:1"))), field("enroll address"));
        assert_eq!(refused(4, &|w| drop(w.bytes(&[0; CERTIFICATE_BYTES_MAX + 1]))), field("server CA"));
        assert_eq!(refused(5, &|w| drop(w.bytes(&[]))), field("claim certificate"));
        assert_eq!(refused(6, &|w| drop(w.bytes(&[7; 31]))), ProvisionError::Cbor(CborError::Size));
        assert_eq!(
            refused(7, &|w| drop(w.array(2).bytes(&[1; 32]).bytes(&[1; 32]))),
            field("root key hashes")
        );
        for threshold in [0, 3, 256, u64::MAX] {
            assert_eq!(refused(8, &|w| drop(w.uint(threshold))), field("root threshold"));
        }
        let five = |w: &mut Writer| {
            w.array(5);
            (0..5_u8).for_each(|at| drop(w.array(2).text(&at.to_string()).bytes(&[at; 4])));
        };
        assert_eq!(refused(9, &five), field("hosts"));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(map: Vec<u8>, raw: Vec<u8>) {
            let _ = read(&raw);
            let _ = read(&region(&map));
            let _ = roots(&region(&map));
        }

        #[test]
        fn no_flipped_bit_of_a_lone_copy_passes(at in 0_usize..1300, bit in 0..8_u8) {
            let map = map(|_, _| false);
            let mut region = region(&map);
            region[8 * 1024..].fill(0xff);
            let inside = at < HEADER_BYTES + map.len();
            region[at] ^= 1 << bit;
            prop_assert_eq!(read(&region).is_err(), inside);
        }

        #[test]
        fn a_damaged_map_never_makes_it_panic(at in 0_usize..1200, byte: u8) {
            let mut map = map(|_, _| false);
            let at = at % map.len();
            map[at] = byte;
            let _ = decode(&map);
        }
    }
}
