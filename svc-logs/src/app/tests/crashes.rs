//! Crash reports: stored once, acknowledged after, kept within bounds, seen by their tenant alone.

use super::*;
use crate::app::CRASHES_PER_DEVICE_MAX;
use crate::app::crashes::CrashAck;
use crate::model::crash::tests::crash;
use crate::model::{Crash, CrashRange, StoredCrash};
use wire::Digest;

const ALL: CrashRange = CrashRange { device: None, before: None, manifest: None, start: None, end: None };

async fn report(app: &App, device: DeviceId, crash: Crash) -> Vec<CrashAck> {
    app.ingest_crashes(vec![(device, crash)], SystemTime::now()).await.unwrap()
}

async fn listed(app: &App, range: &CrashRange) -> Vec<(DeviceId, u32)> {
    let shown = app.list_crashes(TENANT, range, 1000).await.unwrap().0;
    shown.iter().map(|stored| (stored.device, stored.crash.sequence)).collect()
}

#[tokio::test]
async fn a_report_is_stored_once_and_acknowledged_whenever_it_comes() {
    let world = World::start().await;
    let (app, replica) = (world.replica(), world.replica());
    let ack = CrashAck { device: DEVICE, boot: BOOT, sequence: 1 };
    assert_eq!(report(&app, DEVICE, crash(BOOT, 1)).await, [ack]);
    // An acknowledgement that was lost: the same again, at another replica, and twice in a turn.
    assert_eq!(report(&replica, DEVICE, crash(BOOT, 1)).await, [ack]);
    let twice = vec![(DEVICE, crash(BOOT, 1)), (DEVICE, crash(BOOT, 1))];
    assert_eq!(app.ingest_crashes(twice, SystemTime::now()).await.unwrap(), [ack, ack]);
    let StoredCrash { crash: stored, .. } = app.crash(TENANT, DEVICE, BOOT, 1).await.unwrap();
    assert_eq!(stored, crash(BOOT, 1));
    assert_eq!(listed(&replica, &ALL).await, [(DEVICE, 1)]);
    // The same number in another boot is another report.
    report(&app, DEVICE, crash(Boot { counter: 2, ..BOOT }, 1)).await;
    assert_eq!(listed(&app, &ALL).await.len(), 2);
}

#[tokio::test]
async fn reports_of_unknown_and_revoked_devices_are_neither_stored_nor_acknowledged() {
    let world = World::start().await;
    let app = world.replica();
    for device in [UNKNOWN, REVOKED] {
        assert_eq!(report(&app, device, crash(BOOT, 1)).await, []);
    }
    let mixed = vec![(UNKNOWN, crash(BOOT, 1)), (DEVICE, crash(BOOT, 1))];
    assert_eq!(app.ingest_crashes(mixed, SystemTime::now()).await.unwrap().len(), 1);
    assert_eq!(listed(&app, &ALL).await, [(DEVICE, 1)]);
}

#[tokio::test]
async fn reports_are_listed_newest_first_by_device_bundle_and_time_a_page_at_a_time() {
    let world = World::start().await;
    let app = world.replica();
    let second = |n: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(n);
    for n in 1..=6u32 {
        let device = if n % 2 == 0 { DEVICE } else { OTHER };
        let manifest = Some(Digest([u8::from(n > 3); 32]));
        let report = Crash { manifest, ..crash(BOOT, n) };
        app.ingest_crashes(vec![(device, report)], second(n.into())).await.unwrap();
    }
    let numbers = async |range| listed(&app, &range).await.into_iter().map(|(_, n)| n).collect::<Vec<_>>();
    assert_eq!(numbers(ALL).await, [6, 5, 4, 3, 2, 1]);
    assert_eq!(numbers(CrashRange { device: Some(DEVICE), ..ALL }).await, [6, 4, 2]);
    assert_eq!(numbers(CrashRange { manifest: Some(Digest([1; 32])), ..ALL }).await, [6, 5, 4]);
    assert_eq!(numbers(CrashRange { start: Some(second(2)), end: Some(second(5)), ..ALL }).await, [4, 3, 2]);
    let (page, more) = app.list_crashes(TENANT, &ALL, 4).await.unwrap();
    assert!(more && page.len() == 4);
    // A report that arrives between two pages is on none of them, and shifts nothing.
    report(&app, DEVICE, crash(BOOT, 7)).await;
    let rest = CrashRange { before: Some(page[3].key), ..ALL };
    assert_eq!(numbers(rest).await, [2, 1]);
}

#[tokio::test]
async fn a_device_keeps_its_newest_reports_and_old_ones_are_forgotten() {
    let world = World::start().await;
    let app = world.replica();
    let long_ago = SystemTime::now() - 2 * KEPT;
    app.ingest_crashes(vec![(OTHER, crash(BOOT, 1))], long_ago).await.unwrap();
    report(&app, OTHER, crash(BOOT, 2)).await;
    let many = (1..=CRASHES_PER_DEVICE_MAX as u32 + 3).map(|n| (DEVICE, crash(BOOT, n))).collect();
    app.ingest_crashes(many, SystemTime::now()).await.unwrap();
    let of_device = listed(&app, &CrashRange { device: Some(DEVICE), ..ALL }).await;
    assert_eq!((of_device.len(), of_device.last()), (CRASHES_PER_DEVICE_MAX, Some(&(DEVICE, 4))));
    assert_eq!(app.forget(SystemTime::now(), keeping(KEPT), 1000).await.unwrap(), 1);
    assert_eq!(listed(&app, &CrashRange { device: Some(OTHER), ..ALL }).await, [(OTHER, 2)]);
}

#[tokio::test]
async fn a_foreign_tenants_report_looks_like_one_that_does_not_exist() {
    let world = World::start().await;
    let app = world.replica();
    report(&app, DEVICE, crash(BOOT, 1)).await;
    for (tenant, device, sequence) in [(FOREIGN, DEVICE, 1), (TENANT, UNKNOWN, 1), (TENANT, DEVICE, 2)] {
        assert!(matches!(app.crash(tenant, device, BOOT, sequence).await, Err(Error::NotFound)));
    }
    let of_device = CrashRange { device: Some(DEVICE), ..ALL };
    assert!(matches!(app.list_crashes(FOREIGN, &of_device, 10).await, Err(Error::NotFound)));
    assert!(app.list_crashes(FOREIGN, &ALL, 10).await.unwrap().0.is_empty());
    // The second lock: without the first, rows of another tenant are not there, and cannot be made.
    let tx = world.store().tx(FOREIGN).await.unwrap();
    assert!(tx.query("SELECT 1 FROM logs.crashes", &[]).await.unwrap().is_empty());
    assert!(
        crate::store::crashes::insert(&tx, TENANT, DEVICE, &crash(BOOT, 9), SystemTime::now()).await.is_err()
    );
}
