//! Forgetting: records too old, boots of devices that have too many, records of devices that have too many.
//!
//! A boot's row is locked before anything of it goes, so ingest and expiry never cross. Each call does a bounded
//! amount and says how much; whoever calls repeats until nothing is left.

use std::time::SystemTime;

use kit::pg::{Error, Tx};

use super::{signed, unsigned};

/// Boots looked at, and records deleted for each, in one call.
const BOOTS_STEP: i64 = 64;
const RECORDS_STEP: i64 = 10_000;

/// Whether this process may forget now; one does at a time.
pub(crate) async fn take_turn(tx: &Tx) -> Result<bool, Error> {
    let row = tx
        .query_one("SELECT pg_try_advisory_xact_lock(hashtextextended('holdfast logs expiry', 0))", &[])
        .await?;
    Ok(row.get(0))
}

/// Deletes records received before `cutoff`, and boots that were last heard of before it and are empty.
pub(crate) async fn older_than(tx: &Tx, cutoff: SystemTime) -> Result<u64, Error> {
    let rows = tx
        .query(
            "SELECT boot_key FROM logs.boots WHERE first_receive_time < $1 \
             ORDER BY first_receive_time LIMIT $2 FOR UPDATE SKIP LOCKED",
            &[&cutoff, &BOOTS_STEP],
        )
        .await?;
    let keys: Vec<i64> = rows.iter().map(|row| row.get(0)).collect();
    let mut deleted = 0;
    for key in &keys {
        let records = tx
            .execute(
                "DELETE FROM logs.records WHERE boot_key = $1 AND sequence IN \
                 (SELECT sequence FROM logs.records WHERE boot_key = $1 AND receive_time < $2 \
                  ORDER BY sequence LIMIT $3)",
                &[key, &cutoff, &RECORDS_STEP],
            )
            .await?;
        deleted += records;
        forget(tx, *key, records, cutoff).await?;
    }
    Ok(deleted)
}

/// Deletes the oldest records of boots that have more than `records_max`.
pub(crate) async fn beyond_records(tx: &Tx, records_max: u64) -> Result<u64, Error> {
    let rows = tx
        .query(
            "SELECT boot_key, records FROM logs.boots WHERE records > $1 LIMIT $2 FOR UPDATE SKIP LOCKED",
            &[&signed(records_max), &BOOTS_STEP],
        )
        .await?;
    let mut deleted = 0;
    for row in &rows {
        let (key, records): (i64, i64) = (row.get(0), row.get(1));
        let excess = (records - signed(records_max)).min(RECORDS_STEP);
        let gone = tx
            .execute(
                "DELETE FROM logs.records WHERE boot_key = $1 AND sequence IN \
                 (SELECT sequence FROM logs.records WHERE boot_key = $1 ORDER BY sequence LIMIT $2)",
                &[&key, &excess],
            )
            .await?;
        tx.execute("UPDATE logs.boots SET records = records - $2 WHERE boot_key = $1", &[&key, &excess])
            .await?;
        deleted += gone;
    }
    Ok(deleted)
}

/// Deletes the oldest boots of devices that have more than `boots_max`, or more than `records_max` records in all. The
/// newest boot of a device stays.
pub(crate) async fn beyond_boots(tx: &Tx, boots_max: usize, records_max: u64) -> Result<u64, Error> {
    let rows = tx
        .query(
            "SELECT boot_key FROM ( \
                 SELECT boot_key, row_number() OVER newest AS nth, (sum(records) OVER newest)::bigint AS total \
                 FROM logs.boots \
                 WINDOW newest AS (PARTITION BY device_id ORDER BY last_receive_time DESC, boot_key DESC) \
             ) ranked WHERE nth > 1 AND (nth > $1 OR total > $2) LIMIT $3",
            &[&signed(boots_max as u64), &signed(records_max), &BOOTS_STEP],
        )
        .await?;
    let mut deleted = 0;
    for row in &rows {
        let key: i64 = row.get(0);
        let lock = "SELECT 1 FROM logs.boots WHERE boot_key = $1 FOR UPDATE SKIP LOCKED";
        if tx.query_opt(lock, &[&key]).await?.is_none() {
            continue;
        }
        deleted += tx.execute("DELETE FROM logs.records WHERE boot_key = $1", &[&key]).await?;
        deleted += tx.execute("DELETE FROM logs.boots WHERE boot_key = $1", &[&key]).await?;
    }
    Ok(deleted)
}

/// After `deleted` old records of a locked boot went: its row goes with the last of them, or says what is left.
async fn forget(tx: &Tx, key: i64, deleted: u64, cutoff: SystemTime) -> Result<(), Error> {
    if deleted >= RECORDS_STEP.unsigned_abs() {
        let left = "UPDATE logs.boots SET records = greatest(records - $2, 0) WHERE boot_key = $1";
        return tx.execute(left, &[&key, &signed(deleted)]).await.map(drop);
    }
    let gone = tx
        .execute(
            "DELETE FROM logs.boots WHERE boot_key = $1 AND last_receive_time < $2 \
             AND NOT EXISTS (SELECT 1 FROM logs.records WHERE boot_key = $1)",
            &[&key, &cutoff],
        )
        .await?;
    if gone == 0 {
        tx.execute(
            "UPDATE logs.boots SET records = greatest(records - $2, 0), first_receive_time = greatest($3, \
                 (SELECT receive_time FROM logs.records WHERE boot_key = $1 ORDER BY sequence LIMIT 1)) \
             WHERE boot_key = $1",
            &[&key, &signed(deleted), &cutoff],
        )
        .await?;
    }
    Ok(())
}

/// Deletes crash reports received before `cutoff` with what is stored of their memory, and memory begun before it. What ingest is at is left for the next step: expiry waits for nobody.
pub(crate) async fn crashes_older_than(tx: &Tx, cutoff: SystemTime) -> Result<u64, Error> {
    let reports = tx
        .query_one(
            "WITH gone AS (DELETE FROM logs.crashes WHERE crash_key IN (SELECT crash_key FROM logs.crashes \
                 WHERE receive_time < $1 ORDER BY receive_time LIMIT $2 FOR UPDATE SKIP LOCKED) \
                 RETURNING device_id, counter, random, sequence), \
             memories AS (DELETE FROM logs.crash_memories WHERE memory_key IN (SELECT m.memory_key FROM logs.crash_memories m \
                 JOIN gone USING (device_id, counter, random, sequence) FOR UPDATE OF m SKIP LOCKED)) \
             SELECT count(*) FROM gone",
            &[&cutoff, &RECORDS_STEP],
        )
        .await?;
    let memories = tx
        .execute(
            "DELETE FROM logs.crash_memories WHERE memory_key IN (SELECT memory_key FROM logs.crash_memories \
                 WHERE receive_time < $1 ORDER BY receive_time LIMIT $2 FOR UPDATE SKIP LOCKED)",
            &[&cutoff, &BOOTS_STEP],
        )
        .await?;
    Ok(unsigned(reports.get(0)) + memories)
}

/// Deletes telemetry received before `cutoff`, and the rows of devices that are no more and were last heard of before it. The row of a device
/// that is there stays: its positions go on.
pub(crate) async fn telemetry_older_than(tx: &Tx, cutoff: SystemTime) -> Result<u64, Error> {
    let messages = tx
        .execute(
            "DELETE FROM logs.telemetry WHERE (device_id, position) IN (SELECT device_id, position FROM logs.telemetry \
                 WHERE receive_time < $1 ORDER BY receive_time LIMIT $2 FOR UPDATE SKIP LOCKED)",
            &[&cutoff, &RECORDS_STEP],
        )
        .await?;
    let devices = tx
        .execute(
            "DELETE FROM logs.telemetry_devices WHERE device_id IN (SELECT device_id FROM logs.telemetry_devices t \
                 WHERE last_receive_time < $1 \
                   AND NOT EXISTS (SELECT 1 FROM registry.device_v1 d WHERE d.device_id = t.device_id) \
                 LIMIT $2 FOR UPDATE SKIP LOCKED)",
            &[&cutoff, &RECORDS_STEP],
        )
        .await?;
    Ok(messages + devices)
}
