//! Record, counter and secret on their own: what is acknowledged is there, whatever power does.

use gateway_core::counter::FlashCounter;
use gateway_core::pair::{Health, Pair};
use gateway_core::ports::{Counter as _, CounterError, Flash as _, Geometry};
use gateway_core::secret;
use proptest::prelude::*;

use super::Part;
use crate::sim::{Cut, GEOMETRIES, Mode, SMALL, SimFlash, WRITE_ONCE};

const PAIR: Pair = Pair { at: 0, kind: *b"HFT1" };

fn payload(value: u16) -> [u8; 20] {
    let mut payload = [0; 20];
    payload[..2].copy_from_slice(&value.to_le_bytes());
    payload
}

fn value(flash: &SimFlash) -> Option<u16> {
    PAIR.read(&mut Part::whole(flash)).payload.map(|it| u16::from_le_bytes([it[0], it[1]]))
}

#[test]
fn entries_go_round_both_units_and_the_newest_counts() {
    for geometry in GEOMETRIES {
        let flash = SimFlash::new(geometry);
        let per_unit = geometry.erase_bytes / 32;
        for number in 0..5 * per_unit as u16 {
            PAIR.put(&mut Part::whole(&flash), &payload(number)).unwrap();
            assert_eq!(value(&flash), Some(number));
        }
        assert_eq!(flash.violations(), [""; 0]);
        assert_eq!(flash.erases()[..3], [3, 2, 0], "both alike, and nothing else");
    }
}

#[test]
fn a_worn_newest_entry_gives_way_to_the_one_before_it_and_is_said() {
    let flash = SimFlash::new(SMALL);
    (1..=3).for_each(|number| PAIR.put(&mut Part::whole(&flash), &payload(number)).unwrap());
    flash.corrupt(2 * 32 + 9);
    let found = PAIR.read(&mut Part::whole(&flash));
    assert_eq!((value(&flash), found.health), (Some(2), Health::Damaged));
    PAIR.put(&mut Part::whole(&flash), &payload(4)).unwrap();
    let found = PAIR.read(&mut Part::whole(&flash));
    assert_eq!((value(&flash), found.health), (Some(4), Health::Sound));
    flash.overwrite(0, &[0x33; 8192]);
    let found = PAIR.read(&mut Part::whole(&flash));
    assert_eq!((found.payload, found.health), (None, Health::Lost));
}

#[test]
fn what_may_have_been_newer_at_the_start_of_the_other_unit_is_said_and_gives_way() {
    for geometry in GEOMETRIES {
        let flash = SimFlash::new(geometry);
        let per_unit = geometry.erase_bytes / 32;
        for number in 1..=per_unit as u16 + 1 {
            PAIR.put(&mut Part::whole(&flash), &payload(number)).unwrap();
        }
        flash.corrupt(geometry.erase_bytes + 9);
        let found = PAIR.read(&mut Part::whole(&flash));
        assert_eq!((value(&flash), found.health), (Some(per_unit as u16), Health::Damaged));
        PAIR.put(&mut Part::whole(&flash), &payload(999)).unwrap();
        let found = PAIR.read(&mut Part::whole(&flash));
        assert_eq!((value(&flash), found.health), (Some(999), Health::Sound));
        assert_eq!(flash.violations(), [""; 0]);
    }
}

#[test]
fn a_write_that_lies_is_found_out_and_done_again_elsewhere() {
    let flash = SimFlash::new(WRITE_ONCE);
    PAIR.put(&mut Part::whole(&flash), &payload(1)).unwrap();
    flash.lie_once();
    PAIR.put(&mut Part::whole(&flash), &payload(2)).unwrap();
    assert_eq!(value(&flash), Some(2));
}

/// Puts numbers until the cut; the last one that was acknowledged.
fn put_until_the_cut(flash: &SimFlash, from: u16) -> u16 {
    let mut number = from;
    while PAIR.put(&mut Part::whole(flash), &payload(number + 1)).is_ok() {
        number += 1;
    }
    number
}

fn a_cut_anywhere_loses_nothing_acknowledged(geometry: Geometry) {
    let per_unit = u64::from(geometry.erase_bytes / 32);
    // Where a unit is begun and where it ends: in between every entry is like the one before.
    let turns = [0, per_unit, 2 * per_unit + 1].map(|turn| turn.saturating_sub(3) + 1..turn + 6);
    for at in turns.into_iter().flatten() {
        for mode in Mode::ALL {
            let flash = SimFlash::new(geometry);
            flash.cut(Cut { at, mode });
            let last = put_until_the_cut(&flash, 0);
            // The next cut falls into the first operations after the repair.
            for second in 1..=3 {
                let again = flash.fork();
                again.power_on();
                let found = value(&again).unwrap_or(0);
                assert!(found == last || found == last + 1, "{at} {mode:?}: {found}, acknowledged {last}");
                again.cut(Cut { at: second, mode });
                let last = put_until_the_cut(&again, found);
                again.power_on();
                let found = value(&again).unwrap_or(0);
                assert!(found == last || found == last + 1, "{at} {mode:?} {second}: {found}, {last}");
                assert_eq!(again.violations(), [""; 0]);
            }
        }
    }
}

#[test]
fn a_cut_at_any_write_or_erase_loses_nothing_acknowledged() {
    GEOMETRIES.into_iter().for_each(a_cut_anywhere_loses_nothing_acknowledged);
}

#[test]
fn the_counter_rises_survives_and_is_no_zero_when_it_is_lost() {
    for geometry in GEOMETRIES {
        let flash = SimFlash::new(geometry);
        let counter = || FlashCounter::new(Part::whole(&flash));
        assert_eq!(counter().value(), Ok(0));
        counter().raise(u64::MAX - 1).unwrap();
        counter().raise(7).unwrap();
        assert_eq!(counter().value(), Ok(u64::MAX - 1));
        let operations = flash.operations();
        counter().raise(u64::MAX - 1).unwrap();
        assert_eq!(flash.operations(), operations, "nothing to do");
        flash.overwrite(0, &[0; 32]);
        assert_eq!(counter().value(), Err(CounterError));
        assert_eq!(counter().raise(9), Err(CounterError), "nobody knows what it was");
    }
}

/// Power goes in the first raise of all, when nothing whole is there yet.
#[test]
fn a_first_raise_that_is_torn_can_be_begun_anew() {
    for geometry in GEOMETRIES {
        for (at, mode) in (1..=2).flat_map(|at| Mode::ALL.map(|mode| (at, mode))) {
            let flash = SimFlash::new(geometry);
            let counter = || FlashCounter::new(Part::whole(&flash));
            flash.cut(Cut { at, mode });
            assert_eq!(counter().raise(5), Err(CounterError));
            flash.power_on();
            let found = counter().value();
            assert!(matches!(found, Ok(0 | 5) | Err(CounterError)), "{found:?}");
            counter().begin_anew(5).unwrap();
            assert_eq!(counter().value(), Ok(5), "{at} {mode:?}");
            counter().raise(6).unwrap();
            assert_eq!(counter().value(), Ok(6));
            assert_eq!(flash.violations(), [""; 0]);
        }
    }
}

#[test]
fn a_secret_is_whole_or_was_never_acknowledged_and_its_copies_are_mended() {
    for geometry in GEOMETRIES {
        for mode in Mode::ALL {
            for at in 1..=4 {
                let flash = SimFlash::new(geometry);
                flash.cut(Cut { at, mode });
                assert!(secret::write(&mut Part::whole(&flash), &[7; 32]).is_err());
                flash.power_on();
                let (found, health) = secret::read(&mut Part::whole(&flash));
                assert!(found.is_none() || found == Some([7; 32]), "{mode:?} {at}");
                assert_eq!(at > 2, found.is_some(), "from the third operation on the first copy is whole");
                assert!(
                    found.is_none() || matches!(health, secret::Health::Repaired | secret::Health::Sound)
                );
                // A cut in the repair, and in the one after it.
                for again in 1..=2 {
                    flash.corrupt(8 + (again as u32 - 1) * geometry.erase_bytes);
                    if found.is_none() {
                        break;
                    }
                    flash.cut(Cut { at: again, mode });
                    assert_eq!(secret::read(&mut Part::whole(&flash)).0, Some([7; 32]));
                    flash.power_on();
                    assert_eq!(secret::read(&mut Part::whole(&flash)).0, Some([7; 32]));
                }
            }
        }
    }
}

#[test]
fn a_damaged_copy_is_mended_two_are_a_loss_and_zeroised_is_blank() {
    let flash = SimFlash::new(WRITE_ONCE);
    let mut part = Part::whole(&flash);
    assert_eq!(secret::read(&mut part), (None, secret::Health::Blank));
    secret::write(&mut part, &[9; 32]).unwrap();
    for copy in [0, 8192] {
        flash.corrupt(copy + 20);
        assert_eq!(secret::read(&mut part), (Some([9; 32]), secret::Health::Repaired));
        assert_eq!(secret::read(&mut part), (Some([9; 32]), secret::Health::Sound));
    }
    flash.corrupt(20);
    flash.cut(Cut { at: 1, mode: Mode::NotDone });
    assert_eq!(secret::read(&mut part), (Some([9; 32]), secret::Health::Unrepaired));
    flash.power_on();
    flash.corrupt(8192 + 20);
    assert_eq!(secret::read(&mut part), (None, secret::Health::Lost));
    secret::zeroise(&mut part).unwrap();
    assert_eq!(secret::read(&mut part), (None, secret::Health::Blank));
    let mut bytes = vec![0; 16_384];
    part.read(0, &mut bytes).unwrap();
    assert!(bytes.iter().all(|byte| *byte == 0xff));
}

proptest! {
    #[test]
    fn no_bytes_in_the_units_make_them_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), at in 0_u32..8000) {
        let flash = SimFlash::new(SMALL);
        flash.overwrite(at, &bytes);
        let _ = PAIR.read(&mut Part::whole(&flash));
        PAIR.put(&mut Part::whole(&flash), &payload(5)).unwrap();
        prop_assert_eq!(value(&flash), Some(5));
        let _ = secret::read(&mut Part::whole(&flash));
    }
}
