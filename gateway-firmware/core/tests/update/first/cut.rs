//! Power fails at every flash operation of the first stage and of the microvisor's steps between its starts.
//!
//! The story: version 2 is put on trial, fails its attempts and is taken back; it is put on trial again, starts and is
//! confirmed; the floor rises. Whatever is cut, the next start runs a whole version, no trial gets more starts than its
//! manifest allows, a confirmed version stays confirmed, and the floor never falls.

use gateway_core::boot::first::{Record, Slot};
use gateway_core::ports::Geometry;

use super::{ATTEMPTS_MAX, Board};
use crate::sim::{Cut, Mode, SMALL, WRITE_ONCE};

/// What the story may rely on after a cut: what was acknowledged.
#[derive(Debug, Default, Clone, Copy)]
struct Known {
    /// Trials begun and starts of the present one that happened.
    starts: u8,
    confirmed: bool,
    floor: u64,
}

/// Goes on with the story from wherever it is; false when the power goes.
fn go_on(board: &mut Board, known: &mut Known) -> bool {
    for _ in 0..20 {
        let Some(chosen) = board.start().chosen else { panic!("nothing ran") };
        if board.flash.is_dead() {
            // The first stage itself was cut; nothing was jumped to.
            return false;
        }
        let version = chosen.microvisor.security_counter;
        if chosen.attempt > 0 {
            known.starts += 1;
            assert!(known.starts <= 2 * ATTEMPTS_MAX, "more starts than two trials have");
            assert!(chosen.attempt <= ATTEMPTS_MAX);
        }
        assert!(version >= known.floor);
        assert!(!known.confirmed || version == 2, "the confirmed version was lost");
        let record = board.record();
        let step = match (record.active, record.trial) {
            (Slot::A, None) => Some(record.begin_trial()),
            // The first trial never proves itself; the second does at its second start.
            (Slot::A, Some(_)) if known.starts >= ATTEMPTS_MAX + 2 => record.confirm().ok(),
            (Slot::A, Some(_)) => None,
            (Slot::B, _) if record.floor < 2 => Some(record.raise_floor(2)),
            (Slot::B, _) => return true,
        };
        let Some(changed) = step else { continue };
        if changed.write(&mut board.record_part()).is_err() {
            return false;
        }
        known.confirmed |= changed.active == Slot::B;
        known.floor = known.floor.max(changed.floor);
    }
    panic!("the story does not end: {:?}", board.record());
}

fn cut_everywhere(geometry: Geometry) {
    let mut whole = Board::new(geometry);
    // Near the end of a unit, so that the story crosses it.
    for _ in 0..geometry.erase_bytes / 32 - 3 {
        whole.set(Record::default());
    }
    let template = whole.fork();
    let before = whole.flash.operations();
    assert!(go_on(&mut whole, &mut Known::default()));
    let operations = whole.flash.operations() - before;
    let mut points = 0;
    for at in 1..=operations {
        for mode in Mode::ALL {
            let mut board = template.fork();
            let mut known = Known::default();
            board.flash.cut(Cut { at, mode });
            assert!(!go_on(&mut board, &mut known), "{at} {mode:?}: the cut happens");
            board.flash.power_on();
            // A cut start was written down and did not happen, or did not and is done again.
            assert!(go_on(&mut board, &mut known), "{at} {mode:?}");
            assert_eq!(board.record(), whole.record(), "{at} {mode:?}");
            assert_eq!(board.flash.violations(), [""; 0]);
            points += 1;
        }
    }
    println!("first stage on {}: {points} cut points", geometry.erase_bytes);
}

#[test]
fn power_may_fail_at_any_operation_around_a_trial_on_small_sectors() {
    cut_everywhere(SMALL);
}

#[test]
fn power_may_fail_at_any_operation_around_a_trial_on_write_once_flash() {
    cut_everywhere(WRITE_ONCE);
}
