//! Tenants, keys, and assertions already exchanged.

use kit::pg::Row;
use wire::{KeyId, TenantId};

use super::Tx;
use super::rows::{get, id};
use crate::error::Error;
use crate::model::key::{ASSERTIONS_PER_KEY_MAX, Assertion, KEYS_PER_TENANT_MAX};
use crate::model::{Key, Role, Tenant};

const TENANT: &str =
    "tenant_id, display_name, created_at, debugging_forbidden_at IS NOT NULL AS debugging_forbidden";
const KEY: &str = "key_id, tenant_id, display_name, role, installation, public_key, created_at";

pub(crate) async fn insert_tenant(tx: &Tx, tenant: &Tenant) -> Result<(), Error> {
    let sql = "INSERT INTO registry.tenants (tenant_id, display_name, created_at) VALUES ($1, $2, $3)";
    tx.execute(sql, &[&tenant.id.to_string(), &tenant.display_name, &tenant.created_at]).await?;
    Ok(())
}

pub(crate) async fn tenant(tx: &Tx, tenant: TenantId) -> Result<Option<Tenant>, Error> {
    let sql = format!("SELECT {TENANT} FROM registry.tenants WHERE tenant_id = $1");
    tx.query_opt(&sql, &[&tenant.to_string()]).await?.map(|row| read_tenant(&row)).transpose()
}

/// Ordered by id, after `after`.
pub(crate) async fn list_tenants(tx: &Tx, after: &str, limit: i64) -> Result<Vec<Tenant>, Error> {
    let sql =
        format!("SELECT {TENANT} FROM registry.tenants WHERE tenant_id > $1 ORDER BY tenant_id LIMIT $2");
    tx.query(&sql, &[&after, &limit]).await?.iter().map(read_tenant).collect()
}

/// Locks the tenant's row: whoever counts what a tenant has, and then adds to it, does so one at a time.
pub(crate) async fn lock_tenant(tx: &Tx, tenant: TenantId) -> Result<bool, Error> {
    let sql = "SELECT 1 FROM registry.tenants WHERE tenant_id = $1 FOR UPDATE";
    Ok(tx.query_opt(sql, &[&tenant.to_string()]).await?.is_some())
}

/// False: the tenant has this public key already. The caller holds [`lock_tenant`].
pub(crate) async fn insert_key(tx: &Tx, key: &Key) -> Result<bool, Error> {
    let tenant = key.tenant.to_string();
    let sql = "SELECT count(*) FROM registry.keys WHERE tenant_id = $1";
    let count: i64 = tx.query_one(sql, &[&tenant]).await?.get(0);
    if count >= KEYS_PER_TENANT_MAX {
        return Err(Error::Exhausted { reason: "KEYS_PER_TENANT", message: "the tenant has too many keys" });
    }
    let sql = "INSERT INTO registry.keys (key_id, tenant_id, display_name, role, installation, public_key, created_at)
               VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (tenant_id, public_key) DO NOTHING";
    let role = key.role.as_str();
    let id = key.id.to_string();
    let rows = tx
        .execute(
            sql,
            &[&id, &tenant, &key.display_name, &role, &key.installation, &key.public_key, &key.created_at],
        )
        .await?;
    Ok(rows == 1)
}

pub(crate) async fn key(tx: &Tx, tenant: TenantId, key: KeyId) -> Result<Option<Key>, Error> {
    let sql = format!("SELECT {KEY} FROM registry.keys WHERE tenant_id = $1 AND key_id = $2");
    tx.query_opt(&sql, &[&tenant.to_string(), &key.to_string()]).await?.map(|row| read_key(&row)).transpose()
}

pub(crate) async fn list_keys(tx: &Tx, tenant: TenantId, after: &str, limit: i64) -> Result<Vec<Key>, Error> {
    let sql = format!(
        "SELECT {KEY} FROM registry.keys WHERE tenant_id = $1 AND key_id > $2 ORDER BY key_id LIMIT $3"
    );
    tx.query(&sql, &[&tenant.to_string(), &after, &limit]).await?.iter().map(read_key).collect()
}

pub(crate) async fn delete_key(tx: &Tx, tenant: TenantId, key: KeyId) -> Result<bool, Error> {
    let sql = "DELETE FROM registry.keys WHERE tenant_id = $1 AND key_id = $2";
    Ok(tx.execute(sql, &[&tenant.to_string(), &key.to_string()]).await? == 1)
}

/// Administrator keys of a tenant. The caller holds [`lock_tenant`].
pub(crate) async fn count_admins(tx: &Tx, tenant: TenantId) -> Result<i64, Error> {
    let sql = "SELECT count(*) FROM registry.keys WHERE tenant_id = $1 AND role = 'admin'";
    Ok(tx.query_one(sql, &[&tenant.to_string()]).await?.get(0))
}

/// Keys that administer the installation, of all tenants.
pub(crate) async fn count_installers(tx: &Tx) -> Result<i64, Error> {
    Ok(tx.query_one("SELECT count(*) FROM registry.keys WHERE installation", &[]).await?.get(0))
}

/// False: this assertion was exchanged before.
pub(crate) async fn use_assertion(tx: &Tx, key: &Key, assertion: &Assertion) -> Result<bool, Error> {
    let (key_id, tenant) = (key.id.to_string(), key.tenant.to_string());
    let sql = "SELECT count(*) FROM registry.assertions WHERE key_id = $1 AND expires_at > now()";
    let count: i64 = tx.query_one(sql, &[&key_id]).await?.get(0);
    if count >= ASSERTIONS_PER_KEY_MAX {
        return Err(Error::Exhausted { reason: "ASSERTIONS_PER_KEY", message: "the key signs in too often" });
    }
    let sql = "INSERT INTO registry.assertions (key_id, tenant_id, jti, expires_at) VALUES ($1, $2, $3, $4)
               ON CONFLICT DO NOTHING";
    Ok(tx.execute(sql, &[&key_id, &tenant, &assertion.jti, &assertion.expires_at]).await? == 1)
}

fn read_tenant(row: &Row) -> Result<Tenant, Error> {
    Ok(Tenant {
        id: id(row, "tenant_id")?,
        display_name: get(row, "display_name")?,
        created_at: get(row, "created_at")?,
        debugging_forbidden: get(row, "debugging_forbidden")?,
    })
}

fn read_key(row: &Row) -> Result<Key, Error> {
    Ok(Key {
        id: id(row, "key_id")?,
        tenant: id(row, "tenant_id")?,
        display_name: get(row, "display_name")?,
        role: Role::parse(get(row, "role")?).ok_or(Error::Corrupt { column: "role" })?,
        installation: get(row, "installation")?,
        public_key: get(row, "public_key")?,
        created_at: get(row, "created_at")?,
    })
}
