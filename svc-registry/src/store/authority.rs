//! Authority keys (sealed), token signing keys (sealed), the bootstrap code (its hash), and certificates issued.

use std::time::SystemTime;

use kit::pg::Row;
use wire::TenantId;

use super::Tx;
use super::rows::{digest, get};
use crate::ca::Issued;
use crate::error::Error;
use crate::model::roots::Root;

const AUTHORITY: &str = "certificate, key_digest, sealed_key, sealed_by_key";

/// Key of the advisory lock under which the installation's own keys are made.
const INSTALLATION_LOCK: i64 = 0x0068_665f_7265_6731;

/// A certificate authority as stored.
#[derive(Debug, Clone)]
pub(crate) struct StoredAuthority {
    pub certificate: Vec<u8>,
    pub key_digest: [u8; 32],
    pub sealed_key: Vec<u8>,
    /// The sealed key's associated data names the key, after the kind or tenant.
    pub sealed_by_key: bool,
}

/// A device root as it is listed.
#[derive(Debug, Clone)]
pub(crate) struct StoredRoot {
    pub root: Root,
    pub retired_at: Option<SystemTime>,
    /// Devices whose certificate is under it.
    pub devices: i64,
}

#[derive(Debug, Clone)]
pub(crate) struct StoredSigningKey {
    pub kid: String,
    /// SEC1, uncompressed.
    pub public_point: Vec<u8>,
    pub sealed_key: Vec<u8>,
}

/// Whose certificate, and what for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Claim,
    Birth,
    Leaf,
}

impl Kind {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Claim => "claim",
            Self::Birth => "birth",
            Self::Leaf => "leaf",
        }
    }
}

/// Until the transaction ends nobody else makes the installation's keys.
pub(crate) async fn lock_installation(tx: &Tx) -> Result<(), Error> {
    tx.execute("SELECT pg_advisory_xact_lock($1)", &[&INSTALLATION_LOCK]).await?;
    Ok(())
}

/// The first of a kind that was not retired.
pub(crate) async fn root(tx: &Tx, kind: &str) -> Result<Option<StoredAuthority>, Error> {
    let sql = format!(
        "SELECT {AUTHORITY} FROM registry.roots WHERE kind = $1 AND retired_at IS NULL
                       ORDER BY created_at, key_digest LIMIT 1"
    );
    tx.query_opt(&sql, &[&kind]).await?.map(|row| read_authority(&row)).transpose()
}

pub(crate) async fn device_root(tx: &Tx, key_digest: &[u8; 32]) -> Result<Option<StoredAuthority>, Error> {
    let sql = format!("SELECT {AUTHORITY} FROM registry.roots WHERE kind = 'device' AND key_digest = $1");
    tx.query_opt(&sql, &[&key_digest.as_slice()]).await?.map(|row| read_authority(&row)).transpose()
}

/// Device roots that are trusted, in the order of their making.
pub(crate) async fn device_roots(tx: &Tx) -> Result<Vec<Root>, Error> {
    let sql = "SELECT key_digest, created_at FROM registry.roots WHERE kind = 'device' AND retired_at IS NULL
               ORDER BY created_at, key_digest";
    tx.query(sql, &[]).await?.iter().map(read_root).collect()
}

/// Certificates of device roots that are trusted.
pub(crate) async fn device_root_certificates(tx: &Tx) -> Result<Vec<Vec<u8>>, Error> {
    let sql = "SELECT certificate FROM registry.roots WHERE kind = 'device' AND retired_at IS NULL
               ORDER BY created_at, key_digest";
    tx.query(sql, &[]).await?.iter().map(|row| get(row, "certificate")).collect()
}

/// All device roots there ever were, and how many devices are under each.
pub(crate) async fn list_device_roots(tx: &Tx) -> Result<Vec<StoredRoot>, Error> {
    let sql = "SELECT r.key_digest, r.created_at, r.retired_at, (
                   SELECT count(*) FROM registry.intermediates i JOIN registry.devices d
                   ON coalesce(d.leaf_before_issuer, d.leaf_issuer) = i.key_digest AND d.revoked_at IS NULL
                   WHERE i.root = r.key_digest) AS devices
               FROM registry.roots r WHERE r.kind = 'device' ORDER BY r.created_at, r.key_digest";
    let read = |row: &Row| {
        Ok(StoredRoot {
            root: read_root(row)?,
            retired_at: get(row, "retired_at")?,
            devices: get(row, "devices")?,
        })
    };
    tx.query(sql, &[]).await?.iter().map(read).collect()
}

/// Certificates under it are no longer good. The caller holds [`lock_installation`].
pub(crate) async fn retire_root(tx: &Tx, key_digest: &[u8; 32], now: SystemTime) -> Result<(), Error> {
    let sql = "UPDATE registry.roots SET retired_at = $2 WHERE kind = 'device' AND key_digest = $1
               AND retired_at IS NULL";
    tx.execute(sql, &[&key_digest.as_slice(), &now]).await?;
    let sql = "INSERT INTO registry.disconnects (identity, tenant_id)
               SELECT d.device_id, d.tenant_id FROM registry.intermediates i JOIN registry.devices d
               ON coalesce(d.leaf_before_issuer, d.leaf_issuer) = i.key_digest AND d.revoked_at IS NULL
               WHERE i.root = $1 ON CONFLICT (identity) DO UPDATE SET requested_at = now()";
    tx.execute(sql, &[&key_digest.as_slice()]).await?;
    Ok(())
}

pub(crate) async fn insert_root(
    tx: &Tx,
    kind: &str,
    root: &StoredAuthority,
    now: SystemTime,
) -> Result<(), Error> {
    let sql =
        "INSERT INTO registry.roots (kind, certificate, key_digest, sealed_key, sealed_by_key, created_at)
               VALUES ($1, $2, $3, $4, $5, $6)";
    let digest = root.key_digest.as_slice();
    tx.execute(sql, &[&kind, &root.certificate, &digest, &root.sealed_key, &root.sealed_by_key, &now])
        .await?;
    Ok(())
}

/// A tenant's under a root.
pub(crate) async fn intermediate(
    tx: &Tx,
    tenant: TenantId,
    root: &[u8; 32],
) -> Result<Option<StoredAuthority>, Error> {
    let sql = format!("SELECT {AUTHORITY} FROM registry.intermediates WHERE tenant_id = $1 AND root = $2");
    let row = tx.query_opt(&sql, &[&tenant.to_string(), &root.as_slice()]).await?;
    row.map(|row| read_authority(&row)).transpose()
}

/// Whether it is one of the tenant's, and under no root that is retired.
pub(crate) async fn issuer_stands(tx: &Tx, tenant: TenantId, key_digest: &[u8]) -> Result<bool, Error> {
    let sql = "SELECT 1 FROM registry.intermediates i LEFT JOIN registry.roots r ON r.key_digest = i.root
               WHERE i.tenant_id = $1 AND i.key_digest = $2 AND r.retired_at IS NULL";
    Ok(tx.query_opt(sql, &[&tenant.to_string(), &key_digest]).await?.is_some())
}

/// False: another transaction made the tenant's under this root first.
pub(crate) async fn insert_intermediate(
    tx: &Tx,
    tenant: TenantId,
    root: &[u8; 32],
    made: &StoredAuthority,
) -> Result<bool, Error> {
    let sql =
        "INSERT INTO registry.intermediates (tenant_id, certificate, key_digest, sealed_key, sealed_by_key, root)
               VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING";
    let (tenant, digest) = (tenant.to_string(), made.key_digest.as_slice());
    let inserted = tx
        .execute(
            sql,
            &[&tenant, &made.certificate, &digest, &made.sealed_key, &made.sealed_by_key, &root.as_slice()],
        )
        .await?;
    Ok(inserted == 1)
}

/// Newest first.
pub(crate) async fn signing_keys(tx: &Tx) -> Result<Vec<StoredSigningKey>, Error> {
    let sql = "SELECT kid, public_point, sealed_key FROM registry.signing_keys ORDER BY created_at DESC, kid";
    let read = |row: &Row| {
        Ok(StoredSigningKey {
            kid: get(row, "kid")?,
            public_point: get(row, "public_point")?,
            sealed_key: get(row, "sealed_key")?,
        })
    };
    tx.query(sql, &[]).await?.iter().map(read).collect()
}

pub(crate) async fn insert_signing_key(tx: &Tx, key: &StoredSigningKey) -> Result<(), Error> {
    let sql = "INSERT INTO registry.signing_keys (kid, public_point, sealed_key) VALUES ($1, $2, $3)";
    tx.execute(sql, &[&key.kid, &key.public_point, &key.sealed_key]).await?;
    Ok(())
}

/// Replaces the bootstrap code. False: the installation has its administrator.
pub(crate) async fn set_bootstrap_hash(tx: &Tx, hash: &[u8; 32]) -> Result<bool, Error> {
    let sql = "UPDATE registry.installation SET bootstrap_hash = $1 WHERE bootstrapped_at IS NULL";
    Ok(tx.execute(sql, &[&hash.as_slice()]).await? == 1)
}

/// The hash of the code that is good now, its row locked.
pub(crate) async fn bootstrap_hash(tx: &Tx) -> Result<Option<Vec<u8>>, Error> {
    let sql = "SELECT bootstrap_hash FROM registry.installation WHERE bootstrapped_at IS NULL FOR UPDATE";
    Ok(tx.query_opt(sql, &[]).await?.and_then(|row| row.get(0)))
}

/// The code is used up.
pub(crate) async fn end_bootstrap(tx: &Tx) -> Result<(), Error> {
    tx.execute("UPDATE registry.installation SET bootstrap_hash = NULL, bootstrapped_at = now()", &[])
        .await?;
    Ok(())
}

pub(crate) async fn insert_certificate(
    tx: &Tx,
    tenant: TenantId,
    kind: Kind,
    subject: &str,
    key_digest: &[u8; 32],
    issued: &Issued,
) -> Result<(), Error> {
    let sql = "INSERT INTO registry.certificates
               (serial, tenant_id, kind, subject, digest, key_digest, issued_at, expires_at)
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
    let (serial, digest, key) = (issued.serial.as_slice(), issued.digest.as_slice(), key_digest.as_slice());
    let (tenant, kind) = (tenant.to_string(), kind.as_str());
    tx.execute(
        sql,
        &[&serial, &tenant, &kind, &subject, &digest, &key, &issued.issued_at, &issued.expires_at],
    )
    .await?;
    Ok(())
}

fn read_authority(row: &Row) -> Result<StoredAuthority, Error> {
    Ok(StoredAuthority {
        certificate: get(row, "certificate")?,
        key_digest: digest(row, "key_digest")?,
        sealed_key: get(row, "sealed_key")?,
        sealed_by_key: get(row, "sealed_by_key")?,
    })
}

fn read_root(row: &Row) -> Result<Root, Error> {
    Ok(Root { key_digest: digest(row, "key_digest")?, made_at: get(row, "created_at")? })
}
