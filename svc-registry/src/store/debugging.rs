//! Where debugging is forbidden: a column of tenants and devices, a row a label. Other services read `debug_ban_v1`.

use std::time::SystemTime;

use kit::pg::Row;
use tokio_postgres::types::ToSql;
use wire::{DeviceId, TenantId};

use super::Tx;
use super::rows::get;
use crate::error::Error;
use crate::model::debugging::{Ban, LABEL_BANS_MAX, Scope};

/// Every ban of a tenant: `rank` is 0 of the tenant, 1 of a label (`a`, `b`), 2 of a device (`a`).
const BANS: &str = "SELECT 0 AS rank, ''::text COLLATE \"C\" AS a, ''::text COLLATE \"C\" AS b, debugging_forbidden_by AS creator,
        debugging_forbidden_at AS since
    FROM registry.tenants WHERE tenant_id = $1 AND debugging_forbidden_at IS NOT NULL
    UNION ALL SELECT 1, key, value, forbidden_by, forbidden_at FROM registry.debug_labels WHERE tenant_id = $1
    UNION ALL SELECT 2, device_id, ''::text COLLATE \"C\", debugging_forbidden_by, debugging_forbidden_at
    FROM registry.devices WHERE tenant_id = $1 AND debugging_forbidden_at IS NOT NULL";

/// Says who forbids it since when, unless it is forbidden already; whether it was not. The caller holds the tenant's row, or the device's.
pub(crate) async fn forbid(
    tx: &Tx,
    tenant: TenantId,
    scope: &Scope,
    creator: &str,
    now: SystemTime,
) -> Result<bool, Error> {
    let tenant = tenant.to_string();
    let rows = match scope {
        Scope::Tenant => {
            let sql = "UPDATE registry.tenants SET debugging_forbidden_at = $2, debugging_forbidden_by = $3
                       WHERE tenant_id = $1 AND debugging_forbidden_at IS NULL";
            tx.execute(sql, &[&tenant, &now, &creator]).await?
        }
        Scope::Label { key, value } => {
            let sql = "INSERT INTO registry.debug_labels (tenant_id, key, value, forbidden_at, forbidden_by)
                       VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING";
            tx.execute(sql, &[&tenant, key, value, &now, &creator]).await?
        }
        Scope::Device(id) => {
            let sql = "UPDATE registry.devices SET debugging_forbidden_at = $3, debugging_forbidden_by = $4, revision = revision + 1
                       WHERE tenant_id = $1 AND device_id = $2 AND debugging_forbidden_at IS NULL";
            tx.execute(sql, &[&tenant, &id.to_string(), &now, &creator]).await?
        }
    };
    if matches!(scope, Scope::Label { .. }) {
        let sql = "SELECT count(*) FROM registry.debug_labels WHERE tenant_id = $1";
        if tx.query_one(sql, &[&tenant]).await?.get::<_, i64>(0) > LABEL_BANS_MAX {
            let message = "the tenant forbids debugging for too many labels";
            return Err(Error::Exhausted { reason: "DEBUG_LABEL_BANS_MAX", message });
        }
    }
    Ok(rows == 1)
}

/// Takes it back; whether there was anything.
pub(crate) async fn allow(tx: &Tx, tenant: TenantId, scope: &Scope) -> Result<bool, Error> {
    let tenant = tenant.to_string();
    let rows = match scope {
        Scope::Tenant => {
            let sql =
                "UPDATE registry.tenants SET debugging_forbidden_at = NULL, debugging_forbidden_by = NULL
                       WHERE tenant_id = $1 AND debugging_forbidden_at IS NOT NULL";
            tx.execute(sql, &[&tenant]).await?
        }
        Scope::Label { key, value } => {
            let sql = "DELETE FROM registry.debug_labels WHERE tenant_id = $1 AND key = $2 AND value = $3";
            tx.execute(sql, &[&tenant, key, value]).await?
        }
        Scope::Device(id) => {
            let sql = "UPDATE registry.devices SET debugging_forbidden_at = NULL, debugging_forbidden_by = NULL, revision = revision + 1
                       WHERE tenant_id = $1 AND device_id = $2 AND debugging_forbidden_at IS NOT NULL";
            tx.execute(sql, &[&tenant, &id.to_string()]).await?
        }
    };
    Ok(rows == 1)
}

/// What forbids one device by itself forbids another. The caller holds both by `devices::lock_many`.
pub(crate) async fn inherit(tx: &Tx, tenant: TenantId, old: DeviceId, new: DeviceId) -> Result<(), Error> {
    let sql = "UPDATE registry.devices n SET debugging_forbidden_at = o.debugging_forbidden_at,
                   debugging_forbidden_by = o.debugging_forbidden_by, revision = n.revision + 1
               FROM registry.devices o
               WHERE n.tenant_id = $1 AND n.device_id = $2 AND n.debugging_forbidden_at IS NULL
                 AND o.tenant_id = $1 AND o.device_id = $3 AND o.debugging_forbidden_at IS NOT NULL";
    tx.execute(sql, &[&tenant.to_string(), &new.to_string(), &old.to_string()]).await?;
    Ok(())
}

pub(crate) async fn ban(tx: &Tx, tenant: TenantId, scope: &Scope) -> Result<Option<Ban>, Error> {
    let sql = format!("SELECT * FROM ({BANS}) k WHERE rank = $2 AND a = $3 AND b = $4");
    let (rank, a, b) = place(scope);
    tx.query_opt(&sql, &[&tenant.to_string(), &rank, &a, &b]).await?.map(|row| read(&row)).transpose()
}

/// In the order of their scopes, after this one.
pub(crate) async fn list(
    tx: &Tx,
    tenant: TenantId,
    after: Option<&Scope>,
    limit: i64,
) -> Result<Vec<Ban>, Error> {
    let (rank, a, b) = after.map_or((-1, String::new(), String::new()), place);
    let sql = format!(
        "SELECT * FROM ({BANS}) k WHERE rank > $2 OR (rank = $2 AND (a, b) > ($3, $4)) ORDER BY rank, a, b LIMIT $5"
    );
    let values: [&(dyn ToSql + Sync); 5] = [&tenant.to_string(), &rank, &a, &b, &limit];
    tx.query(&sql, &values).await?.iter().map(read).collect()
}

/// The labels for which a tenant forbids it.
pub(crate) async fn labels(tx: &Tx, tenant: TenantId) -> Result<Vec<(String, String)>, Error> {
    let sql = "SELECT key, value FROM registry.debug_labels WHERE tenant_id = $1 ORDER BY key, value";
    let rows = tx.query(sql, &[&tenant.to_string()]).await?;
    rows.iter().map(|row| Ok((get(row, "key")?, get(row, "value")?))).collect()
}

fn place(scope: &Scope) -> (i32, String, String) {
    match scope {
        Scope::Tenant => (0, String::new(), String::new()),
        Scope::Label { key, value } => (1, key.clone(), value.clone()),
        Scope::Device(id) => (2, id.to_string(), String::new()),
    }
}

fn read(row: &Row) -> Result<Ban, Error> {
    let a: &str = get(row, "a")?;
    let scope = match get::<i32>(row, "rank")? {
        0 => Scope::Tenant,
        1 => Scope::label(a, get(row, "b")?),
        _ => Scope::Device(a.parse().map_err(|_| Error::Corrupt { column: "device_id" })?),
    };
    Ok(Ban { scope, creator: get(row, "creator")?, since: get(row, "since")? })
}
