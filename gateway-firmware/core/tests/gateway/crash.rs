//! Crash reports and telemetry on their way: said until they are answered, and behind nothing that matters more.

use gateway_core::crash::Crash;
use gateway_core::net::session::CRASH_SAY_MS;
use gateway_core::telemetry::TELEMETRY_WINDOW_MAX;
use wire::msg::{self, CrashDown, CrashKind, CrashUp, EnumValue, Message as _, TelemetryUp};

use crate::sim::*;
use crate::world::*;

/// Lets the application end by a fault, and the board see it.
fn crash(world: &mut World) {
    let mut app = world.bench.app.borrow_mut();
    let starts = app.started.len();
    app.running.as_mut().unwrap().1 = Behaviour::Crash;
    drop(app);
    world.until("another start", |world| world.bench.app.borrow().started.len() > starts);
}

fn acknowledge(world: &mut World, report: &[u8]) {
    let report = CrashUp::decode(report).unwrap();
    world.tell_channel(
        "crash",
        &CrashDown { boot: report.boot, sequence: report.sequence, ..Default::default() },
    );
}

fn next(world: &mut World, channel: &str) -> Vec<u8> {
    let mut found = Vec::new();
    world.until(channel, |world| {
        found = world.take(channel).unwrap_or_default();
        !found.is_empty()
    });
    found
}

#[test]
fn a_report_is_said_until_it_is_acknowledged() {
    let mut world = World::with_app(|_| {});
    crash(&mut world);
    let first = next(&mut world, "crash");
    let report = CrashUp::decode(&first).unwrap();
    assert_eq!((report.sequence, report.version), (1, "1.0"));
    assert_eq!(report.kind, EnumValue::Known(CrashKind::Other));
    assert_eq!(report.manifest_digest, &world.maker.bundle(1).digest.0);
    assert!(report.registers.is_empty(), "none is known");
    assert_eq!(next(&mut world, "crash"), first, "said again");
    world.cut();
    assert_eq!(next(&mut world, "crash"), first, "on the next connection too");
    let boot = msg::BootId { counter: 1, random: 1, ..Default::default() };
    world.tell_channel("crash", &CrashDown { boot: Some(boot), sequence: 1, ..Default::default() });
    assert_eq!(next(&mut world, "crash"), first, "that was another's");
    acknowledge(&mut world, &first);
    world.pass_ms(3_600_000);
    assert_eq!(world.take("crash"), None);
}

#[test]
fn what_ended_an_application_while_it_was_stopped_is_reported_as_its_own() {
    let mut world = World::with_app(|_| {});
    let mut app = world.bench.app.borrow_mut();
    (app.apply, app.crash) = (true, Some(Crash::new(CrashKind::Usage, 5)));
    drop(app);
    let said = next(&mut world, "crash");
    let report = CrashUp::decode(&said).unwrap();
    assert_eq!((report.kind, report.version), (EnumValue::Known(CrashKind::Usage), "1.0"));
    assert_eq!(world.gateway.device().counters().app_crashes, 1);
}

#[test]
fn a_report_of_an_earlier_boot_is_said_under_its_name() {
    let mut world = World::with_app(|_| {});
    let boot = world.gateway.device().boot_id();
    crash(&mut world);
    world.reboot();
    let report = next(&mut world, "crash");
    let report = CrashUp::decode(&report).unwrap();
    assert_eq!(report.boot.unwrap().random, boot.random);
    assert_eq!((report.sequence, report.dropped), (1, 0));
}

#[test]
fn new_reports_are_paced_however_fast_the_service_is() {
    let mut world = World::with_app(|spec| spec.crash.backoff_max_ms = spec.crash.backoff_min_ms);
    let since_ms = world.bench.now_ms.get();
    let mut said = 0;
    for _ in 0..50 {
        crash(&mut world);
        while let Some(report) = world.take("crash") {
            said += 1;
            acknowledge(&mut world, &report);
        }
    }
    let time_ms = world.bench.now_ms.get() - since_ms;
    assert!((2..=2 * (1 + time_ms / CRASH_SAY_MS)).contains(&said), "{said} in {time_ms} ms");
    assert!(world.gateway.device().crashes().dropped() > 0);
}

#[test]
fn telemetry_arrives_in_order_and_what_had_no_room_is_counted() {
    let mut world = World::with_app(|_| {});
    let (mut sent, mut refused) = (0, 0);
    for index in 0..200_u8 {
        if world.gateway.telemetry("application/octet-stream", &[index; 100]) {
            sent += 1
        } else {
            refused += 1
        }
    }
    assert!(sent > 0 && refused > 0);
    let mut seen = Vec::new();
    world.until("all of it", |world| {
        while let Some(message) = world.take("telemetry") {
            let message = TelemetryUp::decode(&message).unwrap();
            assert_eq!((message.content_type, message.data.len()), ("application/octet-stream", 100));
            assert_eq!(message.dropped, refused);
            seen.push(message.sequence);
        }
        seen.len() == sent
    });
    assert!(seen.is_sorted());
}

#[test]
fn telemetry_that_was_not_acknowledged_is_sent_again_on_the_next_connection() {
    let mut world = World::with_app(|_| {});
    world.mute = true;
    for index in 0..TELEMETRY_WINDOW_MAX as u8 + 2 {
        assert!(world.gateway.telemetry("", &[index]));
    }
    world.pass_ms(2_000);
    let mut heard = 0;
    while world.take("telemetry").is_some() {
        heard += 1;
    }
    assert_eq!(heard, TELEMETRY_WINDOW_MAX, "no more than the window");
    world.mute = false;
    world.cut();
    for index in 0..TELEMETRY_WINDOW_MAX as u8 + 2 {
        let message = next(&mut world, "telemetry");
        assert_eq!(TelemetryUp::decode(&message).unwrap().data, &[index]);
    }
}

#[test]
fn telemetry_and_logs_take_turns() {
    let mut world = World::with_app(|_| {});
    let (mut telemetry, mut logs) = (0, 0);
    for _ in 0..200 {
        while world.gateway.telemetry("", &[0; 64]) {}
        world.gateway.app_log(msg::LogLevel::Info, "and a line");
        world.turn();
        world.bench.advance_ms(10);
        telemetry += usize::from(world.take("telemetry").is_some());
        while let Some(batch) = world.take("log") {
            logs += 1;
            let batch = msg::LogUp::decode(&batch).unwrap();
            let last = batch.records.iter().last().unwrap().unwrap().sequence;
            let down = msg::LogDown { boot: batch.boot, stored_up_to: last, ..Default::default() };
            world.tell_channel("log", &down);
        }
    }
    assert!(telemetry > 10 && logs >= 3, "{telemetry} {logs}");
}
