//! Memory of a crash on the device: what is kept, what the power leaves of it, and what it costs the flash.

use gateway_core::crash::{CRASH_KEEP_MS, CRASH_MEMORIES_MAX, Crash, Kept, region_bytes};
use gateway_core::pair::Pair;
use gateway_core::ports::{Flash as _, Geometry};
use wire::directive::Order;
use wire::msg::{CrashKind, UpdateReason};

use crate::crash::{end, fault};
use crate::sim::*;

/// More than a unit of either flash, and no multiple of what is written at once.
const BYTES: u32 = 9_000;
const RECORD: Pair = Pair { at: 0, kind: *b"HFM1" };

/// A board whose confirmed version has so much of its memory kept.
fn with_memory(geometry: Geometry, bytes: u32) -> (Maker, Bench) {
    let maker = Maker::new();
    let bench = Bench::new(geometry, &maker);
    let v1 = maker.bundle_of(1, Behaviour::Healthy, |spec| spec.crash.memory_bytes = bytes).known_on(&bench);
    let mut device = maker.enrolled(&bench);
    assert!(Director::new(&maker, &bench).drive(&mut device, &v1, 1, Goal::Confirmed));
    (maker, bench)
}

/// An end whose stack pointer is known.
fn fault_at(sp: u32) -> Crash {
    let mut crash = fault();
    crash.registers[13] = sp;
    crash
}

fn chip(bench: &Bench) -> SimFlash {
    bench.crash_flash.clone().unwrap()
}

/// Lets the device do what it does by itself.
fn settle(device: &mut Device) {
    while device.poll() == gateway_core::device::Next::Now {}
}

/// What is held is as it was after so many starts.
fn is_as_after(device: &mut Device, kept: &Kept, starts: usize) -> bool {
    let mut bytes = vec![0; kept.total() as usize];
    device.read_crash_memory(0, &mut bytes).unwrap();
    let there = kept.pieces.iter().flat_map(|piece| (piece.at..).take(piece.bytes as usize));
    there.map(|at| ram(at, starts)).eq(bytes)
}

fn acknowledge(device: &mut Device, kept: &Kept) {
    assert_eq!(device.acknowledge_crash_memory(kept.name, kept.total()), Ok(true));
}

#[test]
fn memory_is_kept_as_it_was_before_the_application_is_started_again() {
    memory_is_as_it_was();
}

pub(crate) fn memory_is_as_it_was() {
    for geometry in GEOMETRIES {
        let (_, bench) = with_memory(geometry, BYTES);
        let mut device = bench.boot();
        let sp = RAM.at + RAM.bytes - 1000;
        end(&bench, &mut device, Behaviour::Crash, Some(fault_at(sp)));
        let kept = device.crash_memory().held().unwrap().clone();
        assert_eq!(kept.name, device.crashes().held()[0].name);
        let pieces: Vec<_> = kept.pieces.iter().map(|piece| (piece.at, piece.bytes)).collect();
        assert_eq!(pieces, [(sp, 1000), (RAM.at, 8000)]);
        assert!(is_as_after(&mut device, &kept, 1), "what ran next is in it");
        assert_eq!(device.crash_memory().bytes_of(kept.name), 9_000);
        assert_eq!(device.crash_memory().missed(), 0);
        assert!(device.read_crash_memory(8_990, &mut [0; 11]).is_err(), "beyond what is kept");
        // Again after the power.
        let mut device = bench.boot();
        settle(&mut device);
        assert_eq!(device.crash_memory().held(), Some(&kept));
        assert!(is_as_after(&mut device, &kept, 1));
        assert_eq!(chip(&bench).violations(), [""; 0]);
    }
}

#[test]
fn nothing_is_kept_that_the_manifest_does_not_ask_for() {
    let (_, bench) = with_memory(SMALL, 0);
    let mut device = bench.boot();
    end(&bench, &mut device, Behaviour::Crash, Some(fault_at(RAM.at)));
    assert_eq!((device.crash_memory().held(), device.crash_memory().missed()), (None, 0));
    assert_eq!(chip(&bench).operations(), 0);
}

#[test]
fn a_board_without_a_region_counts_what_it_does_not_keep() {
    let (_, mut bench) = with_memory(SMALL, BYTES);
    bench.crash_flash = None;
    let mut device = bench.boot();
    end(&bench, &mut device, Behaviour::Crash, Some(fault_at(RAM.at)));
    assert_eq!((device.crash_memory().held(), device.crash_memory().missed()), (None, 1));
}

#[test]
fn what_is_not_stored_is_not_overwritten_and_what_comes_meanwhile_is_counted() {
    let (_, bench) = with_memory(SMALL, BYTES);
    let mut device = bench.boot();
    end(&bench, &mut device, Behaviour::Crash, Some(fault_at(RAM.at)));
    let kept = device.crash_memory().held().unwrap().clone();
    bench.advance_ms(CRASH_KEEP_MS);
    // Its report is acknowledged; its memory is not, or not wholly.
    device.acknowledge_crash(kept.name).unwrap();
    assert_eq!(device.acknowledge_crash_memory(kept.name, kept.total() - 1), Ok(false));
    end(&bench, &mut device, Behaviour::Crash, Some(fault_at(RAM.at)));
    let newest = device.crashes().held().last().unwrap().name;
    assert_eq!((device.crash_memory().bytes_of(newest), device.crash_memory().missed()), (0, 1));
    assert_eq!(device.crash_memory().held(), Some(&kept));
    assert!(is_as_after(&mut device, &kept, 1));
    acknowledge(&mut device, &kept);
    assert_eq!(device.acknowledge_crash_memory(kept.name, kept.total()), Ok(false));
    end(&bench, &mut device, Behaviour::Crash, Some(fault_at(RAM.at)));
    let kept = device.crash_memory().held().unwrap().clone();
    assert!(is_as_after(&mut device, &kept, 3));
    assert!(bench.boot().crash_memory().bytes_of(kept.name) > 0);
}

#[test]
fn power_may_fail_at_any_operation_on_kept_memory() {
    let mut cuts = 0;
    for geometry in GEOMETRIES {
        let (_, bench) = with_memory(geometry, BYTES);
        // Kept, acknowledged, and kept again over it.
        let story = |bench: &Bench| {
            let mut device = bench.boot_with_a_cut_to_come().ok()?;
            let mut names = Vec::new();
            for n in 1..=2 {
                bench.advance_ms(CRASH_KEEP_MS);
                end(bench, &mut device, Behaviour::Crash, Some(fault_at(RAM.at + 5000 * n)));
                names.push(device.crashes().held().last()?.name);
                if let Some(kept) = device.crash_memory().held().cloned().filter(|_| n == 1) {
                    let _ = device.acknowledge_crash_memory(kept.name, kept.total());
                }
            }
            Some(names)
        };
        let whole = bench.fork();
        assert_eq!(story(&whole).unwrap().len(), 2);
        let operations = chip(&whole).operations();
        assert!(operations > 2 * 36);
        for (at, mode) in (1..=operations).flat_map(|at| Mode::ALL.map(|mode| (at, mode))) {
            let bench = bench.fork();
            chip(&bench).cut(Cut { at, mode });
            let names = story(&bench).unwrap();
            let mut device = bench.boot();
            settle(&mut device);
            if let Some(kept) = device.crash_memory().held().cloned() {
                let which = names.iter().position(|name| *name == kept.name);
                let starts = which.unwrap_or_else(|| panic!("{at} {mode:?}: nobody's memory")) + 1;
                assert!(is_as_after(&mut device, &kept, starts), "{at} {mode:?}: other bytes");
                acknowledge(&mut device, &kept);
            }
            // Whatever was left, the next crash finds room.
            end(&bench, &mut device, Behaviour::Crash, Some(fault_at(RAM.at)));
            assert!(device.crash_memory().held().is_some(), "{at} {mode:?}");
            assert_eq!(chip(&bench).violations(), [""; 0], "{at} {mode:?}");
            cuts += 1;
        }
    }
    println!("crash memory: {cuts} cuts");
}

#[test]
fn memory_whose_copy_the_power_ended_is_counted_once() {
    let (_, bench) = with_memory(SMALL, BYTES);
    chip(&bench).cut(Cut { at: 10, mode: Mode::RandomBits });
    let mut device = bench.boot_with_a_cut_to_come().unwrap();
    end(&bench, &mut device, Behaviour::Crash, Some(fault_at(RAM.at)));
    let missed = |bench: &Bench| {
        let mut device = bench.boot();
        settle(&mut device);
        device.crash_memory().missed()
    };
    assert_eq!([missed(&bench), missed(&bench)], [1, 0]);
}

#[test]
fn memory_whose_bytes_are_not_what_they_were_is_not_sent() {
    let (_, bench) = with_memory(SMALL, BYTES);
    let mut device = bench.boot();
    end(&bench, &mut device, Behaviour::Crash, Some(fault_at(RAM.at)));
    for at in [2 * 4096 + 8, 3 * 4096, 3 * 4096 + BYTES - 8 - 1] {
        let bench = bench.fork();
        chip(&bench).corrupt(at);
        let mut device = bench.boot();
        settle(&mut device);
        assert_eq!((device.crash_memory().held(), device.crash_memory().missed()), (None, 1), "{at}");
        end(&bench, &mut device, Behaviour::Crash, Some(fault_at(RAM.at)));
        assert!(device.crash_memory().held().is_some());
    }
}

#[test]
fn memory_that_cannot_be_read_any_more_is_given_up_and_not_sent_for_ever() {
    let (_, bench) = with_memory(SMALL, BYTES);
    let mut device = bench.boot();
    end(&bench, &mut device, Behaviour::Crash, Some(fault_at(RAM.at)));
    // Cells that wear out while it is held.
    chip(&bench).cut(Cut { at: 1, mode: Mode::Unreadable });
    assert!(chip(&bench).erase(3 * 4096).is_err());
    chip(&bench).power_on();
    assert!(device.read_crash_memory(0, &mut [0; 1024]).is_ok());
    assert!(device.read_crash_memory(2048, &mut [0; 1024]).is_err());
    assert_eq!((device.crash_memory().held(), device.crash_memory().missed()), (None, 1));
    bench.advance_ms(CRASH_KEEP_MS);
    end(&bench, &mut device, Behaviour::Crash, Some(fault_at(RAM.at)));
    assert!(device.crash_memory().held().is_some());
}

#[test]
fn a_flash_that_writes_other_bytes_keeps_nothing() {
    let (_, bench) = with_memory(SMALL, BYTES);
    let mut device = bench.boot();
    chip(&bench).lie_once();
    end(&bench, &mut device, Behaviour::Crash, Some(fault_at(RAM.at)));
    settle(&mut device);
    assert_eq!((device.crash_memory().held(), device.crash_memory().missed()), (None, 1));
}

#[test]
fn an_application_that_crashes_for_ever_has_its_memory_kept_seldom() {
    let (maker, bench) = with_memory(SMALL, BYTES);
    let mut device = bench.boot();
    let day_ms = bench.now_ms.get() + 4 * CRASH_KEEP_MS;
    let mut kept = 0;
    let mut crash = |bench: &Bench, device: &mut Device| {
        end(bench, device, Behaviour::Crash, Some(fault_at(RAM.at)));
        while let Some(name) = device.crashes().held().first().map(|report| report.name) {
            device.acknowledge_crash(name).unwrap();
        }
        let held = device.crash_memory().held().cloned();
        held.iter().for_each(|held| acknowledge(device, held));
        kept += u32::from(held.is_some());
        kept
    };
    let mut crashes = 0;
    while bench.now_ms.get() < day_ms {
        crash(&bench, &mut device);
        bench.advance_ms(CRASH_KEEP_MS / 100);
        crashes += 1;
    }
    let kept = crash(&bench, &mut device);
    assert!((1..=5).contains(&kept), "{kept}");
    assert!(device.crash_memory().missed() >= crashes - 5);
    // Another version is another matter: whoever repairs one wants to see the next.
    let v2 = maker.bundle_of(2, Behaviour::Healthy, |spec| spec.crash.memory_bytes = BYTES).known_on(&bench);
    assert!(Director::new(&maker, &bench).drive(&mut device, &v2, 2, Goal::Confirmed));
    assert_eq!(crash(&bench, &mut device), kept + 1);
}

#[test]
fn no_unit_is_erased_more_often_than_it_bears_in_a_boards_life() {
    a_life_is_bounded();
}

/// A crash in every boot, each taken at once: the last ones of a life, counted by the record.
pub(crate) fn a_life_is_bounded() {
    for geometry in GEOMETRIES {
        let (_, bench) = with_memory(geometry, BYTES);
        let mut payload = [0; 20];
        payload[..4].copy_from_slice(&(CRASH_MEMORIES_MAX - 3).to_le_bytes());
        RECORD.put(&mut chip(&bench), &payload).unwrap();
        let before = chip(&bench).erases();
        for boot in 0..6 {
            let mut device = bench.boot();
            end(&bench, &mut device, Behaviour::Crash, Some(fault_at(RAM.at)));
            let held = device.crash_memory().held().cloned();
            assert_eq!(held.is_some(), boot < 3, "boot {boot}");
            assert_eq!(device.crash_memory().missed(), u32::from(boot >= 3));
            held.iter().for_each(|held| acknowledge(&mut device, held));
        }
        let erased = chip(&bench).erases().into_iter().zip(before).map(|(after, before)| after - before);
        // Once each time, and the record's own hardly ever.
        assert!(erased.max() <= Some(3));
        // Even if the record was lost once.
        const { assert!(CRASH_MEMORIES_MAX + 500 <= 5_000) };
    }
}

#[test]
fn a_record_that_nobody_can_read_leaves_the_region_little() {
    let (_, bench) = with_memory(SMALL, BYTES);
    chip(&bench).overwrite(0, &[0x11; 64]);
    chip(&bench).overwrite(4096, &[0x22; 64]);
    let mut device = bench.boot();
    end(&bench, &mut device, Behaviour::Crash, Some(fault_at(RAM.at)));
    assert!(device.crash_memory().held().is_some());
    let payload = RECORD.read(&mut chip(&bench)).payload.unwrap();
    assert_eq!(payload[..4], (CRASH_MEMORIES_MAX - 500 + 1).to_le_bytes());
}

#[test]
fn a_version_on_trial_that_is_taken_back_leaves_its_memory() {
    let (maker, bench) = with_memory(SMALL, 0);
    let mut device = bench.boot();
    let v2 = maker
        .bundle_of(2, Behaviour::Crash, |spec| {
            (spec.crash.memory_bytes, spec.update.attempts_max) = (BYTES, 1)
        })
        .known_on(&bench);
    let mut director = Director::new(&maker, &bench);
    assert!(director.drive(&mut device, &v2, 2, Goal::Ended));
    let result = director.result(2).unwrap();
    assert_eq!((result.manifest, result.reason), (v2.digest, UpdateReason::Crashed));
    settle(&mut device);
    let kept = device.crash_memory().held().unwrap().clone();
    assert_eq!((kept.name, kept.pieces[0].bytes), (device.crashes().held()[0].name, BYTES));
    // The first start of this boot was of version 1, the second of version 2.
    assert!(is_as_after(&mut device, &kept, 2));
    assert_eq!(bench.app.borrow().started, ["v1", "v2", "v1"]);
    assert_eq!(device.crashes().held()[0].crash.kind, CrashKind::Other);
}

#[test]
fn an_update_does_not_wait_for_the_memory_of_what_it_replaces() {
    let (maker, bench) = with_memory(SMALL, BYTES);
    let mut device = bench.boot();
    let v2 = maker.bundle(2).known_on(&bench);
    let mut director = Director::new(&maker, &bench);
    assert!(director.drive(&mut device, &v2, 2, Goal::Ready));
    {
        let mut app = bench.app.borrow_mut();
        app.crash = Some(fault_at(RAM.at));
        app.running.as_mut().unwrap().1 = Behaviour::Crash;
    }
    director.order(&mut device, Order::Go(v2.target(2)), &[]).unwrap();
    device.poll();
    assert_eq!(bench.running().as_deref(), Some("v2"));
    director.settle(&mut device);
    assert_eq!((device.crash_memory().held(), device.crash_memory().missed()), (None, 1));
    assert_eq!(device.crashes().held().len(), 1, "its report is another matter");
}

#[test]
fn a_device_under_another_id_owes_no_memory() {
    for settles in [true, false] {
        let (maker, bench) = with_memory(SMALL, BYTES);
        let mut device = bench.boot();
        end(&bench, &mut device, Behaviour::Crash, Some(fault_at(RAM.at)));
        device.enrolled(wire::DeviceId::new([99; 16]), maker.tenant, &[0xab; 1800], &[]).unwrap();
        if settles {
            settle(&mut device);
        }
        assert_eq!(device.crash_memory().held(), None);
        // The power may end right then.
        let mut device = bench.boot();
        settle(&mut device);
        assert_eq!((device.crash_memory().held(), device.crash_memory().missed()), (None, 0));
    }
}

#[test]
fn a_region_that_is_too_small_is_none() {
    let (_, mut bench) = with_memory(SMALL, BYTES);
    let bytes = region_bytes(SMALL.erase_bytes) - SMALL.erase_bytes;
    bench.crash_flash = Some(SimFlash::new(Geometry { bytes, ..SMALL }));
    assert_eq!(chip(&bench).geometry().bytes, bytes);
    let mut device = bench.boot();
    end(&bench, &mut device, Behaviour::Crash, Some(fault_at(RAM.at)));
    assert_eq!((device.crash_memory().held(), device.crash_memory().missed()), (None, 1));
}
