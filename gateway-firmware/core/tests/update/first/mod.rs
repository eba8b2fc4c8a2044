//! The first stage over simulated flash: what it chooses, what it refuses, and what a power cut leaves.

mod choice;
mod cut;
mod memory;
mod refusal;

use gateway_core::boot::first::{Given, Machine, Outcome, Parts, Record, Scratch, Slot, SlotLayout, choose};
use gateway_core::ports::{Flash, FlashError, Geometry};
use wire::KeyHash;
use wire::cose::P256;
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
/// Starts that these tests' manifests give a trial.
pub(crate) const ATTEMPTS_MAX: u8 = 3;

/// A part of a flash as a flash of its own.
#[derive(Debug, Clone)]
pub(crate) struct Part {
    flash: SimFlash,
    at: u32,
    bytes: u32,
}

impl Part {
    pub(crate) fn whole(flash: &SimFlash) -> Part {
        Part { flash: flash.clone(), at: 0, bytes: flash.geometry().bytes }
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

/// A board with two microvisor slots, and those who sign for it.
#[derive(Debug)]
pub(crate) struct Board {
    pub(crate) flash: SimFlash,
    pub(crate) roots: Vec<KeyHash>,
    pub(crate) threshold: u8,
    /// Where the chosen image runs.
    pub(crate) place: Vec<u8>,
}

impl Board {
    /// Version 1 in slot A, version 2 in slot B, no record.
    pub(crate) fn new(geometry: Geometry) -> Board {
        let maker = Maker::new();
        let board = Board {
            flash: SimFlash::new(geometry),
            roots: vec![maker.root_hash()],
            threshold: 1,
            place: vec![0; IMAGE_BYTES as usize],
        };
        board.fill(Slot::A, &Filling::version(1));
        board.fill(Slot::B, &Filling::version(2));
        board
    }

    /// Another board with the same flash content.
    pub(crate) fn fork(&self) -> Board {
        let Board { flash, roots, threshold, place } = self;
        Board { flash: flash.fork(), roots: roots.clone(), threshold: *threshold, place: place.clone() }
    }

    pub(crate) fn fill(&self, slot: Slot, filling: &Filling) {
        let at = RECORD_BYTES + SLOT_BYTES * slot.index() as u32;
        self.flash.overwrite(at, &vec![0xff; SLOT_BYTES as usize]);
        self.flash.overwrite(at + LAYOUT.keyset_at, &filling.keyset);
        self.flash.overwrite(at + LAYOUT.envelope_at, &filling.envelope);
        self.flash.overwrite(at + LAYOUT.image_at, &filling.image);
    }

    /// Changes one byte of a slot.
    pub(crate) fn corrupt(&self, slot: Slot, at: u32) {
        self.flash.corrupt(RECORD_BYTES + SLOT_BYTES * slot.index() as u32 + at);
    }

    pub(crate) fn record_part(&self) -> Part {
        Part { flash: self.flash.clone(), at: 0, bytes: RECORD_BYTES }
    }

    pub(crate) fn record(&self) -> Record {
        Record::read(&mut self.record_part()).0
    }

    pub(crate) fn set(&self, record: Record) {
        record.write(&mut self.record_part()).unwrap();
    }

    pub(crate) fn start(&mut self) -> Outcome {
        let slot = |index: u32| {
            let at = RECORD_BYTES + SLOT_BYTES * index;
            Part { flash: self.flash.clone(), at, bytes: SLOT_BYTES }
        };
        let parts = Parts {
            record: &mut self.record_part(),
            slots: [&mut slot(0), &mut slot(1)],
            layout: LAYOUT,
            place: &mut self.place,
            scratch: &mut Scratch::new(),
        };
        let given = Given {
            machine: Machine { board: BOARD, code_at: CODE_AT, stack: STACK_AT..=STACK_AT + 0x1000 },
            root_key_hashes: &self.roots,
            root_threshold: self.threshold,
        };
        choose(parts, &given, &P256)
    }

    /// Starts it: the version that runs (its counter), and on which attempt. What runs is what lies there.
    pub(crate) fn runs(&mut self) -> Option<(u64, u8)> {
        let chosen = self.start().chosen?;
        let version = chosen.microvisor.security_counter;
        assert_eq!(self.place[8..16], version.to_le_bytes(), "what was measured is what is there");
        Some((version, chosen.attempt))
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
