//! Memory of crashes: stored from its first byte on, acknowledged after, kept within bounds, seen by its tenant alone.

use super::*;
use crate::app::crash_memory::MemoryAck;
use crate::app::{CRASH_MEMORIES_PER_DEVICE_MAX, CRASHES_PER_DEVICE_MAX};
use crate::model::MemoryChunk;
use crate::model::crash::tests::crash;
use crate::model::crash_memory::tests::chunk;

const TOTAL: u32 = 10_000;

/// What the service says it has after that.
async fn offered(app: &App, device: DeviceId, chunk: MemoryChunk) -> Option<u32> {
    let acks = app.ingest_crash_memory(vec![(device, chunk)], SystemTime::now()).await.unwrap();
    acks.first().map(|ack| ack.stored_up_to)
}

async fn all_of(app: &App, device: DeviceId, boot: Boot, sequence: u32) {
    let chunks = (0..TOTAL).step_by(1000).map(|at| (device, chunk(boot, sequence, at, 1000))).collect();
    let acks = app.ingest_crash_memory(chunks, SystemTime::now()).await.unwrap();
    assert_eq!(acks, [MemoryAck { device, boot, sequence, stored_up_to: TOTAL }]);
}

async fn stored(app: &App, device: DeviceId, sequence: u32) -> Option<usize> {
    app.crash_memory(TENANT, device, BOOT, sequence).await.ok().map(|memory| memory.data.len())
}

async fn count(world: &World, table: &str) -> usize {
    world.stack.sql(&format!("SELECT count(*) FROM logs.{table}")).unwrap().trim().parse().unwrap()
}

#[tokio::test]
async fn memory_is_stored_once_from_its_first_byte_on_whatever_comes_in_which_order() {
    let world = World::start().await;
    let (app, replica) = (world.replica(), world.replica());
    // The device asks first, and is told that nothing is there.
    assert_eq!(offered(&app, DEVICE, chunk(BOOT, 1, 0, 0)).await, Some(0));
    assert_eq!(offered(&app, DEVICE, chunk(BOOT, 1, 1024, 1024)).await, Some(0), "too early");
    assert_eq!(offered(&app, DEVICE, chunk(BOOT, 1, 0, 1024)).await, Some(1024));
    // An answer that was lost: the same again, at another replica, and the question.
    assert_eq!(offered(&replica, DEVICE, chunk(BOOT, 1, 0, 1024)).await, Some(1024));
    assert_eq!(offered(&replica, DEVICE, chunk(BOOT, 1, 0, 0)).await, Some(1024));
    assert_eq!(offered(&replica, DEVICE, chunk(BOOT, 1, 1024, 7)).await, Some(1031));
    assert_eq!(offered(&app, DEVICE, chunk(BOOT, 1, 1024, 1024)).await, Some(1031), "not the next byte");
    for at in (1031..TOTAL).step_by(1000) {
        let bytes = 1000.min(TOTAL - at);
        assert_eq!(offered(&app, DEVICE, chunk(BOOT, 1, at, bytes as usize)).await, Some(at + bytes));
    }
    assert_eq!(offered(&app, DEVICE, chunk(BOOT, 1, TOTAL, 0)).await, Some(TOTAL));
    let memory = app.crash_memory(TENANT, DEVICE, BOOT, 1).await.unwrap();
    assert_eq!((memory.total, memory.pieces), (TOTAL, chunk(BOOT, 1, 0, 0).pieces));
    assert_eq!(memory.data, (0..TOTAL).map(|at| (at % 251) as u8).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_report_says_how_much_of_its_memory_is_stored_whichever_comes_first() {
    let world = World::start().await;
    let app = world.replica();
    let of = async |sequence| {
        let found = app.crash(TENANT, DEVICE, BOOT, sequence).await.unwrap();
        (found.crash.memory_bytes, found.memory_stored, found.crash.memory_missed)
    };
    app.ingest_crashes(vec![(DEVICE, crash(BOOT, 1))], SystemTime::now()).await.unwrap();
    assert_eq!(of(1).await, (TOTAL, 0, 1));
    offered(&app, DEVICE, chunk(BOOT, 1, 0, 1000)).await;
    assert_eq!(of(1).await, (TOTAL, 1000, 1));
    all_of(&app, DEVICE, BOOT, 2).await;
    app.ingest_crashes(vec![(DEVICE, crash(BOOT, 2))], SystemTime::now()).await.unwrap();
    assert_eq!(of(2).await, (TOTAL, TOTAL, 1));
    let range =
        crate::model::CrashRange { device: None, before: None, manifest: None, start: None, end: None };
    let listed = app.list_crashes(TENANT, &range, 10).await.unwrap().0;
    assert_eq!(listed.iter().map(|stored| stored.memory_stored).collect::<Vec<_>>(), [TOTAL, 1000]);
}

#[tokio::test]
async fn two_replicas_with_the_same_chunk_store_it_once() {
    let world = World::start().await;
    let (store, app) = (world.store(), world.replica());
    let first = store.tx(Scope::Every).await.unwrap();
    let chunk_0 = chunk(BOOT, 1, 0, 1000);
    let begun = crate::store::crash_memory::begin(&first, TENANT, DEVICE, &chunk_0, SystemTime::now())
        .await
        .unwrap()
        .unwrap();
    crate::store::crash_memory::append(&first, TENANT, &begun, &chunk_0.data).await.unwrap();
    let second = tokio::spawn(async move { offered(&app, DEVICE, chunk(BOOT, 1, 0, 1000)).await });
    world.until_one_waits().await;
    first.commit().await.unwrap();
    assert_eq!(second.await.unwrap(), Some(1000));
    assert_eq!(stored(&world.replica(), DEVICE, 1).await, Some(1000));
}

#[tokio::test]
async fn memory_of_unknown_and_revoked_devices_and_what_contradicts_itself_is_neither_stored_nor_answered() {
    let world = World::start().await;
    let app = world.replica();
    for device in [UNKNOWN, REVOKED] {
        assert_eq!(offered(&app, device, chunk(BOOT, 1, 0, 1000)).await, None);
    }
    assert_eq!(count(&world, "crash_memories").await, 0);
    offered(&app, DEVICE, chunk(BOOT, 1, 0, 1000)).await;
    let longer = MemoryChunk { total: 10_008, pieces: vec![(0, 10_008)], ..chunk(BOOT, 1, 1000, 1000) };
    let moved = MemoryChunk { pieces: vec![(0, 4000), (8000, 6000)], ..chunk(BOOT, 1, 1000, 1000) };
    for contradiction in [longer, moved] {
        assert_eq!(offered(&app, DEVICE, contradiction).await, None);
    }
    assert_eq!(stored(&app, DEVICE, 1).await, Some(1000));
}

#[tokio::test]
async fn a_device_keeps_the_memory_it_began_last_and_it_goes_with_its_report_or_of_age() {
    let world = World::start().await;
    let app = world.replica();
    let most = CRASH_MEMORIES_PER_DEVICE_MAX as u32;
    for sequence in 1..=most + 2 {
        all_of(&app, DEVICE, BOOT, sequence).await;
    }
    assert_eq!(stored(&app, DEVICE, 2).await, None);
    assert_eq!(stored(&app, DEVICE, 3).await, Some(TOTAL as usize));
    assert_eq!(count(&world, "crash_memories").await, most as usize);
    assert_eq!(count(&world, "crash_memory_chunks").await, 10 * most as usize);
    // More reports than are kept: those that go take their memory along.
    let many = (3..=CRASHES_PER_DEVICE_MAX as u32 + 3).map(|n| (DEVICE, crash(BOOT, n))).collect();
    app.ingest_crashes(many, SystemTime::now()).await.unwrap();
    assert_eq!((stored(&app, DEVICE, 3).await, stored(&app, DEVICE, 4).await), (None, Some(TOTAL as usize)));
    // A report that is too old, and memory whose report never came.
    let long_ago = SystemTime::now() - 2 * KEPT;
    app.ingest_crashes(vec![(OTHER, crash(BOOT, 1))], long_ago).await.unwrap();
    all_of(&app, OTHER, BOOT, 1).await;
    app.ingest_crash_memory(vec![(OTHER, chunk(BOOT, 2, 0, 1000))], long_ago).await.unwrap();
    all_of(&app, OTHER, BOOT, 3).await;
    assert_eq!(app.forget(SystemTime::now(), keeping(KEPT), 1000).await.unwrap(), 2);
    let left = [stored(&app, OTHER, 1).await, stored(&app, OTHER, 2).await, stored(&app, OTHER, 3).await];
    assert_eq!(left, [None, None, Some(TOTAL as usize)]);
    assert_eq!(app.forget(SystemTime::now(), keeping(KEPT), 1000).await.unwrap(), 0);
}

#[tokio::test]
async fn a_foreign_tenants_memory_looks_like_one_that_does_not_exist() {
    let world = World::start().await;
    let app = world.replica();
    all_of(&app, DEVICE, BOOT, 1).await;
    for (tenant, device, sequence) in [(FOREIGN, DEVICE, 1), (TENANT, UNKNOWN, 1), (TENANT, DEVICE, 2)] {
        assert!(matches!(app.crash_memory(tenant, device, BOOT, sequence).await, Err(Error::NotFound)));
    }
    // The second lock: without the first, rows of another tenant are not there, and cannot be made.
    let tx = world.store().tx(FOREIGN).await.unwrap();
    for table in ["crash_memories", "crash_memory_chunks"] {
        assert!(tx.query(&format!("SELECT 1 FROM logs.{table}"), &[]).await.unwrap().is_empty());
    }
    let chunk = chunk(BOOT, 9, 0, 1);
    let begun = crate::store::crash_memory::begin(&tx, TENANT, DEVICE, &chunk, SystemTime::now()).await;
    assert!(begun.is_err());
}

/// What makes room deletes the oldest, in whatever order others store: both have their turn, again and again.
#[tokio::test]
async fn two_replicas_that_make_room_for_one_device_do_not_wait_for_each_other() {
    let world = World::start().await;
    let (app, replica) = (world.replica(), world.replica());
    let last = u32::try_from(CRASH_MEMORIES_PER_DEVICE_MAX).unwrap();
    for sequence in 1..=last {
        offered(&app, DEVICE, chunk(BOOT, sequence, 0, 0)).await;
    }
    for turn in 0..40 {
        let first = last + 1 + 3 * turn;
        let asked =
            |sequences: &[u32]| sequences.iter().map(|n| (DEVICE, chunk(BOOT, *n, 0, 0))).collect::<Vec<_>>();
        let (one, other) = tokio::join!(
            app.ingest_crash_memory(asked(&[first, first + 1, first + 2]), SystemTime::now()),
            replica.ingest_crash_memory(asked(&[first + 1, first + 2]), SystemTime::now()),
        );
        assert_eq!((one.unwrap().len(), other.unwrap().len()), (3, 2), "turn {turn}");
    }
    assert_eq!(count(&world, "crash_memories").await, CRASH_MEMORIES_PER_DEVICE_MAX);
}
