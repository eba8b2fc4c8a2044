//! Which slot runs.

use gateway_core::boot::first::{Record, Refused, Slot, Verdict};
use gateway_core::pair::Health;

use super::{ATTEMPTS_MAX, Board, Filling, LAYOUT};
use crate::sim::{Cut, GEOMETRIES, Mode, SMALL};

#[test]
fn a_board_without_a_record_runs_slot_a_and_writes_nothing() {
    for geometry in GEOMETRIES {
        let mut board = Board::new(geometry);
        let before = board.flash.operations();
        let outcome = board.start();
        assert_eq!(outcome.verdicts, [Verdict::Runs, Verdict::Unseen]);
        assert_eq!((outcome.record_health, outcome.record), (Health::Blank, Record::default()));
        assert_eq!(board.runs(), Some((1, 0)));
        assert_eq!(board.flash.operations(), before);
    }
}

#[test]
fn a_trial_has_its_attempts_each_on_record_before_it_and_is_then_over() {
    for geometry in GEOMETRIES {
        let mut board = Board::new(geometry);
        board.set(Record::default().begin_trial());
        for attempt in 1..=ATTEMPTS_MAX {
            assert_eq!(board.runs(), Some((2, attempt)));
            assert_eq!(board.record().attempts, attempt);
        }
        let outcome = board.start();
        assert_eq!(outcome.verdicts, [Verdict::Runs, Verdict::Refused(Refused::AttemptsSpent)]);
        assert_eq!(board.record(), Record::default(), "taken back");
        assert_eq!(board.runs(), Some((1, 0)));
    }
}

#[test]
fn a_confirmed_trial_is_the_active_version() {
    let mut board = Board::new(SMALL);
    board.set(Record::default().begin_trial());
    assert_eq!(board.runs(), Some((2, 1)));
    board.set(board.record().confirm().unwrap());
    assert_eq!(board.runs(), Some((2, 0)));
    assert_eq!(board.record().active, Slot::B);
    board.set(board.record().begin_trial());
    assert_eq!(board.runs(), Some((1, 1)), "and the other one may be tried again");
}

#[test]
fn a_damaged_trial_is_over_at_once() {
    let mut board = Board::new(SMALL);
    board.corrupt(Slot::B, LAYOUT.image_at + 20_000);
    board.set(Record::default().begin_trial());
    let outcome = board.start();
    assert_eq!(outcome.verdicts, [Verdict::Runs, Verdict::Refused(Refused::DigestMismatch)]);
    assert_eq!(board.record(), Record::default());
}

#[test]
fn a_damaged_active_slot_gives_way_to_the_other_and_comes_back_when_it_is_whole() {
    let mut board = Board::new(SMALL);
    board.corrupt(Slot::A, LAYOUT.image_at);
    let outcome = board.start();
    assert_eq!(outcome.verdicts, [Verdict::Refused(Refused::DigestMismatch), Verdict::Runs]);
    assert_eq!(board.runs(), Some((2, 0)));
    board.corrupt(Slot::A, LAYOUT.image_at);
    assert_eq!(board.runs(), Some((1, 0)), "the record was never changed");
}

#[test]
fn a_version_that_failed_its_trial_is_better_than_none() {
    let mut board = Board::new(SMALL);
    board.set(Record { attempts: ATTEMPTS_MAX, ..Record::default().begin_trial() });
    board.corrupt(Slot::A, LAYOUT.image_at);
    assert_eq!(board.runs(), Some((2, 0)));
    assert_eq!(board.runs(), Some((2, 0)));
}

#[test]
fn with_nothing_whole_nothing_runs_and_nothing_is_left_to_run() {
    let mut board = Board::new(SMALL);
    board.corrupt(Slot::A, LAYOUT.image_at);
    board.corrupt(Slot::B, LAYOUT.envelope_at + 30);
    let outcome = board.start();
    assert_eq!(outcome.chosen, None);
    assert_eq!(outcome.verdicts, [Refused::DigestMismatch, Refused::ManifestMalformed].map(Verdict::Refused));
    assert!(board.place.iter().all(|byte| *byte == 0xff));
}

#[test]
fn a_start_on_trial_that_cannot_be_written_down_does_not_happen() {
    let mut board = Board::new(SMALL);
    board.set(Record::default().begin_trial());
    board.flash.cut(Cut { at: 1, mode: Mode::NotDone });
    let outcome = board.start();
    assert_eq!(outcome.verdicts, [Verdict::Runs, Verdict::Refused(Refused::AttemptUnwritten)]);
    board.flash.power_on();
    // With no other version either.
    board.corrupt(Slot::A, LAYOUT.image_at);
    board.flash.cut(Cut { at: 1, mode: Mode::NotDone });
    assert_eq!(board.start().chosen, None);
    board.flash.power_on();
    assert_eq!(board.runs(), Some((2, 1)));
}

#[test]
fn the_floor_holds_for_every_choice() {
    let mut board = Board::new(SMALL);
    board.set(Record::default().raise_floor(2));
    let outcome = board.start();
    assert_eq!(outcome.verdicts, [Verdict::Refused(Refused::BelowFloor), Verdict::Runs]);
    board.set(Record::default().raise_floor(3).begin_trial());
    let outcome = board.start();
    assert_eq!(outcome.verdicts, [Refused::BelowFloor; 2].map(Verdict::Refused));
}

#[test]
fn what_an_earlier_image_left_behind_the_new_one_is_gone() {
    let mut board = Board::new(SMALL);
    board.place.fill(0x5a);
    board.fill(Slot::A, &Filling::version(1));
    board.runs();
    assert!(board.place[33_000..].iter().all(|byte| *byte == 0xff));
}
