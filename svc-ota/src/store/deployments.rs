//! Deployments, and when their devices are to be told again.

use std::time::SystemTime;

use kit::pg::{Row, ToSql};
use wire::{DeploymentId, DeviceId, TenantId};

use super::{Tx, digest, parsed, unsigned};
use crate::error::Error;
use crate::model::deployment::Deployment;
use crate::model::directed::DirectedLayer;
use crate::model::report::{Boot, Moment};
use crate::model::state::State;

const COLUMNS: &str = "deployment_id, tenant_id, device_id, bundle_id, manifest_digest, component, version, \
    security_counter, bytes_total, state, reason, bytes_done, attempts, committed, stopped, boot_count, boot_random, \
    sequence, sent_at, sends, next_send_at, created_at, updated_at, trace, revision";
const UNFINISHED: &str =
    "state IN ('pending', 'fetching', 'verified', 'polite', 'ready', 'granted', 'installing', 'trial')";
/// What [`Deployment::is_open`] says, except that these are finished.
const OPEN: &str = "(state = 'confirmed' AND NOT committed) \
    OR (state = 'cancelled' AND NOT stopped AND sent_at IS NOT NULL)";

/// False when the device has an unfinished one of the component that appeared just now.
pub(crate) async fn insert(tx: &Tx, it: &Deployment) -> Result<bool, Error> {
    let inserted = tx
        .execute(
            "INSERT INTO deployments (deployment_id, tenant_id, device_id, bundle_id, manifest_digest, component, \
             version, security_counter, bytes_total, state, created_at, updated_at, trace) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $11, $12) ON CONFLICT DO NOTHING",
            &[
                &it.id.text().as_str(),
                &it.tenant.text().as_str(),
                &it.device.text().as_str(),
                &it.bundle.text().as_str(),
                &it.manifest.0.as_slice(),
                &it.component.name(),
                &it.version,
                &it.security_counter,
                &(it.bytes_total as i64),
                &it.state.as_str(),
                &it.created_at,
                &it.trace,
            ],
        )
        .await?;
    Ok(inserted == 1)
}

pub(crate) async fn find(tx: &Tx, tenant: TenantId, id: DeploymentId) -> Result<Option<Deployment>, Error> {
    let sql = format!("SELECT {COLUMNS} FROM deployments WHERE tenant_id = $1 AND deployment_id = $2");
    let row = tx.query_opt(&sql, &[&tenant.text().as_str(), &id.text().as_str()]).await?;
    row.map(|row| deployment(&row)).transpose()
}

/// All about which one of the devices may have to be told something, and all that are named; locked, in the order of
/// their ids, so that replicas never wait in a circle.
pub(crate) async fn lock_all(
    tx: &Tx,
    devices: &[String],
    named: &[String],
) -> Result<Vec<Deployment>, Error> {
    // One OR over both would look at every row there is, and so would a join while the planner thinks the table small:
    // a sub-select that locks is never merged into a join, so each row is found by its id.
    let sql = format!(
        "SELECT d.* FROM (SELECT o.deployment_id FROM unnest($1::text[]) AS k(id) CROSS JOIN LATERAL (\
         SELECT deployment_id FROM deployments WHERE device_id = k.id AND ({UNFINISHED} OR {OPEN}) OFFSET 0) o \
         UNION SELECT unnest($2::text[]) ORDER BY 1) k CROSS JOIN LATERAL (\
         SELECT {COLUMNS} FROM deployments WHERE deployment_id = k.deployment_id FOR UPDATE) d"
    );
    tx.query(&sql, &[&devices, &named]).await?.iter().map(deployment).collect()
}

/// Newest first.
pub(crate) async fn page(
    tx: &Tx,
    tenant: TenantId,
    device: Option<DeviceId>,
    before: Option<DeploymentId>,
    limit: i64,
) -> Result<Vec<Deployment>, Error> {
    // Only what is asked for is in the text: a plan that must fit every case reads all of a tenant's for one device's.
    let (tenant, device, before) =
        (tenant.to_string(), device.map(|id| id.to_string()), before.map(|id| id.to_string()));
    let mut sql = format!("SELECT {COLUMNS} FROM deployments WHERE tenant_id = $1");
    let mut values: Vec<&(dyn ToSql + Sync)> = vec![&tenant, &limit];
    for (condition, value) in [("device_id =", &device), ("deployment_id <", &before)] {
        if let Some(value) = value {
            values.push(value);
            sql.push_str(&format!(" AND {condition} ${}", values.len()));
        }
    }
    sql.push_str(" ORDER BY deployment_id DESC LIMIT $2");
    tx.query(&sql, &values).await?.iter().map(deployment).collect()
}

/// What may change, as it is in `it`.
pub(crate) async fn save(tx: &Tx, it: &Deployment) -> Result<(), Error> {
    save_all(tx, &[it]).await
}

/// What may change, as it is in each; all are locked.
pub(crate) async fn save_all(tx: &Tx, all: &[&Deployment]) -> Result<(), Error> {
    fn column<T>(all: &[&Deployment], of: impl Fn(&Deployment) -> T) -> Vec<T> {
        all.iter().map(|it| of(it)).collect()
    }
    tx.execute(
        "UPDATE deployments d SET state = k.state, reason = k.reason, bytes_done = k.bytes_done, attempts = k.attempts, \
         committed = k.committed, stopped = k.stopped, boot_count = k.boot_count, boot_random = k.boot_random, \
         sequence = k.sequence, sent_at = k.sent_at, sends = k.sends, next_send_at = k.next_send_at, \
         updated_at = k.updated_at FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::integer[], \
         $6::boolean[], $7::boolean[], $8::bigint[], $9::bigint[], $10::bigint[], $11::timestamptz[], $12::integer[], \
         $13::timestamptz[], $14::timestamptz[]) AS k(id, state, reason, bytes_done, attempts, committed, stopped, \
         boot_count, boot_random, sequence, sent_at, sends, next_send_at, updated_at) WHERE d.deployment_id = k.id",
        &[
            &column(all, |it| it.id.to_string()),
            &column(all, |it| it.state.as_str()),
            &all.iter().map(|it| it.reason.as_str()).collect::<Vec<_>>(),
            &column(all, |it| it.bytes_done as i64),
            &column(all, |it| it.attempts as i32),
            &column(all, |it| it.committed),
            &column(all, |it| it.stopped),
            &column(all, |it| i64::from(it.latest.boot.count)),
            &column(all, |it| it.latest.boot.random.cast_signed()),
            &column(all, |it| i64::from(it.latest.sequence)),
            &column(all, |it| it.sent_at),
            &column(all, |it| it.sends as i32),
            &column(all, |it| it.next_send_at),
            &column(all, |it| it.updated_at),
        ],
    )
    .await?;
    Ok(())
}

/// Up to `limit` whose device is to be told again, locked; those that another replica sees to are left out.
pub(crate) async fn lock_due(tx: &Tx, now: SystemTime, limit: i64) -> Result<Vec<Deployment>, Error> {
    let sql = format!(
        "SELECT {COLUMNS} FROM deployments WHERE next_send_at <= $1 ORDER BY next_send_at LIMIT $2 \
         FOR UPDATE SKIP LOCKED"
    );
    tx.query(&sql, &[&now, &limit]).await?.iter().map(deployment).collect()
}

/// Up to `limit` unfinished ones of devices that are revoked or no longer there, locked.
pub(crate) async fn lock_gone(tx: &Tx, limit: i64) -> Result<Vec<Deployment>, Error> {
    let sql = format!(
        "SELECT {COLUMNS} FROM deployments d WHERE {UNFINISHED} AND NOT EXISTS (SELECT FROM registry.device_v1 v \
         WHERE v.device_id = d.device_id AND v.revoked_at IS NULL) LIMIT $1 FOR UPDATE SKIP LOCKED"
    );
    tx.query(&sql, &[&limit]).await?.iter().map(deployment).collect()
}

/// Layers each of the devices may ask for now; nothing for one that is unknown, revoked or in quarantine.
pub(crate) async fn directed_layers(
    tx: &Tx,
    devices: &[DeviceId],
) -> Result<Vec<(DeviceId, DirectedLayer)>, Error> {
    // As in `lock_all`: by index, however small the planner thinks the tables.
    let sql = format!(
        "SELECT DISTINCT k.id, l.digest, l.size, l.object FROM unnest($1::text[]) AS k(id) \
         CROSS JOIN LATERAL (SELECT tenant_id FROM registry.device_v1 \
         WHERE device_id = k.id AND revoked_at IS NULL AND quarantined_at IS NULL OFFSET 0) v \
         CROSS JOIN LATERAL (SELECT bundle_id FROM deployments WHERE device_id = k.id AND tenant_id = v.tenant_id \
         AND sent_at IS NOT NULL AND {UNFINISHED} OFFSET 0) d \
         JOIN bundle_layers b ON b.bundle_id = d.bundle_id \
         JOIN layers l ON l.tenant_id = b.tenant_id AND l.digest = b.digest"
    );
    let ids: Vec<String> = devices.iter().map(DeviceId::to_string).collect();
    let layer = |row: &Row| {
        let layer = DirectedLayer {
            digest: digest(row, "digest")?,
            bytes: unsigned(row, "size")?,
            object: row.try_get::<_, &str>("object")?.into(),
        };
        Ok((parsed(row, "id")?, layer))
    };
    tx.query(&sql, &[&ids]).await?.iter().map(layer).collect()
}

fn deployment(row: &Row) -> Result<Deployment, Error> {
    let random: i64 = row.try_get("boot_random")?;
    let boot = Boot { count: unsigned(row, "boot_count")?, random: random.cast_unsigned() };
    let small = |column| -> Result<u32, Error> {
        u32::try_from(row.try_get::<_, i32>(column)?).map_err(|_| Error::Corrupt(column))
    };
    Ok(Deployment {
        tenant: parsed(row, "tenant_id")?,
        id: parsed(row, "deployment_id")?,
        device: parsed(row, "device_id")?,
        bundle: parsed(row, "bundle_id")?,
        manifest: digest(row, "manifest_digest")?,
        component: parsed(row, "component")?,
        version: row.try_get("version")?,
        security_counter: row.try_get("security_counter")?,
        bytes_total: unsigned(row, "bytes_total")?,
        state: State::parse(row.try_get("state")?).ok_or(Error::Corrupt("state"))?,
        reason: row.try_get("reason")?,
        bytes_done: unsigned(row, "bytes_done")?,
        attempts: small("attempts")?,
        committed: row.try_get("committed")?,
        stopped: row.try_get("stopped")?,
        latest: Moment { boot, sequence: unsigned(row, "sequence")? },
        sent_at: row.try_get("sent_at")?,
        sends: small("sends")?,
        next_send_at: row.try_get("next_send_at")?,
        created_at: row.try_get("created_at")?,
        updated_at: row.try_get("updated_at")?,
        trace: row.try_get("trace")?,
        revision: row.try_get("revision")?,
    })
}
