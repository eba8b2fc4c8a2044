//! Keysets as their tenants signed them. Versions follow each other; none is ever changed or deleted.

use kit::pg::Row;
use wire::TenantId;

use super::Tx;
use super::rows::get;
use crate::error::Error;
use crate::model::SignedKeyset;

const SELECT: &str = "SELECT version, signed, created_at FROM registry.keysets WHERE tenant_id = $1";

pub(crate) async fn insert(tx: &Tx, tenant: TenantId, keyset: &SignedKeyset) -> Result<(), Error> {
    let sql = "INSERT INTO registry.keysets (tenant_id, version, signed, created_at) VALUES ($1, $2, $3, $4)";
    tx.execute(sql, &[&tenant.to_string(), &keyset.version, &keyset.signed, &keyset.created_at]).await?;
    Ok(())
}

pub(crate) async fn latest(tx: &Tx, tenant: TenantId) -> Result<Option<SignedKeyset>, Error> {
    let sql = format!("{SELECT} ORDER BY version DESC LIMIT 1");
    tx.query_opt(&sql, &[&tenant.to_string()]).await?.map(|row| read(&row)).transpose()
}

pub(crate) async fn version(tx: &Tx, tenant: TenantId, version: i32) -> Result<Option<SignedKeyset>, Error> {
    let sql = format!("{SELECT} AND version = $2");
    tx.query_opt(&sql, &[&tenant.to_string(), &version]).await?.map(|row| read(&row)).transpose()
}

pub(crate) async fn list(
    tx: &Tx,
    tenant: TenantId,
    after: i32,
    limit: i64,
) -> Result<Vec<SignedKeyset>, Error> {
    let sql = format!("{SELECT} AND version > $2 ORDER BY version LIMIT $3");
    tx.query(&sql, &[&tenant.to_string(), &after, &limit]).await?.iter().map(read).collect()
}

fn read(row: &Row) -> Result<SignedKeyset, Error> {
    Ok(SignedKeyset {
        version: get(row, "version")?,
        signed: get(row, "signed")?,
        created_at: get(row, "created_at")?,
    })
}
