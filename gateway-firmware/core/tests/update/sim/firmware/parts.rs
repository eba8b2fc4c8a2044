//! What is in a chip beside the store: the first stage's record and two slots, and what a factory or an update puts into them.

use gateway_core::boot::first::{Slot, SlotLayout};
use gateway_core::ports::{Flash, FlashError, Geometry};
use wire::manifest::Component;
use wire::sign::{KeysetSpec, ManifestSpec, ReleaseKeySpec, Signer as _, SoftKey};

use crate::sim::{Maker, SimFlash};

pub(crate) const BOARD: &str = "sim";
/// Where images of these tests run.
pub(crate) const CODE_AT: u32 = 0x1001_0000;
pub(crate) const STACK_AT: u32 = 0x3800_0000;
pub(crate) const IMAGE_BYTES: u32 = 3 * 16 * 1024;
pub(crate) const LAYOUT: SlotLayout =
    SlotLayout { keyset_at: 0, envelope_at: 8192, image_at: 16_384, image_bytes: IMAGE_BYTES };
const RECORD_BYTES: u32 = 16 * 1024;
const SLOT_BYTES: u32 = 64 * 1024;
/// A record and two slots.
pub(crate) const FIRMWARE_BYTES: u32 = RECORD_BYTES + 2 * SLOT_BYTES;
/// Starts that these tests' manifests give a trial.
pub(crate) const ATTEMPTS_MAX: u8 = 3;

/// A part of a flash as a flash of its own.
#[derive(Debug, Clone)]
pub(crate) struct Part {
    flash: SimFlash,
    /// Where it begins on the chip.
    pub(crate) at: u32,
    pub(crate) bytes: u32,
}

impl Part {
    pub(crate) fn whole(flash: &SimFlash) -> Part {
        Part { flash: flash.clone(), at: 0, bytes: flash.geometry().bytes }
    }

    /// The record of firmware that begins there.
    pub(crate) fn record(flash: &SimFlash, at: u32) -> Part {
        Part { flash: flash.clone(), at, bytes: RECORD_BYTES }
    }

    /// Both slots of it, one after the other.
    pub(crate) fn slots(flash: &SimFlash, at: u32) -> Part {
        Part { flash: flash.clone(), at: at + RECORD_BYTES, bytes: 2 * SLOT_BYTES }
    }

    /// One of its slots.
    pub(crate) fn slot(flash: &SimFlash, at: u32, slot: Slot) -> Part {
        let at = at + RECORD_BYTES + SLOT_BYTES * slot.index() as u32;
        Part { flash: flash.clone(), at, bytes: SLOT_BYTES }
    }
}

impl Flash for Part {
    fn geometry(&self) -> Geometry {
        Geometry { bytes: self.bytes, ..self.flash.geometry() }
    }

    fn read(&mut self, at: u32, into: &mut [u8]) -> Result<(), FlashError> {
        assert!(at + into.len() as u32 <= self.bytes);
        self.flash.read(self.at + at, into)
    }

    fn write(&mut self, at: u32, bytes: &[u8]) -> Result<(), FlashError> {
        assert!(at + bytes.len() as u32 <= self.bytes);
        self.flash.write(self.at + at, bytes)
    }

    fn erase(&mut self, at: u32) -> Result<(), FlashError> {
        assert!(at < self.bytes);
        self.flash.erase(self.at + at)
    }
}

/// What is in a slot.
#[derive(Debug, Clone)]
pub(crate) struct Filling {
    pub(crate) keyset: Vec<u8>,
    pub(crate) envelope: Vec<u8>,
    pub(crate) image: Vec<u8>,
}

impl Filling {
    pub(crate) fn version(version: u64) -> Filling {
        Filling::made(&image(version), version, |_| {}, &Maker::new().release)
    }

    /// With another manifest or another release key.
    pub(crate) fn made(
        image: &[u8],
        version: u64,
        change: impl FnOnce(&mut ManifestSpec<'_>),
        release: &SoftKey,
    ) -> Filling {
        let maker = Maker::new();
        let layers = [image.to_vec(), vec![1; 100]];
        let mut spec = maker.spec(version, &layers);
        spec.layers.truncate(1);
        spec.component = Component::Microvisor;
        spec.board = BOARD.to_owned();
        spec.version = format!("{version}.0.0");
        spec.update.attempts_max = ATTEMPTS_MAX;
        change(&mut spec);
        let envelope = spec.sign(release).unwrap().envelope;
        Filling { keyset: keyset(|_| {}), envelope, image: image.to_vec() }
    }
}

/// A keyset whose release key is for microvisors of this board.
pub(crate) fn keyset(change: impl FnOnce(&mut KeysetSpec)) -> Vec<u8> {
    let maker = Maker::new();
    let mut spec = maker.keyset_spec(1);
    spec.release_keys = vec![ReleaseKeySpec {
        key: maker.release.public_key(),
        component: Some(Component::Microvisor),
        board: Some(BOARD.to_owned()),
    }];
    change(&mut spec);
    spec.sign(&[&maker.root]).unwrap()
}

/// Two blocks and a bit: vectors, the version, and bytes of its own.
pub(crate) fn image(version: u64) -> Vec<u8> {
    let mut image: Vec<u8> = (0..33_000_u32).map(|at| (at / 5) as u8 ^ version as u8).collect();
    image[..4].copy_from_slice(&(STACK_AT + 0x800).to_le_bytes());
    image[4..8].copy_from_slice(&(CODE_AT + 0x101).to_le_bytes());
    image[8..16].copy_from_slice(&version.to_le_bytes());
    image
}
