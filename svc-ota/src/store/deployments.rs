//! Deployments, and when their devices are to be told again.

use std::time::SystemTime;

use kit::pg::Row;
use wire::manifest::Component;
use wire::{BundleId, DeploymentId, DeviceId, Digest, TenantId};

use super::{Tx, digest, parsed, unsigned};
use crate::error::Error;
use crate::model::deployment::{Done, Order, State};
use crate::model::report::{Boot, Known, Moment};

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Deployment {
    pub(crate) tenant: TenantId,
    pub(crate) id: DeploymentId,
    pub(crate) device: DeviceId,
    pub(crate) bundle: BundleId,
    pub(crate) manifest: Digest,
    pub(crate) component: Component,
    pub(crate) version: String,
    pub(crate) security_counter: i64,
    pub(crate) bytes_total: u64,
    pub(crate) state: State,
    pub(crate) reason: String,
    pub(crate) bytes_done: u64,
    pub(crate) attempts: u32,
    pub(crate) committed: bool,
    pub(crate) stopped: bool,
    /// Of the newest report taken.
    pub(crate) latest: Moment,
    pub(crate) sent_at: Option<SystemTime>,
    /// Since the device was last heard of.
    pub(crate) sends: u32,
    pub(crate) next_send_at: Option<SystemTime>,
    pub(crate) created_at: SystemTime,
    pub(crate) updated_at: SystemTime,
}

impl Deployment {
    /// What its device is to be told.
    pub(crate) fn order(&self) -> Option<Order> {
        // hello reports the application's floor only: a microvisor's commit could never be seen to have arrived.
        let committed = self.committed || self.component != Component::App;
        let order = self.state.order(Done { committed, stopped: self.stopped })?;
        // Who was told nothing need not be told to stop.
        (order != Order::Cancel || self.sent_at.is_some()).then_some(order)
    }

    pub(crate) fn known(&self) -> Known {
        Known {
            state: self.state,
            manifest: self.manifest,
            directed: self.sent_at.is_some(),
            latest: self.latest,
            bytes_done: self.bytes_done,
            bytes_total: self.bytes_total,
        }
    }
}

const COLUMNS: &str = "deployment_id, tenant_id, device_id, bundle_id, manifest_digest, component, version, \
    security_counter, bytes_total, state, reason, bytes_done, attempts, committed, stopped, boot_count, boot_random, \
    sequence, sent_at, sends, next_send_at, created_at, updated_at";
const UNFINISHED: &str =
    "state IN ('pending', 'fetching', 'verified', 'polite', 'ready', 'granted', 'installing', 'trial')";

/// False when the device has an unfinished one of the component that appeared just now.
pub(crate) async fn insert(tx: &Tx, it: &Deployment) -> Result<bool, Error> {
    let inserted = tx
        .execute(
            "INSERT INTO deployments (deployment_id, tenant_id, device_id, bundle_id, manifest_digest, component, \
             version, security_counter, bytes_total, state, created_at, updated_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $11) ON CONFLICT DO NOTHING",
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

pub(crate) async fn lock(tx: &Tx, tenant: TenantId, id: DeploymentId) -> Result<Option<Deployment>, Error> {
    let sql =
        format!("SELECT {COLUMNS} FROM deployments WHERE tenant_id = $1 AND deployment_id = $2 FOR UPDATE");
    let row = tx.query_opt(&sql, &[&tenant.text().as_str(), &id.text().as_str()]).await?;
    row.map(|row| deployment(&row)).transpose()
}

/// The device's unfinished one of a component, locked.
pub(crate) async fn lock_unfinished(
    tx: &Tx,
    device: DeviceId,
    component: Component,
) -> Result<Option<Deployment>, Error> {
    let sql = format!(
        "SELECT {COLUMNS} FROM deployments WHERE device_id = $1 AND component = $2 AND {UNFINISHED} FOR UPDATE"
    );
    let row = tx.query_opt(&sql, &[&device.text().as_str(), &component.name()]).await?;
    row.map(|row| deployment(&row)).transpose()
}

/// All of a device about which it may have to be told something, locked, oldest first.
pub(crate) async fn lock_open(tx: &Tx, device: DeviceId) -> Result<Vec<Deployment>, Error> {
    let sql = format!(
        "SELECT {COLUMNS} FROM deployments WHERE device_id = $1 AND ({UNFINISHED} \
         OR (state = 'confirmed' AND NOT committed AND component = 'app') \
         OR (state = 'cancelled' AND NOT stopped AND sent_at IS NOT NULL)) ORDER BY deployment_id FOR UPDATE"
    );
    tx.query(&sql, &[&device.text().as_str()]).await?.iter().map(deployment).collect()
}

/// Newest first.
pub(crate) async fn page(
    tx: &Tx,
    tenant: TenantId,
    device: Option<DeviceId>,
    before: Option<DeploymentId>,
    limit: i64,
) -> Result<Vec<Deployment>, Error> {
    let sql = format!(
        "SELECT {COLUMNS} FROM deployments WHERE tenant_id = $1 AND ($2::text IS NULL OR device_id = $2) \
         AND ($3::text IS NULL OR deployment_id < $3 COLLATE \"C\") ORDER BY deployment_id DESC LIMIT $4"
    );
    let (device, before) = (device.map(|id| id.to_string()), before.map(|id| id.to_string()));
    let rows = tx.query(&sql, &[&tenant.text().as_str(), &device, &before, &limit]).await?;
    rows.iter().map(deployment).collect()
}

/// What may change, as it is in `it`.
pub(crate) async fn save(tx: &Tx, it: &Deployment) -> Result<(), Error> {
    tx.execute(
        "UPDATE deployments SET state = $2, reason = $3, bytes_done = $4, attempts = $5, committed = $6, stopped = $7, \
         boot_count = $8, boot_random = $9, sequence = $10, sent_at = $11, sends = $12, next_send_at = $13, \
         updated_at = $14 WHERE deployment_id = $1",
        &[
            &it.id.text().as_str(),
            &it.state.as_str(),
            &it.reason,
            &(it.bytes_done as i64),
            &(it.attempts as i32),
            &it.committed,
            &it.stopped,
            &i64::from(it.latest.boot.count),
            &it.latest.boot.random.cast_signed(),
            &i64::from(it.latest.sequence),
            &it.sent_at,
            &(it.sends as i32),
            &it.next_send_at,
            &it.updated_at,
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

/// Bundles whose layers the device may ask for.
pub(crate) async fn directed_bundles(tx: &Tx, device: DeviceId) -> Result<Vec<String>, Error> {
    let sql = format!(
        "SELECT bundle_id FROM deployments WHERE device_id = $1 AND sent_at IS NOT NULL AND {UNFINISHED}"
    );
    let rows = tx.query(&sql, &[&device.text().as_str()]).await?;
    rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
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
    })
}
