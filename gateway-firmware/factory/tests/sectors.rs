//! Every single erase unit that the first stage reads, lost in three ways: erased, zeroed, noise. With a microvisor in both slots
//! something always runs; with one, everything but its own units may be lost.
//!
//! What the core reads is tried in `gateway-core::update::sectors`.

#![expect(clippy::print_stdout, reason = "what is lost with each unit, as evidence")]

mod material;

use std::collections::BTreeMap;

use chip::map::secure::{MICROVISOR_AT, MICROVISOR_BYTES, RAM_AT};
use factory::image::Spec;
use factory::map;
use factory::memory::{LAYOUT, Region, machine};
use factory::provision::Provision;
use gateway_core::boot::first::{Given, Outcome, Parts, Record, Scratch, Slot, choose};
use gateway_core::provision;
use material::{bundle, keyset, provision_json};
use wire::bundle::Bundle;
use wire::cose::P256;

/// When boards are made here.
const NOW_S: u64 = 1_800_000_000;
/// Bytes of the images: three blocks of 16 KiB with their padding.
const AREA_BYTES: u32 = 48 * 1024;
const FLOOR: u64 = 5;

/// The parts of the flash that the first stage reads.
#[derive(Clone)]
struct Flash {
    provision: Vec<u8>,
    record: Vec<u8>,
    slots: [Vec<u8>; 2],
}

#[derive(Debug, Clone, Copy)]
enum Loss {
    Erased,
    Zeroed,
    Noise,
}

const LOSSES: [Loss; 3] = [Loss::Erased, Loss::Zeroed, Loss::Noise];

impl Loss {
    fn fill(self, unit: &mut [u8]) {
        for (at, byte) in unit.iter_mut().enumerate() {
            *byte = match self {
                Loss::Erased => 0xff,
                Loss::Zeroed => 0,
                Loss::Noise => ((at as u32).wrapping_mul(0x9e37_79b9) >> 24) as u8,
            };
        }
    }
}

fn microvisor(version: &str, counter: u64) -> Vec<u8> {
    let mut image: Vec<u8> = (0..40_000_u32).map(|at| (u64::from(at) / (5 + counter)) as u8).collect();
    image[..4].copy_from_slice(&(RAM_AT + 0x1000).to_le_bytes());
    image[4..8].copy_from_slice(&(MICROVISOR_AT + 0x401).to_le_bytes());
    bundle(&image, |spec| (spec.version, spec.security_counter) = (version.to_owned(), counter))
}

/// As the factory makes a board: the same microvisor in both slots.
fn made() -> Flash {
    let provision = Provision::parse(&provision_json()).expect("a provisioning");
    let (keyset, microvisor) = (keyset(), microvisor("1.2.3", FLOOR));
    let spec = Spec {
        provision: &provision,
        hosts: &[],
        keyset: &keyset,
        microvisor: &microvisor,
        app: None,
        test: None,
        now_s: NOW_S,
    };
    let board = spec.prepare().and_then(|line| line.board("an505-7")).expect("a good board");
    let region = |at: u32, bytes: u32| board.bytes()[at as usize..(at + bytes) as usize].to_vec();
    Flash {
        provision: region(map::PROVISION, map::PROVISION_BYTES),
        record: region(map::BOOT_RECORD, map::BOOT_RECORD_BYTES),
        slots: map::SLOTS.map(|slot| region(slot, map::SLOT_BYTES)),
    }
}

/// A newer one was installed in slot B, tried and confirmed, and the floor rose to the older one's.
fn updated() -> Flash {
    let mut flash = made();
    let file = microvisor("1.3.0", FLOOR + 1);
    let bundle = Bundle::read(&file).expect("a bundle");
    let layer = bundle.layer(&bundle.manifest.layers[0].digest).expect("its layer");
    for (at, bytes) in
        [(map::SLOT_KEYSET, &keyset()[..]), (map::SLOT_ENVELOPE, bundle.envelope), (map::SLOT_IMAGE, layer)]
    {
        flash.slots[1][at as usize..at as usize + bytes.len()].copy_from_slice(bytes);
    }
    let tried = Record::default().begin_trial().count_attempt().expect("on trial");
    for record in
        [tried, tried.confirm().expect("on trial"), tried.confirm().expect("on trial").raise_floor(FLOOR)]
    {
        let bytes = flash.record.len() as u32;
        record.write(&mut Region::new(&mut flash.record, 0, bytes).expect("a region")).expect("writes");
    }
    flash
}

/// What the first stage comes to.
fn start(flash: &mut Flash) -> Outcome {
    let roots = provision::roots(&flash.provision).expect("provisioned");
    let Flash { record, slots: [a, b], .. } = flash;
    let [mut a, mut b] = [a, b].map(|slot| Region::new(slot, 0, map::SLOT_BYTES).expect("a region"));
    let parts = Parts {
        record: &mut Region::new(record, 0, map::BOOT_RECORD_BYTES).expect("a region"),
        slots: [&mut a, &mut b],
        layout: LAYOUT,
        place: &mut vec![0; MICROVISOR_BYTES as usize],
        scratch: &mut Scratch::new(),
    };
    let given = Given { machine: machine(), root_key_hashes: &roots.hashes, root_threshold: roots.threshold };
    choose(parts, &given, &P256)
}

/// Loses each unit in each way; the part it is in, and what the first stage came to then.
fn each_lost(flash: &Flash) -> Vec<(String, Outcome)> {
    let unit = map::ERASE_BYTES as usize;
    let mut all = Vec::new();
    let mut lose = |part: String, region: fn(&mut Flash, usize) -> &mut Vec<u8>, which: usize, at: usize| {
        for loss in LOSSES {
            let mut flash = flash.clone();
            let cells = &mut region(&mut flash, which)[at..at + unit];
            let before = cells.to_vec();
            loss.fill(cells);
            // Padding that is erased is what it was.
            if before != *cells {
                all.push((part.clone(), start(&mut flash)));
            }
        }
    };
    for (index, at) in (0..map::PROVISION_BYTES as usize).step_by(unit).enumerate() {
        lose(format!("provisioning, copy {}", index / 2), |flash, _| &mut flash.provision, 0, at);
    }
    for (index, at) in (0..map::BOOT_RECORD_BYTES as usize).step_by(unit).enumerate() {
        lose(format!("boot record, unit {index}"), |flash, _| &mut flash.record, 0, at);
    }
    for slot in Slot::BOTH {
        for at in (0..map::SLOT_BYTES as usize).step_by(unit) {
            let used = match at as u32 {
                map::SLOT_KEYSET => "keyset",
                at if at < map::SLOT_ENVELOPE + 4096 => "envelope",
                at if !(map::SLOT_IMAGE..map::SLOT_IMAGE + AREA_BYTES).contains(&at) => "nothing used",
                _ => "image",
            };
            lose(
                format!("slot {}, {used}", slot.name()),
                |flash, slot| &mut flash.slots[slot],
                slot.index(),
                at,
            );
        }
    }
    all
}

fn table(all: &[(String, Outcome)]) -> BTreeMap<String, usize> {
    let mut table = BTreeMap::new();
    for (part, outcome) in all {
        let runs = outcome.chosen.as_ref().map_or("nothing runs".to_owned(), |chosen| {
            format!("slot {} runs, floor {}", chosen.slot.name(), outcome.record.floor)
        });
        *table.entry(format!("{part}: {runs}, record {}", outcome.record_health.name())).or_default() += 1;
    }
    table.iter().for_each(|(what, count)| println!("{count:>4} {what}"));
    table
}

#[test]
fn with_a_microvisor_in_both_slots_any_unit_may_be_lost_and_something_runs() {
    let flash = updated();
    assert_eq!(start(&mut flash.clone()).chosen.map(|chosen| chosen.slot), Some(Slot::B));
    let all = each_lost(&flash);
    table(&all);
    for (part, outcome) in &all {
        let slot = outcome.chosen.as_ref().map(|chosen| chosen.slot);
        let expected = match part.as_str() {
            // The only unit with entries: the record is what it is on a new board, and the floor is lost with it.
            "boot record, unit 0" => Slot::A,
            "slot b, keyset" | "slot b, envelope" | "slot b, image" => Slot::A,
            _ => Slot::B,
        };
        assert_eq!(slot, Some(expected), "{part}: {outcome:?}");
        let floor = if part == "boot record, unit 0" { 0 } else { FLOOR };
        assert_eq!(outcome.record.floor, floor, "{part}");
    }
}

#[test]
fn of_a_board_from_the_factory_any_unit_may_be_lost_and_the_same_runs() {
    let flash = made();
    for (part, outcome) in &each_lost(&flash) {
        let own = ["slot a, keyset", "slot a, envelope", "slot a, image"].contains(&part.as_str());
        let expected = if own { Slot::B } else { Slot::A };
        let slot = outcome.chosen.as_ref().map(|chosen| chosen.slot);
        assert_eq!(slot, Some(expected), "{part}: {outcome:?}");
    }
}

/// As it is while the other slot is written.
#[test]
fn with_a_microvisor_in_one_slot_its_own_units_are_all_that_must_not_be_lost() {
    let mut flash = made();
    flash.slots[1].fill(0xff);
    let all = each_lost(&flash);
    table(&all);
    for (part, outcome) in &all {
        let own = ["slot a, keyset", "slot a, envelope", "slot a, image"].contains(&part.as_str());
        assert_eq!(outcome.chosen.is_none(), own, "{part}: {outcome:?}");
    }
}
