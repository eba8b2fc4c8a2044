//! Memory of crashes: begun once, filled from its first byte on, read whole.

use std::collections::BTreeSet;
use std::time::SystemTime;

use kit::pg::{Error, Tx};
use wire::{DeviceId, TenantId};

use super::signed;
use crate::model::crash_memory::{Piece, piece_bytes, pieces};
use crate::model::{Boot, MemoryChunk, StoredMemory};

/// One that was begun, locked until the transaction ends.
#[derive(Debug)]
pub(crate) struct Begun {
    pub(crate) key: i64,
    pub(crate) total: u32,
    pub(crate) pieces: Vec<Piece>,
    pub(crate) stored: u32,
    /// By this very call.
    pub(crate) is_new: bool,
}

/// Until the transaction ends, nobody else stores anything of how these devices' applications ended. To be asked for once, and first: what makes room
/// deletes rows in an order of its own, and two that store for one device would wait for each other.
pub(crate) async fn lock(tx: &Tx, devices: impl Iterator<Item = DeviceId>) -> Result<(), Error> {
    let devices: BTreeSet<String> = devices.map(|device| device.to_string()).collect();
    let devices: Vec<String> = devices.into_iter().collect();
    // In the order of the array, which is the same everywhere.
    tx.execute(
        "SELECT pg_advisory_xact_lock(hashtextextended('holdfast logs crash ' || device, 0)) \
             FROM unnest($1::text[]) WITH ORDINALITY AS wanted (device, place) ORDER BY place",
        &[&devices],
    )
    .await?;
    Ok(())
}

/// The memory a chunk is of; begins it if nobody has. None: it has been given up meanwhile.
pub(crate) async fn begin(
    tx: &Tx,
    tenant: TenantId,
    device: DeviceId,
    chunk: &MemoryChunk,
    now: SystemTime,
) -> Result<Option<Begun>, Error> {
    let (tenant, device) = (tenant.to_string(), device.to_string());
    let (counter, random) = (i64::from(chunk.boot.counter), chunk.boot.random.cast_signed());
    let sequence = i64::from(chunk.sequence);
    let made = tx
        .execute(
            "INSERT INTO logs.crash_memories (tenant_id, device_id, counter, random, sequence, receive_time, total, pieces) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (device_id, counter, random, sequence) DO NOTHING",
            &[&tenant, &device, &counter, &random, &sequence, &now, &i64::from(chunk.total), &piece_bytes(&chunk.pieces)],
        )
        .await?;
    let row = tx
        .query_opt(
            "SELECT memory_key, total, pieces, stored FROM logs.crash_memories \
             WHERE tenant_id = $1 AND device_id = $2 AND counter = $3 AND random = $4 AND sequence = $5 FOR UPDATE",
            &[&tenant, &device, &counter, &random, &sequence],
        )
        .await?;
    Ok(row.map(|row| Begun {
        key: row.get(0),
        total: word(row.get(1)),
        pieces: pieces(row.get(2)).unwrap_or_default(),
        stored: word(row.get(3)),
        is_new: made > 0,
    }))
}

/// Adds the next bytes to one that is locked; how much is stored then.
pub(crate) async fn append(tx: &Tx, tenant: TenantId, begun: &Begun, data: &[u8]) -> Result<u32, Error> {
    let stored = i64::from(begun.stored);
    tx.execute(
        "INSERT INTO logs.crash_memory_chunks (memory_key, first_byte, tenant_id, data) VALUES ($1, $2, $3, $4)",
        &[&begun.key, &stored, &tenant.to_string(), &data],
    )
    .await?;
    let end = stored + signed(data.len() as u64);
    tx.execute("UPDATE logs.crash_memories SET stored = $2 WHERE memory_key = $1", &[&begun.key, &end])
        .await?;
    Ok(word(end))
}

/// Deletes the oldest of a device that has more than `memories_max`.
pub(crate) async fn keep_newest(
    tx: &Tx,
    tenant: TenantId,
    device: DeviceId,
    memories_max: usize,
) -> Result<u64, Error> {
    tx.execute(
        "DELETE FROM logs.crash_memories WHERE tenant_id = $1 AND device_id = $2 AND memory_key <= \
             (SELECT memory_key FROM logs.crash_memories WHERE device_id = $2 ORDER BY memory_key DESC OFFSET $3 LIMIT 1)",
        &[&tenant.to_string(), &device.to_string(), &signed(memories_max as u64)],
    )
    .await
}

/// What is stored of the memory of one report.
pub(crate) async fn find(
    tx: &Tx,
    tenant: TenantId,
    device: DeviceId,
    boot: Boot,
    sequence: u32,
) -> Result<Option<StoredMemory>, Error> {
    let tenant = tenant.to_string();
    // Locked, so that what is counted is what is there.
    let row = tx
        .query_opt(
            "SELECT memory_key, total, pieces FROM logs.crash_memories \
             WHERE tenant_id = $1 AND device_id = $2 AND counter = $3 AND random = $4 AND sequence = $5 FOR SHARE",
            &[
                &tenant,
                &device.to_string(),
                &i64::from(boot.counter),
                &boot.random.cast_signed(),
                &i64::from(sequence),
            ],
        )
        .await?;
    let Some(row) = row else { return Ok(None) };
    let chunks = tx
        .query(
            "SELECT data FROM logs.crash_memory_chunks WHERE tenant_id = $1 AND memory_key = $2 ORDER BY first_byte",
            &[&tenant, &row.get::<_, i64>(0)],
        )
        .await?;
    let data = chunks.iter().flat_map(|chunk| chunk.get::<_, &[u8]>(0)).copied().collect();
    Ok(Some(StoredMemory { total: word(row.get(1)), pieces: pieces(row.get(2)).unwrap_or_default(), data }))
}

/// A number the model keeps within 32 bits.
fn word(number: i64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
