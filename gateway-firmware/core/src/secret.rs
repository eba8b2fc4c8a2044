//! One secret of 32 bytes in two copies, an erase unit each: a device's identity key.
//!
//! A copy is written once and read back before the other is touched, so that one of them is whole after any power cut.
//! A copy that is torn or worn is made anew from the other. Nothing here shows the secret.

use crate::crc::Crc;
use crate::ports::{Flash, FlashError};

/// Bytes of one copy.
const COPY_BYTES: usize = 64;
/// Bytes of the secret.
pub const SECRET_BYTES: usize = 32;
const KIND: [u8; 4] = *b"HFK1";
const BLANK: [u8; COPY_BYTES] = [0xff; COPY_BYTES];

/// How the copies were found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Health {
    /// Never written.
    Blank = 0,
    /// Both copies are whole and equal.
    Sound = 1,
    /// One copy was not, and is again.
    Repaired = 2,
    /// One copy is not, and could not be written.
    Unrepaired = 3,
    /// Something was written, and neither copy is whole.
    Lost = 4,
}

impl Health {
    /// For a console and for tools.
    pub const fn name(self) -> &'static str {
        match self {
            Health::Blank => "blank",
            Health::Sound => "sound",
            Health::Repaired => "repaired",
            Health::Unrepaired => "unrepaired",
            Health::Lost => "lost",
        }
    }
}

/// Reads the secret and makes a damaged copy anew. The flash holds nothing but the two copies.
pub fn read(flash: &mut dyn Flash) -> (Option<[u8; SECRET_BYTES]>, Health) {
    let copies = [copy(flash, 0), copy(flash, 1)];
    let whole = |copy: &Copy| match copy {
        Copy::Whole(secret) => Some(*secret),
        Copy::Blank | Copy::Damaged => None,
    };
    match (whole(&copies[0]), whole(&copies[1])) {
        (Some(first), Some(second)) if first == second => (Some(first), Health::Sound),
        // The first is written first, so where they differ it is the newer.
        (Some(first), _) => (Some(first), repaired(flash, 1, &first)),
        (None, Some(second)) => (Some(second), repaired(flash, 0, &second)),
        (None, None) if copies.iter().all(|copy| matches!(copy, Copy::Blank)) => (None, Health::Blank),
        (None, None) => (None, Health::Lost),
    }
}

/// Writes both copies, each read back.
pub fn write(flash: &mut dyn Flash, secret: &[u8; SECRET_BYTES]) -> Result<(), FlashError> {
    write_copy(flash, 0, secret)?;
    write_copy(flash, 1, secret)
}

/// Erases both copies: the secret is gone.
pub fn zeroise(flash: &mut dyn Flash) -> Result<(), FlashError> {
    let unit = flash.geometry().erase_bytes;
    // Both are tried, whatever happens to the first.
    let first = flash.erase(0);
    flash.erase(unit).and(first)
}

enum Copy {
    Whole([u8; SECRET_BYTES]),
    Blank,
    Damaged,
}

fn copy(flash: &mut dyn Flash, index: u32) -> Copy {
    let mut bytes = [0; COPY_BYTES];
    let at = index * flash.geometry().erase_bytes;
    match flash.read(at, &mut bytes) {
        Ok(()) if bytes == BLANK => Copy::Blank,
        Ok(()) => decode(&bytes).map_or(Copy::Damaged, Copy::Whole),
        Err(_) => Copy::Damaged,
    }
}

fn repaired(flash: &mut dyn Flash, index: u32, secret: &[u8; SECRET_BYTES]) -> Health {
    match write_copy(flash, index, secret) {
        Ok(()) => Health::Repaired,
        Err(_) => Health::Unrepaired,
    }
}

fn write_copy(flash: &mut dyn Flash, index: u32, secret: &[u8; SECRET_BYTES]) -> Result<(), FlashError> {
    let at = index * flash.geometry().erase_bytes;
    flash.erase(at)?;
    let bytes = encode(secret);
    flash.write(at, &bytes)?;
    match copy(flash, index) {
        Copy::Whole(read) if read == *secret => Ok(()),
        _ => Err(FlashError::Failed),
    }
}

/// Kind, four zero bytes, the secret, zeros, CRC-32 over all of it.
fn encode(secret: &[u8; SECRET_BYTES]) -> [u8; COPY_BYTES] {
    let mut bytes = [0; COPY_BYTES];
    bytes[..4].copy_from_slice(&KIND);
    bytes[8..8 + SECRET_BYTES].copy_from_slice(secret);
    let crc = checksum(&bytes);
    bytes[COPY_BYTES - 4..].copy_from_slice(&crc.to_le_bytes());
    bytes
}

fn decode(bytes: &[u8; COPY_BYTES]) -> Option<[u8; SECRET_BYTES]> {
    let (kind, rest) = bytes.split_first_chunk()?;
    let secret = rest.get(4..4 + SECRET_BYTES)?.try_into().ok()?;
    let intact = *kind == KIND && encode(&secret) == *bytes;
    intact.then_some(secret)
}

fn checksum(bytes: &[u8; COPY_BYTES]) -> u32 {
    let mut crc = Crc::new(0);
    crc.update(&bytes[..COPY_BYTES - 4]);
    crc.finish()
}
