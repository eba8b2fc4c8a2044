//! Roots that left the keyset, and the first stage that is told of it.

use std::rc::Rc;

use gateway_core::boot::first::Slot;
use wire::msg::SlotStatus;

use crate::exchange::{microvisor, runs};
use crate::sim::firmware::Filling;
use crate::sim::*;

/// A board with two provisioned roots, whose keyset 2 drops the first one; signed by the second.
pub(crate) fn a_root_is_dropped() {
    use wire::sign::Signer as _;
    let maker = Maker::new();
    let (root, other) = (maker.root.public_key(), maker.stranger.public_key());
    let mut bench = Bench::new(SMALL, &maker);
    bench.facts.root_key_hashes.push(other.hash().unwrap()).unwrap();
    bench.firmware = Some(Rc::default());
    let both = |version, roots: &[_]| {
        let mut spec = maker.keyset_spec(version);
        spec.root_keys = roots.to_vec();
        spec
    };
    let first = both(1, &[root, other]).sign(&[&maker.root]).unwrap();
    bench.fill(Slot::A, &Filling { keyset: first.clone(), ..Filling::version(1) });
    let mut device = bench.boot();
    device.enrolled(maker.device, maker.tenant, &[0xab; 1800], &first).unwrap();
    let mut director = Director::new(&maker, &bench);
    let second = both(2, &[other]).sign(&[&maker.root]).unwrap();
    assert_eq!(device.offer_keyset(&second), Ok(2));
    director.settle(&mut device);
    assert_eq!(bench.record().revoked, 0, "slot A is vouched for by the first root alone");
    // The keyset that goes along is believed by its own root; the slot before still needs the other.
    let third = both(3, &[other]).sign(&[&maker.stranger]).unwrap();
    assert_eq!(device.offer_keyset(&third), Ok(3));
    assert!(director.drive(&mut device, &microvisor(&maker, 2), 2, Goal::Confirmed));
    director.settle(&mut device);
    assert_eq!(bench.record().revoked, 0, "there must be something to fall back on");
    assert!(director.drive(&mut device, &microvisor(&maker, 3), 3, Goal::Confirmed));
    director.settle(&mut device);
    assert_eq!(bench.record().revoked, 0b01, "neither slot needs it");
    // What the dropped root vouches for is refused from now on, and the device goes on as before.
    drop(device);
    bench.fill_over(Slot::B, &Filling { keyset: first, ..Filling::version(9) });
    bench.set(bench.record().begin_trial());
    let mut device = bench.boot();
    assert_eq!(runs(&device), (0, "3.0.0".into(), SlotStatus::Confirmed));
    assert!(director.drive(&mut device, &microvisor(&maker, 4), 4, Goal::Confirmed));
}

#[test]
fn a_root_that_left_the_keyset_is_revoked_when_no_slot_needs_it() {
    a_root_is_dropped();
}

#[test]
fn two_roots_dropped_in_one_start_are_the_two_that_are_revoked() {
    use wire::sign::Signer as _;
    let maker = Maker::new();
    let roots = [&maker.root, &maker.stranger, &maker.director].map(|key| key.public_key());
    let mut bench = Bench::new(SMALL, &maker);
    for root in &roots[1..] {
        bench.facts.root_key_hashes.push(root.hash().unwrap()).unwrap();
    }
    bench.firmware = Some(Rc::default());
    let keyset = |version, named: &[usize]| {
        let mut spec = maker.keyset_spec(version);
        spec.root_keys = named.iter().map(|index| roots[*index]).collect();
        spec.sign(&[&maker.stranger]).unwrap()
    };
    bench.fill(Slot::A, &Filling { keyset: keyset(1, &[0, 1, 2]), ..Filling::version(1) });
    let mut device = bench.boot();
    device.enrolled(maker.device, maker.tenant, &[0xab; 1800], &keyset(1, &[0, 1, 2])).unwrap();
    let director = Director::new(&maker, &bench);
    for (version, named, revoked) in [(2, &[1, 2][..], 0b001), (3, &[1][..], 0b101)] {
        assert_eq!(device.offer_keyset(&keyset(version, named)), Ok(version));
        director.settle(&mut device);
        assert_eq!(bench.record().revoked, revoked);
    }
    drop(device);
    assert_eq!(runs(&bench.boot()).1, "1.0.0");
}
