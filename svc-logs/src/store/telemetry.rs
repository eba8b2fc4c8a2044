//! Telemetry: positions under the device's row lock, inserted many devices at once, read in order.

use std::collections::{HashMap, HashSet};
use std::time::SystemTime;

use kit::pg::{Error, Row, Tx};
use wire::{DeviceId, TenantId};

use super::boots::boot;
use super::{signed, unsigned};
use crate::model::{Boot, StoredTelemetry, Telemetry, TelemetryRange};

/// What names a message.
pub(crate) type Of = (DeviceId, Boot, u64);

/// A message to insert.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NewTelemetry<'a> {
    pub(crate) tenant: TenantId,
    pub(crate) device: DeviceId,
    pub(crate) position: u64,
    pub(crate) message: &'a Telemetry,
}

const SHOWN: &str =
    "position, receive_time, counter, random, sequence, uptime_us, content_type, data, dropped";

/// Makes the rows that are missing and locks all, in one order everywhere so that replicas never wait in a circle. The newest position of each.
pub(crate) async fn lock(
    tx: &Tx,
    devices: &[(DeviceId, TenantId)],
    now: SystemTime,
) -> Result<HashMap<DeviceId, u64>, Error> {
    let ids: Vec<String> = devices.iter().map(|(device, _)| device.to_string()).collect();
    let tenants: Vec<String> = devices.iter().map(|(_, tenant)| tenant.to_string()).collect();
    tx.execute(
        "INSERT INTO logs.telemetry_devices (device_id, tenant_id, last_receive_time) \
         SELECT device_id, tenant_id, $3 FROM unnest($1::text[], $2::text[]) AS k(device_id, tenant_id) \
         ORDER BY device_id COLLATE \"C\" ON CONFLICT (device_id) DO NOTHING",
        &[&ids, &tenants, &now],
    )
    .await?;
    let rows = tx
        .query(
            "SELECT device_id, stored_up_to FROM logs.telemetry_devices WHERE device_id = ANY($1) \
             ORDER BY device_id FOR UPDATE",
            &[&ids],
        )
        .await?;
    let locked = |row: &Row| Some((row.get::<_, &str>(0).parse().ok()?, unsigned(row.get(1))));
    Ok(rows.iter().filter_map(locked).collect())
}

/// Those of these messages that are stored already.
pub(crate) async fn known(tx: &Tx, messages: &[Of]) -> Result<HashSet<Of>, Error> {
    let devices: Vec<String> = messages.iter().map(|(device, ..)| device.to_string()).collect();
    let counters: Vec<i64> = messages.iter().map(|(_, boot, _)| i64::from(boot.counter)).collect();
    let randoms: Vec<i64> = messages.iter().map(|(_, boot, _)| boot.random.cast_signed()).collect();
    let sequences: Vec<i64> = messages.iter().map(|(.., sequence)| signed(*sequence)).collect();
    let rows = tx
        .query(
            "SELECT t.device_id, t.counter, t.random, t.sequence FROM logs.telemetry t \
             JOIN unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[]) AS k(device_id, counter, random, sequence) \
               ON t.device_id = k.device_id AND t.counter = k.counter AND t.random = k.random AND t.sequence = k.sequence",
            &[&devices, &counters, &randoms, &sequences],
        )
        .await?;
    let of = |row: &Row| {
        let device = row.get::<_, &str>(0).parse().ok()?;
        Some((device, boot(row.get(1), row.get(2)), unsigned(row.get(3))))
    };
    Ok(rows.iter().filter_map(of).collect())
}

/// Inserts what is new, moves each device's newest position, and deletes what is older than its newest `messages_max`: how many went.
pub(crate) async fn insert(
    tx: &Tx,
    messages: &[NewTelemetry<'_>],
    now: SystemTime,
    messages_max: u64,
) -> Result<u64, Error> {
    let devices: Vec<String> = messages.iter().map(|m| m.device.to_string()).collect();
    let positions: Vec<i64> = messages.iter().map(|m| signed(m.position)).collect();
    let tenants: Vec<String> = messages.iter().map(|m| m.tenant.to_string()).collect();
    let counters: Vec<i64> = messages.iter().map(|m| i64::from(m.message.boot.counter)).collect();
    let randoms: Vec<i64> = messages.iter().map(|m| m.message.boot.random.cast_signed()).collect();
    let sequences: Vec<i64> = messages.iter().map(|m| signed(m.message.sequence)).collect();
    let uptimes: Vec<i64> = messages.iter().map(|m| signed(m.message.uptime_us)).collect();
    let types: Vec<&str> = messages.iter().map(|m| m.message.content_type.as_str()).collect();
    let data: Vec<&[u8]> = messages.iter().map(|m| m.message.data.as_slice()).collect();
    let dropped: Vec<i64> = messages.iter().map(|m| signed(m.message.dropped)).collect();
    tx.execute(
        "INSERT INTO logs.telemetry (device_id, position, tenant_id, counter, random, sequence, uptime_us, \
             content_type, data, dropped, receive_time) \
         SELECT k.*, $11 FROM unnest($1::text[], $2::bigint[], $3::text[], $4::bigint[], $5::bigint[], $6::bigint[], \
             $7::bigint[], $8::text[], $9::bytea[], $10::bigint[]) AS k",
        &[
            &devices, &positions, &tenants, &counters, &randoms, &sequences, &uptimes, &types, &data,
            &dropped, &now,
        ],
    )
    .await?;
    tx.execute(
        "UPDATE logs.telemetry_devices d SET stored_up_to = k.position, last_receive_time = $3 \
         FROM (SELECT device_id, max(position) AS position \
               FROM unnest($1::text[], $2::bigint[]) AS m(device_id, position) GROUP BY device_id) k \
         WHERE d.device_id = k.device_id",
        &[&devices, &positions, &now],
    )
    .await?;
    tx.execute(
        "DELETE FROM logs.telemetry t USING logs.telemetry_devices d \
         WHERE d.device_id = ANY($1) AND t.device_id = d.device_id AND t.position <= d.stored_up_to - $2",
        &[&devices, &signed(messages_max)],
    )
    .await
}

/// Position of the newest message of a device; 0: there was none.
pub(crate) async fn newest(tx: &Tx, tenant: TenantId, device: DeviceId) -> Result<u64, Error> {
    let row = tx
        .query_opt(
            "SELECT stored_up_to FROM logs.telemetry_devices WHERE tenant_id = $1 AND device_id = $2",
            &[&tenant.to_string(), &device.to_string()],
        )
        .await?;
    Ok(row.map_or(0, |row| unsigned(row.get(0))))
}

/// Oldest first.
pub(crate) async fn list(
    tx: &Tx,
    tenant: TenantId,
    range: &TelemetryRange,
    limit: usize,
) -> Result<Vec<StoredTelemetry>, Error> {
    let sql = format!(
        "SELECT {SHOWN} FROM logs.telemetry WHERE tenant_id = $1 AND device_id = $2 AND position > $3 \
           AND ($4::timestamptz IS NULL OR receive_time >= $4) AND ($5::timestamptz IS NULL OR receive_time < $5) \
         ORDER BY position LIMIT $6"
    );
    let values: [&(dyn kit::pg::ToSql + Sync); 6] = [
        &tenant.to_string(),
        &range.device.to_string(),
        &signed(range.after),
        &range.start,
        &range.end,
        &signed(limit as u64),
    ];
    Ok(tx.query(&sql, &values).await?.iter().map(shown).collect())
}

/// The newest `limit` messages after a position, oldest of them first.
pub(crate) async fn newest_after(
    tx: &Tx,
    tenant: TenantId,
    device: DeviceId,
    after: u64,
    limit: usize,
) -> Result<Vec<StoredTelemetry>, Error> {
    let sql = format!(
        "SELECT {SHOWN} FROM logs.telemetry WHERE tenant_id = $1 AND device_id = $2 AND position > $3 \
         ORDER BY position DESC LIMIT $4"
    );
    let values: [&(dyn kit::pg::ToSql + Sync); 4] =
        [&tenant.to_string(), &device.to_string(), &signed(after), &signed(limit as u64)];
    Ok(tx.query(&sql, &values).await?.iter().rev().map(shown).collect())
}

fn shown(row: &Row) -> StoredTelemetry {
    StoredTelemetry {
        position: unsigned(row.get(0)),
        receive_time: row.get(1),
        message: Telemetry {
            boot: boot(row.get(2), row.get(3)),
            sequence: unsigned(row.get(4)),
            uptime_us: unsigned(row.get(5)),
            content_type: row.get(6),
            data: row.get(7),
            dropped: unsigned(row.get(8)),
        },
    }
}
