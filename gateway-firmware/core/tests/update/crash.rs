//! Crash reports on the device: what they say, what the power leaves of them, and what they cost the flash.

use gateway_core::crash::{CRASH_KEEP_MS, CRASH_KEPT_STACK_BYTES, CRASH_REPORTS_MAX, Crash, Name, Report};
use gateway_core::ports::StartReason;
use gateway_core::store::{Key, Store};
use gateway_core::update::slots::Layout;
use wire::limits::CRASH_STACK_BYTES_MAX;
use wire::msg::CrashKind;

use crate::flow::with_v1;
use crate::sim::*;

/// How it ends when the board knows all about it.
pub(crate) fn fault() -> Crash {
    let mut crash = Crash::new(CrashKind::Bus, 7_000_000);
    crash.registers = core::array::from_fn(|index| 0x1000 + index as u32);
    crash.registers_known = 0x1_ffff;
    crash.stack_at = 0x2820_0000;
    crash.stack.resize(CRASH_STACK_BYTES_MAX, 0x5a).unwrap();
    crash
}

/// Lets what runs end so; the device has seen it and started it again.
pub(crate) fn end(bench: &Bench, device: &mut Device, behaviour: Behaviour, crash: Option<Crash>) {
    let mut app = bench.app.borrow_mut();
    app.crash = crash;
    app.running.as_mut().unwrap().1 = behaviour;
    let starts = app.started.len();
    drop(app);
    while bench.app.borrow().started.len() == starts {
        device.poll();
        bench.advance_ms(100);
    }
}

/// What the store keeps of a report.
fn kept(report: &Report) -> Report {
    let mut kept = report.clone();
    kept.crash.stack.truncate(CRASH_KEPT_STACK_BYTES);
    kept
}

#[test]
fn a_report_names_what_ran_and_says_how_it_ended() {
    let (maker, bench) = with_v1(SMALL);
    let mut device = bench.boot();
    end(&bench, &mut device, Behaviour::Crash, Some(fault()));
    let [report] = device.crashes().held() else { panic!("one report") };
    assert_eq!(report.manifest, maker.bundle(1).digest);
    assert_eq!((&report.version[..], report.dropped), ("1.0", 0));
    assert_eq!((report.name.boot, report.name.sequence), (device.boot_id(), 1));
    assert_eq!(report.crash, fault());
    assert_eq!(bench.app.borrow().reasons, [StartReason::Boot, StartReason::Crash]);
}

#[test]
fn a_board_that_knows_nothing_reports_all_the_same() {
    let (_, bench) = with_v1(SMALL);
    let mut device = bench.boot();
    end(&bench, &mut device, Behaviour::Crash, None);
    end(&bench, &mut device, Behaviour::Hang, None);
    let kinds: Vec<_> = device.crashes().held().iter().map(|report| report.crash.kind).collect();
    assert_eq!(kinds, [CrashKind::Other, CrashKind::Hung]);
}

#[test]
fn what_has_no_room_is_counted_and_room_comes_with_an_acknowledgement() {
    let (_, bench) = with_v1(SMALL);
    let mut device = bench.boot();
    for _ in 0..CRASH_REPORTS_MAX + 3 {
        end(&bench, &mut device, Behaviour::Crash, Some(fault()));
    }
    assert_eq!((device.crashes().held().len(), device.crashes().dropped()), (CRASH_REPORTS_MAX, 3));
    let name = device.crashes().held()[0].name;
    assert_eq!(device.acknowledge_crash(Name { sequence: 99, ..name }), Ok(false));
    assert_eq!(device.acknowledge_crash(name), Ok(true));
    assert_eq!(device.acknowledge_crash(name), Ok(false));
    end(&bench, &mut device, Behaviour::Crash, Some(fault()));
    let newest = device.crashes().held().last().unwrap();
    assert_eq!((newest.name.sequence, newest.dropped), (3, 3));
}

#[test]
fn a_report_outlasts_the_power() {
    a_report_is_there_after_the_power();
}

pub(crate) fn a_report_is_there_after_the_power() {
    for geometry in GEOMETRIES {
        let (_, bench) = with_v1(geometry);
        let mut device = bench.boot();
        end(&bench, &mut device, Behaviour::Crash, Some(fault()));
        let report = kept(&device.crashes().held()[0]);
        let mut device = bench.boot();
        assert_eq!(device.crashes().held(), core::slice::from_ref(&report));
        assert_eq!(device.acknowledge_crash(report.name), Ok(true));
        assert!(bench.boot().crashes().held().is_empty());
        assert_eq!(bench.flash.violations(), [""; 0]);
    }
}

#[test]
fn power_may_fail_at_any_operation_of_a_report() {
    for geometry in GEOMETRIES {
        let (_, bench) = with_v1(geometry);
        // The boot's own record, the report, its end.
        let story = |bench: &Bench| {
            let Ok(mut device) = bench.boot_with_a_cut_to_come() else { return None };
            end(bench, &mut device, Behaviour::Crash, Some(fault()));
            let report = kept(&device.crashes().held()[0]);
            let _ = device.acknowledge_crash(report.name);
            Some(report)
        };
        let whole = bench.fork();
        let before = whole.flash.operations();
        story(&whole).unwrap();
        let operations = whole.flash.operations() - before;
        assert!(operations >= 3);
        for (at, mode) in (1..=operations).flat_map(|at| Mode::ALL.map(|mode| (at, mode))) {
            let bench = bench.fork();
            bench.flash.cut(Cut { at, mode });
            let report = story(&bench);
            let mut device = bench.boot();
            assert_eq!(bench.running().as_deref(), Some("v1"));
            let held = device.crashes().held();
            assert!(held.is_empty() || report.iter().eq(held), "{at} {mode:?}: all of it, or nothing");
            if let Some(name) = held.first().map(|report| report.name) {
                assert_eq!(device.acknowledge_crash(name), Ok(true));
            }
            assert!(bench.boot().crashes().held().is_empty());
            assert_eq!(bench.flash.violations(), [""; 0]);
        }
    }
}

#[test]
fn what_the_store_holds_and_nobody_can_read_is_ignored_and_counted() {
    let (_, bench) = with_v1(SMALL);
    let mut flash = bench.flash.clone();
    let mut store = Store::mount(&mut flash, Layout::new(SMALL).unwrap().store_at).unwrap();
    store.put(&mut flash, Key::Crash, &[9; 100]).unwrap();
    let mut device = bench.boot();
    assert!(device.crashes().held().is_empty());
    assert_eq!(device.crashes().dropped(), 1);
    end(&bench, &mut device, Behaviour::Crash, Some(fault()));
    assert_eq!(bench.boot().crashes().held().len(), 1);
}

#[test]
fn an_application_that_crashes_for_ever_costs_the_flash_nothing() {
    a_crash_loop_writes_once();
}

pub(crate) fn a_crash_loop_writes_once() {
    let (_, bench) = with_v1(SMALL);
    let mut device = bench.boot();
    let mut before = bench.flash.operations();
    let day_ms = bench.now_ms.get() + 4 * CRASH_KEEP_MS;
    let mut writes = 0;
    while bench.now_ms.get() < day_ms {
        end(&bench, &mut device, Behaviour::Crash, Some(fault()));
        // The service takes every one.
        while let Some(name) = device.crashes().held().first().map(|report| report.name) {
            device.acknowledge_crash(name).unwrap();
        }
        bench.advance_ms(CRASH_KEEP_MS / 100);
        writes += u32::from(bench.flash.operations() > before);
        before = bench.flash.operations();
    }
    assert!((1..=5).contains(&writes), "{writes}");
}

#[test]
fn an_application_that_crashes_for_ever_is_started_ever_more_seldom() {
    let (_, bench) = with_v1(SMALL);
    let mut device = bench.boot();
    let waits: Vec<u64> = (0..6)
        .map(|_| {
            let since_ms = bench.now_ms.get();
            end(&bench, &mut device, Behaviour::Crash, None);
            bench.now_ms.get() - since_ms
        })
        .collect();
    assert!(waits.is_sorted() && waits[0] <= 200 && waits[5] >= 1000, "{waits:?}");
}

#[test]
fn a_device_under_another_id_owes_no_report() {
    let (maker, bench) = with_v1(SMALL);
    let mut device = bench.boot();
    end(&bench, &mut device, Behaviour::Crash, Some(fault()));
    let other = wire::DeviceId::new([99; 16]);
    device.enrolled(other, maker.tenant, &[0xab; 1800], &[]).unwrap();
    assert!(device.crashes().held().is_empty());
    assert!(bench.boot().crashes().held().is_empty());
}
