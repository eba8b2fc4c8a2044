//! Whether one slot's microvisor may run: pure checks, each refusal with its reason.
//!
//! What is hashed is what was read back from where it runs, and it lies there when this says yes.

use core::ops::RangeInclusive;

use heapless::{String, Vec};
use wire::cbor::Reader;
use wire::cose::Verify;
use wire::key::Hasher;
use wire::keyset::{self, Provisioned};
use wire::limits::{ENVELOPE_BYTES_MAX, KEYSET_BYTES_MAX, ROOT_KEYS_MAX, VERSION_BYTES_MAX};
use wire::manifest::{self, Component, Manifest, ManifestError};
use wire::{Digest, KeyHash};

use crate::ports::Flash;

/// Bytes copied and hashed at once.
const PIECE_BYTES: usize = 4096;
/// What erased flash reads as.
const ERASED: u8 = 0xff;

/// Why a slot's microvisor does not run. Numbers are part of the handover and never given to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Refused {
    /// Nothing is in the slot.
    Blank = 2,
    /// The flash could not be read.
    Unreadable = 3,
    /// No keyset is in the slot, or one that cannot be read.
    KeysetMalformed = 4,
    /// Too few provisioned root keys that are not revoked signed the keyset.
    KeysetUnsigned = 5,
    /// No manifest is in the slot, or one that cannot be read.
    ManifestMalformed = 6,
    /// No release key of the keyset signed the manifest.
    ManifestUnsigned = 7,
    /// The release key is for another component or board.
    KeyScope = 8,
    /// The manifest is not a microvisor's.
    WrongComponent = 9,
    /// The manifest is for another board.
    WrongBoard = 10,
    /// The security counter is below the floor.
    BelowFloor = 11,
    /// The area is larger than the place it runs at.
    TooLarge = 12,
    /// The image is not the manifest's.
    DigestMismatch = 13,
    /// The image does not begin with a stack in RAM and code in itself.
    NoEntry = 14,
    /// On trial, and started as often as it may be.
    AttemptsSpent = 15,
    /// On trial, and the attempt could not be written down.
    AttemptUnwritten = 16,
}

impl Refused {
    pub(crate) const ALL: [Refused; 15] = [
        Refused::Blank,
        Refused::Unreadable,
        Refused::KeysetMalformed,
        Refused::KeysetUnsigned,
        Refused::ManifestMalformed,
        Refused::ManifestUnsigned,
        Refused::KeyScope,
        Refused::WrongComponent,
        Refused::WrongBoard,
        Refused::BelowFloor,
        Refused::TooLarge,
        Refused::DigestMismatch,
        Refused::NoEntry,
        Refused::AttemptsSpent,
        Refused::AttemptUnwritten,
    ];

    /// For a console and for tools.
    pub const fn name(self) -> &'static str {
        match self {
            Refused::Blank => "blank",
            Refused::Unreadable => "unreadable",
            Refused::KeysetMalformed => "keyset_malformed",
            Refused::KeysetUnsigned => "keyset_unsigned",
            Refused::ManifestMalformed => "manifest_malformed",
            Refused::ManifestUnsigned => "manifest_unsigned",
            Refused::KeyScope => "key_scope",
            Refused::WrongComponent => "wrong_component",
            Refused::WrongBoard => "wrong_board",
            Refused::BelowFloor => "below_floor",
            Refused::TooLarge => "too_large",
            Refused::DigestMismatch => "digest_mismatch",
            Refused::NoEntry => "no_entry",
            Refused::AttemptsSpent => "attempts_spent",
            Refused::AttemptUnwritten => "attempt_unwritten",
        }
    }
}

/// Where the parts of a slot are, from its start.
#[derive(Debug, Clone, Copy)]
pub struct SlotLayout {
    pub keyset_at: u32,
    pub envelope_at: u32,
    pub image_at: u32,
    /// Room for the image.
    pub image_bytes: u32,
}

/// What the machine is, as far as an image must fit it.
#[derive(Debug, Clone)]
pub struct Machine<'a> {
    pub board: &'a str,
    /// Where the image runs.
    pub code_at: u32,
    /// What its first stack pointer may be.
    pub stack: RangeInclusive<u32>,
}

/// Whom this board believes.
#[derive(Debug, Clone)]
pub(super) struct Roots {
    hashes: Vec<KeyHash, ROOT_KEYS_MAX>,
    threshold: u8,
}

impl Roots {
    /// The provisioned hashes but the revoked ones.
    pub(super) fn new(provisioned: &[KeyHash], threshold: u8, revoked: u8) -> Roots {
        let hashes = provisioned
            .iter()
            .take(ROOT_KEYS_MAX)
            .enumerate()
            .filter(|(index, _)| revoked >> index & 1 == 0)
            .map(|(_, hash)| *hash)
            .collect();
        Roots { hashes, threshold }
    }
}

/// Buffers for the signed parts of a slot.
#[derive(Debug)]
pub struct Scratch {
    keyset: [u8; KEYSET_BYTES_MAX],
    envelope: [u8; ENVELOPE_BYTES_MAX],
}

impl Scratch {
    pub const fn new() -> Scratch {
        Scratch { keyset: [0; KEYSET_BYTES_MAX], envelope: [0; ENVELOPE_BYTES_MAX] }
    }
}

impl Default for Scratch {
    fn default() -> Self {
        Scratch::new()
    }
}

/// Where an image begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    pub stack: u32,
    /// Thumb bit set.
    pub code: u32,
}

/// A microvisor that was verified and lies where it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    pub version: String<VERSION_BYTES_MAX>,
    pub security_counter: u64,
    /// Of its manifest.
    pub digest: Digest,
    pub area_bytes: u32,
    pub attempts_max: u8,
    pub build_time_s: u64,
    pub keyset_version: u32,
    pub entry: Entry,
}

/// What a microvisor must be to run here.
#[derive(Debug)]
pub(super) struct Demands<'a> {
    pub(super) machine: &'a Machine<'a>,
    pub(super) roots: Roots,
    pub(super) floor: u64,
}

/// Checks a slot, and copies its image to `place`; what is there after a refusal is blank.
pub(super) fn examine(
    slot: &mut dyn Flash,
    layout: &SlotLayout,
    demands: &Demands<'_>,
    scratch: &mut Scratch,
    place: &mut [u8],
    verify: &impl Verify,
) -> Result<Verified, Refused> {
    let examined = (|| {
        let (mut verified, area) = vouch(slot, layout, demands, scratch, verify)?;
        if verified.area_bytes > layout.image_bytes {
            return Err(Refused::TooLarge);
        }
        let image = place.get_mut(..verified.area_bytes as usize).ok_or(Refused::TooLarge)?;
        if load(slot, layout.image_at, image)? != area {
            return Err(Refused::DigestMismatch);
        }
        verified.entry = entry(image, demands.machine).ok_or(Refused::NoEntry)?;
        place[verified.area_bytes as usize..].fill(ERASED);
        Ok(verified)
    })();
    if examined.is_err() {
        place.fill(ERASED);
    }
    examined
}

/// Who vouches for the slot: keyset and manifest. The entry is still to be filled in; the digest is the area's.
fn vouch(
    slot: &mut dyn Flash,
    layout: &SlotLayout,
    demands: &Demands<'_>,
    scratch: &mut Scratch,
    verify: &impl Verify,
) -> Result<(Verified, Digest), Refused> {
    let Scratch { keyset, envelope } = scratch;
    let Demands { machine, roots, floor } = demands;
    let keyset = item(slot, layout.keyset_at, keyset, Refused::KeysetMalformed)?;
    let provisioned = Provisioned { root_key_hashes: &roots.hashes, threshold: roots.threshold };
    let keyset = keyset::open_provisioned(keyset, &provisioned, verify).map_err(|error| match error {
        keyset::KeysetError::Threshold => Refused::KeysetUnsigned,
        _ => Refused::KeysetMalformed,
    })?;
    let envelope = item(slot, layout.envelope_at, envelope, Refused::ManifestMalformed)?;
    let manifest = manifest::open(envelope, &keyset, verify).map_err(reason)?;
    fits(&manifest, machine, *floor)?;
    let verified = Verified {
        // Cannot be too long: the manifest's decoder has the same limit.
        version: String::try_from(manifest.version).map_err(|_| Refused::ManifestMalformed)?,
        security_counter: manifest.security_counter,
        digest: manifest.digest,
        area_bytes: manifest.area_bytes,
        attempts_max: manifest.update.attempts_max,
        build_time_s: manifest.build_time_s,
        keyset_version: keyset.version,
        entry: Entry { stack: 0, code: 0 },
    };
    Ok((verified, manifest.area_digest))
}

/// The one CBOR item that begins there; a slot has no other record of its lengths.
fn item<'b>(
    slot: &mut dyn Flash,
    at: u32,
    into: &'b mut [u8],
    malformed: Refused,
) -> Result<&'b [u8], Refused> {
    slot.read(at, into).map_err(|_| Refused::Unreadable)?;
    if into.iter().all(|byte| *byte == ERASED) {
        return Err(Refused::Blank);
    }
    Reader::new(into).item().map_err(|_| malformed)
}

fn fits(manifest: &Manifest<'_>, machine: &Machine<'_>, floor: u64) -> Result<(), Refused> {
    if manifest.component != Component::Microvisor {
        return Err(Refused::WrongComponent);
    }
    if manifest.board != machine.board {
        return Err(Refused::WrongBoard);
    }
    if manifest.security_counter < floor {
        return Err(Refused::BelowFloor);
    }
    Ok(())
}

fn reason(error: ManifestError) -> Refused {
    match error {
        ManifestError::KeyScope => Refused::KeyScope,
        ManifestError::UnknownKey | ManifestError::Unsigned | ManifestError::Signature => {
            Refused::ManifestUnsigned
        }
        _ => Refused::ManifestMalformed,
    }
}

/// Copies the image and hashes what is then there.
fn load(slot: &mut dyn Flash, image_at: u32, image: &mut [u8]) -> Result<Digest, Refused> {
    let mut hasher = Hasher::new();
    let mut at = image_at;
    for piece in image.chunks_mut(PIECE_BYTES) {
        slot.read(at, piece).map_err(|_| Refused::Unreadable)?;
        hasher.update(piece);
        at += piece.len() as u32;
    }
    Ok(hasher.finish())
}

/// The first two vectors: a stack pointer that is in RAM and aligned (AAPCS: 8), and Thumb code in the image.
fn entry(image: &[u8], machine: &Machine<'_>) -> Option<Entry> {
    let (stack, rest) = image.split_first_chunk()?;
    let (code, _) = rest.split_first_chunk()?;
    let entry = Entry { stack: u32::from_le_bytes(*stack), code: u32::from_le_bytes(*code) };
    let offset = (entry.code & !1).checked_sub(machine.code_at)?;
    let fits = machine.stack.contains(&entry.stack)
        && entry.stack.is_multiple_of(8)
        && entry.code & 1 == 1
        && (offset as usize) < image.len();
    fits.then_some(entry)
}
