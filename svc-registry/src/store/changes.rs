//! The change feed as one tenant's watch reads it: by number, from where it stands.

use kit::pg::Row;
use tokio_postgres::types::{ToSql, Type};
use wire::{DeviceId, TenantId};

use super::Tx;
use super::devices::Conditions;
use super::rows::{get, id};
use crate::error::Error;
use crate::model::{Change, Filter};

/// Changes a watch reads at once; a reader for whom so many wait is told how many it missed.
pub(crate) const WAITING_MAX: usize = 1000;
/// Changes that may wait for a reader; with more it is given a snapshot.
pub(crate) const BEHIND_MAX: usize = 10_000;

/// One change of the tenant's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Waiting {
    pub seq: i64,
    pub device: DeviceId,
    pub change: Change,
}

/// The oldest changes within these ranges of numbers, at most [`WAITING_MAX`].
pub(crate) async fn waiting(tx: &Tx, tenant: TenantId, ranges: &[(i64, i64)]) -> Result<Vec<Waiting>, Error> {
    let sql = "SELECT c.seq, c.device, c.kind FROM unnest($2::bigint[], $3::bigint[]) AS k(lo, hi)
               CROSS JOIN LATERAL (SELECT seq, device, kind FROM registry.changes
                   WHERE tenant_id = $1 AND seq BETWEEN k.lo AND k.hi ORDER BY seq LIMIT $4) c
               ORDER BY c.seq LIMIT $4";
    let (first, last): (Vec<i64>, Vec<i64>) = ranges.iter().copied().unzip();
    let limit = i64::try_from(WAITING_MAX).unwrap_or(i64::MAX);
    // Whose changes are many is read in the order of numbers, whose are few by tenant.
    let values: [(&(dyn ToSql + Sync), Type); 4] = [
        (&tenant.to_string(), Type::TEXT),
        (&first, Type::INT8_ARRAY),
        (&last, Type::INT8_ARRAY),
        (&limit, Type::INT8),
    ];
    tx.query_planned(sql, &values).await?.iter().map(read).collect()
}

/// How many changes wait within these ranges whose device matches or is gone, and how many in all; of the oldest
/// [`BEHIND_MAX`] and one.
pub(crate) async fn count(
    tx: &Tx,
    tenant: TenantId,
    ranges: &[(i64, i64)],
    filter: &Filter,
) -> Result<(i64, i64), Error> {
    let (first, last): (Vec<i64>, Vec<i64>) = ranges.iter().copied().unzip();
    let mut sql = Conditions::new(tenant);
    let (first, last) = (sql.value(first, Type::INT8_ARRAY), sql.value(last, Type::INT8_ARRAY));
    let limit = sql.value(i64::try_from(BEHIND_MAX).unwrap_or(i64::MAX - 1) + 1, Type::INT8);
    sql.add(filter);
    let text = format!(
        "WITH c AS (SELECT c.device FROM unnest({first}::bigint[], {last}::bigint[]) AS k(lo, hi) CROSS JOIN LATERAL (
             SELECT seq, device FROM registry.changes WHERE tenant_id = $1 AND seq BETWEEN k.lo AND k.hi
             ORDER BY seq LIMIT {limit}) c LIMIT {limit}),
         matching AS (SELECT d.device_id FROM registry.devices d{}{}
             WHERE d.tenant_id = $1 AND d.device_id IN (SELECT device FROM c){})
         SELECT count(*) FILTER (WHERE EXISTS (SELECT FROM matching m WHERE m.device_id = c.device)
             OR NOT EXISTS (SELECT FROM registry.devices d WHERE d.device_id = c.device)), count(*) FROM c",
        sql.report_join(),
        sql.joins,
        sql.conditions
    );
    let rows = tx.query_planned(&text, &sql.values()).await?;
    Ok(rows.first().map_or((0, 0), |row| (row.get(0), row.get(1))))
}

fn read(row: &Row) -> Result<Waiting, Error> {
    let change = Change::parse(get(row, "kind")?).ok_or(Error::Corrupt { column: "kind" })?;
    Ok(Waiting { seq: get(row, "seq")?, device: id(row, "device")?, change })
}
