//! Telemetry: stored once, in positions without a gap, followed at any replica, seen by its tenant alone.

use super::*;
use crate::app::TELEMETRY_PER_DEVICE_MAX;
use crate::app::telemetry::{Begin, Tailed, TelemetryTail};
use crate::model::TelemetryRange;
use crate::model::telemetry::tests::message;

async fn publish(app: &App, device: DeviceId, sequences: impl IntoIterator<Item = u64>) {
    let messages = sequences.into_iter().map(|n| (device, message(BOOT, n))).collect();
    app.ingest_telemetry(messages, SystemTime::now()).await.unwrap();
}

fn everything(device: DeviceId) -> TelemetryRange {
    TelemetryRange { device, after: 0, start: None, end: None }
}

async fn listed(app: &App, range: &TelemetryRange) -> Vec<(u64, u64)> {
    let shown = app.list_telemetry(TENANT, range, 1000).await.unwrap().0;
    shown.iter().map(|stored| (stored.position, stored.message.sequence)).collect()
}

fn numbers(tailed: &[Tailed]) -> Vec<(u64, u64)> {
    tailed.iter().map(|tailed| (tailed.stored.message.sequence, tailed.missed)).collect()
}

async fn next(app: &App, tail: &mut TelemetryTail) -> Vec<(u64, u64)> {
    let told = async {
        loop {
            let tailed = app.follow_telemetry(tail).await.unwrap();
            if !tailed.is_empty() {
                return numbers(&tailed);
            }
        }
    };
    tokio::time::timeout(PATIENCE, told).await.unwrap()
}

#[tokio::test]
async fn a_message_is_stored_once_whatever_is_sent_again() {
    let world = World::start().await;
    let (app, replica) = (world.replica(), world.replica());
    publish(&app, DEVICE, [1, 2, 2]).await;
    publish(&replica, DEVICE, [2, 4]).await;
    publish(&app, OTHER, [1]).await;
    publish(&app, UNKNOWN, [1]).await;
    publish(&app, REVOKED, [1]).await;
    assert_eq!(listed(&app, &everything(DEVICE)).await, [(1, 1), (2, 2), (3, 4)]);
    assert_eq!(listed(&app, &everything(OTHER)).await, [(1, 1)]);
    let stored = &app.list_telemetry(TENANT, &everything(DEVICE), 1).await.unwrap();
    assert_eq!((&stored.0[0].message, stored.1), (&message(BOOT, 1), true));
    assert_eq!(listed(&app, &TelemetryRange { after: 2, ..everything(DEVICE) }).await, [(3, 4)]);
}

#[tokio::test]
async fn a_tail_sees_what_any_replica_stores_and_another_goes_on_from_it() {
    let world = World::start().await;
    let (app, replica) = (world.replica(), world.replica());
    publish(&app, DEVICE, 1..=3).await;
    let (mut tail, first) = app.tail_telemetry(TENANT, DEVICE, Begin::Last(2)).await.unwrap();
    assert_eq!(numbers(&first), [(2, 0), (3, 0)]);
    publish(&replica, DEVICE, [4]).await;
    assert_eq!(next(&app, &mut tail).await, [(4, 0)]);
    let resume = Begin::After(tail.position());
    drop(tail);
    publish(&app, DEVICE, [5]).await;
    let (mut tail, first) = replica.tail_telemetry(TENANT, DEVICE, resume).await.unwrap();
    assert_eq!(numbers(&first), [(5, 0)]);
    publish(&replica, DEVICE, [6]).await;
    assert_eq!(next(&replica, &mut tail).await, [(6, 0)]);
    // A token from before the database was put back: it does not wait for what it has seen.
    let (mut tail, first) = app.tail_telemetry(TENANT, DEVICE, Begin::After(u64::MAX)).await.unwrap();
    assert_eq!(numbers(&first), []);
    publish(&app, DEVICE, [7]).await;
    assert_eq!(next(&app, &mut tail).await, [(7, 0)]);
}

#[tokio::test]
async fn a_reader_that_falls_behind_is_told_how_much_it_missed() {
    let world = World::start().await;
    let app = world.replica();
    publish(&app, DEVICE, 1..=TAIL_BATCH_MAX as u64 + 5).await;
    let (_, first) = app.tail_telemetry(TENANT, DEVICE, Begin::After(2)).await.unwrap();
    assert_eq!((first.len(), first[0].stored.position, first[0].missed), (TAIL_BATCH_MAX, 6, 3));
    let (_, first) = app.tail_telemetry(TENANT, DEVICE, Begin::Last(TAIL_BATCH_MAX)).await.unwrap();
    assert_eq!((first.len(), first[0].missed), (TAIL_BATCH_MAX, 0));
}

#[tokio::test]
async fn old_messages_are_forgotten_and_positions_go_on() {
    let world = World::start().await;
    let app = world.replica();
    let old = (1..=3).map(|n| (DEVICE, message(BOOT, n))).collect();
    app.ingest_telemetry(old, SystemTime::now() - 2 * KEPT).await.unwrap();
    publish(&app, DEVICE, [4]).await;
    assert_eq!(app.forget(SystemTime::now(), keeping(KEPT), 1000).await.unwrap(), 3);
    publish(&app, DEVICE, [5]).await;
    assert_eq!(listed(&app, &everything(DEVICE)).await, [(4, 4), (5, 5)]);
    // One that stood before them is told.
    let (_, first) = app.tail_telemetry(TENANT, DEVICE, Begin::After(1)).await.unwrap();
    assert_eq!(numbers(&first), [(4, 2), (5, 0)]);
    // Nothing is owed to one that begins.
    let (_, first) = app.tail_telemetry(TENANT, DEVICE, Begin::Last(5)).await.unwrap();
    assert_eq!(numbers(&first), [(4, 0), (5, 0)]);
}

#[tokio::test]
async fn a_device_keeps_its_newest_messages() {
    let world = World::start().await;
    let app = world.replica();
    publish(&app, DEVICE, 1..=2).await;
    // As if all that it may keep had been published meanwhile.
    let newest = TELEMETRY_PER_DEVICE_MAX;
    world.stack.sql(&format!("UPDATE logs.telemetry_devices SET stored_up_to = {newest}")).unwrap();
    publish(&app, DEVICE, [3]).await;
    assert_eq!(listed(&app, &everything(DEVICE)).await, [(2, 2), (newest + 1, 3)]);
}

#[tokio::test]
async fn a_foreign_tenants_telemetry_looks_like_a_device_that_does_not_exist() {
    let world = World::start().await;
    let app = world.replica();
    publish(&app, DEVICE, [1]).await;
    for (tenant, device) in [(FOREIGN, DEVICE), (FOREIGN, UNKNOWN), (TENANT, UNKNOWN)] {
        assert!(matches!(app.list_telemetry(tenant, &everything(device), 10).await, Err(Error::NotFound)));
        assert!(matches!(app.tail_telemetry(tenant, device, Begin::Last(10)).await, Err(Error::NotFound)));
    }
    let tx = world.store().tx(FOREIGN).await.unwrap();
    assert!(tx.query("SELECT 1 FROM logs.telemetry", &[]).await.unwrap().is_empty());
    assert!(tx.query("SELECT 1 FROM logs.telemetry_devices", &[]).await.unwrap().is_empty());
}
