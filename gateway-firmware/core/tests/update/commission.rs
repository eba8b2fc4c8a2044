//! A board that is made with a test of its hardware: what runs, what its verdict leads to, and power that fails on the way.

use gateway_core::commission::make::{Application, Making, Role, Unfit, look};
use gateway_core::commission::{Stage, make};
use gateway_core::device::Notice;
use gateway_core::ports::{Flash as _, Geometry, StartReason};
use gateway_core::store::Health;
use wire::keyset::KeysetError;
use wire::manifest::{Component, Version};
use wire::msg::{SlotStatus, UpdateReason};
use wire::sign::Signer as _;

use crate::sim::*;

/// What runs first, and what tests before that.
const FIRST: u8 = 1;
const TEST: u8 = 9;

struct Made {
    maker: Maker,
    keyset: Vec<u8>,
    first: Option<Bundle>,
    test: Option<Bundle>,
}

impl Made {
    fn new() -> Made {
        let maker = Maker::new();
        let keyset = maker.keyset(1);
        let (first, test) = (Some(maker.bundle(FIRST)), Some(maker.bundle(TEST)));
        Made { maker, keyset, first, test }
    }

    fn write(&self, bench: &Bench) -> Result<(), Unfit> {
        let part_of =
            |bundle: &Option<Bundle>| bundle.as_ref().map(|bundle| (bundle.envelope.clone(), bundle.bytes()));
        let (first, test) = (part_of(&self.first), part_of(&self.test));
        fn part(it: &Option<(Vec<u8>, Vec<u8>)>) -> Option<Application<'_>> {
            it.as_ref().map(|(envelope, area)| Application { envelope, area })
        }
        let making = Making {
            board: &bench.facts.board,
            microvisor: bench.facts.microvisor,
            root_key_hashes: &bench.facts.root_key_hashes,
            root_threshold: bench.facts.root_threshold,
            build_time_s: bench.facts.build_time_s,
            keyset: &self.keyset,
            first: part(&first),
            test: part(&test),
        };
        making.write(&mut bench.flash.clone(), &wire::cose::P256)
    }

    /// A bench with it, whose applications have names.
    fn bench(&self, geometry: Geometry) -> Bench {
        let bench = Bench::new(geometry, &self.maker);
        self.write(&bench).unwrap();
        for bundle in [&self.first, &self.test].into_iter().flatten() {
            bundle.clone().known_on(&bench);
        }
        bench
    }
}

/// The test application says this, and the device has heard it.
fn says(bench: &Bench, device: &mut Device, status: u32) {
    bench.app.borrow_mut().tested = Some(status);
    device.poll();
}

fn notices(device: &mut Device) -> Vec<Notice> {
    std::iter::from_fn(|| device.take_notice()).collect()
}

#[test]
fn a_board_without_a_test_is_a_product_that_runs_its_first_application() {
    for geometry in GEOMETRIES {
        let made = Made { test: None, ..Made::new() };
        let bench = made.bench(geometry);
        let device = bench.boot();
        assert_eq!(bench.running().as_deref(), Some("v1"));
        assert_eq!((device.commission(), device.may_connect()), (Stage::Production, true));
        let [slot, spare] = &device.slots()[..2] else { panic!("two slots") };
        assert_eq!((slot.status, slot.running), (SlotStatus::Confirmed, true));
        assert_eq!(spare.status, SlotStatus::Empty);
        assert_eq!(device.keyset_version(), 1);
        assert!(device.results().is_empty(), "nobody directed it");
    }
}

#[test]
fn a_board_without_applications_waits_for_an_update() {
    let made = Made { first: None, test: None, ..Made::new() };
    let device = made.bench(SMALL).boot();
    assert_eq!((device.commission(), device.keyset_version()), (Stage::Production, 1));
}

#[test]
fn a_good_test_makes_a_product_once_and_for_all() {
    for geometry in GEOMETRIES {
        let made = Made::new();
        let bench = made.bench(geometry);
        let mut device = bench.boot();
        assert_eq!((device.commission(), device.may_connect()), (Stage::Testing, false));
        assert_eq!(notices(&mut device)[0], Notice::Commission(Stage::Testing));
        assert_eq!(bench.running().as_deref(), Some("v9"));
        says(&bench, &mut device, 0);
        assert_eq!(bench.running().as_deref(), Some("v1"));
        assert_eq!(bench.app.borrow().reasons, [StartReason::Test, StartReason::Update]);
        assert!(notices(&mut device).contains(&Notice::Commission(Stage::Production)));
        assert!(device.may_connect());
        // Whatever a product says of itself now is nobody's concern.
        says(&bench, &mut device, 7);
        let device = bench.boot();
        assert_eq!((device.commission(), bench.running().as_deref()), (Stage::Production, Some("v1")));
    }
}

#[test]
fn the_slot_of_the_test_is_the_first_updates() {
    let made = Made::new();
    let bench = made.bench(SMALL);
    says(&bench, &mut bench.boot(), 0);
    let mut device = made.maker.enrolled(&bench);
    let v2 = made.maker.bundle(2).known_on(&bench);
    assert!(Director::new(&made.maker, &bench).drive(&mut device, &v2, 2, Goal::Confirmed));
    assert_eq!(bench.running().as_deref(), Some("v2"));
    bench.boot();
    assert_eq!(bench.running().as_deref(), Some("v2"));
}

#[test]
fn a_bad_test_locks_the_board_and_shows_its_number_at_every_start() {
    for status in [1, 7, u32::MAX] {
        let made = Made::new();
        let bench = made.bench(SMALL);
        let mut device = bench.boot();
        says(&bench, &mut device, status);
        for _ in 0..3 {
            assert_eq!((device.commission(), device.may_connect()), (Stage::Failed(status), false));
            assert!(notices(&mut device).contains(&Notice::Commission(Stage::Failed(status))));
            assert_eq!(bench.running(), None);
            says(&bench, &mut device, 0);
            bench.advance_ms(3_600_000);
            device.poll();
            assert_eq!(bench.running(), None, "nothing unlocks it");
            device = bench.boot();
        }
    }
}

#[test]
fn a_test_that_crashes_or_is_cut_short_runs_again() {
    let made = Made { test: Some(Maker::new().bundle_of(TEST, Behaviour::Crash, |_| {})), ..Made::new() };
    let bench = made.bench(SMALL);
    let mut device = bench.boot();
    device.poll();
    bench.advance_ms(60_000);
    device.poll();
    assert_eq!(bench.app.borrow().started, ["v9", "v9"]);
    assert_eq!(bench.app.borrow().reasons, [StartReason::Test; 2]);
    let device = bench.boot();
    assert_eq!((device.commission(), bench.running().as_deref()), (Stage::Testing, Some("v9")));
}

#[test]
fn a_test_that_said_so_and_ended_is_believed() {
    let made = Made { test: Some(Maker::new().bundle_of(TEST, Behaviour::Crash, |_| {})), ..Made::new() };
    let bench = made.bench(SMALL);
    let mut device = bench.boot();
    says(&bench, &mut device, 0);
    assert_eq!(bench.running().as_deref(), Some("v1"));
}

#[test]
fn a_damaged_test_is_not_run_and_passes_nothing() {
    let made = Made::new();
    let bench = made.bench(SMALL);
    let layout = gateway_core::update::slots::Layout::new(SMALL).unwrap();
    bench.flash.corrupt(layout.slots[1].area_at + 5);
    let mut device = bench.boot();
    assert_eq!((device.commission(), bench.running()), (Stage::Testing, None));
    assert!(notices(&mut device).contains(&Notice::NoApp));
}

#[test]
fn power_may_fail_at_any_operation_of_a_verdict() {
    for (geometry, status) in GEOMETRIES.into_iter().flat_map(|it| [(it, 0), (it, 7)]) {
        let whole = Made::new().bench(geometry);
        let mut device = whole.boot();
        let before = whole.flash.operations();
        says(&whole, &mut device, status);
        let operations = whole.flash.operations() - before;
        assert!(operations > 0, "it was journaled");
        for (at, mode) in (1..=operations).flat_map(|at| Mode::ALL.map(|mode| (at, mode))) {
            let bench = Made::new().bench(geometry);
            let mut device = bench.boot();
            bench.flash.cut(Cut { at, mode });
            says(&bench, &mut device, status);
            assert!(bench.flash.is_dead());
            assert_ne!(bench.running().as_deref(), Some("v1"), "nothing follows from what is not journaled");
            let mut device = bench.boot();
            let over = match status {
                0 => (Stage::Production, Some("v1")),
                status => (Stage::Failed(status), None),
            };
            let now = (device.commission(), bench.running());
            if now.0 == Stage::Testing {
                assert_eq!(now.1.as_deref(), Some("v9"));
                says(&bench, &mut device, status);
            }
            assert_eq!((device.commission(), bench.running().as_deref()), over, "{mode:?} at {at}");
            assert_eq!(bench.flash.violations(), [""; 0]);
        }
    }
}

#[test]
fn a_store_says_what_it_is_made_of() {
    let bench = Made::new().bench(SMALL);
    let seen = look(&mut bench.fork().flash).unwrap();
    assert_eq!((seen.health, seen.keyset_version), (Health::Sound, Some(1)));
    assert_eq!(seen.commission.stage, Stage::Testing);
    assert_eq!(seen.commission.test.unwrap().slot, 1);
    assert_eq!(seen.ledger.slots[0].version, "1.0");
    says(&bench, &mut bench.boot(), 7);
    assert_eq!(look(&mut bench.fork().flash).unwrap().commission.stage, Stage::Failed(7));
    let blank = Bench::new(SMALL, &Maker::new());
    assert_eq!(look(&mut blank.flash.clone()).unwrap().health, Health::Formatted);
}

/// What making a store of this ends with; nothing may have been written then.
fn refused(change: impl FnOnce(&mut Made)) -> Unfit {
    let mut made = Made::new();
    change(&mut made);
    let bench = Bench::new(SMALL, &made.maker);
    let unfit = made.write(&bench).unwrap_err();
    assert_eq!(bench.flash.operations(), 0, "nothing was written");
    unfit
}

#[test]
fn what_a_device_would_refuse_is_not_put_into_it() {
    let app = |role, reason| Unfit::Application(role, reason);
    let by = |change: fn(&mut wire::sign::ManifestSpec<'_>)| {
        Some(Maker::new().bundle_of(3, Behaviour::Healthy, change))
    };
    let stranger = || {
        let maker = Maker::new();
        let layers = image(3);
        let spec = maker.spec(3, &layers);
        Some(maker.sign("v3".to_owned(), Behaviour::Healthy, &spec, &maker.stranger))
    };
    for role in [Role::First, Role::Test] {
        let with = |bundle: Option<Bundle>| {
            refused(|made| match role {
                Role::First => made.first = bundle,
                Role::Test => made.test = bundle,
            })
        };
        assert_eq!(with(by(|it| it.board = "other".into())), app(role, UpdateReason::WrongBoard));
        let microvisor = by(|it| it.component = Component::Microvisor);
        assert_eq!(with(microvisor), app(role, UpdateReason::WrongComponent));
        assert_eq!(with(stranger()), app(role, UpdateReason::UnknownKey));
        let newer = by(|it| it.microvisor_min = Version { major: 1, minor: 0, patch: 1 });
        assert_eq!(with(newer), app(role, UpdateReason::MicrovisorTooOld));
        let large = by(|it| it.area_bytes = Some(SMALL.bytes.next_multiple_of(16 * 1024)));
        assert_eq!(with(large), app(role, UpdateReason::TooLarge));
        let mut other_bytes = Maker::new().bundle(3);
        other_bytes.layers.values_mut().for_each(|layer| layer[0] ^= 1);
        assert_eq!(with(Some(other_bytes)), app(role, UpdateReason::DigestMismatch));
        let mut bad = Maker::new().bundle(3);
        bad.envelope.truncate(100);
        assert_eq!(with(Some(bad)), app(role, UpdateReason::Malformed));
    }
}

#[test]
fn a_keyset_that_the_roots_did_not_sign_makes_no_board() {
    let other = |made: &mut Made| {
        let maker = Maker::new();
        let mut spec = maker.keyset_spec(1);
        spec.root_keys = vec![maker.stranger.public_key()];
        made.keyset = spec.sign(&[&maker.stranger]).unwrap();
    };
    assert_eq!(refused(other), Unfit::Keyset(KeysetError::Threshold));
    let second = |made: &mut Made| made.keyset = made.maker.keyset(2);
    assert_eq!(refused(second), Unfit::Keyset(KeysetError::Version));
    assert!(matches!(refused(|made| made.keyset.clear()), Unfit::Keyset(KeysetError::Cose(_))));
}

#[test]
fn a_flash_without_room_makes_no_board() {
    let made = Made::new();
    let bench = Bench::new(Geometry { bytes: 32 * 1024, ..SMALL }, &made.maker);
    assert!(matches!(made.write(&bench), Err(make::Unfit::Layout(_))));
    assert_eq!(bench.flash.geometry().bytes, 32 * 1024);
}
