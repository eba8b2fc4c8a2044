//! Director keys, the private halves sealed; and which of them keysets name (`registry.keyset_v1`: read only).

use kit::pg::Row;
use wire::{PublicKey, TenantId};

use super::{Tx, parsed, unsigned};
use crate::error::Error;
use crate::model::director::Named;

pub(crate) struct SealedDirector {
    pub(crate) public: PublicKey,
    pub(crate) sealed: Vec<u8>,
}

/// What a device with a keyset obeys.
pub(crate) struct Obeyed {
    pub(crate) tenant: TenantId,
    /// As it was asked for.
    pub(crate) keyset: u32,
    /// The version asked for, or the newest where that is not known.
    pub(crate) named: Named,
}

/// Keeps others from changing the tenant's keys until the transaction ends.
pub(crate) async fn lock(tx: &Tx, tenant: TenantId) -> Result<(), Error> {
    let sql = "SELECT pg_advisory_xact_lock(hashtextextended('ota.director_keys/' || $1, 0))";
    tx.query(sql, &[&tenant.text().as_str()]).await?;
    Ok(())
}

/// Public halves of all the tenant has, oldest first.
pub(crate) async fn held(tx: &Tx, tenant: TenantId) -> Result<Vec<PublicKey>, Error> {
    let sql = "SELECT public_key FROM director_keys WHERE tenant_id = $1 ORDER BY director_id";
    tx.query(sql, &[&tenant.text().as_str()]).await?.iter().map(public).collect()
}

pub(crate) async fn find(
    tx: &Tx,
    tenant: TenantId,
    key: &PublicKey,
) -> Result<Option<SealedDirector>, Error> {
    let sql = "SELECT public_key, sealed_key FROM director_keys WHERE tenant_id = $1 AND public_key = $2";
    let row = tx.query_opt(sql, &[&tenant.text().as_str(), &key.as_bytes().as_slice()]).await?;
    row.map(|row| Ok(SealedDirector { public: public(&row)?, sealed: row.try_get("sealed_key")? }))
        .transpose()
}

pub(crate) async fn insert(tx: &Tx, tenant: TenantId, key: &SealedDirector) -> Result<(), Error> {
    tx.execute(
        "INSERT INTO director_keys (tenant_id, public_key, sealed_key) VALUES ($1, $2, $3)",
        &[&tenant.text().as_str(), &key.public.as_bytes().as_slice(), &key.sealed],
    )
    .await?;
    Ok(())
}

pub(crate) async fn delete(tx: &Tx, tenant: TenantId, keys: &[PublicKey]) -> Result<(), Error> {
    let sql = "DELETE FROM director_keys WHERE tenant_id = $1 AND public_key = ANY ($2)";
    tx.execute(sql, &[&tenant.text().as_str(), &bytes(keys)]).await?;
    Ok(())
}

/// Those of these that are there, whosever.
pub(crate) async fn existing(tx: &Tx, keys: &[PublicKey]) -> Result<Vec<PublicKey>, Error> {
    let sql = "SELECT public_key FROM director_keys WHERE public_key = ANY ($1)";
    tx.query(sql, &[&bytes(keys)]).await?.iter().map(public).collect()
}

/// Up to `limit` tenants after `after` that have more than one.
pub(crate) async fn replacing(tx: &Tx, after: &str, limit: i64) -> Result<Vec<TenantId>, Error> {
    let sql = "SELECT tenant_id FROM director_keys WHERE tenant_id > $1 GROUP BY tenant_id HAVING count(*) > 1 \
               ORDER BY tenant_id LIMIT $2";
    tx.query(sql, &[&after, &limit]).await?.iter().map(|row| parsed(row, "tenant_id")).collect()
}

/// The director keys that the tenant's keysets name, by version.
pub(crate) async fn named(tx: &Tx, tenant: TenantId) -> Result<Vec<Named>, Error> {
    let sql = "SELECT version::bigint, signed FROM registry.keyset_v1 WHERE tenant_id = $1 ORDER BY version";
    tx.query(sql, &[&tenant.text().as_str()]).await?.iter().map(named_by).collect()
}

/// What devices obey that hold these keysets of these tenants; nothing for a tenant without one.
pub(crate) async fn obeyed(tx: &Tx, asked: &[(TenantId, u32)]) -> Result<Vec<Obeyed>, Error> {
    let tenants: Vec<String> = asked.iter().map(|(tenant, _)| tenant.to_string()).collect();
    let versions: Vec<i64> = asked.iter().map(|(_, version)| i64::from(*version)).collect();
    let sql = "SELECT k.tenant_id, k.keyset, v.version::bigint, v.signed FROM unnest($1::text[], $2::bigint[]) \
               AS k(tenant_id, keyset) CROSS JOIN LATERAL (SELECT version, signed FROM registry.keyset_v1 \
               WHERE tenant_id = k.tenant_id ORDER BY (version = k.keyset) DESC, version DESC LIMIT 1) v";
    let obeyed = |row: &Row| {
        Ok(Obeyed {
            tenant: parsed(row, "tenant_id")?,
            keyset: unsigned(row, "keyset")?,
            named: named_by(row)?,
        })
    };
    tx.query(sql, &[&tenants, &versions]).await?.iter().map(obeyed).collect()
}

/// The lowest version of a keyset that a device holds which is not revoked; 0 for one that never said.
pub(crate) async fn oldest_keyset(tx: &Tx, tenant: TenantId) -> Result<Option<u32>, Error> {
    let sql = "SELECT min(keyset_version)::bigint AS oldest FROM registry.device_v1 \
               WHERE tenant_id = $1 AND revoked_at IS NULL";
    let row = tx.query_opt(sql, &[&tenant.text().as_str()]).await?;
    let oldest = row.map(|row| row.try_get::<_, Option<i64>>("oldest")).transpose()?.flatten();
    oldest.map(|oldest| u32::try_from(oldest).map_err(|_| Error::Corrupt("keyset_version"))).transpose()
}

fn named_by(row: &Row) -> Result<Named, Error> {
    let keyset = wire::keyset::read(row.try_get("signed")?).map_err(|_| Error::Corrupt("keyset"))?;
    Ok(Named { version: unsigned(row, "version")?, key: keyset.director_key })
}

fn bytes(keys: &[PublicKey]) -> Vec<&[u8]> {
    keys.iter().map(|key| key.as_bytes().as_slice()).collect()
}

fn public(row: &Row) -> Result<PublicKey, Error> {
    PublicKey::from_sec1(row.try_get("public_key")?).map_err(|_| Error::Corrupt("public_key"))
}
