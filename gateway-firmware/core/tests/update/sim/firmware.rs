//! A first stage and two microvisors on the same chip as the store: the real first stage chooses, and what it chooses is what
//! the core is told. What a microvisor is like is known by its security counter.

mod parts;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

use gateway_core::Facts;
use gateway_core::boot::first::{Given, Handover, Machine, Parts, Record, Scratch, Slot, choose};
use gateway_core::ports::{BootReason, Exchange, Flash as _};
use wire::cose::P256;

use super::{Bench, FIRMWARE_AT, SimFlash};

pub(crate) use parts::{
    ATTEMPTS_MAX, BOARD, CODE_AT, FIRMWARE_BYTES, Filling, IMAGE_BYTES, LAYOUT, Part, STACK_AT, image, keyset,
};

/// What a microvisor is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Nature {
    #[default]
    Sound,
    /// It does not come as far as the core: the watchdog, or its own fault, starts the board anew.
    Dies,
}

/// Starts of a board in a row before a test is stuck.
const STARTS_MAX: usize = 20;

/// The firmware of one bench.
#[derive(Debug, Default)]
pub(crate) struct Firmware {
    pub natures: HashMap<u64, Nature>,
    handover: RefCell<Option<Handover>>,
    restart: Rc<Cell<bool>>,
    /// Security counters of what was jumped to, in order, since the bench was made.
    pub jumped: RefCell<Vec<u64>>,
}

impl Firmware {
    /// Another board with the same firmware.
    pub(crate) fn fork(&self) -> Firmware {
        Firmware {
            natures: self.natures.clone(),
            handover: self.handover.clone(),
            jumped: self.jumped.clone(),
            ..Firmware::default()
        }
    }

    /// Power, or a reset: the first stage chooses until what it chooses comes up. Nothing when the power goes meanwhile.
    pub(crate) fn start(&self, flash: &SimFlash, facts: &Facts) -> Option<Handover> {
        self.restart.set(false);
        for _ in 0..STARTS_MAX {
            let outcome = choose(
                Parts {
                    record: &mut Part::record(flash, FIRMWARE_AT),
                    slots: [
                        &mut Part::slot(flash, FIRMWARE_AT, Slot::A),
                        &mut Part::slot(flash, FIRMWARE_AT, Slot::B),
                    ],
                    layout: LAYOUT,
                    place: &mut vec![0; IMAGE_BYTES as usize],
                    scratch: &mut Scratch::new(),
                },
                &Given {
                    machine: Machine { board: BOARD, code_at: CODE_AT, stack: STACK_AT..=STACK_AT + 0x1000 },
                    root_key_hashes: &facts.root_key_hashes,
                    root_threshold: facts.root_threshold,
                },
                &P256,
            );
            if flash.is_dead() {
                return None;
            }
            let chosen = outcome.chosen.as_ref().expect("there is always a microvisor that may run");
            let handover = Handover::new(chosen, &outcome, BootReason::Software);
            // As it really goes: through its bytes.
            let handover = Handover::decode(&handover.encode()).unwrap();
            self.jumped.borrow_mut().push(handover.security_counter);
            if self.natures.get(&handover.security_counter) != Some(&Nature::Dies) {
                *self.handover.borrow_mut() = Some(handover.clone());
                return Some(handover);
            }
        }
        panic!("no microvisor comes up");
    }

    pub(crate) fn port(&self, flash: &SimFlash) -> SimFirmware {
        let parts =
            self.handover.borrow().clone().map(|handover| {
                (Part::slots(flash, FIRMWARE_AT), Part::record(flash, FIRMWARE_AT), handover)
            });
        SimFirmware { parts, restart: self.restart.clone() }
    }
}

impl Bench {
    /// Puts a microvisor into a slot, as a factory does.
    pub(crate) fn fill(&self, slot: Slot, filling: &Filling) {
        let at = Part::slot(&self.flash, FIRMWARE_AT, slot).at;
        self.flash.overwrite(at + LAYOUT.keyset_at, &filling.keyset);
        self.flash.overwrite(at + LAYOUT.envelope_at, &filling.envelope);
        self.flash.overwrite(at + LAYOUT.image_at, &filling.image);
    }

    /// The same where something was before.
    pub(crate) fn fill_over(&self, slot: Slot, filling: &Filling) {
        let Part { at, bytes, .. } = Part::slot(&self.flash, FIRMWARE_AT, slot);
        self.flash.overwrite(at, &vec![0xff; bytes as usize]);
        self.fill(slot, filling);
    }

    /// Changes one byte of a slot.
    pub(crate) fn corrupt(&self, slot: Slot, at: u32) {
        self.flash.corrupt(Part::slot(&self.flash, FIRMWARE_AT, slot).at + at);
    }

    pub(crate) fn set(&self, record: Record) {
        record.write(&mut Part::record(&self.flash, FIRMWARE_AT)).unwrap();
    }

    /// Loses one of the two units of the first stage's record.
    pub(crate) fn lose_record_unit(&self, unit: u32) {
        let erase_bytes = self.flash.geometry().erase_bytes;
        let at = Part::record(&self.flash, FIRMWARE_AT).at + unit * erase_bytes;
        self.flash.overwrite(at, &vec![0xff; erase_bytes as usize]);
    }

    /// The first stage's record.
    pub(crate) fn record(&self) -> Record {
        Record::read(&mut Part::record(&self.flash, FIRMWARE_AT)).0
    }

    /// Whether the device wanted to be started anew since this was asked.
    pub(crate) fn takes_restart(&self) -> bool {
        self.firmware.as_ref().is_some_and(|firmware| firmware.restart.replace(false))
    }
}

/// The port.
#[derive(Debug, Default)]
pub(crate) struct SimFirmware {
    parts: Option<(Part, Part, Handover)>,
    restart: Rc<Cell<bool>>,
}

impl gateway_core::ports::Firmware for SimFirmware {
    type Flash = Part;

    fn handover(&self) -> Option<&Handover> {
        self.parts.as_ref().map(|(_, _, handover)| handover)
    }

    fn exchange(&mut self) -> Option<Exchange<'_, Part>> {
        let (slots, record, handover) = self.parts.as_mut()?;
        Some(Exchange { slots, layout: LAYOUT, record, handover })
    }

    fn restart(&mut self) {
        self.restart.set(true);
    }
}
