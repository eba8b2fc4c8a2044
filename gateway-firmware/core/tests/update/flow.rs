//! The good way, and what a device does by itself when the new version is not good.

use gateway_core::device::{DirectiveRefused, Heard, Next, Notice, STORE_RETRY_MS};
use gateway_core::update::{Outcome, State};
use wire::directive::Order;
use wire::manifest::Confirm;
use wire::msg::{SlotStatus, UpdateReason};

use crate::sim::*;

/// A bench with v1 confirmed on it, and its maker.
pub(crate) fn with_v1(geometry: gateway_core::ports::Geometry) -> (Maker, Bench) {
    let maker = Maker::new();
    let bench = Bench::new(geometry, &maker);
    let v1 = maker.bundle(1).known_on(&bench);
    let mut device = maker.enrolled(&bench);
    let mut director = Director::new(&maker, &bench);
    assert!(director.drive(&mut device, &v1, 1, Goal::Confirmed));
    assert_eq!(bench.flash.violations(), [""; 0]);
    (maker, bench)
}

/// What the slots hold.
fn statuses(device: &Device) -> Vec<SlotStatus> {
    device.slots().iter().map(|slot| slot.status).collect()
}

#[test]
fn a_first_version_and_then_a_second_are_fetched_tried_and_confirmed() {
    for geometry in GEOMETRIES {
        let (maker, bench) = with_v1(geometry);
        assert_eq!(bench.running().as_deref(), Some("v1"));
        let v2 = maker.bundle(2).known_on(&bench);
        let mut device = bench.boot();
        let mut director = Director::new(&maker, &bench);
        assert!(director.drive(&mut device, &v2, 2, Goal::Confirmed));
        assert_eq!(bench.running().as_deref(), Some("v2"));
        let result = director.result(2).unwrap();
        assert_eq!((result.outcome, result.attempts), (Outcome::Confirmed, 1));
        let slots: Vec<_> =
            device.slots().into_iter().map(|slot| (slot.status, slot.running, slot.version)).collect();
        let version = |text: &str| text.try_into().unwrap();
        assert_eq!(slots[0], (SlotStatus::Previous, false, version("1.0")));
        assert_eq!(slots[1], (SlotStatus::Confirmed, true, version("2.0")));
        assert_eq!(bench.flash.violations(), [""; 0]);
    }
}

#[test]
fn blocks_the_running_version_holds_are_copied_and_not_asked_for() {
    let (maker, bench) = with_v1(SMALL);
    let v2 = maker.bundle(2).known_on(&bench);
    let mut device = bench.boot();
    let mut director = Director::new(&maker, &bench);
    assert!(director.drive(&mut device, &v2, 2, Goal::Confirmed));
    assert_eq!(director.blocks_sent, 2, "the second layer is the same in both versions");
}

#[test]
fn an_interrupted_download_goes_on_at_the_first_missing_block() {
    let (maker, bench) = with_v1(SMALL);
    let v2 = maker.bundle(2).known_on(&bench);
    let mut director = Director::new(&maker, &bench);
    let mut device = bench.boot();
    director.install(&mut device, &v2, 2);
    director.settle(&mut device);
    assert!(director.send_block(&mut device, &v2));
    let mut device = bench.boot();
    director.settle(&mut device);
    assert_eq!(device.wanted().map(|wanted| wanted.offset), Some(16 * 1024));
    assert!(director.drive(&mut device, &v2, 2, Goal::Confirmed));
    assert_eq!(director.blocks_sent, 2, "no block was sent twice");
}

#[test]
fn nothing_is_installed_without_go() {
    nothing_is_installed_without_its_go();
}

pub(crate) fn nothing_is_installed_without_its_go() {
    let (maker, bench) = with_v1(SMALL);
    let v2 = maker.bundle(2).known_on(&bench);
    let mut device = bench.boot();
    let mut director = Director::new(&maker, &bench);
    assert!(director.drive(&mut device, &v2, 2, Goal::Ready));
    bench.advance_ms(1 << 40);
    assert_eq!(director.settle(&mut device), Next::Never);
    assert_eq!(bench.running().as_deref(), Some("v1"));
    let v9 = maker.bundle(9);
    let wrong = director.order(&mut device, Order::Go(v9.target(2)), &[]);
    assert_eq!(wrong, Err(DirectiveRefused::Misplaced));
    let wrong = director.order(&mut device, Order::Go(v2.target(3)), &[]);
    assert_eq!(wrong, Err(DirectiveRefused::Misplaced));
    director.settle(&mut device);
    assert_eq!(bench.running().as_deref(), Some("v1"));
}

/// Installs a second version that behaves so over v1 and drives it to its end.
fn try_bad(behaviour: Behaviour) -> (Maker, Bench, gateway_core::update::UpdateResult) {
    let (maker, bench) = with_v1(SMALL);
    let v2 = maker.bundle_of(2, behaviour, |_| {}).known_on(&bench);
    let mut device = bench.boot();
    let mut director = Director::new(&maker, &bench);
    assert!(director.drive(&mut device, &v2, 2, Goal::Ended));
    let result = director.result(2).unwrap();
    assert_eq!(result.outcome, Outcome::Reverted);
    assert_eq!(bench.running().as_deref(), Some("v1"));
    assert_eq!(statuses(&device), [SlotStatus::Confirmed, SlotStatus::Rejected]);
    assert_eq!(device.floor(), Some(0), "nobody committed");
    (maker, bench, result)
}

#[test]
fn a_version_that_is_never_healthy_is_taken_back() {
    let (_, _, result) = try_bad(Behaviour::NeverHealthy);
    assert_eq!((result.reason, result.attempts), (UpdateReason::NeverHealthy, 1));
}

#[test]
fn a_version_that_crashes_is_started_attempts_max_times_and_taken_back() {
    let (_, bench, result) = try_bad(Behaviour::Crash);
    assert_eq!((result.reason, result.attempts), (UpdateReason::Crashed, 3));
    assert_eq!(bench.app.borrow().started, ["v1", "v2", "v2", "v2", "v1"]);
}

#[test]
fn a_version_that_hangs_is_taken_back() {
    let (_, _, result) = try_bad(Behaviour::Hang);
    assert_eq!(result.reason, UpdateReason::Hung);
}

#[test]
fn a_version_taken_back_is_refused_for_the_same_deployment_and_tried_again_for_a_new_one() {
    let (maker, bench, _) = try_bad(Behaviour::Crash);
    let v2 = maker.bundle_of(2, Behaviour::Crash, |_| {});
    let mut device = bench.boot();
    let mut director = Director::new(&maker, &bench);
    assert_eq!(director.install(&mut device, &v2, 2), Heard::Refused(UpdateReason::RejectedBefore));
    director.store_results(&mut device);
    assert_eq!(director.install(&mut device, &v2, 3), Heard::Acted);
}

#[test]
fn a_trial_that_ends_with_the_power_each_time_is_taken_back_too() {
    a_trial_that_ends_with_the_power_each_time();
}

pub(crate) fn a_trial_that_ends_with_the_power_each_time() {
    let (maker, bench) = with_v1(SMALL);
    let v2 = maker.bundle(2).known_on(&bench);
    let mut device = bench.boot();
    let mut director = Director::new(&maker, &bench);
    assert!(director.drive(&mut device, &v2, 2, Goal::Ready));
    director.order(&mut device, Order::Go(v2.target(2)), &[]).unwrap();
    while bench.running().as_deref() == Some("v1") {
        device.poll();
    }
    let runs: Vec<_> = (0..3)
        .map(|_| {
            device = bench.boot();
            bench.running().unwrap()
        })
        .collect();
    assert_eq!(runs, ["v2", "v2", "v1"]);
    let result = device.results()[0];
    assert_eq!(
        (result.outcome, result.reason, result.attempts),
        (Outcome::Reverted, UpdateReason::Crashed, 3)
    );
}

#[test]
fn a_revert_lasts() {
    a_revert_outlasts_the_power();
}

pub(crate) fn a_revert_outlasts_the_power() {
    let (maker, bench) = with_v1(SMALL);
    let v2 = maker.bundle_of(2, Behaviour::NeverHealthy, |_| {}).known_on(&bench);
    let mut device = bench.boot();
    let mut director = Director::new(&maker, &bench);
    assert!(director.drive(&mut device, &v2, 2, Goal::Ready));
    director.order(&mut device, Order::Go(v2.target(2)), &[]).unwrap();
    while device.results().is_empty() {
        device.poll();
        bench.advance_ms(1000);
    }
    let results = device.results().to_vec();
    let device = bench.boot();
    assert_eq!(bench.app.borrow().started, ["v1"]);
    assert_eq!(device.results(), results);
    assert_eq!(statuses(&device), [SlotStatus::Confirmed, SlotStatus::Rejected]);
}

#[test]
fn a_silent_service_never_reverts_an_application() {
    a_silent_service();
}

pub(crate) fn a_silent_service() {
    let (maker, bench) = with_v1(SMALL);
    let v2 = maker.bundle(2).known_on(&bench);
    let mut device = bench.boot();
    let mut director = Director::new(&maker, &bench);
    assert!(director.drive(&mut device, &v2, 2, Goal::Ready));
    director.order(&mut device, Order::Go(v2.target(2)), &[]).unwrap();
    for _ in 0..100 {
        device.poll();
        bench.advance_ms(3_600_000);
    }
    assert_eq!(bench.running().as_deref(), Some("v2"));
    assert_eq!(device.results().len(), 1, "and the result waits");
    let device = bench.boot();
    assert_eq!(device.results().len(), 1, "across power loss");
    assert_eq!(device.results()[0].outcome, Outcome::Confirmed);
}

#[test]
fn a_result_is_kept_until_it_is_acknowledged_by_its_own_name() {
    let (maker, bench) = with_v1(SMALL);
    let v1 = maker.bundle(1);
    let mut device = bench.boot();
    let mut director = Director::new(&maker, &bench);
    assert_eq!(director.install(&mut device, &v1, 7), Heard::Acted);
    let result = device.results()[0];
    assert_eq!((result.outcome, result.reason), (Outcome::Confirmed, UpdateReason::AlreadyRunning));
    assert_eq!(device.acknowledge(result.boot, result.sequence + 1), Ok(false));
    let mut device = bench.boot();
    assert_eq!(device.results(), [result]);
    assert_eq!(device.acknowledge(device.boot_id(), result.sequence), Ok(false));
    assert_eq!(device.acknowledge(result.boot, result.sequence), Ok(true));
    assert!(bench.boot().results().is_empty());
}

#[test]
fn results_that_wait_hold_new_installs_back_and_none_is_lost() {
    let (maker, bench) = with_v1(SMALL);
    let v1 = maker.bundle(1);
    let mut device = bench.boot();
    let mut director = Director::new(&maker, &bench);
    for deployment in 10..20 {
        let heard = director.install(&mut device, &v1, deployment);
        assert_eq!(heard, if deployment < 12 { Heard::Acted } else { Heard::Later });
    }
    assert_eq!(device.results().len(), 2);
    assert_eq!(director.install(&mut device, &v1, 10), Heard::Already);
    director.store_results(&mut device);
    assert_eq!(director.install(&mut device, &v1, 12), Heard::Acted);
}

#[test]
fn a_newer_directive_supersedes_until_the_switch_and_not_after() {
    let (maker, bench) = with_v1(SMALL);
    let v2 = maker.bundle(2).known_on(&bench);
    let v3 = maker.bundle(3).known_on(&bench);
    let mut device = bench.boot();
    let mut director = Director::new(&maker, &bench);
    assert!(director.drive(&mut device, &v2, 2, Goal::Ready));
    assert_eq!(director.install(&mut device, &v3, 3), Heard::Acted);
    assert_eq!(device.results()[0].reason, UpdateReason::Superseded);
    director.store_results(&mut device);
    assert!(director.drive(&mut device, &v3, 3, Goal::Ready));
    director.order(&mut device, Order::Go(v3.target(3)), &[]).unwrap();
    assert_eq!(device.progress().unwrap().state, State::Installing);
    assert_eq!(director.install(&mut device, &v2, 4), Heard::Later);
    device.poll();
    assert_eq!(device.progress().unwrap().state, State::Trial);
    assert_eq!(director.install(&mut device, &v2, 4), Heard::Later);
    assert!(director.drive(&mut device, &v3, 3, Goal::Confirmed));
}

#[test]
fn a_cancelled_update_leaves_the_old_version_running_and_can_be_asked_for_again() {
    let (maker, bench) = with_v1(SMALL);
    let v2 = maker.bundle(2).known_on(&bench);
    let mut device = bench.boot();
    let mut director = Director::new(&maker, &bench);
    director.install(&mut device, &v2, 2);
    director.settle(&mut device);
    assert!(director.send_block(&mut device, &v2));
    let other = director.order(&mut device, Order::Cancel(v2.target(9)), &[]);
    assert_eq!(other, Err(DirectiveRefused::Misplaced));
    assert_eq!(director.order(&mut device, Order::Cancel(v2.target(2)), &[]), Ok(Heard::Acted));
    assert_eq!((device.progress(), device.wanted()), (None, None));
    assert_eq!(device.results()[0].outcome, Outcome::Refused);
    assert_eq!(bench.running().as_deref(), Some("v1"));
    let mut device = bench.boot();
    assert_eq!(device.progress(), None);
    assert!(director.drive(&mut device, &v2, 3, Goal::Confirmed));
}

#[test]
fn a_polite_version_is_asked_and_decides_up_to_its_own_ceiling() {
    let maker = Maker::new();
    for asks in [true, false] {
        let bench = Bench::new(SMALL, &maker);
        let v1 = maker.bundle_of(1, Behaviour::Healthy, |spec| spec.update.polite_s = 600).known_on(&bench);
        let v2 = maker.bundle(2).known_on(&bench);
        let mut device = maker.enrolled(&bench);
        let mut director = Director::new(&maker, &bench);
        assert!(director.drive(&mut device, &v1, 1, Goal::Confirmed));
        director.install(&mut device, &v2, 2);
        while device.progress().unwrap().state != State::Polite {
            if device.poll() != Next::Now {
                director.send_block(&mut device, &v2);
            }
        }
        assert!(bench.app.borrow().told);
        let Next::At(ceiling_ms) = director.settle(&mut device) else { panic!("no ceiling") };
        assert_eq!(ceiling_ms, bench.now_ms.get() + 600_000);
        bench.app.borrow_mut().apply = asks;
        bench.now_ms.set(if asks { ceiling_ms - 599_000 } else { ceiling_ms });
        director.settle(&mut device);
        assert_eq!(device.progress().unwrap().state, State::Ready);
    }
}

#[test]
fn the_floor_rises_on_commit_for_what_runs_and_never_above_it_nor_back() {
    the_floor_rises_on_commit();
}

pub(crate) fn the_floor_rises_on_commit() {
    let (maker, bench) = with_v1(SMALL);
    let v5 = maker.bundle(5).known_on(&bench);
    let mut device = bench.boot();
    let mut director = Director::new(&maker, &bench);
    assert!(director.drive(&mut device, &v5, 2, Goal::Confirmed));
    assert_eq!(device.floor(), Some(0), "not at confirmation");
    let mut commit = |target, counter| director.order(&mut device, Order::Commit(target, counter), &[]);
    assert_eq!(commit(maker.bundle(1).target(1), 1), Err(DirectiveRefused::Misplaced));
    assert_eq!(commit(v5.target(2), 6), Err(DirectiveRefused::Misplaced), "it would lock out what runs");
    assert_eq!(commit(v5.target(2), 5), Ok(Heard::Acted));
    assert_eq!(commit(v5.target(2), 4), Ok(Heard::Already));
    assert_eq!(device.floor(), Some(5));
    assert_eq!(bench.boot().floor(), Some(5));
    assert_eq!(bench.running().as_deref(), Some("v5"));
}

#[test]
fn the_floor_rises_by_itself_after_commit_after_s_and_not_before() {
    let maker = Maker::new();
    let bench = Bench::new(SMALL, &maker);
    let v1 = maker
        .bundle_of(1, Behaviour::Healthy, |spec| spec.update.commit_after_s = Some(3600))
        .known_on(&bench);
    let mut device = maker.enrolled(&bench);
    let mut director = Director::new(&maker, &bench);
    assert!(director.drive(&mut device, &v1, 1, Goal::Confirmed));
    let Next::At(due_ms) = director.settle(&mut device) else { panic!("nothing due") };
    bench.now_ms.set(due_ms - 1);
    device.poll();
    assert_eq!(device.floor(), Some(0));
    bench.now_ms.set(due_ms);
    device.poll();
    assert_eq!(device.floor(), Some(1));
}

pub(crate) fn a_counter_that_cannot_be_raised() {
    let maker = Maker::new();
    let bench = Bench::new(SMALL, &maker);
    let v1 = maker
        .bundle_of(1, Behaviour::Healthy, |spec| spec.update.commit_after_s = Some(3600))
        .known_on(&bench);
    let mut device = maker.enrolled(&bench);
    let mut director = Director::new(&maker, &bench);
    assert!(director.drive(&mut device, &v1, 1, Goal::Confirmed));
    let Next::At(due_ms) = director.settle(&mut device) else { panic!("nothing due") };
    bench.raise_fails.set(true);
    for tries in 1..=3 {
        bench.now_ms.set(due_ms + u64::from(tries - 1) * STORE_RETRY_MS);
        for _ in 0..10 {
            device.poll();
        }
        let again = Next::At(due_ms + u64::from(tries) * STORE_RETRY_MS);
        assert_eq!((bench.raises.get(), director.settle(&mut device)), (tries, again));
    }
    bench.raise_fails.set(false);
    bench.now_ms.set(due_ms + 3 * STORE_RETRY_MS);
    device.poll();
    assert_eq!(device.floor(), Some(1));
}

#[test]
fn a_counter_that_cannot_be_raised_is_tried_once_a_minute() {
    a_counter_that_cannot_be_raised();
}

#[test]
fn merely_running_confirms_where_the_manifest_says_so() {
    let maker = Maker::new();
    let bench = Bench::new(SMALL, &maker);
    let v1 = maker
        .bundle_of(1, Behaviour::NeverHealthy, |spec| spec.update.confirm = Confirm::Running)
        .known_on(&bench);
    let mut device = maker.enrolled(&bench);
    assert!(Director::new(&maker, &bench).drive(&mut device, &v1, 1, Goal::Confirmed));
}

#[test]
fn a_first_version_that_is_bad_leaves_no_application_and_a_device_that_takes_the_next() {
    let maker = Maker::new();
    let bench = Bench::new(SMALL, &maker);
    let v1 = maker.bundle_of(1, Behaviour::Crash, |_| {}).known_on(&bench);
    let v2 = maker.bundle(2).known_on(&bench);
    let mut device = maker.enrolled(&bench);
    let mut director = Director::new(&maker, &bench);
    assert!(director.drive(&mut device, &v1, 1, Goal::Ended));
    assert_eq!(bench.running(), None);
    assert!(director.drive(&mut device, &v2, 2, Goal::Confirmed));
}

#[test]
fn a_crashing_confirmed_version_is_started_again_and_again_and_updated_all_the_same() {
    let (maker, bench) = with_v1(SMALL);
    let v2 = maker.bundle(2).known_on(&bench);
    let mut device = bench.boot();
    let mut director = Director::new(&maker, &bench);
    bench.app.borrow_mut().running = Some(("v1".into(), Behaviour::Crash));
    let Next::At(restart_ms) = director.settle(&mut device) else { panic!("no restart is due") };
    assert_eq!(restart_ms, bench.now_ms.get() + 100);
    bench.now_ms.set(restart_ms);
    director.settle(&mut device);
    assert_eq!(bench.app.borrow().started, ["v1", "v1"]);
    assert_eq!((device.counters().app_crashes, device.counters().app_starts), (1, 2));
    assert!(std::iter::from_fn(|| device.take_notice()).any(|notice| notice == Notice::AppCrashed));
    assert!(director.drive(&mut device, &v2, 2, Goal::Confirmed));
}

#[test]
fn a_large_layer_is_wanted_in_runs_of_bounded_length() {
    const BLOCK: usize = 16 * 1024;
    let maker = Maker::new();
    let geometry = gateway_core::ports::Geometry { bytes: 2 << 20, ..SMALL };
    let bench = Bench::new(geometry, &maker);
    let bytes: Vec<u8> = (0..40 * BLOCK - 100).map(|index| (index / 251) as u8).collect();
    let layers = image(1);
    let mut spec = maker.spec(1, &layers);
    spec.layers = vec![
        wire::sign::LayerSpec { destination: 0, bytes: &bytes },
        wire::sign::LayerSpec { destination: 40 * BLOCK as u32, bytes: &layers[1] },
    ];
    let big = maker.sign("big".into(), Behaviour::Healthy, &spec, &maker.release).known_on(&bench);
    let mut device = maker.enrolled(&bench);
    let mut director = Director::new(&maker, &bench);
    director.install(&mut device, &big, 1);
    let mut runs = Vec::new();
    for _ in 0..41 {
        director.settle(&mut device);
        let wanted = device.wanted().unwrap();
        runs.push((wanted.end - wanted.offset) as usize);
        let sequence = device.progress().unwrap().sequence;
        assert!(director.send_block(&mut device, &big));
        let said = device.progress().unwrap().sequence > sequence;
        assert_eq!(
            said,
            (wanted.offset as usize / BLOCK) % 8 == 7 && wanted.layer == wire::Digest::of(&bytes)
        );
    }
    assert_eq!(runs[0], 16 * BLOCK, "two windows");
    assert!(runs.iter().all(|run| *run <= 16 * BLOCK));
    assert_eq!(runs[39], BLOCK - 100, "never across the end of a layer");
    assert_eq!(runs[40], BLOCK);
    assert!(director.drive(&mut device, &big, 1, Goal::Confirmed));
}

#[test]
fn notices_are_bounded_and_the_newest_stay() {
    use gateway_core::device::NOTICES_MAX;
    let (maker, bench) = with_v1(SMALL);
    let mut device = bench.boot();
    let mut director = Director::new(&maker, &bench);
    for deployment in 10..10 + NOTICES_MAX as u8 {
        let _ = director.install(
            &mut device,
            &maker.bundle_of(2, Behaviour::Healthy, |spec| spec.board = "x".into()),
            deployment,
        );
        director.store_results(&mut device);
    }
    let notices: Vec<_> = std::iter::from_fn(|| device.take_notice()).collect();
    assert_eq!(notices, [Notice::UpdateRefused(UpdateReason::WrongBoard); NOTICES_MAX]);
}
