//! The microvisor exchanges itself: over the real first stage, on one chip with the store.

use std::rc::Rc;

use gateway_core::boot::first::{Record, Slot};
use gateway_core::device::{DirectiveRefused, Heard};
use gateway_core::update::Outcome;
use wire::directive::Order;
use wire::manifest::{Component, Version};
use wire::msg::{SlotStatus, UpdateReason};
use wire::sign::ReleaseKeySpec;

use crate::sim::firmware::{Filling, image};
use crate::sim::*;

/// Seconds that a microvisor has to be acknowledged in.
const TRIAL_S: u32 = 30;

/// A bench that came from the factory with microvisor 1 in slot A, and has application v1 confirmed on it.
pub(crate) fn board(geometry: gateway_core::ports::Geometry) -> (Maker, Bench) {
    let maker = Maker::new();
    let mut bench = Bench::new(geometry, &maker);
    bench.firmware = Some(Rc::default());
    bench.fill(Slot::A, &Filling::version(1));
    let v1 = maker.bundle(1).known_on(&bench);
    let mut device = maker.enrolled(&bench);
    let mut director = Director::new(&maker, &bench);
    assert!(director.drive(&mut device, &v1, 1, Goal::Confirmed));
    (maker, bench)
}

/// A microvisor as a bundle; its version is its security counter.
pub(crate) fn microvisor(maker: &Maker, version: u8) -> Bundle {
    microvisor_of(maker, version, |_| {})
}

pub(crate) fn microvisor_of(
    maker: &Maker,
    version: u8,
    change: impl FnOnce(&mut wire::sign::ManifestSpec<'_>),
) -> Bundle {
    let layers = [image(version.into()), vec![1; 100]];
    let mut spec = maker.spec(version.into(), &layers);
    spec.layers.truncate(1);
    spec.component = Component::Microvisor;
    spec.version = format!("{version}.0.0");
    (spec.update.attempts_max, spec.update.trial_s) = (3, TRIAL_S);
    change(&mut spec);
    maker.sign(format!("m{version}"), Behaviour::Healthy, &spec, &maker.release)
}

/// The same bench, but these microvisors are not what one hopes for.
fn with_natures(bench: &mut Bench, natures: &[(u64, Nature)]) {
    let mut firmware = bench.firmware.as_ref().unwrap().fork();
    firmware.natures = natures.iter().copied().collect();
    bench.firmware = Some(Rc::new(firmware));
}

/// The running microvisor's slot, version and status.
pub(crate) fn runs(device: &Device) -> (u8, String, SlotStatus) {
    let slots = device.slots();
    let slot = slots.iter().find(|slot| slot.component == Component::Microvisor && slot.running).unwrap();
    (slot.index, slot.version.as_str().to_owned(), slot.status)
}

/// Power is on; a microvisor whose trial was over already makes way at once.
pub(crate) fn come_up(bench: &Bench) -> Device {
    let mut device = bench.boot();
    device.poll();
    if !bench.takes_restart() {
        return device;
    }
    let device = bench.boot();
    assert_eq!(runs(&device).2, SlotStatus::Confirmed);
    device
}

/// Has deployment 2 go on until the board is to start anew.
fn up_to_the_restart(director: &mut Director<'_>, device: &mut Device, new: &Bundle) {
    assert!(director.drive(device, new, 2, Goal::Ready));
    assert_eq!(director.order(device, Order::Go(new.target(2)), &[]), Ok(Heard::Acted));
    while !director.bench.takes_restart() {
        device.poll();
        director.bench.advance_ms(10);
    }
}

/// How a deployment ended: outcome and reason.
pub(crate) fn ended(director: &Director<'_>, deployment: u8) -> Option<(Outcome, UpdateReason)> {
    director.result(deployment).map(|result| (result.outcome, result.reason))
}

pub(crate) fn there_and_back() {
    for geometry in GEOMETRIES {
        let (maker, bench) = board(geometry);
        let mut device = bench.boot();
        assert_eq!(runs(&device), (0, "1.0.0".into(), SlotStatus::Confirmed));
        let mut director = Director::new(&maker, &bench);
        for (version, slot) in [(2, Slot::B), (3, Slot::A), (4, Slot::B)] {
            assert!(director.drive(&mut device, &microvisor(&maker, version), version, Goal::Confirmed));
            assert_eq!(runs(&device), (slot as u8, format!("{version}.0.0"), SlotStatus::Confirmed));
            assert_eq!(bench.record(), Record { active: slot, ..Record::default() });
            assert_eq!(bench.running().as_deref(), Some("v1"));
        }
        assert_eq!(bench.flash.violations(), [""; 0]);
    }
}

#[test]
fn a_microvisor_is_exchanged_there_and_back_and_the_application_goes_on() {
    there_and_back();
}

pub(crate) fn nobody_answers() {
    let (maker, bench) = board(SMALL);
    let mut device = bench.boot();
    let mut director = Director::new(&maker, &bench);
    director.is_silent = true;
    assert!(director.drive(&mut device, &microvisor(&maker, 2), 2, Goal::Ended));
    assert_eq!(ended(&director, 2), Some((Outcome::Reverted, UpdateReason::Inconclusive)));
    assert_eq!(runs(&device), (0, "1.0.0".into(), SlotStatus::Confirmed));
    assert_eq!(bench.record(), Record::default());
    assert!(bench.now_ms.get() < u64::from(TRIAL_S) * 1000, "it was started anew");
    assert_eq!(*bench.firmware.as_ref().unwrap().jumped.borrow().last().unwrap(), 1);
    // The same deployment is not tried again, another one is.
    let again = microvisor(&maker, 2);
    assert_eq!(director.install(&mut device, &again, 2), Heard::Refused(UpdateReason::RejectedBefore));
    director.store_results(&mut device);
    director.is_silent = false;
    assert!(director.drive(&mut device, &again, 3, Goal::Confirmed));
}

#[test]
fn a_microvisor_that_nobody_acknowledges_goes_back_inconclusive_at_its_deadline() {
    nobody_answers();
}

#[test]
fn a_microvisor_acknowledged_in_the_last_moment_stays() {
    let (maker, bench) = board(SMALL);
    let mut device = bench.boot();
    let mut director = Director::new(&maker, &bench);
    director.is_silent = true;
    let new = microvisor(&maker, 2);
    up_to_the_restart(&mut director, &mut device, &new);
    let mut device = bench.boot();
    assert_eq!(runs(&device).2, SlotStatus::Trial);
    bench.now_ms.set(u64::from(TRIAL_S) * 1000 - 1);
    director.settle(&mut device);
    director.is_silent = false;
    assert!(director.drive(&mut device, &new, 2, Goal::Confirmed));
}

pub(crate) fn it_dies() {
    let (maker, mut bench) = board(SMALL);
    with_natures(&mut bench, &[(2, Nature::Dies)]);
    let mut device = bench.boot();
    let mut director = Director::new(&maker, &bench);
    assert!(director.drive(&mut device, &microvisor(&maker, 2), 2, Goal::Ended));
    assert_eq!(ended(&director, 2), Some((Outcome::Reverted, UpdateReason::Failed)));
    assert_eq!(runs(&device).1, "1.0.0");
    let jumped = bench.firmware.as_ref().unwrap().jumped.borrow().clone();
    assert_eq!(jumped, [1, 1, 2, 2, 2, 1], "as often as its manifest says, and no more");
}

#[test]
fn a_microvisor_that_does_not_come_up_is_taken_back_after_its_attempts_as_failed() {
    it_dies();
}

#[test]
fn power_that_goes_in_each_of_its_starts_takes_it_back_too() {
    let (maker, bench) = board(SMALL);
    let mut device = bench.boot();
    let mut director = Director::new(&maker, &bench);
    let new = microvisor(&maker, 2);
    up_to_the_restart(&mut director, &mut device, &new);
    for attempt in 1..=3 {
        let mut device = bench.boot();
        assert_eq!((runs(&device).1.as_str(), device.progress().unwrap().attempts), ("2.0.0", attempt));
        director.settle(&mut device);
    }
    let mut device = bench.boot();
    assert_eq!(runs(&device).1, "1.0.0");
    assert!(director.drive(&mut device, &new, 2, Goal::Ended));
    assert_eq!(ended(&director, 2), Some((Outcome::Reverted, UpdateReason::Failed)));
}

#[test]
fn one_component_at_a_time_and_both_arrive() {
    let (maker, bench) = board(SMALL);
    let mut device = bench.boot();
    let mut director = Director::new(&maker, &bench);
    let (new, app) = (microvisor(&maker, 2), maker.bundle(2).known_on(&bench));
    assert_eq!(director.install(&mut device, &app, 9), Heard::Acted);
    assert_eq!(director.install(&mut device, &new, 2), Heard::Later, "nothing staged gives way to it");
    assert_eq!(director.order(&mut device, Order::Cancel(app.target(9)), &[]), Ok(Heard::Acted));
    director.store_results(&mut device);
    assert_eq!(director.install(&mut device, &new, 2), Heard::Acted);
    assert_eq!(director.install(&mut device, &app, 3), Heard::Later);
    assert!(director.drive(&mut device, &new, 2, Goal::Ready));
    assert_eq!(director.order(&mut device, Order::Go(new.target(2)), &[]), Ok(Heard::Acted));
    assert_eq!(director.install(&mut device, &app, 3), Heard::Later);
    assert!(director.drive(&mut device, &new, 2, Goal::Confirmed));
    assert!(director.drive(&mut device, &app, 3, Goal::Confirmed));
    assert_eq!((runs(&device).1.as_str(), bench.running().as_deref()), ("2.0.0", Some("v2")));
}

#[test]
fn an_application_waits_for_the_microvisor_it_needs() {
    let (maker, bench) = board(SMALL);
    let mut device = bench.boot();
    let mut director = Director::new(&maker, &bench);
    let needs_two = Version { major: 2, minor: 0, patch: 0 };
    let app = maker.bundle_of(2, Behaviour::Healthy, |spec| spec.microvisor_min = needs_two).known_on(&bench);
    assert_eq!(director.install(&mut device, &app, 2), Heard::Refused(UpdateReason::MicrovisorTooOld));
    director.store_results(&mut device);
    assert!(director.drive(&mut device, &microvisor(&maker, 2), 3, Goal::Confirmed));
    assert!(director.drive(&mut device, &app, 4, Goal::Confirmed));
}

pub(crate) fn the_application_needs_what_runs() {
    let (maker, bench) = board(SMALL);
    let mut device = bench.boot();
    let mut director = Director::new(&maker, &bench);
    let older = microvisor_of(&maker, 2, |spec| spec.version = "0.9.0".into());
    assert_eq!(director.install(&mut device, &older, 2), Heard::Refused(UpdateReason::MicrovisorTooOld));
}

#[test]
fn a_microvisor_the_application_does_not_run_on_is_refused() {
    the_application_needs_what_runs();
}

pub(crate) fn the_first_stage_knows_no_root() {
    let (maker, bench) = board(SMALL);
    let mut device = bench.boot();
    // Every root was replaced: the device followed, its first stage cannot.
    let mut next = maker.keyset_spec(2);
    next.root_keys = vec![wire::sign::Signer::public_key(&maker.stranger)];
    device.offer_keyset(&next.sign(&[&maker.root]).unwrap()).unwrap();
    let mut director = Director::new(&maker, &bench);
    let refused = director.install(&mut device, &microvisor(&maker, 2), 2);
    assert_eq!(refused, Heard::Refused(UpdateReason::UnknownKey));
}

#[test]
fn a_microvisor_the_first_stage_would_not_believe_is_refused() {
    the_first_stage_knows_no_root();
}

#[test]
fn a_release_key_for_applications_signs_no_microvisor_and_a_board_without_exchange_takes_none() {
    let (maker, bench) = board(SMALL);
    let mut device = bench.boot();
    let mut next = maker.keyset_spec(2);
    let (key, component) = (wire::sign::Signer::public_key(&maker.release), Some(Component::App));
    next.release_keys = vec![ReleaseKeySpec { key, component, board: None }];
    device.offer_keyset(&next.sign(&[&maker.root]).unwrap()).unwrap();
    let mut director = Director::new(&maker, &bench);
    let new = microvisor(&maker, 2);
    assert_eq!(director.install(&mut device, &new, 2), Heard::Refused(UpdateReason::UnknownKey));

    let plain = Bench::new(SMALL, &maker);
    let mut device = maker.enrolled(&plain);
    let mut director = Director::new(&maker, &plain);
    assert_eq!(director.install(&mut device, &new, 2), Heard::Refused(UpdateReason::WrongComponent));
}

#[test]
fn the_floor_of_microvisors_rises_on_commit_for_what_runs_confirmed_and_the_first_stage_keeps_it() {
    let (maker, bench) = board(SMALL);
    let mut device = bench.boot();
    let mut director = Director::new(&maker, &bench);
    let (two, three) = (microvisor(&maker, 2), microvisor(&maker, 3));
    assert!(director.drive(&mut device, &three, 2, Goal::Confirmed));
    let mut commit = |device: &mut Device, bundle: &Bundle, counter| {
        director.order(device, Order::Commit(bundle.target(2), counter), &[])
    };
    assert_eq!(commit(&mut device, &three, 4), Err(DirectiveRefused::Misplaced), "above what runs");
    assert_eq!(commit(&mut device, &two, 2), Err(DirectiveRefused::Misplaced), "not what runs");
    assert_eq!(commit(&mut device, &three, 3), Ok(Heard::Acted));
    assert_eq!(commit(&mut device, &three, 3), Ok(Heard::Already));
    director.settle(&mut device);
    let first_stage = bench.record().floor;
    assert_eq!(
        (device.microvisor_floor(), first_stage, device.floor()),
        (3, 1, Some(0)),
        "version 1 may run"
    );
    assert_eq!(director.install(&mut device, &two, 3), Heard::Refused(UpdateReason::BelowFloor));
    drop(device);
    assert_eq!(bench.boot().microvisor_floor(), 3);
}

pub(crate) fn a_commit_and_then_damage() {
    let (maker, bench) = board(SMALL);
    let mut device = bench.boot();
    let mut director = Director::new(&maker, &bench);
    for version in [2, 3] {
        let new = microvisor(&maker, version);
        assert!(director.drive(&mut device, &new, version, Goal::Confirmed));
        let commit = Order::Commit(new.target(version), version.into());
        assert_eq!(director.order(&mut device, commit, &[]), Ok(Heard::Acted));
        director.settle(&mut device);
        assert_eq!(bench.record().floor, u64::from(version) - 1, "it follows, one version behind");
    }
    // Three runs in slot A, two is in slot B.
    bench.corrupt(Slot::A, 17_000);
    let mut device = bench.boot();
    assert_eq!((runs(&device).1.as_str(), device.microvisor_floor()), ("2.0.0", 3));
    let older = microvisor_of(&maker, 2, |spec| spec.version = "2.0.1".into());
    assert_eq!(director.install(&mut device, &older, 7), Heard::Refused(UpdateReason::BelowFloor));
    director.store_results(&mut device);
    assert!(director.drive(&mut device, &microvisor(&maker, 4), 8, Goal::Confirmed));
}

#[test]
fn a_commit_leaves_the_version_before_to_fall_back_on() {
    a_commit_and_then_damage();
}

#[test]
fn the_floor_of_microvisors_rises_by_itself_when_the_manifest_says_so() {
    let (maker, bench) = board(SMALL);
    let mut device = bench.boot();
    let mut director = Director::new(&maker, &bench);
    let new = microvisor_of(&maker, 2, |spec| spec.update.commit_after_s = Some(500));
    assert!(director.drive(&mut device, &new, 2, Goal::Confirmed));
    bench.now_ms.set(499_999);
    director.settle(&mut device);
    assert_eq!(device.microvisor_floor(), 0);
    bench.now_ms.set(500_000);
    director.settle(&mut device);
    director.settle(&mut device);
    assert_eq!((device.microvisor_floor(), bench.record().floor), (2, 1));
}

#[test]
fn a_damaged_slot_that_was_left_behind_leaves_the_newer_one_running_and_can_be_exchanged() {
    let (maker, bench) = board(SMALL);
    let mut device = bench.boot();
    let mut director = Director::new(&maker, &bench);
    assert!(director.drive(&mut device, &microvisor(&maker, 2), 2, Goal::Confirmed));
    // Slot A is called active by a record that was lost; it is damaged, B runs, and an update still goes the right way.
    bench.set(Record::default());
    bench.corrupt(Slot::A, 17_000);
    let mut device = bench.boot();
    assert_eq!(runs(&device), (1, "2.0.0".into(), SlotStatus::Confirmed));
    assert!(director.drive(&mut device, &microvisor(&maker, 3), 3, Goal::Confirmed));
    assert_eq!(runs(&device), (0, "3.0.0".into(), SlotStatus::Confirmed));
}

pub(crate) fn the_slot_that_runs_is_damaged() {
    let (maker, bench) = board(SMALL);
    let mut device = bench.boot();
    let mut director = Director::new(&maker, &bench);
    assert!(director.drive(&mut device, &microvisor(&maker, 2), 2, Goal::Confirmed));
    // It runs from memory, and would be all that there is while the other slot is written.
    bench.corrupt(Slot::B, 17_000);
    let refused = director.install(&mut device, &microvisor(&maker, 3), 3);
    assert_eq!(refused, Heard::Refused(UpdateReason::Flash));
    drop(device);
    assert_eq!(runs(&bench.boot()).1, "1.0.0", "and is there for this");
}

#[test]
fn no_slot_is_written_while_the_one_that_runs_is_damaged() {
    the_slot_that_runs_is_damaged();
}

pub(crate) fn neither_slot_is_whole() {
    // Of slot A the keyset, the envelope, the image.
    for part in [40, 8192 + 100, 17_000] {
        let (maker, bench) = board(SMALL);
        let mut device = bench.boot();
        let mut director = Director::new(&maker, &bench);
        assert!(director.drive(&mut device, &microvisor(&maker, 2), 2, Goal::Confirmed));
        bench.corrupt(Slot::B, 17_000);
        bench.corrupt(Slot::A, part);
        let new = microvisor(&maker, 3);
        assert_eq!(director.install(&mut device, &new, 3), Heard::Acted, "{part}");
        assert!(director.drive(&mut device, &new, 3, Goal::Confirmed));
        drop(device);
        assert_eq!(runs(&bench.boot()), (0, "3.0.0".into(), SlotStatus::Confirmed));
    }
}

#[test]
fn where_neither_slot_is_whole_the_one_that_does_not_run_is_written() {
    neither_slot_is_whole();
}

#[test]
fn what_is_staged_while_the_slot_that_runs_is_damaged_gives_way_to_nothing() {
    let (maker, bench) = board(SMALL);
    let mut device = bench.boot();
    let mut director = Director::new(&maker, &bench);
    let (two, three) = (microvisor(&maker, 2), microvisor(&maker, 3));
    assert!(director.drive(&mut device, &two, 2, Goal::Ready));
    bench.corrupt(Slot::A, 17_000);
    assert_eq!(director.install(&mut device, &three, 3), Heard::Refused(UpdateReason::Flash));
    director.store_results(&mut device);
    assert!(director.drive(&mut device, &two, 2, Goal::Confirmed), "it is the only whole one");
}

pub(crate) fn a_trial_without_end() {
    let (maker, bench) = board(SMALL);
    let mut device = bench.boot();
    let mut director = Director::new(&maker, &bench);
    director.is_silent = true;
    let new = microvisor_of(&maker, 2, |spec| spec.update.trial_s = u32::MAX);
    up_to_the_restart(&mut director, &mut device, &new);
    let mut device = bench.boot();
    assert_eq!(runs(&device).2, SlotStatus::Trial);
    bench.now_ms.set(86_400_000 - 1);
    director.settle(&mut device);
    assert!(!bench.takes_restart());
    bench.now_ms.set(86_400_000);
    director.settle(&mut device);
    assert!(bench.takes_restart());
    let mut device = bench.boot();
    director.store_results(&mut device);
    assert_eq!(ended(&director, 2), Some((Outcome::Reverted, UpdateReason::Inconclusive)));
    assert_eq!(runs(&device).1, "1.0.0");
}

#[test]
fn a_trial_ends_after_a_day_at_the_latest() {
    a_trial_without_end();
}

pub(crate) fn the_last_resort_runs() {
    let (maker, bench) = board(SMALL);
    let mut device = bench.boot();
    let mut director = Director::new(&maker, &bench);
    director.is_silent = true;
    let failed = microvisor_of(&maker, 2, |spec| spec.update.commit_after_s = Some(500));
    assert!(director.drive(&mut device, &failed, 2, Goal::Ended));
    assert_eq!(ended(&director, 2), Some((Outcome::Reverted, UpdateReason::Inconclusive)));
    drop(device);
    // What failed its trial is better than nothing, and no reason to refuse what was good.
    bench.corrupt(Slot::A, 17_000);
    let mut device = bench.boot();
    assert_eq!(runs(&device).1, "2.0.0");
    for at_ms in [500_000, 1_000_000] {
        bench.now_ms.set(at_ms);
        director.settle(&mut device);
    }
    assert_eq!((device.microvisor_floor(), bench.record().floor), (0, 0));
    let commit = director.order(&mut device, Order::Commit(failed.target(2), 2), &[]);
    assert_eq!(commit, Err(DirectiveRefused::Misplaced));
    director.is_silent = false;
    // To be written over the slot that is damaged, it is called the active one; it still commits nothing.
    let repair = microvisor_of(&maker, 1, |spec| spec.version = "1.0.1".into());
    assert!(director.drive(&mut device, &repair, 3, Goal::Ready));
    director.settle(&mut device);
    assert_eq!(device.microvisor_floor(), 0);
    assert!(director.drive(&mut device, &repair, 3, Goal::Confirmed));
}

#[test]
fn what_runs_as_the_last_resort_raises_no_floor() {
    the_last_resort_runs();
}

pub(crate) fn the_version_before_runs_below_the_floor() {
    let (maker, bench) = board(SMALL);
    let mut device = bench.boot();
    let mut director = Director::new(&maker, &bench);
    for version in [2, 3] {
        let new = microvisor(&maker, version);
        assert!(director.drive(&mut device, &new, version, Goal::Confirmed));
        let commit = Order::Commit(new.target(version), version.into());
        assert_eq!(director.order(&mut device, commit, &[]), Ok(Heard::Acted));
        director.settle(&mut device);
    }
    // Three is damaged, two runs; then four is begun, which makes two the active one, and given up.
    bench.corrupt(Slot::A, 17_000);
    let mut device = bench.boot();
    director.settle(&mut device);
    assert_eq!((device.microvisor_floor(), bench.record().floor), (3, 2));
    let four = microvisor(&maker, 4);
    assert_eq!(director.install(&mut device, &four, 4), Heard::Acted);
    assert_eq!(director.order(&mut device, Order::Cancel(four.target(4)), &[]), Ok(Heard::Acted));
    device.offer_keyset(&maker.keyset(2)).unwrap();
    director.settle(&mut device);
    assert_eq!(bench.record(), Record { active: Slot::B, floor: 2, ..Record::default() });
    drop(device);
    assert_eq!(runs(&bench.boot()).1, "2.0.0");
}

#[test]
fn the_first_stages_floor_is_never_above_what_runs() {
    the_version_before_runs_below_the_floor();
}

#[test]
fn either_unit_of_the_record_may_be_lost_and_what_was_confirmed_runs() {
    for geometry in GEOMETRIES {
        for unit in 0..2 {
            let (maker, mut bench) = board(geometry);
            with_natures(&mut bench, &[(3, Nature::Dies)]);
            let mut device = bench.boot();
            let mut director = Director::new(&maker, &bench);
            assert!(director.drive(&mut device, &microvisor(&maker, 2), 2, Goal::Confirmed));
            // What was taken back lies whole in slot A, where a new board's record points.
            assert!(director.drive(&mut device, &microvisor(&maker, 3), 3, Goal::Ended));
            assert_eq!(ended(&director, 3), Some((Outcome::Reverted, UpdateReason::Failed)));
            drop(device);
            bench.lose_record_unit(unit);
            assert_eq!(runs(&bench.boot()), (1, "2.0.0".into(), SlotStatus::Confirmed), "unit {unit}");
        }
    }
}

#[test]
fn what_is_staged_where_the_record_points_does_not_run_before_it_is_tried() {
    let (maker, mut bench) = board(SMALL);
    with_natures(&mut bench, &[(3, Nature::Dies)]);
    let mut device = bench.boot();
    let mut director = Director::new(&maker, &bench);
    assert!(director.drive(&mut device, &microvisor(&maker, 2), 2, Goal::Confirmed));
    // The record was lost and says slot A, which is damaged: B runs, and the repair goes to A.
    bench.set(Record::default());
    bench.corrupt(Slot::A, 17_000);
    let mut device = bench.boot();
    let repair = microvisor(&maker, 3);
    assert!(director.drive(&mut device, &repair, 3, Goal::Ready));
    let mut device = bench.boot();
    assert_eq!(runs(&device), (1, "2.0.0".into(), SlotStatus::Confirmed), "the power went before `go`");
    assert!(director.drive(&mut device, &repair, 3, Goal::Ended));
    assert_eq!(ended(&director, 3), Some((Outcome::Reverted, UpdateReason::Failed)));
    assert_eq!(runs(&device).1, "2.0.0");
}

#[test]
fn what_nobody_will_go_on_with_is_not_in_the_way_of_a_new_device() {
    let (maker, bench) = board(SMALL);
    let mut device = bench.boot();
    let mut director = Director::new(&maker, &bench);
    assert_eq!(director.install(&mut device, &microvisor(&maker, 2), 2), Heard::Acted);
    let id = wire::DeviceId::new([9; 16]);
    device.enrolled(id, maker.tenant, &[0xab; 1800], &maker.keyset(1)).unwrap();
    assert_eq!(device.progress(), None);
    assert!(device.results().is_empty());
}

#[test]
fn a_store_that_was_lost_on_trial_leaves_a_microvisor_that_can_prove_itself() {
    let (maker, bench) = board(SMALL);
    bench.fill(Slot::B, &Filling::version(2));
    bench.set(Record::default().begin_trial());
    let mut device = bench.boot();
    assert_eq!(runs(&device), (1, "2.0.0".into(), SlotStatus::Trial));
    Director::new(&maker, &bench).order(&mut device, Order::Time, &[]).unwrap();
    device.poll();
    assert_eq!(runs(&device), (1, "2.0.0".into(), SlotStatus::Confirmed));
    assert_eq!(bench.record().active, Slot::B);
}

/// What a newer microvisor wrote, the older one reads when the newer is taken back.
#[test]
fn an_older_microvisor_goes_on_with_what_a_newer_one_wrote() {
    let (maker, bench) = board(SMALL);
    let mut device = bench.boot();
    let mut director = Director::new(&maker, &bench);
    assert!(director.drive(&mut device, &microvisor(&maker, 2), 2, Goal::Confirmed));
    // On the newer one: an application, a keyset, a crash of a floor.
    let app = maker.bundle(5).known_on(&bench);
    assert!(director.drive(&mut device, &app, 3, Goal::Confirmed));
    device.offer_keyset(&maker.keyset(2)).unwrap();
    director.is_silent = true;
    assert!(director.drive(&mut device, &microvisor(&maker, 3), 4, Goal::Ended));
    assert_eq!(ended(&director, 4), Some((Outcome::Reverted, UpdateReason::Inconclusive)));
    assert_eq!((device.keyset_version(), bench.running().as_deref()), (2, Some("v5")));
    let next = maker.bundle(6).known_on(&bench);
    assert!(director.drive(&mut device, &next, 5, Goal::Confirmed));
}
