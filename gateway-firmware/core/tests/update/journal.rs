//! The store alone: values come back, torn ones never do, and a put has happened completely or not at all.

use gateway_core::ports::{Flash as _, FlashError, Geometry};
use gateway_core::store::{Health, Key, STORE_BANK_BYTES, Store, StoreError};
use proptest::prelude::*;

use crate::sim::*;

const KEYS: [Key; 6] = [Key::Boot, Key::Time, Key::Keyset, Key::Identity, Key::Enrolment, Key::Ledger];
type Values = [Vec<u8>; KEYS.len()];

fn read(store: &Store, flash: &SimFlash, key: Key) -> Vec<u8> {
    let mut bytes = [0; 8192];
    store.read(&mut flash.clone(), key, &mut bytes).unwrap().unwrap_or_default().to_vec()
}

fn values(flash: &SimFlash) -> Values {
    let store = Store::mount(&mut flash.clone(), 0).unwrap();
    KEYS.map(|key| read(&store, flash, key))
}

/// A value of this key, different for each step.
fn value(key: Key, step: usize) -> Vec<u8> {
    let len = match key {
        Key::Boot => 4,
        Key::Time => 8,
        Key::Keyset | Key::Identity => 700 + step * 37 % 900,
        Key::Enrolment => step % 3 * 40,
        Key::Ledger => 100 + step * 61 % 500,
        Key::Crash => 40 + step * 53 % 400,
        Key::Commission => 41,
        Key::Debug => 32,
    };
    (0..len).map(|index| (index * 31 + step * 7 + key as usize) as u8).collect()
}

/// Puts one value after the other until the log has moved to the other bank several times; before each put, all that a
/// cut during it can do is tried. The cut points and the operations.
fn put_under_cuts(geometry: Geometry, puts: usize) -> (u64, u64) {
    let flash = SimFlash::new(geometry);
    let mut held = Values::default();
    let (mut cut_points, mut operations) = (0, 0);
    Store::mount(&mut flash.clone(), 0).unwrap();
    for step in 0..puts {
        let index = step * 5 % KEYS.len();
        let new = value(KEYS[index], step);
        let put = |flash: &SimFlash| {
            Store::mount(&mut flash.clone(), 0)?.put(&mut flash.clone(), KEYS[index], &new)
        };
        let whole = flash.fork();
        put(&whole).unwrap();
        let needed = whole.operations() - flash.operations();
        operations += needed;
        for (at, mode) in (1..=needed).flat_map(|at| Mode::ALL.map(|mode| (at, mode))) {
            let torn = flash.fork();
            torn.cut(Cut { at, mode });
            put(&torn).unwrap_err();
            assert!(torn.is_dead());
            torn.power_on();
            cut_points += 1;
            check_cut_in_repair(&torn, &held, index, &new);
            let found = values(&torn);
            check(&found, &held, index, &new);
            check_goes_on(&torn, &found);
        }
        put(&flash).unwrap();
        held[index] = new;
        assert_eq!(values(&flash), held);
    }
    assert_eq!(flash.violations(), [""; 0]);
    assert!(flash.erases().iter().any(|erases| *erases > 1), "banks changed");
    (cut_points, operations)
}

/// After a cut the store takes new values and keeps the others.
fn check_goes_on(flash: &SimFlash, held: &Values) {
    let mut expected = held.clone();
    for step in 0..3 {
        expected[4] = vec![step; 33];
        let mut store = Store::mount(&mut flash.clone(), 0).unwrap();
        store.put(&mut flash.clone(), Key::Enrolment, &expected[4]).unwrap();
        assert_eq!(values(flash), expected);
    }
    assert_eq!(flash.violations(), [""; 0]);
}

/// Cuts the mount after a cut at its every operation too.
fn check_cut_in_repair(torn: &SimFlash, held: &Values, index: usize, new: &[u8]) {
    let whole = torn.fork();
    Store::mount(&mut whole.clone(), 0).unwrap();
    for at in 1..=whole.operations() - torn.operations() {
        let again = torn.fork();
        again.cut(Cut { at, mode: Mode::ALL[(at % 4) as usize] });
        let mounted = Store::mount(&mut again.clone(), 0).unwrap();
        assert_eq!(mounted.health(), Health::Unrepaired);
        check(&KEYS.map(|key| read(&mounted, &again, key)), held, index, new);
        again.power_on();
        check(&values(&again), held, index, new);
    }
}

/// Every value is the old one, but for the one being put, which may be the new one.
fn check(found: &Values, held: &Values, index: usize, new: &[u8]) {
    for (other, value) in found.iter().enumerate() {
        let is_new = other == index && value == new;
        assert!(is_new || *value == held[other], "{:?} is neither old nor new", KEYS[other]);
    }
}

pub(crate) fn a_put_happens_completely_or_not_at_all_on(geometry: Geometry) {
    let (cut_points, operations) = put_under_cuts(geometry, 80);
    println!(
        "journal on {}/{}: {operations} operations, {cut_points} cut points",
        geometry.erase_bytes, geometry.write_bytes
    );
    assert_eq!(cut_points, operations * Mode::ALL.len() as u64);
}

#[test]
fn a_put_happens_completely_or_not_at_all_on_small_sectors() {
    a_put_happens_completely_or_not_at_all_on(SMALL);
}

#[test]
fn a_put_happens_completely_or_not_at_all_on_write_once_flash() {
    a_put_happens_completely_or_not_at_all_on(WRITE_ONCE);
}

#[test]
fn a_newer_bank_whose_header_is_damaged_gives_way_to_the_older_one_and_is_said() {
    for geometry in GEOMETRIES {
        let mut flash = SimFlash::new(geometry);
        let mut store = Store::mount(&mut flash, 0).unwrap();
        let mut puts = 0;
        // Until the records move from the first bank to the second.
        while flash.erases()[(STORE_BANK_BYTES / geometry.erase_bytes) as usize] == 0 {
            puts += 1;
            store.put(&mut flash, Key::Keyset, &[puts; 1000]).unwrap();
        }
        flash.corrupt(STORE_BANK_BYTES + 5);
        let store = Store::mount(&mut flash, 0).unwrap();
        assert_eq!((store.health(), read(&store, &flash, Key::Keyset)[0]), (Health::Repaired, puts - 1));
        assert_eq!(Store::mount(&mut flash, 0).unwrap().health(), Health::Sound);
        assert_eq!(values(&flash)[2], [puts - 1; 1000]);
    }
}

#[test]
fn values_come_back_after_a_remount_and_an_empty_one_removes() {
    for geometry in GEOMETRIES {
        let mut flash = SimFlash::new(geometry);
        let mut store = Store::mount(&mut flash, 0).unwrap();
        assert_eq!(store.health(), Health::Formatted);
        store.put(&mut flash, Key::Enrolment, b"pending").unwrap();
        store.put(&mut flash, Key::Boot, &[1, 0, 0, 0]).unwrap();
        let mut store = Store::mount(&mut flash, 0).unwrap();
        assert_eq!(store.health(), Health::Sound);
        assert_eq!(read(&store, &flash, Key::Enrolment), b"pending");
        store.put(&mut flash, Key::Enrolment, b"").unwrap();
        let store = Store::mount(&mut flash, 0).unwrap();
        assert_eq!(store.read(&mut flash, Key::Enrolment, &mut [0; 128]), Ok(None));
        assert_eq!(read(&store, &flash, Key::Boot), [1, 0, 0, 0]);
    }
}

#[test]
fn every_key_at_its_longest_fits_at_once_and_one_byte_more_is_refused() {
    for geometry in GEOMETRIES {
        let mut flash = SimFlash::new(geometry);
        let mut store = Store::mount(&mut flash, 0).unwrap();
        for round in 0..5 {
            for key in KEYS {
                let longest = vec![round; key.bytes_max()];
                store.put(&mut flash, key, &longest).unwrap();
                let too_long = vec![round; key.bytes_max() + 1];
                assert_eq!(store.put(&mut flash, key, &too_long), Err(StoreError::TooLong));
                assert_eq!(store.read(&mut flash, key, &mut [0; 3]), Err(StoreError::TooLong));
            }
        }
        assert!(values(&flash).iter().zip(KEYS).all(|(value, key)| *value == vec![4; key.bytes_max()]));
    }
}

pub(crate) fn a_write_that_lies_is_found_and_written_elsewhere() {
    for geometry in GEOMETRIES {
        let mut flash = SimFlash::new(geometry);
        let mut store = Store::mount(&mut flash, 0).unwrap();
        store.put(&mut flash, Key::Time, &[9; 8]).unwrap();
        flash.lie_once();
        store.put(&mut flash, Key::Boot, &[7; 4]).unwrap();
        assert_eq!(read(&store, &flash, Key::Boot), [7; 4]);
        let found = values(&flash);
        assert_eq!((&found[0][..], &found[1][..]), (&[7; 4][..], &[9; 8][..]));
    }
}

#[test]
fn a_write_that_lies_is_found() {
    a_write_that_lies_is_found_and_written_elsewhere();
}

pub(crate) fn a_flipped_bit_anywhere_never_gives_a_wrong_value() {
    let mut flash = SimFlash::new(SMALL);
    let mut store = Store::mount(&mut flash, 0).unwrap();
    for step in 0..6 {
        store.put(&mut flash, Key::Enrolment, &[step; 40]).unwrap();
        store.put(&mut flash, Key::Time, &[step; 8]).unwrap();
    }
    for at in (0..STORE_BANK_BYTES).take_while(|at| *at < 700) {
        let flipped = flash.fork();
        flipped.corrupt(at);
        let found = values(&flipped);
        let whole = |value: &Vec<u8>, len| {
            value.is_empty() || value.len() == len && value.iter().all(|it| *it == value[0])
        };
        assert!(whole(&found[4], 40) && whole(&found[1], 8), "at {at}: {found:?}");
        assert_eq!(flipped.violations(), [""; 0]);
    }
}

#[test]
fn a_flipped_bit_costs_a_value_at_most() {
    a_flipped_bit_anywhere_never_gives_a_wrong_value();
}

pub(crate) fn a_damaged_header_leaves_the_bank_before() {
    let mut flash = SimFlash::new(SMALL);
    let mut store = Store::mount(&mut flash, 0).unwrap();
    store.put(&mut flash, Key::Time, &[1; 8]).unwrap();
    let second_bank = (STORE_BANK_BYTES / SMALL.erase_bytes) as usize;
    for step in 0.. {
        store.put(&mut flash, Key::Ledger, &value(Key::Ledger, step)).unwrap();
        if flash.erases()[second_bank] == 1 {
            break;
        }
    }
    for at in STORE_BANK_BYTES..STORE_BANK_BYTES + 16 {
        let damaged = flash.fork();
        damaged.corrupt(at);
        let found = values(&damaged);
        assert_eq!(found[1], [1; 8], "at {at}");
        assert!(!found[5].is_empty());
    }
}

#[test]
fn a_damaged_bank_header_costs_the_newest_values_at_most() {
    a_damaged_header_leaves_the_bank_before();
}

#[test]
fn a_flash_that_fails_is_an_error_and_not_a_wrong_value() {
    let mut flash = SimFlash::new(SMALL);
    let mut store = Store::mount(&mut flash, 0).unwrap();
    store.put(&mut flash, Key::Boot, &[1; 4]).unwrap();
    flash.cut(Cut { at: 1, mode: Mode::NotDone });
    assert_eq!(store.put(&mut flash, Key::Boot, &[2; 4]), Err(StoreError::Flash(FlashError::Failed)));
    flash.power_on();
    assert_eq!(read(&store, &flash, Key::Boot), [1; 4]);
    store.put(&mut flash, Key::Boot, &[3; 4]).unwrap();
    assert_eq!(values(&flash)[0], [3; 4]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn mounting_never_panics_whatever_the_flash_holds(noise in proptest::collection::vec(any::<u8>(), 64..4096)) {
        let mut flash = SimFlash::new(SMALL);
        let mut store = Store::mount(&mut flash, 0).unwrap();
        store.put(&mut flash, Key::Ledger, &[1; 300]).unwrap();
        flash.overwrite(noise[0] as u32 * 8, &noise);
        let mut store = Store::mount(&mut flash, 0).unwrap();
        store.put(&mut flash, Key::Boot, &[1; 4]).unwrap();
        prop_assert_eq!(&values(&flash)[0], &[1; 4]);
    }
}

/// CRC-32 (ISO-HDLC), as the store's are: over a bank's generation, the head, the payload.
fn crc(parts: &[&[u8]]) -> u32 {
    !parts.concat().iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| crc >> 1 ^ (0xedb8_8320 & (crc & 1).wrapping_neg()))
    })
}

/// Appends a record as a newer microvisor would: of a key that nobody here knows.
fn append_foreign(flash: &SimFlash, unit: usize, sequence: u32, payload: &[u8]) {
    let mut banks = [0; 2 * STORE_BANK_BYTES as usize];
    flash.clone().read(0, &mut banks).unwrap();
    let bank = STORE_BANK_BYTES as usize * usize::from(banks[..4] != *b"HFJ1");
    let bytes = &banks[bank..bank + STORE_BANK_BYTES as usize];
    let tail = (bytes.iter().rposition(|byte| *byte != 0xff).unwrap() + 1).next_multiple_of(unit);
    let [l0, l1] = (payload.len() as u16).to_le_bytes();
    let [s0, s1, s2, s3] = sequence.to_le_bytes();
    let head = [42, !42, l0, l1, s0, s1, s2, s3];
    let sum = crc(&[&bytes[4..8], &head, payload]).to_le_bytes();
    let mut record = [&head[..], &sum, payload].concat();
    record.resize(record.len().next_multiple_of(unit), 0xff);
    flash.clone().write((bank + tail) as u32, &record).unwrap();
}

#[test]
fn a_record_of_a_newer_microvisor_is_passed_over_and_costs_nothing() {
    for geometry in GEOMETRIES {
        let flash = SimFlash::new(geometry);
        let mut held = Values::default();
        let put = |held: &mut Values, index: usize, step: usize| {
            let mut store = Store::mount(&mut flash.clone(), 0).unwrap();
            held[index] = value(KEYS[index], step);
            store.put(&mut flash.clone(), KEYS[index], &held[index]).unwrap();
        };
        put(&mut held, 2, 1);
        put(&mut held, 5, 2);
        append_foreign(&flash, geometry.write_bytes.max(8) as usize, 3, &[7; 5000]);
        let store = Store::mount(&mut flash.clone(), 0).unwrap();
        assert_eq!(store.health(), Health::Sound, "it is no damage");
        assert_eq!(values(&flash), held);
        // What is written behind it counts, and the live records move on without it.
        for step in 3..40 {
            put(&mut held, step % KEYS.len(), step);
            assert_eq!(values(&flash), held);
        }
        assert_eq!(flash.violations(), [""; 0]);
    }
}
