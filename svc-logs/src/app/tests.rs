//! Use cases against a real Postgres: what is stored, what is acknowledged, and in which order.
//!
//! The registry's view is stood in for by a table of the same columns.

mod crash_memory;
mod crashes;
mod telemetry;

use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use dev::{Options, Part, Service, Stack};
use kit::config::TlsFiles;
use kit::pg::{Pg, Scope};
use wire::{DeviceId, TenantId};

use super::App;
use super::ingest::Ack;
use super::sweep::Retention;
use super::tail::{Begin, TAIL_BATCH_MAX, Tailed};
use crate::error::Error;
use crate::model::batch::tests::{BOOT, record};
use crate::model::prefix::AHEAD_MAX;
use crate::model::{Batch, Boot, Level, Range, Record, StoredRecord};
use crate::store::Store;
use crate::store::boots::{self, BootOf};

const PATIENCE: Duration = Duration::from_secs(60);
/// How long things are kept here.
const KEPT: Duration = Duration::from_secs(30 * 86_400);
const TENANT: TenantId = TenantId::new([1; 16]);
const FOREIGN: TenantId = TenantId::new([2; 16]);
const DEVICE: DeviceId = DeviceId::new([0xa1; 16]);
const OTHER: DeviceId = DeviceId::new([0xa2; 16]);
const REVOKED: DeviceId = DeviceId::new([0xa3; 16]);
const UNKNOWN: DeviceId = DeviceId::new([0xff; 16]);

/// A database with three devices, and replicas of the service on it.
struct World {
    stack: Stack,
    tls: kit::tls::Tls,
    _files: tempfile::TempDir,
}

impl World {
    async fn start() -> Self {
        kit::tls::install_provider();
        let stack = Stack::start(Options::only([Part::Postgres])).await.unwrap();
        stack
            .sql(&format!(
                "CREATE TABLE registry.device_v1 (tenant_id text, device_id text PRIMARY KEY, revoked_at timestamptz, quarantined_at timestamptz);
                 GRANT SELECT ON registry.device_v1 TO holdfast_logs;
                 INSERT INTO registry.device_v1 VALUES
                     ('{TENANT}', '{DEVICE}', NULL), ('{TENANT}', '{OTHER}', NULL), ('{TENANT}', '{REVOKED}', now());"
            ))
            .unwrap();
        let files = tempfile::tempdir().unwrap();
        let (certificate, key) = stack.service_identity("svc-logs").unwrap();
        let write = |name: &str, text: String| -> PathBuf {
            let path = files.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let (certificate, key) = (write("cert", certificate), write("key", key));
        let server_ca = write("ca", stack.server_ca_pem().unwrap());
        let tls = kit::tls::Tls::load(&TlsFiles {
            cert: certificate.clone(),
            key: key.clone(),
            service_ca: server_ca.clone(),
            service_cert: certificate,
            service_key: key,
            server_ca,
        })
        .unwrap();
        let world = Self { stack, tls, _files: files };
        world.store().migrate().await.unwrap();
        world
    }

    fn store(&self) -> Store {
        let url = self.stack.postgres_url(Service::Logs).unwrap();
        Store::new(Pg::new(&url, &self.tls).unwrap())
    }

    /// One more replica of the service.
    fn replica(&self) -> App {
        App::new(self.store())
    }

    /// Waits until a session of svc-logs waits for a row lock.
    async fn until_one_waits(&self) {
        let waiting = "SELECT count(*) FROM pg_stat_activity \
                       WHERE usename = 'holdfast_logs' AND wait_event_type = 'Lock'";
        let deadline = Instant::now() + PATIENCE;
        while self.stack.sql(waiting).unwrap().trim() == "0" {
            assert!(Instant::now() < deadline, "nobody waits");
            tokio::task::yield_now().await;
        }
    }
}

fn keeping(kept: Duration) -> Retention {
    Retention { records: kept, crashes: kept, telemetry: kept }
}

fn batch(boot: Boot, sequences: impl IntoIterator<Item = u64>, lost_up_to: u64) -> Batch {
    Batch::new(boot, sequences.into_iter().map(record).collect(), lost_up_to, 0).unwrap()
}

async fn offer(app: &App, device: DeviceId, batch: Batch) -> Option<u64> {
    let acks = app.ingest(vec![(device, batch)], SystemTime::now()).await.unwrap();
    acks.first().map(|ack| ack.stored_up_to)
}

fn everything(device: DeviceId) -> Range {
    Range { device, after: None, level: Level::Debug, start: None, end: None }
}

async fn listed(app: &App, device: DeviceId) -> Vec<StoredRecord> {
    app.list(TENANT, &everything(device), 10_000).await.unwrap().0
}

fn gaps(records: &[StoredRecord]) -> Vec<(u64, u64)> {
    records.iter().map(|r| (r.record.sequence, r.gap_before)).collect()
}

#[tokio::test]
async fn records_are_stored_once_in_order_and_gaps_are_shown() {
    let world = World::start().await;
    let (app, replica) = (world.replica(), world.replica());
    assert_eq!(offer(&app, DEVICE, batch(BOOT, 1..=3, 0)).await, Some(3));
    // An acknowledgement that was lost: the same again, at another replica.
    assert_eq!(offer(&replica, DEVICE, batch(BOOT, 1..=3, 0)).await, Some(3));
    // A batch that was lost on the way: the next one does not move the prefix.
    assert_eq!(offer(&app, DEVICE, batch(BOOT, 6..=7, 0)).await, Some(3));
    assert_eq!(offer(&replica, DEVICE, batch(BOOT, 5..=5, 0)).await, Some(3));
    assert_eq!(gaps(&listed(&app, DEVICE).await), [(1, 0), (2, 0), (3, 0), (5, 1), (6, 0), (7, 0)]);
    assert_eq!(offer(&app, DEVICE, batch(BOOT, 4..=4, 0)).await, Some(7));
    // The ring overflowed: what is missing is reported with the next record.
    assert_eq!(offer(&app, DEVICE, batch(BOOT, [], 10)).await, Some(10));
    assert_eq!(offer(&replica, DEVICE, batch(BOOT, 11..=12, 10)).await, Some(12));
    let shown = listed(&app, DEVICE).await;
    assert_eq!(gaps(&shown), [(1, 0), (2, 0), (3, 0), (4, 0), (5, 0), (6, 0), (7, 0), (11, 3), (12, 0)]);
    assert_eq!(shown[0].record, record(1));
    assert_eq!(shown[0].boot, BOOT);
}

/// The other replica's transaction for 1..=3 is open while this one gets 4..=6.
async fn second_of_two(world: &World, first_commits: bool) -> Vec<Ack> {
    let (store, app) = (world.store(), world.replica());
    let first = store.tx(Scope::Every).await.unwrap();
    let of = BootOf { device: DEVICE, boot: BOOT };
    boots::lock(&first, &[(of, TENANT)], SystemTime::now()).await.unwrap();
    let offers = super::ingest::gather(vec![(DEVICE, batch(BOOT, 1..=3, 0))]);
    let acks = super::ingest::store_offers(&first, &offers, SystemTime::now()).await.unwrap();
    assert_eq!(acks[0].stored_up_to, 3);

    let second = tokio::spawn(async move {
        app.ingest(vec![(DEVICE, batch(BOOT, 4..=6, 0))], SystemTime::now()).await.unwrap()
    });
    world.until_one_waits().await;
    assert!(!second.is_finished(), "it must wait for the first");
    if first_commits {
        first.commit().await.unwrap();
    } else {
        first.rollback().await.unwrap();
    }
    second.await.unwrap()
}

#[tokio::test]
async fn a_replica_acknowledges_what_another_commits_before_it_and_nothing_else() {
    let world = World::start().await;
    let acks = second_of_two(&world, true).await;
    assert_eq!(acks, [Ack { device: DEVICE, boot: BOOT, stored_up_to: 6 }]);
}

#[tokio::test]
async fn a_transaction_that_fails_acknowledges_nothing_to_the_one_behind_it() {
    let world = World::start().await;
    let acks = second_of_two(&world, false).await;
    assert_eq!(acks, [Ack { device: DEVICE, boot: BOOT, stored_up_to: 0 }]);
    let app = world.replica();
    assert_eq!(gaps(&listed(&app, DEVICE).await), [(4, 3), (5, 0), (6, 0)]);
    assert_eq!(offer(&app, DEVICE, batch(BOOT, 1..=3, 0)).await, Some(6));
}

#[tokio::test]
async fn replicas_that_lock_many_boots_at_once_do_not_wait_in_a_circle() {
    let world = World::start().await;
    let replicas = [world.replica(), world.replica(), world.replica()];
    let boots: Vec<Boot> = (0..20).map(|counter| Boot { counter, random: 7 }).collect();
    let rounds = replicas.iter().enumerate().map(|(n, app)| {
        let mut batches: Vec<(DeviceId, Batch)> = boots
            .iter()
            .flat_map(|boot| [(DEVICE, batch(*boot, 1..=5, 0)), (OTHER, batch(*boot, 1..=5, 0))])
            .collect();
        batches.rotate_left(n * 13);
        async move {
            for _ in 0..10 {
                let acks = app.ingest(batches.clone(), SystemTime::now()).await.unwrap();
                assert_eq!(acks.len(), 40);
                assert!(acks.iter().all(|ack| ack.stored_up_to == 5));
            }
        }
    });
    let [a, b, c]: [_; 3] = rounds.collect::<Vec<_>>().try_into().ok().unwrap();
    tokio::join!(a, b, c);
    assert_eq!(listed(&replicas[0], DEVICE).await.len(), 100);
}

#[tokio::test]
async fn batches_of_unknown_and_revoked_devices_are_dropped_and_others_are_not() {
    let world = World::start().await;
    let app = world.replica();
    let batches = [UNKNOWN, REVOKED, DEVICE].map(|device| (device, batch(BOOT, 1..=2, 0)));
    let acks = app.ingest(batches.to_vec(), SystemTime::now()).await.unwrap();
    assert_eq!(acks, [Ack { device: DEVICE, boot: BOOT, stored_up_to: 2 }]);
    assert_eq!(world.stack.sql("SELECT count(*) FROM logs.records").unwrap().trim(), "2");
}

#[tokio::test]
async fn a_device_that_lies_about_its_numbers_is_bounded_and_hurts_nobody_else() {
    let world = World::start().await;
    let app = world.replica();
    // A million records, none of which follows on another: only the window is kept.
    let mut stored = 0;
    for start in (2..1_000_000u64).step_by(64 * 977) {
        offer(&app, DEVICE, batch(BOOT, (0..64).map(|n| start + n * 977), 0)).await;
    }
    stored += listed(&app, DEVICE).await.len();
    assert!(stored as u64 <= AHEAD_MAX, "{stored}");
    // Losing everything there is ends its own boot, and only that.
    let end = crate::model::batch::SEQUENCE_MAX;
    assert_eq!(offer(&app, DEVICE, batch(BOOT, [end], end)).await, Some(end));
    let next = Boot { counter: 2, ..BOOT };
    assert_eq!(offer(&app, DEVICE, batch(next, 1..=2, 0)).await, Some(2));
    assert_eq!(offer(&app, OTHER, batch(BOOT, 1..=2, 0)).await, Some(2));
}

#[tokio::test]
async fn any_text_a_device_sends_is_stored() {
    let world = World::start().await;
    let app = world.replica();
    let texts =
        ["nul \0 byte", "\u{202e}\u{feff}\u{10ffff}", "'; DROP TABLE records; --", "", "{\"$1\":\\x00}"];
    let records: Vec<Record> =
        (1u64..).zip(texts).map(|(n, t)| Record { text: t.into(), ..record(n) }).collect();
    let batch = Batch::new(BOOT, records, 0, 0).unwrap();
    assert_eq!(offer(&app, DEVICE, batch).await, Some(texts.len() as u64));
    let shown: Vec<String> = listed(&app, DEVICE).await.into_iter().map(|r| r.record.text).collect();
    assert_eq!(shown[0], "nul \u{fffd} byte");
    assert_eq!(shown[1..], texts[1..]);
}

#[tokio::test]
async fn pages_are_oldest_first_by_time_and_level_and_stay_right_while_records_arrive() {
    let world = World::start().await;
    let app = world.replica();
    let second = Boot { counter: 9, random: u64::MAX };
    let early = SystemTime::now() - Duration::from_secs(3600);
    app.ingest(vec![(DEVICE, batch(BOOT, 1..=5, 0))], early).await.unwrap();
    let cutoff = SystemTime::now();
    app.ingest(vec![(DEVICE, batch(second, 1..=5, 0))], cutoff).await.unwrap();

    let mut range = everything(DEVICE);
    let mut seen = Vec::new();
    loop {
        let (page, more) = app.list(TENANT, &range, 3).await.unwrap();
        assert!(page.len() <= 3);
        seen.extend(page.iter().map(|r| (r.boot.counter, r.record.sequence)));
        let last = page.last().unwrap();
        range.after = Some((last.boot, last.record.sequence));
        // More arrives between two pages, and is not shown twice or out of order.
        offer(&app, DEVICE, batch(second, 6..=6, 0)).await;
        if !more {
            break;
        }
    }
    let expected: Vec<_> = (1..=5).map(|n| (1, n)).chain((1..=6).map(|n| (9, n))).collect();
    assert_eq!(seen, expected);

    let since = Range { start: Some(cutoff), ..everything(DEVICE) };
    assert_eq!(app.list(TENANT, &since, 100).await.unwrap().0.len(), 6);
    let until = Range { end: Some(cutoff), ..everything(DEVICE) };
    assert_eq!(app.list(TENANT, &until, 100).await.unwrap().0.len(), 5);
    let severe = Range { level: Level::Warn, ..everything(DEVICE) };
    assert!(app.list(TENANT, &severe, 100).await.unwrap().0.is_empty());
}

#[tokio::test]
async fn a_foreign_tenants_device_looks_like_one_that_does_not_exist() {
    let world = World::start().await;
    let app = world.replica();
    offer(&app, DEVICE, batch(BOOT, 1..=2, 0)).await;
    for (tenant, device) in [(FOREIGN, DEVICE), (FOREIGN, UNKNOWN), (TENANT, UNKNOWN)] {
        assert!(matches!(app.list(tenant, &everything(device), 10).await, Err(Error::NotFound)));
        assert!(matches!(
            app.tail(tenant, device, Level::Debug, Begin::Last(10)).await,
            Err(Error::NotFound)
        ));
    }
    // The second lock: without the first, rows of another tenant are not there, and cannot be made.
    let store = world.store();
    let tx = store.tx(FOREIGN).await.unwrap();
    let row = tx.query_one("SELECT count(*) FROM logs.records", &[]).await.unwrap();
    assert_eq!(row.get::<_, i64>(0), 0);
    let of = BootOf { device: OTHER, boot: BOOT };
    assert!(boots::lock(&tx, &[(of, TENANT)], SystemTime::now()).await.is_err());
}

#[tokio::test]
async fn a_tail_sees_what_any_replica_stores_exactly_once() {
    let world = World::start().await;
    let (app, replica) = (world.replica(), world.replica());
    offer(&app, DEVICE, batch(BOOT, 1..=5, 0)).await;
    let (mut tail, first) = app.tail(TENANT, DEVICE, Level::Debug, Begin::Last(2)).await.unwrap();
    assert_eq!(gaps(&records(&first)), [(4, 0), (5, 0)]);

    offer(&replica, DEVICE, batch(BOOT, 8..=8, 0)).await;
    offer(&app, DEVICE, batch(BOOT, 6..=6, 0)).await;
    offer(&replica, OTHER, batch(BOOT, 1..=3, 0)).await;
    let next = Boot { counter: 2, random: 1 };
    offer(&replica, DEVICE, batch(next, 1..=1, 0)).await;
    offer(&replica, DEVICE, batch(BOOT, 7..=7, 0)).await;
    let mut seen = Vec::new();
    let deadline = Instant::now() + PATIENCE;
    while seen.len() < 4 {
        assert!(Instant::now() < deadline, "{seen:?}");
        for tailed in app.follow(&mut tail).await.unwrap() {
            assert_eq!(tailed.missed, 0);
            seen.push((tailed.record.boot.counter, tailed.record.record.sequence));
        }
    }
    seen.sort();
    assert_eq!(seen, [(1, 6), (1, 7), (1, 8), (2, 1)]);
    assert!(app.follow(&mut tail).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_slow_reader_is_told_how_much_it_missed() {
    let world = World::start().await;
    let app = world.replica();
    let (mut tail, first) = app.tail(TENANT, DEVICE, Level::Debug, Begin::Last(10)).await.unwrap();
    assert!(first.is_empty());
    let count = TAIL_BATCH_MAX as u64 + 40;
    for start in (1..=count).step_by(52) {
        offer(&app, DEVICE, batch(BOOT, start..(start + 52).min(count + 1), 0)).await;
    }
    let tailed = app.follow(&mut tail).await.unwrap();
    assert_eq!(tailed.len(), TAIL_BATCH_MAX);
    assert_eq!((tailed[0].missed, tailed[0].record.record.sequence), (40, 41));
    assert!(tailed[1..].iter().all(|t| t.missed == 0));
    assert_eq!(tailed.last().unwrap().record.record.sequence, count);
}

fn records(tailed: &[Tailed]) -> Vec<StoredRecord> {
    tailed.iter().map(|tailed| tailed.record.clone()).collect()
}

#[tokio::test]
async fn a_tail_goes_on_after_any_of_its_records_at_another_replica() {
    let world = World::start().await;
    let (app, replica) = (world.replica(), world.replica());
    offer(&app, DEVICE, batch(BOOT, 1..=5, 0)).await;
    let (mut tail, mut told) = app.tail(TENANT, DEVICE, Level::Debug, Begin::Last(3)).await.unwrap();
    let later = Boot { counter: BOOT.counter + 1, random: 7 };
    let steps: [(Boot, &[u64]); 4] =
        [(BOOT, &[6, 7, 10]), (later, &[1, 2]), (BOOT, &[8, 9, 11]), (later, &[3])];
    for (boot, sequences) in steps {
        offer(&app, DEVICE, batch(boot, sequences.iter().copied(), 0)).await;
        told.extend(app.follow(&mut tail).await.unwrap());
    }
    let name = |tailed: &Tailed| (tailed.record.boot.counter - BOOT.counter, tailed.record.record.sequence);
    let all: Vec<_> = told.iter().map(name).collect();
    let expected =
        [(0, 3), (0, 4), (0, 5), (0, 6), (0, 7), (0, 10), (1, 1), (1, 2), (0, 8), (0, 9), (0, 11), (1, 3)];
    assert_eq!(all, expected, "each once, as they were stored");
    for (n, after) in told.iter().enumerate() {
        let begin = Begin::From(after.progress.clone());
        let (mut tail, mut rest) = replica.tail(TENANT, DEVICE, Level::Debug, begin).await.unwrap();
        while rest.len() < all.len() - n - 1 {
            rest.extend(replica.follow(&mut tail).await.unwrap());
        }
        rest.extend(replica.follow(&mut tail).await.unwrap());
        // What came in two batches comes in one: in the order of starts, then of numbers.
        let mut remaining = all[n + 1..].to_vec();
        let mut rest: Vec<_> = rest.iter().map(name).collect();
        remaining.sort();
        rest.sort();
        assert_eq!(rest, remaining, "after {:?}", all[n]);
    }
}

#[tokio::test]
async fn old_records_are_forgotten_and_the_prefix_is_not() {
    let world = World::start().await;
    let app = world.replica();
    let (now, day) = (SystemTime::now(), Duration::from_secs(86_400));
    let gone = Boot { counter: 0, random: 0 };
    app.ingest(vec![(DEVICE, batch(gone, 1..=3, 0))], now - 40 * day).await.unwrap();
    app.ingest(vec![(DEVICE, batch(BOOT, 1..=3, 0))], now - 31 * day).await.unwrap();
    app.ingest(vec![(DEVICE, batch(BOOT, 4..=5, 0))], now).await.unwrap();
    while app.forget(now, keeping(KEPT), 1_000_000).await.unwrap() > 0 {}
    assert_eq!(gaps(&listed(&app, DEVICE).await), [(4, 0), (5, 0)]);
    assert_eq!(world.stack.sql("SELECT count(*) FROM logs.boots").unwrap().trim(), "1");
    assert_eq!(offer(&app, DEVICE, batch(BOOT, 4..=6, 0)).await, Some(6));

    // Too many: of one boot, the oldest go; of many boots, the oldest boots.
    while app.forget(now, keeping(KEPT), 2).await.unwrap() > 0 {}
    assert_eq!(gaps(&listed(&app, DEVICE).await), [(5, 0), (6, 0)]);
    for counter in 2..=(super::BOOTS_PER_DEVICE_MAX as u32 + 4) {
        offer(&app, DEVICE, batch(Boot { counter, random: 1 }, 1..=1, 0)).await;
    }
    while app.forget(now, keeping(KEPT), 1_000_000).await.unwrap() > 0 {}
    let boots = world.stack.sql("SELECT count(*) FROM logs.boots").unwrap();
    assert_eq!(boots.trim(), super::BOOTS_PER_DEVICE_MAX.to_string());
}

#[tokio::test]
async fn while_the_database_is_away_nothing_is_acknowledged_and_afterwards_nothing_is_lost() {
    let world = World::start().await;
    let app = world.replica();
    assert_eq!(offer(&app, DEVICE, batch(BOOT, 1..=3, 0)).await, Some(3));
    world.stack.stop(Part::Postgres).await.unwrap();
    let away = app.ingest(vec![(DEVICE, batch(BOOT, 4..=6, 0))], SystemTime::now()).await.unwrap_err();
    assert!(away.is_transient(), "{away}");
    assert!(app.list(TENANT, &everything(DEVICE), 1).await.unwrap_err().is_transient());
    world.stack.start_service(Part::Postgres).await.unwrap();
    let deadline = Instant::now() + PATIENCE;
    let acks = loop {
        match app.ingest(vec![(DEVICE, batch(BOOT, 4..=6, 0))], SystemTime::now()).await {
            Ok(acks) => break acks,
            Err(error) => assert!(error.is_transient() && Instant::now() < deadline, "{error}"),
        }
    };
    assert_eq!(acks, [Ack { device: DEVICE, boot: BOOT, stored_up_to: 6 }]);
    assert_eq!(listed(&app, DEVICE).await.len(), 6);
}
