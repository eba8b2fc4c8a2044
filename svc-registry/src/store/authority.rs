//! Authority keys (sealed), token signing keys (sealed), the bootstrap code (its hash), and certificates issued.

use kit::pg::Row;
use wire::TenantId;

use super::Tx;
use super::rows::{digest, get};
use crate::ca::Issued;
use crate::error::Error;

/// Key of the advisory lock under which the installation's own keys are made.
const INSTALLATION_LOCK: i64 = 0x0068_665f_7265_6731;

/// A certificate authority as stored.
#[derive(Debug, Clone)]
pub(crate) struct StoredAuthority {
    pub certificate: Vec<u8>,
    pub key_digest: [u8; 32],
    pub sealed_key: Vec<u8>,
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

pub(crate) async fn root(tx: &Tx, kind: &str) -> Result<Option<StoredAuthority>, Error> {
    let sql = "SELECT certificate, key_digest, sealed_key FROM registry.roots WHERE kind = $1";
    tx.query_opt(sql, &[&kind]).await?.map(|row| read_authority(&row)).transpose()
}

pub(crate) async fn insert_root(tx: &Tx, kind: &str, root: &StoredAuthority) -> Result<(), Error> {
    let sql =
        "INSERT INTO registry.roots (kind, certificate, key_digest, sealed_key) VALUES ($1, $2, $3, $4)";
    tx.execute(sql, &[&kind, &root.certificate, &root.key_digest.as_slice(), &root.sealed_key]).await?;
    Ok(())
}

pub(crate) async fn intermediate(tx: &Tx, tenant: TenantId) -> Result<Option<StoredAuthority>, Error> {
    let sql = "SELECT certificate, key_digest, sealed_key FROM registry.intermediates WHERE tenant_id = $1";
    tx.query_opt(sql, &[&tenant.to_string()]).await?.map(|row| read_authority(&row)).transpose()
}

pub(crate) async fn insert_intermediate(
    tx: &Tx,
    tenant: TenantId,
    made: &StoredAuthority,
) -> Result<(), Error> {
    let sql = "INSERT INTO registry.intermediates (tenant_id, certificate, key_digest, sealed_key)
               VALUES ($1, $2, $3, $4)";
    let digest = made.key_digest.as_slice();
    tx.execute(sql, &[&tenant.to_string(), &made.certificate, &digest, &made.sealed_key]).await?;
    Ok(())
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
    })
}
