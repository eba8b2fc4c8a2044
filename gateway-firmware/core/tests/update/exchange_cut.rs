//! Power fails at every flash operation of two exchanges, and again in their recoveries: of the store, the slots and the first stage's
//! record, by the core and by the first stage.

use gateway_core::update::Outcome;
use wire::msg::{SlotStatus, UpdateReason};

use crate::exchange::{board, come_up, ended, microvisor, runs};
use crate::power_cut::{Cuttable, cut_everywhere};
use crate::sim::*;

/// Of the recoveries, every seventh operation in one mode.
const RECOVERY_STRIDE: u64 = 7 * Mode::ALL.len() as u64;

/// An exchange that ends confirmed, then one that ends inconclusive; cut everywhere.
struct Story {
    maker: Maker,
    bench: Bench,
    good: Bundle,
    unheard: Bundle,
}

impl Story {
    fn new(geometry: gateway_core::ports::Geometry) -> Story {
        let (maker, bench) = board(geometry);
        let [good, unheard] = [2, 3].map(|version| microvisor(&maker, version));
        Story { maker, bench, good, unheard }
    }

    /// Drives to the end; false when the power went.
    fn drive(&self, director: &mut Director<'_>, device: &mut Device) -> bool {
        director.is_silent = false;
        if ended(director, 2).is_none() && !director.drive(device, &self.good, 2, Goal::Ended) {
            return false;
        }
        director.is_silent = true;
        ended(director, 3).is_some() || director.drive(device, &self.unheard, 3, Goal::Ended)
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
        if let Ok(mut device) = bench.boot_with_a_cut_to_come()
            && !bench.flash.is_dead()
        {
            // What a recovery does before anybody speaks to it.
            device.poll();
            if bench.takes_restart()
                && let Ok(anew) = bench.boot_with_a_cut_to_come()
            {
                device = anew;
            }
            let went = bench.flash.is_dead() || !self.drive(&mut director, &mut device);
            assert!(went, "the cut happens");
        }
        assert!(bench.flash.is_dead());
        director
    }

    /// The power is back: a whole microvisor runs, the application too, and all goes on to an end.
    fn recover(&self, service: &Director<'_>, bench: &Bench) -> u64 {
        let before = bench.flash.operations();
        let mut director = service.moved_to(bench);
        let mut device = come_up(bench);
        assert_eq!(bench.running().as_deref(), Some("v1"));
        assert_eq!(device.device_id(), Some(self.maker.device));
        let confirmed = director.result(2).is_some_and(|result| result.outcome == Outcome::Confirmed);
        let (_, version, status) = runs(&device);
        assert!(!confirmed || version != "1.0.0", "a confirmed version was lost");
        assert!(status == SlotStatus::Confirmed || version != "1.0.0");
        assert!(self.drive(&mut director, &mut device));
        let good = ended(&director, 2).unwrap();
        // Power that goes between two words leaves a trial without a verdict, or spends its attempts: never a wrong one.
        assert!(
            good == (Outcome::Confirmed, UpdateReason::Unspecified)
                || good == (Outcome::Reverted, UpdateReason::Inconclusive),
            "{good:?}"
        );
        assert_eq!(ended(&director, 3), Some((Outcome::Reverted, UpdateReason::Inconclusive)));
        let expected = if good.0 == Outcome::Confirmed { "2.0.0" } else { "1.0.0" };
        assert_eq!(runs(&device).1, expected);
        assert_eq!(bench.record().trial, None);
        assert_eq!(bench.flash.violations(), [""; 0]);
        bench.flash.operations() - before
    }
}

#[test]
fn power_may_fail_at_any_operation_of_an_exchange_on_small_sectors() {
    let counts = cut_everywhere(&Story::new(SMALL), RECOVERY_STRIDE);
    println!("power cuts of an exchange on 4096/1: {counts:?}");
    assert_eq!(counts.cut_points, counts.operations * Mode::ALL.len() as u64);
}

#[test]
fn power_may_fail_at_any_operation_of_an_exchange_on_write_once_flash() {
    let counts = cut_everywhere(&Story::new(WRITE_ONCE), RECOVERY_STRIDE);
    println!("power cuts of an exchange on 8192/16: {counts:?}");
    assert_eq!(counts.cut_points, counts.operations * Mode::ALL.len() as u64);
}
