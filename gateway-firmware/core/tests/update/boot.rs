//! What runs after a boot when something is damaged, lost or no longer believed.

use gateway_core::device::{BootError, Notice};
use gateway_core::ports::Geometry;
use gateway_core::update::Outcome;
use gateway_core::update::slots::{Layout, LayoutError};
use wire::directive::Order;
use wire::msg::{SlotStatus, UpdateReason};
use wire::sign::ReleaseKeySpec;
use wire::sign::Signer as _;

use crate::flow::with_v1;
use crate::sim::*;

/// v1 in slot 0, confirmed before; v2 in slot 1, confirmed now.
pub(crate) fn with_v2(geometry: Geometry) -> (Maker, Bench, Layout) {
    let (maker, bench) = with_v1(geometry);
    let v2 = maker.bundle(2).known_on(&bench);
    let mut device = bench.boot();
    assert!(Director::new(&maker, &bench).drive(&mut device, &v2, 2, Goal::Confirmed));
    bench.flash.protect(None);
    let layout = Layout::new(geometry).unwrap();
    (maker, bench, layout)
}

pub(crate) fn a_damaged_slot_gives_way_to_the_version_before_it_and_says_so() {
    for part in ["envelope", "first block", "padding"] {
        let (maker, bench, layout) = with_v2(SMALL);
        let place = layout.slots[1];
        bench.flash.corrupt(match part {
            "envelope" => place.envelope_at + 100,
            "first block" => place.area_at,
            _ => place.area_at + 2 * 16 * 1024 + 5,
        });
        let mut device = bench.boot();
        assert_eq!(bench.running().as_deref(), Some("v1"), "{part}");
        let result = device.results()[0];
        assert_eq!(result.outcome, Outcome::Reverted);
        assert_eq!(result.deployment, maker.bundle(2).target(2).deployment);
        assert!(std::iter::from_fn(|| device.take_notice()).any(|it| matches!(it, Notice::FellBack(_))));
        assert_eq!(device.slots()[0].status, SlotStatus::Confirmed);
        // It was damaged, not bad: the same version may come again.
        let mut director = Director::new(&maker, &bench);
        assert!(director.drive(&mut device, &maker.bundle(2), 3, Goal::Confirmed));
        assert_eq!(bench.running().as_deref(), Some("v2"));
    }
}

#[test]
fn a_damaged_slot_falls_back() {
    a_damaged_slot_gives_way_to_the_version_before_it_and_says_so();
}

#[test]
fn with_both_slots_damaged_nothing_runs_and_the_device_takes_an_update() {
    let (maker, bench, layout) = with_v2(WRITE_ONCE);
    layout.slots.iter().for_each(|place| bench.flash.corrupt(place.area_at + 1));
    let mut device = bench.boot();
    assert_eq!(bench.running(), None);
    assert!(std::iter::from_fn(|| device.take_notice()).any(|it| it == Notice::NoApp));
    assert_eq!(device.device_id(), Some(maker.device));
    assert!(device.slots().iter().all(|slot| !slot.running));
    let v2 = maker.bundle(2);
    assert!(
        Director::new(&maker, &bench).drive(&mut device, &v2, 3, Goal::Confirmed),
        "the same version even"
    );
    assert_eq!(bench.running().as_deref(), Some("v2"));
}

pub(crate) fn a_version_below_the_floor_is_not_fallen_back_to() {
    let (maker, bench, layout) = with_v2(SMALL);
    let mut device = bench.boot();
    let mut director = Director::new(&maker, &bench);
    director.order(&mut device, Order::Commit(maker.bundle(2).target(2), 2), &[]).unwrap();
    bench.flash.corrupt(layout.slots[1].area_at);
    bench.boot();
    assert_eq!(bench.running(), None);
}

#[test]
fn the_floor_holds_for_a_fall_back_too() {
    a_version_below_the_floor_is_not_fallen_back_to();
}

#[test]
fn a_floor_that_cannot_be_read_is_that_of_what_is_confirmed_and_nothing_is_lost() {
    let (maker, bench, _) = with_v2(SMALL);
    bench.counter_fails.set(true);
    let mut device = bench.boot();
    assert_eq!((bench.running().as_deref(), device.floor()), (Some("v2"), Some(2)));
    assert!(std::iter::from_fn(|| device.take_notice()).any(|notice| notice == Notice::FloorMended(2)));
    let mut director = Director::new(&maker, &bench);
    let heard = director.install(&mut device, &maker.bundle(1), 3);
    assert_eq!(heard, gateway_core::device::Heard::Refused(UpdateReason::BelowFloor));
    director.store_results(&mut device);
    let v3 = maker.bundle(3).known_on(&bench);
    assert!(director.drive(&mut device, &v3, 4, Goal::Confirmed));
}

#[test]
fn without_a_floor_and_without_anything_confirmed_a_device_takes_what_is_signed() {
    let maker = Maker::new();
    let bench = Bench::new(SMALL, &maker);
    bench.counter_fails.set(true);
    let mut device = maker.enrolled(&bench);
    assert_eq!(device.floor(), Some(0));
    let v1 = maker.bundle(1).known_on(&bench);
    assert!(Director::new(&maker, &bench).drive(&mut device, &v1, 1, Goal::Confirmed));
}

#[test]
fn a_confirmed_version_runs_on_when_its_release_key_leaves_the_keyset() {
    let (maker, bench, _) = with_v2(SMALL);
    let mut device = bench.boot();
    let mut spec = maker.keyset_spec(2);
    spec.release_keys =
        vec![ReleaseKeySpec { key: maker.stranger.public_key(), component: None, board: None }];
    assert_eq!(device.offer_keyset(&spec.sign(&[&maker.root]).unwrap()), Ok(2));
    let mut device = bench.boot();
    assert_eq!(device.keyset_version(), 2);
    assert_eq!(bench.running().as_deref(), Some("v2"));
    let heard = Director::new(&maker, &bench).install(&mut device, &maker.bundle(3), 3);
    assert_eq!(
        heard,
        gateway_core::device::Heard::Refused(UpdateReason::UnknownKey),
        "new ones need the new key"
    );
}

#[test]
fn what_another_identity_was_directed_to_is_owed_to_nobody() {
    let (maker, bench, _) = with_v2(SMALL);
    let mut device = bench.boot();
    let mut director = Director::new(&maker, &bench);
    director.install(&mut device, &maker.bundle(1), 3);
    director.install(&mut device, &maker.bundle(1), 4);
    let owed = device.results().len();
    assert!(owed > 0);
    device.enrolled(maker.device, maker.tenant, &[1], &[]).unwrap();
    assert_eq!(device.results().len(), owed, "the same identity renewed");
    device.enrolled(wire::DeviceId::new([0xab; 16]), maker.tenant, &[2], &[]).unwrap();
    assert!(device.results().is_empty());
    assert!(bench.boot().results().is_empty());
}

#[test]
fn a_confirmed_version_runs_on_when_its_release_key_is_good_for_less() {
    let (maker, bench, _) = with_v2(SMALL);
    let mut device = bench.boot();
    let mut spec = maker.keyset_spec(2);
    spec.release_keys[0].board = Some("another".to_owned());
    assert_eq!(device.offer_keyset(&spec.sign(&[&maker.root]).unwrap()), Ok(2));
    let mut device = bench.boot();
    assert_eq!(bench.running().as_deref(), Some("v2"));
    let heard = Director::new(&maker, &bench).install(&mut device, &maker.bundle(3), 3);
    assert_eq!(heard, gateway_core::device::Heard::Refused(UpdateReason::UnknownKey));
}

#[test]
fn a_staged_version_whose_release_key_leaves_the_keyset_is_forgotten() {
    let (maker, bench, _) = with_v2(SMALL);
    let v3 = maker.bundle(3);
    let mut device = bench.boot();
    assert!(Director::new(&maker, &bench).drive(&mut device, &v3, 3, Goal::Ready));
    let mut spec = maker.keyset_spec(2);
    spec.release_keys =
        vec![ReleaseKeySpec { key: maker.stranger.public_key(), component: None, board: None }];
    device.offer_keyset(&spec.sign(&[&maker.root]).unwrap()).unwrap();
    assert_eq!(bench.boot().progress(), None);
    assert_eq!(bench.running().as_deref(), Some("v2"));
}

#[test]
fn boots_are_counted_and_never_share_a_name() {
    let (_, bench) = with_v1(SMALL);
    let ids: Vec<_> = (0..5).map(|_| bench.boot().boot_id()).collect();
    assert!(
        ids.windows(2).all(|pair| pair[1].counter == pair[0].counter + 1 && pair[1].random != pair[0].random)
    );
}

#[test]
fn a_lost_store_leaves_a_device_to_be_enrolled_again_and_starts_nothing_it_cannot_prove() {
    let (maker, bench, layout) = with_v2(SMALL);
    let store = layout.store_at..layout.slots[0].envelope_at;
    bench.flash.overwrite(store.start, &vec![0x5a; store.len()]);
    let mut device = bench.boot();
    assert_eq!((device.device_id(), device.keyset_version(), bench.running()), (None, 0, None));
    device.enrolled(maker.device, maker.tenant, &[1], &maker.keyset(1)).unwrap();
    assert!(Director::new(&maker, &bench).drive(&mut device, &maker.bundle(2), 9, Goal::Confirmed));
}

#[test]
fn a_flash_too_small_is_said_at_boot() {
    let maker = Maker::new();
    let bench = Bench::new(Geometry { bytes: 65536, ..SMALL }, &maker);
    assert_eq!(bench.try_boot().unwrap_err(), BootError::Layout(LayoutError::TooSmall));
}

#[test]
fn what_enrolment_gave_comes_back_after_a_boot() {
    let (maker, bench) = with_v1(SMALL);
    let mut device = bench.boot();
    assert_eq!((device.device_id(), device.tenant_id()), (Some(maker.device), Some(maker.tenant)));
    let mut buffer = [0; gateway_core::device::IDENTITY_RECORD_BYTES];
    assert_eq!(device.identity_record(&mut buffer), Ok(Some(&[0xab; 1800][..])));
    device.save_enrolment(b"waits").unwrap();
    let mut device = bench.boot();
    let mut buffer = [0; gateway_core::store::ENROLMENT_BYTES_MAX];
    assert_eq!(device.enrolment(&mut buffer), Ok(Some(&b"waits"[..])));
}

#[test]
fn a_store_that_cannot_be_repaired_is_read_all_the_same_and_repaired_when_it_can_be() {
    let (maker, bench) = with_v1(WRITE_ONCE);
    bench.flash.cut(Cut { at: 1, mode: Mode::Unreadable });
    bench.boot_with_a_cut_to_come().unwrap();
    bench.flash.power_on();
    bench.flash.cut(Cut { at: 1, mode: Mode::NotDone });
    let mut device = bench.boot_with_a_cut_to_come().unwrap();
    assert_eq!((device.device_id(), bench.running().as_deref()), (Some(maker.device), Some("v1")));
    assert!(std::iter::from_fn(|| device.take_notice()).any(|it| it == Notice::StoreUnrepaired));
    bench.flash.power_on();
    device.save_enrolment(b"kept").unwrap();
    let mut device = bench.boot();
    assert!(
        !std::iter::from_fn(|| device.take_notice()).any(|it| it == Notice::StoreRepaired),
        "it was in order"
    );
    assert_eq!(bench.flash.violations(), [""; 0]);
}
