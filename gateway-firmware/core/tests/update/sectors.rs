//! Every single erase unit that the core uses, lost in three ways: erased, zeroed, noise. What is lost with it, exactly; that the
//! device comes up all the same, and takes an update after it.
//!
//! The first stage's units are tried where its layout is: `factory/tests/sectors.rs`.

use std::collections::BTreeMap;

use gateway_core::counter::FlashCounter;
use gateway_core::ports::{Counter as _, Geometry};
use gateway_core::secret;
use gateway_core::store::{Key, Store};
use gateway_core::update::slots::Layout;

use crate::boot::with_v2;
use crate::first::Part;
use crate::sim::*;

/// Units are lost in these ways.
const LOSSES: [Loss; 3] = [Loss::Erased, Loss::Zeroed, Loss::Noise];
/// What the journal of a device in use holds.
const KEYS: [Key; 4] = [Key::Boot, Key::Keyset, Key::Identity, Key::Ledger];

#[derive(Debug, Clone, Copy)]
enum Loss {
    Erased,
    Zeroed,
    Noise,
}

impl Loss {
    fn bytes(self, count: u32) -> Vec<u8> {
        let noise = |at: u32| (at.wrapping_mul(0x9e37_79b9) >> 24) as u8;
        match self {
            Loss::Erased => vec![0xff; count as usize],
            Loss::Zeroed => vec![0; count as usize],
            Loss::Noise => (0..count).map(noise).collect(),
        }
    }
}

/// The values that a journal gives.
fn values(flash: &SimFlash) -> Vec<Option<Vec<u8>>> {
    let mut flash = flash.fork();
    let store = Store::mount(&mut flash, 0).unwrap();
    let mut value = |key: Key| {
        let mut into = vec![0; key.bytes_max()];
        store.read(&mut flash, key, &mut into).unwrap().map(<[u8]>::to_vec)
    };
    KEYS.map(&mut value).to_vec()
}

fn part(layout: &Layout, at: u32) -> String {
    let bank_bytes = layout.slots[0].envelope_at / 2;
    if at < layout.slots[0].envelope_at {
        return format!("journal bank {}", at / bank_bytes);
    }
    let slot = usize::from(at >= layout.slots[1].envelope_at);
    let name = if slot == 1 { "confirmed" } else { "previous" };
    let part = if at < layout.slots[slot].area_at { "envelope" } else { "area" };
    format!("{name} application's {part}")
}

/// v2 is confirmed and v1 was; one unit after the other is lost.
fn any_unit_may_be_lost(geometry: Geometry) {
    let (maker, bench, layout) = with_v2(geometry);
    let v3 = maker.bundle(3).known_on(&bench);
    let before = values(&bench.flash);
    let mut table: BTreeMap<String, usize> = BTreeMap::new();
    for at in (0..geometry.bytes).step_by(geometry.erase_bytes as usize) {
        for loss in LOSSES {
            let bench = bench.fork();
            bench.flash.overwrite(at, &loss.bytes(geometry.erase_bytes));
            let after = values(&bench.flash);
            let lost: Vec<Key> =
                (0..KEYS.len()).filter(|i| before[*i] != after[*i]).map(|i| KEYS[i]).collect();
            let part = part(&layout, at);
            let mut device = bench.boot();

            // What runs is a whole version, or nothing; nothing only where the journal does not know any more what is installed.
            let running = bench.running();
            let expected = match part.as_str() {
                "confirmed application's envelope" | "confirmed application's area" => {
                    vec![Some("v1"), Some("v2")]
                }
                _ if lost.contains(&Key::Ledger) => vec![None, Some("v1"), Some("v2")],
                _ => vec![Some("v2")],
            };
            assert!(expected.contains(&running.as_deref()), "{part} {at:#x} {loss:?}: {running:?} runs");
            assert!(part.starts_with("journal") || lost.is_empty(), "{part} {at:#x} {loss:?}: {lost:?}");
            let knows = device.device_id().is_some();
            assert_eq!(knows, !lost.contains(&Key::Identity), "{part} {at:#x} {loss:?}");

            // Without an identity there is the claim; then there is a way to install.
            if !knows || device.keyset_version() == 0 {
                device.enrolled(maker.device, maker.tenant, &[1], &maker.keyset(1)).unwrap();
            }
            let mut director = Director::new(&maker, &bench);
            assert!(director.drive(&mut device, &v3, 3, Goal::Confirmed), "{part} {at:#x} {loss:?}");
            assert_eq!(bench.running().as_deref(), Some("v3"));
            let running = running.unwrap_or("nothing".to_owned());
            *table.entry(format!("{part}: {running} runs, lost {lost:?}")).or_default() += 1;
        }
    }
    println!("one unit of {} lost in three ways, and v3 installed after each:", geometry.erase_bytes);
    table.iter().for_each(|(what, count)| println!("{count:>4} {what}"));
}

#[test]
fn any_unit_of_the_store_may_be_lost_and_the_device_takes_an_update_on_small_sectors() {
    any_unit_may_be_lost(SMALL);
}

#[test]
fn any_unit_of_the_store_may_be_lost_and_the_device_takes_an_update_on_write_once_flash() {
    any_unit_may_be_lost(WRITE_ONCE);
}

#[test]
fn either_unit_of_the_identity_may_be_lost_and_nothing_is() {
    for (geometry, loss, unit) in each_of_two_units() {
        let flash = SimFlash::new(geometry);
        secret::write(&mut Part::whole(&flash), &[7; 32]).unwrap();
        flash.overwrite(unit * geometry.erase_bytes, &loss.bytes(geometry.erase_bytes));
        let (found, health) = secret::read(&mut Part::whole(&flash));
        assert_eq!((found, health), (Some([7; 32]), secret::Health::Repaired), "{unit} {loss:?}");
        assert_eq!(secret::read(&mut Part::whole(&flash)).1, secret::Health::Sound);
    }
}

/// How a counter was found after the loss of one unit.
#[test]
fn a_counter_whose_newest_unit_is_lost_never_claims_to_be_more_than_it_was() {
    let mut table: BTreeMap<String, usize> = BTreeMap::new();
    for (geometry, loss, unit) in each_of_two_units() {
        // A young counter, and one that has been in both units.
        for raises in [1, geometry.erase_bytes / 32 + 3] {
            let flash = SimFlash::new(geometry);
            let mut counter = FlashCounter::new(Part::whole(&flash));
            (1..=raises).for_each(|to| counter.raise(to.into()).unwrap());
            flash.overwrite(unit * geometry.erase_bytes, &loss.bytes(geometry.erase_bytes));
            let found = counter.value();
            assert!(found.is_err() || found.is_ok_and(|value| value <= raises.into()));
            let found = match found {
                Ok(value) if value == u64::from(raises) => "kept",
                Ok(0) => "zero",
                Ok(_) => "an earlier value",
                Err(_) => "unreadable",
            };
            let age = if raises == 1 { "young" } else { "old" };
            *table.entry(format!("{age} counter, unit {unit} {loss:?}: {found}")).or_default() += 1;
        }
    }
    table.iter().for_each(|(what, count)| println!("{count:>4} {what}"));
}

fn each_of_two_units() -> Vec<(Geometry, Loss, u32)> {
    let of = |geometry: Geometry| {
        LOSSES.into_iter().flat_map(move |loss| [0, 1].map(|unit| (geometry, loss, unit)))
    };
    GEOMETRIES.into_iter().flat_map(of).collect()
}
