//! Ten years of a busy device, counted for each sector.
//!
//! The duty: a boot an hour, the time bound moved once a day, an update a week. The boots between updates are put into
//! the store as a boot puts them, and the first test shows that a boot costs nothing else. The count is about 75 erases of
//! each store sector and 261 of each slot sector, so what would reach 5,000 is 19 updates a week for ten years, or 1,500
//! boots a day.

use gateway_core::ports::Geometry;
use gateway_core::store::{Key, Store};
use gateway_core::update::slots::Layout;

use crate::flow::with_v1;
use crate::sim::*;

const ERASES_MAX: u32 = 5000;
const WEEKS: u32 = 520;
const BOOTS_A_WEEK: u32 = 7 * 24;

#[test]
fn a_boot_costs_one_record() {
    for geometry in GEOMETRIES {
        let (_, bench) = with_v1(geometry);
        let before = bench.flash.operations();
        bench.boot();
        assert_eq!(bench.flash.operations() - before, 1);
    }
}

fn ten_years(geometry: Geometry) {
    let (maker, bench) = with_v1(geometry);
    let layout = Layout::new(geometry).unwrap();
    let bundles = [2, 3].map(|version| maker.bundle(version).known_on(&bench));
    let mut director = Director::new(&maker, &bench);
    let (mut boots, mut time) = (0u32, 0u64);
    for week in 0..WEEKS {
        let mut flash = bench.flash.clone();
        let mut store = Store::mount(&mut flash, layout.store_at).unwrap();
        for hour in 1..BOOTS_A_WEEK {
            boots += 1;
            store.put(&mut flash, Key::Boot, &boots.to_le_bytes()).unwrap();
            if hour % 24 == 0 {
                time += 86_400;
                store.put(&mut flash, Key::Time, &time.to_le_bytes()).unwrap();
            }
        }
        let mut device = bench.boot();
        director.stored.clear();
        let bundle = &bundles[week as usize % 2];
        assert!(director.drive(&mut device, bundle, week as u8, Goal::Confirmed));
    }
    assert_eq!(bench.flash.violations(), [""; 0]);
    report(&bench.flash.erases(), geometry, layout);
}

/// The worst an application can do by crashing: a report in every boot, a boot an hour, each acknowledged at once.
#[test]
fn a_crash_report_in_every_boot_for_ten_years_stays_below_what_a_sector_bears() {
    for geometry in GEOMETRIES {
        let (_, bench) = with_v1(geometry);
        let layout = Layout::new(geometry).unwrap();
        let mut flash = bench.flash.clone();
        let mut store = Store::mount(&mut flash, layout.store_at).unwrap();
        for boot in 1..=WEEKS * BOOTS_A_WEEK {
            store.put(&mut flash, Key::Boot, &boot.to_le_bytes()).unwrap();
            store.put(&mut flash, Key::Crash, &[boot as u8; Key::Crash.bytes_max()]).unwrap();
            store.put(&mut flash, Key::Crash, &[]).unwrap();
        }
        let most = flash.erases().into_iter().max().unwrap();
        println!("wear on {}/{} by crash reports: {most}", geometry.erase_bytes, geometry.write_bytes);
        assert!(most <= ERASES_MAX);
    }
}

fn report(erases: &[u32], geometry: Geometry, layout: Layout) {
    let first_slot = (layout.slots[0].envelope_at / geometry.erase_bytes) as usize;
    let (store, slots) = erases.split_at(first_slot);
    let most = |sectors: &[u32]| *sectors.iter().max().unwrap();
    println!(
        "wear on {}/{}: ten years erase a store sector {} times at most (evenly: {} at least), a slot's {}",
        geometry.erase_bytes,
        geometry.write_bytes,
        most(store),
        store.iter().min().unwrap(),
        most(slots),
    );
    assert!(most(erases) <= ERASES_MAX);
    assert!(most(store) - store.iter().min().unwrap() <= 1, "both banks wear alike");
    // The duty could be this many times as heavy.
    assert!(most(erases) * 8 <= ERASES_MAX);
}

#[test]
fn no_sector_is_erased_more_than_5000_times_in_ten_years_on_small_sectors() {
    ten_years(SMALL);
}

#[test]
fn no_sector_is_erased_more_than_5000_times_in_ten_years_on_write_once_flash() {
    ten_years(WRITE_ONCE);
}
