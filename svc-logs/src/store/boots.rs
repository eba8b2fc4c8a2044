//! Boots: the row that orders all that is stored for one start of one device.

use std::collections::HashMap;
use std::time::SystemTime;

use kit::pg::{Error, Row, Tx};
use wire::{DeviceId, TenantId};

use crate::model::Boot;
use crate::model::prefix::Prefix;
use crate::store::{signed, unsigned};

/// Whose boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct BootOf {
    pub(crate) device: DeviceId,
    pub(crate) boot: Boot,
}

/// A locked row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BootRow {
    pub(crate) key: i64,
    pub(crate) prefix: Prefix,
    pub(crate) version: i64,
}

/// How a boot's row is to change.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Advance {
    pub(crate) key: i64,
    pub(crate) prefix: Prefix,
    pub(crate) version: i64,
    pub(crate) stored: usize,
    pub(crate) dropped: u64,
}

/// Where a tail stands in one boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) boot: Boot,
    pub(crate) version: i64,
    pub(crate) stored_up_to: i64,
}

/// Makes the rows that are missing and locks all, in one order everywhere so that replicas never wait in a circle.
pub(crate) async fn lock(
    tx: &Tx,
    boots: &[(BootOf, TenantId)],
    now: SystemTime,
) -> Result<HashMap<BootOf, BootRow>, Error> {
    let mut boots = boots.to_vec();
    boots.sort();
    let tenants: Vec<String> = boots.iter().map(|(_, tenant)| tenant.to_string()).collect();
    let devices: Vec<String> = boots.iter().map(|(of, _)| of.device.to_string()).collect();
    let counters: Vec<i64> = boots.iter().map(|(of, _)| i64::from(of.boot.counter)).collect();
    let randoms: Vec<i64> = boots.iter().map(|(of, _)| of.boot.random.cast_signed()).collect();
    tx.execute(
        "INSERT INTO logs.boots (tenant_id, device_id, counter, random, first_receive_time, last_receive_time) \
         SELECT tenant_id, device_id, counter, random, $5, $5 \
         FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[]) AS k(tenant_id, device_id, counter, random) \
         ORDER BY device_id COLLATE \"C\", counter, random \
         ON CONFLICT (device_id, counter, random) DO NOTHING",
        &[&tenants, &devices, &counters, &randoms, &now],
    )
    .await?;
    let rows = tx
        .query(
            "SELECT b.device_id, b.counter, b.random, b.boot_key, b.stored_up_to, b.owed, b.version \
             FROM logs.boots b \
             JOIN unnest($1::text[], $2::bigint[], $3::bigint[]) AS k(device_id, counter, random) \
               ON b.device_id = k.device_id AND b.counter = k.counter AND b.random = k.random \
             ORDER BY b.device_id, b.counter, b.random FOR UPDATE OF b",
            &[&devices, &counters, &randoms],
        )
        .await?;
    Ok(rows.iter().filter_map(locked).collect())
}

/// Writes what was decided under the lock.
pub(crate) async fn advance(tx: &Tx, boots: &[Advance], now: SystemTime) -> Result<(), Error> {
    let keys: Vec<i64> = boots.iter().map(|b| b.key).collect();
    let stored_up_to: Vec<i64> = boots.iter().map(|b| signed(b.prefix.stored_up_to)).collect();
    let owed: Vec<i64> = boots.iter().map(|b| signed(b.prefix.owed)).collect();
    let versions: Vec<i64> = boots.iter().map(|b| b.version).collect();
    let stored: Vec<i64> = boots.iter().map(|b| signed(b.stored as u64)).collect();
    let dropped: Vec<i64> = boots.iter().map(|b| signed(b.dropped)).collect();
    tx.execute(
        "UPDATE logs.boots b SET stored_up_to = k.stored_up_to, owed = k.owed, version = k.version, \
             records = b.records + k.stored, dropped = greatest(b.dropped, k.dropped), last_receive_time = $7 \
         FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[]) \
             AS k(boot_key, stored_up_to, owed, version, stored, dropped) \
         WHERE b.boot_key = k.boot_key",
        &[&keys, &stored_up_to, &owed, &versions, &stored, &dropped, &now],
    )
    .await?;
    Ok(())
}

/// Where the newest boots of a device stand now.
pub(crate) async fn marks(tx: &Tx, device: DeviceId, boots_max: usize) -> Result<HashMap<i64, Mark>, Error> {
    let rows = tx
        .query(
            "SELECT boot_key, version, stored_up_to, counter, random FROM logs.boots WHERE device_id = $1 \
             ORDER BY last_receive_time DESC LIMIT $2",
            &[&device.to_string(), &signed(boots_max as u64)],
        )
        .await?;
    let mark = |row: &Row| {
        let boot = boot(row.get(3), row.get(4));
        (row.get(0), Mark { boot, version: row.get(1), stored_up_to: row.get(2) })
    };
    Ok(rows.iter().map(mark).collect())
}

/// A boot from its stored columns.
pub(crate) fn boot(counter: i64, random: i64) -> Boot {
    Boot { counter: u32::try_from(counter).unwrap_or(u32::MAX), random: random.cast_unsigned() }
}

fn locked(row: &Row) -> Option<(BootOf, BootRow)> {
    let device = row.get::<_, &str>(0).parse().ok()?;
    let of = BootOf { device, boot: boot(row.get(1), row.get(2)) };
    let prefix = Prefix { stored_up_to: unsigned(row.get(4)), owed: unsigned(row.get(5)) };
    Some((of, BootRow { key: row.get(3), prefix, version: row.get(6) }))
}
