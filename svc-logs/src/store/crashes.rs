//! Crash reports: inserted once, read newest first.

use std::time::SystemTime;

use kit::pg::{Error, Row, Tx};
use wire::{DeviceId, TenantId};

use super::boots;
use super::{signed, unsigned};
use crate::model::crash::{self, Kind};
use crate::model::{Boot, Crash, CrashRange, StoredCrash};

const SHOWN: &str = "crash_key, device_id, counter, random, sequence, uptime_us, receive_time, manifest_digest, version, kind, \
     registers, registers_known, fault_status, stack_at, stack, dropped, memory_bytes, memory_missed, \
     coalesce((SELECT stored FROM logs.crash_memories m WHERE m.tenant_id = c.tenant_id AND m.device_id = c.device_id \
         AND m.counter = c.counter AND m.random = c.random AND m.sequence = c.sequence), 0)";

/// Whether it was new.
pub(crate) async fn insert(
    tx: &Tx,
    tenant: TenantId,
    device: DeviceId,
    crash: &Crash,
    now: SystemTime,
) -> Result<bool, Error> {
    let status: Vec<i64> = crash.status.iter().map(|word| i64::from(*word)).collect();
    let manifest: &[u8] = crash.manifest.as_ref().map_or(&[], |digest| &digest.0);
    let rows = tx
        .execute(
            "INSERT INTO logs.crashes (tenant_id, device_id, counter, random, sequence, uptime_us, receive_time, \
                 manifest_digest, version, kind, registers, registers_known, fault_status, stack_at, stack, dropped, \
                 memory_bytes, memory_missed) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18) \
             ON CONFLICT (device_id, counter, random, sequence) DO NOTHING",
            &[
                &tenant.to_string(),
                &device.to_string(),
                &i64::from(crash.boot.counter),
                &crash.boot.random.cast_signed(),
                &i64::from(crash.sequence),
                &signed(crash.uptime_us),
                &now,
                &manifest,
                &crash.version,
                &crash.kind.number(),
                &crash::register_bytes(crash.registers.as_ref()),
                &i64::from(crash.registers_known),
                &status,
                &i64::from(crash.stack_at),
                &crash.stack,
                &i64::from(crash.dropped),
                &i64::from(crash.memory_bytes),
                &i64::from(crash.memory_missed),
            ],
        )
        .await?;
    Ok(rows > 0)
}

/// Deletes the oldest reports of a device that has more than `crashes_max`, and what is stored of their memory.
pub(crate) async fn keep_newest(
    tx: &Tx,
    tenant: TenantId,
    device: DeviceId,
    crashes_max: usize,
) -> Result<u64, Error> {
    let row = tx
        .query_one(
            "WITH gone AS (DELETE FROM logs.crashes WHERE tenant_id = $1 AND device_id = $2 AND crash_key <= \
                 (SELECT crash_key FROM logs.crashes WHERE device_id = $2 ORDER BY crash_key DESC OFFSET $3 LIMIT 1) \
                 RETURNING counter, random, sequence), \
             memories AS (DELETE FROM logs.crash_memories m USING gone WHERE m.tenant_id = $1 AND m.device_id = $2 \
                 AND (m.counter, m.random, m.sequence) = (gone.counter, gone.random, gone.sequence)) \
             SELECT count(*) FROM gone",
            &[&tenant.to_string(), &device.to_string(), &signed(crashes_max as u64)],
        )
        .await?;
    Ok(unsigned(row.get(0)))
}

/// Newest first, of devices there are.
pub(crate) async fn list(
    tx: &Tx,
    tenant: TenantId,
    range: &CrashRange,
    limit: usize,
) -> Result<Vec<StoredCrash>, Error> {
    let sql = format!(
        "SELECT {SHOWN} FROM logs.crashes c WHERE tenant_id = $1 \
           AND ($2::text IS NULL OR device_id = $2) AND crash_key < $3 \
           AND ($4::bytea IS NULL OR manifest_digest = $4) \
           AND ($5::timestamptz IS NULL OR receive_time >= $5) AND ($6::timestamptz IS NULL OR receive_time < $6) \
           AND EXISTS (SELECT 1 FROM registry.device_v1 d WHERE d.device_id = c.device_id AND d.tenant_id = $1) \
         ORDER BY crash_key DESC LIMIT $7"
    );
    let device = range.device.map(|device| device.to_string());
    let manifest = range.manifest.map(|digest| digest.0.to_vec());
    let before = range.before.unwrap_or(i64::MAX);
    let values: [&(dyn kit::pg::ToSql + Sync); 7] =
        [&tenant.to_string(), &device, &before, &manifest, &range.start, &range.end, &signed(limit as u64)];
    Ok(tx.query(&sql, &values).await?.iter().filter_map(shown).collect())
}

/// One report of a device.
pub(crate) async fn find(
    tx: &Tx,
    tenant: TenantId,
    device: DeviceId,
    boot: Boot,
    sequence: u32,
) -> Result<Option<StoredCrash>, Error> {
    let sql = format!(
        "SELECT {SHOWN} FROM logs.crashes c \
         WHERE tenant_id = $1 AND device_id = $2 AND counter = $3 AND random = $4 AND sequence = $5"
    );
    let values: [&(dyn kit::pg::ToSql + Sync); 5] = [
        &tenant.to_string(),
        &device.to_string(),
        &i64::from(boot.counter),
        &boot.random.cast_signed(),
        &i64::from(sequence),
    ];
    Ok(tx.query_opt(&sql, &values).await?.as_ref().and_then(shown))
}

/// A number the model keeps within 32 bits.
fn word(number: i64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn shown(row: &Row) -> Option<StoredCrash> {
    let mut status = [0; 7];
    for (word_of, number) in status.iter_mut().zip(row.get::<_, Vec<i64>>(12)) {
        *word_of = word(number);
    }
    let crash = Crash {
        boot: boots::boot(row.get(2), row.get(3)),
        sequence: word(row.get(4)),
        uptime_us: unsigned(row.get(5)),
        manifest: crash::manifest(row.get(7)).ok()?,
        version: row.get(8),
        kind: Kind::from_number(row.get::<_, i16>(9).into()),
        registers: crash::registers(row.get(10)).ok()?,
        registers_known: word(row.get(11)),
        status,
        stack_at: word(row.get(13)),
        stack: row.get(14),
        dropped: word(row.get(15)),
        memory_bytes: word(row.get(16)),
        memory_missed: word(row.get(17)),
    };
    let memory_stored = word(row.get(18));
    let device = row.get::<_, &str>(1).parse().ok()?;
    Some(StoredCrash { key: row.get(0), device, receive_time: row.get(6), memory_stored, crash })
}
