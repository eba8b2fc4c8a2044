//! The first stage over simulated flash: what it chooses, what it refuses, and what a power cut leaves.

mod choice;
mod cut;
mod memory;
mod refusal;

use gateway_core::boot::first::{Given, Machine, Outcome, Parts, Record, Scratch, Slot, choose};
use gateway_core::ports::Geometry;
use wire::KeyHash;
use wire::cose::P256;

pub(crate) use crate::sim::firmware::{
    ATTEMPTS_MAX, BOARD, CODE_AT, Filling, IMAGE_BYTES, LAYOUT, Part, STACK_AT, image, keyset,
};
use crate::sim::{Maker, SimFlash};

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
        let Part { at, bytes, .. } = Part::slot(&self.flash, 0, slot);
        self.flash.overwrite(at, &vec![0xff; bytes as usize]);
        self.flash.overwrite(at + LAYOUT.keyset_at, &filling.keyset);
        self.flash.overwrite(at + LAYOUT.envelope_at, &filling.envelope);
        self.flash.overwrite(at + LAYOUT.image_at, &filling.image);
    }

    /// Changes one byte of a slot.
    pub(crate) fn corrupt(&self, slot: Slot, at: u32) {
        self.flash.corrupt(Part::slot(&self.flash, 0, slot).at + at);
    }

    pub(crate) fn record_part(&self) -> Part {
        Part::record(&self.flash, 0)
    }

    pub(crate) fn record(&self) -> Record {
        Record::read(&mut self.record_part()).0
    }

    pub(crate) fn set(&self, record: Record) {
        record.write(&mut self.record_part()).unwrap();
    }

    pub(crate) fn start(&mut self) -> Outcome {
        let slot = |slot| Part::slot(&self.flash, 0, slot);
        let parts = Parts {
            record: &mut self.record_part(),
            slots: [&mut slot(Slot::A), &mut slot(Slot::B)],
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
