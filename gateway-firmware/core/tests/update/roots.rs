//! Roots that left the keyset, and the first stage that is told of it.

use std::rc::Rc;

use gateway_core::boot::first::Slot;
use gateway_core::device::{DirectiveRefused, Heard, KeysetRefused};
use gateway_core::ports::{Flash as _, Geometry};
use gateway_core::store::{Key, Store};
use gateway_core::update::slots::Layout;
use wire::directive::{DirectiveError, Order};
use wire::keyset::KeysetError;
use wire::msg::{SlotStatus, UpdateReason};
use wire::sign::{ReleaseKeySpec, Signer as _, SoftKey};

use crate::exchange::{microvisor, runs};
use crate::sim::firmware::Filling;
use crate::sim::*;

/// A keyset that names these roots, signed by one.
fn keyset(maker: &Maker, version: u32, named: &[&SoftKey], by: &SoftKey) -> Vec<u8> {
    let mut spec = maker.keyset_spec(version);
    spec.root_keys = named.iter().map(|root| root.public_key()).collect();
    spec.sign(&[by]).unwrap()
}

/// A board with two provisioned roots, whose keyset 2 drops the first one. Microvisor 3 runs in slot A, keyset 3 is held.
fn a_root_is_dropped_on(geometry: Geometry) -> (Maker, Bench) {
    let maker = Maker::new();
    let (root, other) = (&maker.root, &maker.stranger);
    let mut bench = Bench::new(geometry, &maker);
    bench.facts.root_key_hashes.push(other.public_key().hash().unwrap()).unwrap();
    bench.firmware = Some(Rc::default());
    let first = keyset(&maker, 1, &[root, other], root);
    bench.fill(Slot::A, &Filling { keyset: first.clone(), ..Filling::version(1) });
    let mut device = bench.boot();
    device.enrolled(maker.device, maker.tenant, &[0xab; 1800], &first).unwrap();
    let mut director = Director::new(&maker, &bench);
    assert_eq!(device.offer_keyset(&keyset(&maker, 2, &[other], root)), Ok(2));
    director.settle(&mut device);
    assert_eq!(bench.record().revoked, 0, "slot A is vouched for by the first root alone");
    // The keyset that goes along is believed by its own root; the slot before still needs the other.
    assert_eq!(device.offer_keyset(&keyset(&maker, 3, &[other], other)), Ok(3));
    assert!(director.drive(&mut device, &microvisor(&maker, 2), 2, Goal::Confirmed));
    director.settle(&mut device);
    assert_eq!(bench.record().revoked, 0, "there must be something to fall back on");
    assert!(director.drive(&mut device, &microvisor(&maker, 3), 3, Goal::Confirmed));
    director.settle(&mut device);
    assert_eq!(bench.record().revoked, 0b01, "neither slot needs it");
    (maker, bench)
}

pub(crate) fn a_root_is_dropped() {
    let (maker, bench) = a_root_is_dropped_on(SMALL);
    // What the dropped root vouches for is refused from now on, and the device goes on as before.
    let first = keyset(&maker, 1, &[&maker.root, &maker.stranger], &maker.root);
    bench.fill_over(Slot::B, &Filling { keyset: first, ..Filling::version(9) });
    bench.set(bench.record().begin_trial());
    let mut device = bench.boot();
    assert_eq!(runs(&device), (0, "3.0.0".into(), SlotStatus::Confirmed));
    let mut director = Director::new(&maker, &bench);
    assert!(director.drive(&mut device, &microvisor(&maker, 4), 4, Goal::Confirmed));
}

#[test]
fn a_root_that_left_the_keyset_is_revoked_when_no_slot_needs_it() {
    a_root_is_dropped();
}

/// Everything that the journal holds.
fn lose_the_journal(bench: &Bench, noise: bool) {
    let layout = Layout::new(bench.flash.geometry()).unwrap();
    let bytes = (0..layout.slots[0].envelope_at).map(|at| if noise { (at * 7 / 3) as u8 } else { 0xff });
    bench.flash.overwrite(layout.store_at, &bytes.collect::<Vec<_>>());
}

/// The root that was revoked is a thief's: he signs keysets with keys of his own, and knows all that was ever published.
pub(crate) fn the_journal_is_lost_after_a_root_was_revoked() {
    for (geometry, noise) in [(SMALL, false), (SMALL, true), (WRITE_ONCE, false), (WRITE_ONCE, true)] {
        let (maker, bench) = a_root_is_dropped_on(geometry);
        let (root, other) = (&maker.root, &maker.stranger);
        let thief = SoftKey::from_scalar(&[9; 32]).unwrap();
        let thieves = |version| {
            let mut spec = maker.keyset_spec(version);
            spec.director_key = thief.public_key();
            spec.release_keys =
                vec![ReleaseKeySpec { key: thief.public_key(), component: None, board: None }];
            spec.sign(&[root]).unwrap()
        };
        lose_the_journal(&bench, noise);
        let mut device = bench.boot();
        assert_eq!((device.device_id(), device.keyset_version()), (None, 0));
        assert_eq!(runs(&device).1, "3.0.0");

        // It enrols whatever is called the first keyset, and begins from the one that vouches for what it runs.
        assert_eq!(device.enrolled(maker.device, maker.tenant, &[1], &thieves(1)), Ok(()));
        assert_eq!(device.keyset_version(), 3);
        for refused in [thieves(4), keyset(&maker, 4, &[root, other], root)] {
            let threshold = Err(KeysetRefused::Keyset(KeysetError::Threshold));
            assert_eq!(device.offer_keyset(&refused), threshold);
        }
        let mut director = Director::new(&maker, &bench);
        let nonce = director.hello(&mut device);
        let order = maker.directive_by(Order::Time, nonce, maker.device, &thief);
        let unsigned = DirectiveRefused::Directive(DirectiveError::Key);
        assert_eq!(device.hear(&order, &[]), Err(unsigned));

        // The tenant's go on in their order, and so do updates.
        assert_eq!(device.offer_keyset(&keyset(&maker, 4, &[other], other)), Ok(4));
        let layers = image(7);
        let stolen = maker.sign("v7".into(), Behaviour::Healthy, &maker.spec(7, &layers), &thief);
        assert_eq!(director.install(&mut device, &stolen, 7), Heard::Refused(UpdateReason::UnknownKey));
        director.store_results(&mut device);
        assert!(director.drive(&mut device, &maker.bundle(1).known_on(&bench), 8, Goal::Confirmed));
        assert!(director.drive(&mut device, &microvisor(&maker, 4), 9, Goal::Confirmed));
        assert_eq!((bench.running().as_deref(), device.keyset_version()), (Some("v1"), 4));
        assert_eq!(bench.record().revoked, 0b01);
        assert_eq!(bench.flash.violations(), [""; 0]);
    }
}

#[test]
fn a_device_that_lost_its_journal_after_a_root_was_revoked_enrols_and_obeys_no_thief() {
    the_journal_is_lost_after_a_root_was_revoked();
}

#[test]
fn a_journal_that_went_back_brings_no_revoked_root_back() {
    for geometry in GEOMETRIES {
        let (maker, bench) = a_root_is_dropped_on(geometry);
        let (root, other) = (&maker.root, &maker.stranger);
        let mut flash = bench.flash.clone();
        let mut store = Store::mount(&mut flash, 0).unwrap();
        store.put(&mut flash, Key::Keyset, &keyset(&maker, 1, &[root, other], root)).unwrap();
        let mut device = bench.boot();
        assert_eq!((device.device_id(), device.keyset_version()), (Some(maker.device), 3));
        assert_eq!(device.offer_keyset(&keyset(&maker, 4, &[other], other)), Ok(4));
        drop(device);
        assert_eq!(bench.boot().keyset_version(), 4, "and never back to the slot's");
    }
}

#[test]
fn another_tenants_keyset_in_the_slot_is_not_begun_from() {
    let maker = Maker::new();
    let mut bench = Bench::new(SMALL, &maker);
    bench.firmware = Some(Rc::default());
    let mut vendors = maker.keyset_spec(5);
    vendors.tenant = wire::TenantId::new([0xee; 16]);
    bench.fill(Slot::A, &Filling { keyset: vendors.sign(&[&maker.root]).unwrap(), ..Filling::version(1) });
    assert_eq!(maker.enrolled(&bench).keyset_version(), 1);
}

#[test]
fn a_keyset_in_the_slot_that_is_damaged_is_not_begun_from_and_with_a_revoked_root_no_other_is() {
    for revoked in [false, true] {
        let (maker, bench) = a_root_is_dropped_on(SMALL);
        if !revoked {
            bench.set(gateway_core::boot::first::Record { revoked: 0, ..bench.record() });
        }
        lose_the_journal(&bench, false);
        let mut device = bench.boot();
        bench.corrupt(Slot::A, 40);
        let first = keyset(&maker, 1, &[&maker.root, &maker.stranger], &maker.stranger);
        let taken = device.enrolled(maker.device, maker.tenant, &[1], &first);
        assert_eq!((taken.is_err(), device.keyset_version()), (revoked, u32::from(!revoked)));
        assert_eq!(device.device_id().is_some(), !revoked);
        drop(device);
        // The other slot runs, and has the newer one.
        assert_eq!(bench.boot().keyset_version(), if revoked { 0 } else { 3 });
    }
}

pub(crate) fn a_slot_names_the_dropped_root() {
    let maker = Maker::new();
    let (root, other) = (&maker.root, &maker.stranger);
    let mut bench = Bench::new(SMALL, &maker);
    bench.facts.root_key_hashes.push(other.public_key().hash().unwrap()).unwrap();
    bench.firmware = Some(Rc::default());
    // Vouched for by the one that stays: the first stage would do without the other.
    let first = keyset(&maker, 1, &[root, other], other);
    bench.fill(Slot::A, &Filling { keyset: first.clone(), ..Filling::version(1) });
    let mut device = bench.boot();
    device.enrolled(maker.device, maker.tenant, &[0xab; 1800], &first).unwrap();
    let mut director = Director::new(&maker, &bench);
    assert_eq!(device.offer_keyset(&keyset(&maker, 2, &[other], other)), Ok(2));
    director.settle(&mut device);
    assert_eq!(bench.record().revoked, 0, "a journal that is lost would be begun from it");
    for version in [2, 3] {
        assert!(director.drive(&mut device, &microvisor(&maker, version), version, Goal::Confirmed));
    }
    director.settle(&mut device);
    assert_eq!(bench.record().revoked, 0b01);
}

#[test]
fn a_root_is_not_revoked_while_a_slot_names_it() {
    a_slot_names_the_dropped_root();
}

#[test]
fn two_roots_dropped_in_one_start_are_the_two_that_are_revoked() {
    let maker = Maker::new();
    let roots = [&maker.root, &maker.stranger, &maker.director];
    let mut bench = Bench::new(SMALL, &maker);
    for root in &roots[1..] {
        bench.facts.root_key_hashes.push(root.public_key().hash().unwrap()).unwrap();
    }
    bench.firmware = Some(Rc::default());
    let keyset = |version, named: &[usize]| {
        let named: Vec<&SoftKey> = named.iter().map(|index| roots[*index]).collect();
        keyset(&maker, version, &named, &maker.stranger)
    };
    bench.fill(Slot::A, &Filling { keyset: keyset(1, &[0, 1, 2]), ..Filling::version(1) });
    let mut device = bench.boot();
    device.enrolled(maker.device, maker.tenant, &[0xab; 1800], &keyset(1, &[0, 1, 2])).unwrap();
    let director = Director::new(&maker, &bench);
    for (version, named, revoked) in [(2, &[1, 2][..], 0b001), (3, &[1][..], 0b101)] {
        // The slot names what the device does.
        bench.fill_over(Slot::A, &Filling { keyset: keyset(version, named), ..Filling::version(1) });
        assert_eq!(device.offer_keyset(&keyset(version, named)), Ok(version));
        director.settle(&mut device);
        assert_eq!(bench.record().revoked, revoked);
    }
    drop(device);
    assert_eq!(runs(&bench.boot()).1, "1.0.0");
}
