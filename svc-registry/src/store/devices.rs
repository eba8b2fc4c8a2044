//! Devices as operators see them: read, list, label, revoke, delete; and the change feed's rows, written in the same
//! transaction as what they tell of.

use std::collections::BTreeMap;
use std::time::SystemTime;

use kit::pg::Row;
use serde::{Deserialize, Serialize};
use tokio_postgres::types::{Json, ToSql, Type};
use wire::{DeviceId, TenantId};

use super::Tx;
use super::rows::{digest, get, id, id_option, json};
use crate::error::Error;
pub(crate) use crate::model::Change;
use crate::model::debugging::Scope;
use crate::model::device::{Relabel, Reported, SLOT_STATUSES};
use crate::model::hello::{BOOT_REASONS, Order, Report};
use crate::model::{Device, Filter, Labels, Slot};

/// `$1` is the tenant. What forbids debugging costs nothing a row where no label does.
const SELECT: &str =
    "SELECT d.device_id, d.tenant_id, d.hardware_id, d.board, d.labels, d.created_at, d.revoked_at,
    d.quarantined_at, d.replaces, d.replaced_by, d.key_digest, d.leaf_expires_at, d.revision, r.boot_count, r.boot_random, r.connection, r.sequence, r.boot_reason,
    r.board AS reported_board, r.microvisor_version, r.slots, r.app_floor, r.keyset_version, r.reported_at,
    d.debugging_forbidden_at IS NOT NULL AS device_ban,
    (SELECT t.debugging_forbidden_at IS NOT NULL FROM registry.tenants t WHERE t.tenant_id = $1) AS tenant_ban,
    CASE WHEN (SELECT EXISTS (SELECT FROM registry.debug_labels WHERE tenant_id = $1)) THEN
        (SELECT jsonb_agg(jsonb_build_array(b.key, b.value) ORDER BY b.key, b.value) FROM registry.debug_labels b
         WHERE b.tenant_id = $1 AND d.labels ->> b.key = b.value) END AS label_bans
    FROM registry.devices d LEFT JOIN registry.reports r USING (device_id)";

pub(crate) async fn get_device(tx: &Tx, tenant: TenantId, device: DeviceId) -> Result<Option<Device>, Error> {
    let sql = format!("{SELECT} WHERE d.tenant_id = $1 AND d.device_id = $2");
    tx.query_opt(&sql, &[&tenant.to_string(), &device.to_string()]).await?.map(|row| read(&row)).transpose()
}

/// Those of `devices` that exist and match.
pub(crate) async fn get_many(tx: &Tx, tenant: TenantId, devices: &[DeviceId]) -> Result<Vec<Device>, Error> {
    let sql = format!("{SELECT} WHERE d.tenant_id = $1 AND d.device_id = ANY($2)");
    tx.query(&sql, &[&tenant.to_string(), &texts(devices)]).await?.iter().map(read).collect()
}

/// Ordered by id, after `after`.
pub(crate) async fn list(
    tx: &Tx,
    tenant: TenantId,
    filter: &Filter,
    after: &str,
    limit: i64,
) -> Result<Vec<Device>, Error> {
    let mut sql = Conditions::new(tenant);
    let after = sql.value(after.to_owned(), Type::TEXT);
    sql.add(filter);
    let limit = sql.value(limit, Type::INT8);
    // The ids first and by themselves: joined to what is shown of them, the planner would read all that is shown up to there.
    let text = format!(
        "WITH page AS MATERIALIZED (SELECT d.device_id FROM registry.devices d{}{} WHERE d.tenant_id = $1 AND {}{}
             ORDER BY {} LIMIT {limit})
         {SELECT} WHERE d.device_id IN (SELECT device_id FROM page) AND d.tenant_id = $1 ORDER BY d.device_id",
        sql.report_join(),
        sql.joins,
        sql.beyond(&after),
        sql.conditions,
        sql.first()
    );
    tx.query_planned(&text, &sql.values()).await?.iter().map(read).collect()
}

/// A filter as SQL. `$1` is the tenant.
///
/// Under row-level security an index is used only by operators that Postgres trusts (leakproof): comparing text is, asking what jsonb
/// contains is not. Labels are therefore looked up in `device_labels`, and every table names the tenant.
pub(super) struct Conditions {
    values: Vec<(Box<dyn ToSql + Sync + Send>, Type)>,
    pub(super) joins: String,
    pub(super) conditions: String,
    labels: usize,
    by_version: bool,
}

impl Conditions {
    pub(super) fn new(tenant: TenantId) -> Self {
        let values: Vec<(Box<dyn ToSql + Sync + Send>, Type)> =
            vec![(Box::new(tenant.to_string()), Type::TEXT)];
        Self { values, joins: String::new(), conditions: String::new(), labels: 0, by_version: false }
    }

    /// The parameter that stands for a value.
    pub(super) fn value(&mut self, value: impl ToSql + Sync + Send + 'static, of: Type) -> String {
        self.values.push((Box::new(value), of));
        format!("${}", self.values.len())
    }

    /// Rows of `d` and `r` must match.
    pub(super) fn add(&mut self, filter: &Filter) {
        for (key, value) in &filter.labels {
            let (key, value) = (self.value(key.clone(), Type::TEXT), self.value(value.clone(), Type::TEXT));
            let n = self.labels;
            self.labels += 1;
            self.joins.push_str(&format!(
                " JOIN registry.device_labels l{n} ON l{n}.tenant_id = $1 AND l{n}.key = {key} AND l{n}.value = {value} \
                 AND l{n}.device_id = d.device_id"
            ));
        }
        let texts = [("d.board", &filter.board), ("d.hardware_id", &filter.hardware_id)];
        for (column, value) in texts.into_iter().filter_map(|(column, value)| Some((column, value.clone()?)))
        {
            let value = self.value(value, Type::TEXT);
            self.conditions.push_str(&format!(" AND {column} = {value}"));
        }
        if let Some(version) = filter.version.clone() {
            let version = self.value(version, Type::TEXT);
            self.by_version = true;
            self.conditions.push_str(&format!(" AND r.tenant_id = $1 AND r.app_version = {version}"));
        }
        if let Some(revoked) = filter.revoked {
            // Not a parameter: an index of the revoked alone is used only where the text says that they are.
            self.conditions.push_str(if revoked {
                " AND d.revoked_at IS NOT NULL"
            } else {
                " AND d.revoked_at IS NULL"
            });
        }
        if let Some(quarantined) = filter.quarantined {
            self.conditions.push_str(if quarantined {
                " AND d.quarantined_at IS NOT NULL"
            } else {
                " AND d.quarantined_at IS NULL"
            });
        }
    }

    /// The device's id in the table whose index gives the devices that match in order.
    fn first(&self) -> &'static str {
        match (self.labels, self.by_version) {
            (0, false) => "d.device_id",
            (0, true) => "r.device_id",
            _ => "l0.device_id",
        }
    }

    /// Ids after this one. Said of every table: whichever index the planner begins with, it begins there.
    fn beyond(&self, after: &str) -> String {
        let labels: String = (0..self.labels).map(|n| format!(" AND l{n}.device_id > {after}")).collect();
        let version = if self.by_version { format!(" AND r.device_id > {after}") } else { String::new() };
        format!("d.device_id > {after}{labels}{version}")
    }

    /// Reports, if the filter asks about them.
    pub(super) fn report_join(&self) -> &'static str {
        if self.by_version { " JOIN registry.reports r ON r.device_id = d.device_id" } else { "" }
    }

    pub(super) fn values(&self) -> Vec<(&(dyn ToSql + Sync), Type)> {
        self.values.iter().map(|(value, of)| (value.as_ref() as &(dyn ToSql + Sync), of.clone())).collect()
    }
}

/// Locks those of `devices` that exist, in the order of their ids, so that no two callers wait for each other; and reads
/// them as they are then.
pub(crate) async fn lock_many(
    tx: &Tx,
    tenant: TenantId,
    devices: &[DeviceId],
) -> Result<BTreeMap<DeviceId, Device>, Error> {
    let sql = "SELECT 1 FROM registry.devices WHERE tenant_id = $1 AND device_id = ANY($2)
               ORDER BY device_id FOR UPDATE";
    tx.query(sql, &[&tenant.to_string(), &texts(devices)]).await?;
    Ok(get_many(tx, tenant, devices).await?.into_iter().map(|device| (device.id, device)).collect())
}

/// The caller holds them by [`lock_many`].
pub(crate) async fn set_labels(tx: &Tx, tenant: TenantId, changes: &[Relabel]) -> Result<(), Error> {
    let ids: Vec<String> = changes.iter().map(|change| change.device.to_string()).collect();
    let labels: Vec<Json<&Labels>> = changes.iter().map(|change| Json(&change.labels)).collect();
    let sql = "UPDATE registry.devices d SET labels = k.labels, revision = revision + 1
               FROM unnest($2::text[], $3::jsonb[]) AS k(id, labels) WHERE d.tenant_id = $1 AND d.device_id = k.id";
    tx.execute(sql, &[&tenant.to_string(), &ids, &labels]).await?;
    Ok(())
}

/// False: no such device, or revoked already.
pub(crate) async fn revoke(
    tx: &Tx,
    tenant: TenantId,
    device: DeviceId,
    now: SystemTime,
) -> Result<bool, Error> {
    let sql = "UPDATE registry.devices SET revoked_at = $3, revision = revision + 1
               WHERE tenant_id = $1 AND device_id = $2 AND revoked_at IS NULL";
    Ok(tx.execute(sql, &[&tenant.to_string(), &device.to_string(), &now]).await? == 1)
}

/// Ends a quarantine. False: there is none. The caller holds it by [`lock_many`].
pub(crate) async fn release(tx: &Tx, tenant: TenantId, device: DeviceId) -> Result<bool, Error> {
    let sql = "UPDATE registry.devices SET quarantined_at = NULL, revision = revision + 1
               WHERE tenant_id = $1 AND device_id = $2 AND quarantined_at IS NOT NULL";
    Ok(tx.execute(sql, &[&tenant.to_string(), &device.to_string()]).await? == 1)
}

/// `new` stands in the place of `old`, under its labels. The caller holds both by [`lock_many`].
pub(crate) async fn replace(
    tx: &Tx,
    tenant: TenantId,
    old: DeviceId,
    new: DeviceId,
    labels: &Labels,
) -> Result<(), Error> {
    let (tenant, old, new) = (tenant.to_string(), old.to_string(), new.to_string());
    let sql = "UPDATE registry.devices SET replaces = $3, labels = $4, revision = revision + 1
               WHERE tenant_id = $1 AND device_id = $2";
    tx.execute(sql, &[&tenant, &new, &old, &Json(labels)]).await?;
    let sql = "UPDATE registry.devices SET replaced_by = $3, revision = revision + 1
               WHERE tenant_id = $1 AND device_id = $2";
    tx.execute(sql, &[&tenant, &old, &new]).await?;
    Ok(())
}

/// Forgets devices and the certificates they had. The caller holds them by [`lock_many`].
pub(crate) async fn delete(tx: &Tx, tenant: TenantId, devices: &[DeviceId]) -> Result<(), Error> {
    let (tenant, devices) = (tenant.to_string(), texts(devices));
    for sql in [
        "DELETE FROM registry.devices WHERE tenant_id = $1 AND device_id = ANY($2)",
        "DELETE FROM registry.certificates WHERE tenant_id = $1 AND subject = ANY($2)",
    ] {
        tx.execute(sql, &[&tenant, &devices]).await?;
    }
    Ok(())
}

/// Tells the readers of the feed, when the transaction commits.
pub(crate) async fn changed(
    tx: &Tx,
    tenant: TenantId,
    devices: &[DeviceId],
    change: Change,
) -> Result<(), Error> {
    let sql = "INSERT INTO registry.changes (tenant_id, device, kind) SELECT $1, unnest($2::text[]), $3";
    tx.execute(sql, &[&tenant.to_string(), &texts(devices), &change.as_str()]).await?;
    Ok(())
}

fn texts(devices: &[DeviceId]) -> Vec<String> {
    devices.iter().map(ToString::to_string).collect()
}

fn read(row: &Row) -> Result<Device, Error> {
    Ok(Device {
        id: id(row, "device_id")?,
        tenant: id(row, "tenant_id")?,
        hardware_id: get(row, "hardware_id")?,
        board: get(row, "board")?,
        labels: json(row, "labels")?,
        created_at: get(row, "created_at")?,
        revoked_at: get(row, "revoked_at")?,
        quarantined_at: get(row, "quarantined_at")?,
        replaces: id_option(row, "replaces")?,
        replaced_by: id_option(row, "replaced_by")?,
        key_digest: digest(row, "key_digest")?,
        debugging_forbidden_by: read_bans(row)?,
        certificate_expires_at: get(row, "leaf_expires_at")?,
        report: read_reported(row)?,
        revision: get(row, "revision")?,
    })
}

fn read_bans(row: &Row) -> Result<Vec<Scope>, Error> {
    let mut bans = Vec::new();
    if get::<Option<bool>>(row, "tenant_ban")?.unwrap_or_default() {
        bans.push(Scope::Tenant);
    }
    if get::<Option<serde_json::Value>>(row, "label_bans")?.is_some() {
        let labels: Vec<(String, String)> = json(row, "label_bans")?;
        bans.extend(labels.into_iter().map(|(key, value)| Scope::Label { key, value }));
    }
    if get(row, "device_ban")? {
        bans.push(Scope::Device(id(row, "device_id")?));
    }
    Ok(bans)
}

/// The report joined to a row, if the device ever reported.
pub(super) fn read_reported(row: &Row) -> Result<Option<Reported>, Error> {
    let Some(boot_count) = get::<Option<i64>>(row, "boot_count")? else { return Ok(None) };
    let number = |column| u32::try_from(get::<i64>(row, column)?).map_err(|_| Error::Corrupt { column });
    let random: [u8; 8] =
        get::<&[u8]>(row, "boot_random")?.try_into().map_err(|_| Error::Corrupt { column: "boot_random" })?;
    let order = Order {
        boot_count: u32::try_from(boot_count).map_err(|_| Error::Corrupt { column: "boot_count" })?,
        boot_random: u64::from_be_bytes(random),
        connection: number("connection")?,
        sequence: number("sequence")?,
    };
    let slots: Vec<SlotJson> = json(row, "slots")?;
    let report = Report {
        order,
        boot_reason: word(&BOOT_REASONS, get(row, "boot_reason")?, "boot_reason")?,
        board: get(row, "reported_board")?,
        microvisor_version: get(row, "microvisor_version")?,
        slots: slots.into_iter().map(SlotJson::into_slot).collect::<Result<_, _>>()?,
        app_floor: get(row, "app_floor")?,
        keyset_version: get(row, "keyset_version")?,
    };
    Ok(Some(Reported { report, at: get(row, "reported_at")? }))
}

/// A slot in the `slots` column, which svc-registry alone reads.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct SlotJson {
    component: String,
    index: u8,
    status: String,
    digest: String,
    version: String,
    counter: i64,
    running: bool,
}

impl SlotJson {
    pub(super) fn new(slot: &Slot) -> Self {
        Self {
            component: slot.component.clone(),
            index: slot.index,
            status: slot.status.to_owned(),
            digest: hex::encode(&slot.manifest_digest),
            version: slot.version.clone(),
            counter: slot.security_counter,
            running: slot.running,
        }
    }

    fn into_slot(self) -> Result<Slot, Error> {
        Ok(Slot {
            component: self.component,
            index: self.index,
            status: word(&SLOT_STATUSES, &self.status, "slots")?,
            manifest_digest: hex::decode(self.digest).map_err(|_| Error::Corrupt { column: "slots" })?,
            version: self.version,
            security_counter: self.counter,
            running: self.running,
        })
    }
}

fn word(known: &[&'static str], text: &str, column: &'static str) -> Result<&'static str, Error> {
    known.iter().find(|word| **word == text).copied().ok_or(Error::Corrupt { column })
}
