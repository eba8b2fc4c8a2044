//! Power fails at every flash operation of an update, and again at every one of the recovery.
//!
//! The update: v1 is confirmed; v2 is fetched, installed, tried and confirmed; v3 is fetched over v1 until it waits for
//! `go`. Each erase and each write is a cut point in each of four modes (not done, half done, random bits, unreadable).
//! After every cut the next boot must run v1 or v2 completely with nothing else lost, the confirmed slot must never have
//! been touched, and driven on by the same service the update must end as if nothing had happened.

use gateway_core::ports::Geometry;
use gateway_core::update::Outcome;
use gateway_core::update::slots::Layout;
use wire::msg::SlotStatus;

use crate::flow::with_v1;
use crate::sim::*;

/// What can be cut everywhere: a board at a beginning, and what is done with it.
pub(crate) trait Cuttable {
    fn maker(&self) -> &Maker;
    fn bench(&self) -> &Bench;

    /// Boots and drives until the cut that was set happens; the service's memory.
    fn until_the_cut<'b>(&self, service: &Director<'b>, bench: &'b Bench) -> Director<'b>
    where
        Self: 'b;

    /// The power is back: boots, checks, drives to the end, checks again. The operations it took.
    fn recover(&self, service: &Director<'_>, bench: &Bench) -> u64;
}

struct Story {
    maker: Maker,
    bench: Bench,
    v2: Bundle,
    v3: Bundle,
}

impl Story {
    fn new(geometry: Geometry) -> Story {
        let (maker, bench) = with_v1(geometry);
        let [v2, v3] = [2, 3].map(|version| maker.bundle(version).known_on(&bench));
        Story { maker, bench, v2, v3 }
    }

    /// Drives a device to the end of the story; false when the power went.
    fn drive(&self, director: &mut Director<'_>, device: &mut Device) -> bool {
        director.drive(device, &self.v2, 2, Goal::Confirmed)
            && director.drive(device, &self.v3, 3, Goal::Ready)
    }
}

impl Cuttable for Story {
    fn maker(&self) -> &Maker {
        &self.maker
    }

    fn bench(&self) -> &Bench {
        &self.bench
    }

    fn until_the_cut<'b>(&self, service: &Director<'b>, bench: &'b Bench) -> Director<'b>
    where
        Self: 'b,
    {
        let mut director = service.moved_to(bench);
        if let Ok(mut device) = bench.boot_with_a_cut_to_come() {
            assert!(!self.drive(&mut director, &mut device), "the cut happens");
        }
        assert!(bench.flash.is_dead());
        director
    }

    fn recover(&self, service: &Director<'_>, bench: &Bench) -> u64 {
        let before = bench.flash.operations();
        let mut director = service.moved_to(bench);
        let mut device = bench.boot();
        let running = bench.running();
        assert!(matches!(running.as_deref(), Some("v1" | "v2")), "{running:?} runs after the cut");
        let confirmed = director.result(2).is_some_and(|result| result.outcome == Outcome::Confirmed);
        assert!(!confirmed || running.as_deref() == Some("v2"), "a confirmed version was lost");
        assert_eq!(device.device_id(), Some(self.maker.device));
        assert_eq!(device.keyset_version(), 1);
        assert!(self.drive(&mut director, &mut device));
        assert_eq!(bench.running().as_deref(), Some("v2"));
        assert!(!bench.app.borrow().started.iter().any(|name| name == "?"));
        assert_eq!(director.result(2).unwrap().outcome, Outcome::Confirmed);
        assert_eq!(director.result(3), None);
        assert_eq!(bench.flash.violations(), [""; 0]);
        bench.flash.operations() - before
    }
}

/// What was cut.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) operations: u64,
    pub(crate) cut_points: u64,
    pub(crate) recovery_operations: u64,
    pub(crate) recovery_cut_points: u64,
}

/// Cuts at every operation in every mode; of each recovery, at every operation, in every `1 / recovery_stride`-th of the
/// four modes in turn (1: all four, 4: one of them; 0: recoveries are not cut).
pub(crate) fn cut_everywhere(story: &impl Cuttable, recovery_stride: u64) -> Counts {
    let service = Director::new(story.maker(), story.bench());
    let whole = story.bench().fork();
    let mut counts = Counts { operations: story.recover(&service, &whole), ..Counts::default() };
    for at in 1..=counts.operations {
        for mode in Mode::ALL {
            let bench = story.bench().fork();
            bench.flash.cut(Cut { at, mode });
            let service = story.until_the_cut(&service, &bench);
            counts.cut_points += 1;
            let whole = bench.fork();
            let recovery = story.recover(&service, &whole);
            counts.recovery_operations += recovery;
            if recovery_stride == 0 {
                continue;
            }
            for again in 1..=recovery {
                for second in Mode::ALL {
                    if !(again + second as u64 + at + mode as u64).is_multiple_of(recovery_stride) {
                        continue;
                    }
                    let bench = bench.fork();
                    bench.flash.power_on();
                    bench.flash.cut(Cut { at: again, mode: second });
                    let service = story.until_the_cut(&service, &bench);
                    counts.recovery_cut_points += 1;
                    story.recover(&service, &bench);
                }
            }
        }
    }
    counts
}

/// Every operation of the update, without cutting recoveries: what the mutations are tried on.
pub(crate) fn every_operation_survives_a_cut(geometry: Geometry) {
    let counts = cut_everywhere(&Story::new(geometry), 0);
    assert_eq!(counts.cut_points, counts.operations * Mode::ALL.len() as u64);
}

fn every_operation_survives_a_cut_and_another_in_its_recovery(geometry: Geometry) {
    let counts = cut_everywhere(&Story::new(geometry), 4);
    println!("power cuts on {}/{}: {counts:?}", geometry.erase_bytes, geometry.write_bytes);
    assert_eq!(counts.cut_points, counts.operations * Mode::ALL.len() as u64, "every operation, every mode");
    assert_eq!(
        counts.recovery_cut_points, counts.recovery_operations,
        "every operation of every recovery, one mode"
    );
}

#[test]
fn power_may_fail_at_any_operation_of_an_update_on_small_sectors() {
    every_operation_survives_a_cut_and_another_in_its_recovery(SMALL);
}

#[test]
fn power_may_fail_at_any_operation_of_an_update_on_write_once_flash() {
    every_operation_survives_a_cut_and_another_in_its_recovery(WRITE_ONCE);
}

pub(crate) fn what_is_called_previous_can_be_fallen_back_to() {
    let story = Story::new(SMALL);
    let layout = Layout::new(SMALL).unwrap();
    let service = Director::new(&story.maker, &story.bench);
    let operations = story.recover(&service, &story.bench.fork());
    let mut fallen_back = 0;
    for (at, mode) in (1..=operations).flat_map(|at| Mode::ALL.map(|mode| (at, mode))) {
        let bench = story.bench.fork();
        bench.flash.cut(Cut { at, mode });
        story.until_the_cut(&service, &bench);
        let slots = bench.boot().slots();
        let find = |status| slots.iter().position(|slot| slot.status == status);
        if let (Some(_), Some(confirmed)) = (find(SlotStatus::Previous), find(SlotStatus::Confirmed)) {
            bench.flash.corrupt(layout.slots[confirmed].area_at);
            bench.boot();
            assert_eq!(bench.running().as_deref(), Some("v1"));
            fallen_back += 1;
        }
    }
    assert!(fallen_back > 0);
}

#[test]
fn a_slot_called_previous_is_whole_after_any_cut() {
    what_is_called_previous_can_be_fallen_back_to();
}
