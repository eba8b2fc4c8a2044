//! Claims and their counts. A count rises in the transaction that makes the device, under the claim's row lock, so
//! that any number of boards at once never exceed it.

use std::time::SystemTime;

use kit::pg::Row;
use wire::{ClaimId, TenantId};

use super::Tx;
use super::rows::{digest, get, id};
use crate::error::Error;
use crate::model::Claim;
use crate::model::claim::CLAIMS_PER_TENANT_MAX;

const CLAIM: &str = "claim_id, tenant_id, display_name, devices_max, devices_enrolled, certificate, \
                     certificate_digest, key_digest, created_at, expires_at, revoked_at";

/// A claim and what its certificate is known by.
#[derive(Debug, Clone)]
pub(crate) struct StoredClaim {
    pub claim: Claim,
    pub certificate_digest: [u8; 32],
    pub key_digest: [u8; 32],
}

/// The caller holds the tenant's lock.
pub(crate) async fn insert(tx: &Tx, stored: &StoredClaim) -> Result<(), Error> {
    let claim = &stored.claim;
    let tenant = claim.tenant.to_string();
    let sql = "SELECT count(*) FROM registry.claims WHERE tenant_id = $1";
    let count: i64 = tx.query_one(sql, &[&tenant]).await?.get(0);
    if count >= CLAIMS_PER_TENANT_MAX {
        return Err(Error::Exhausted {
            reason: "CLAIMS_PER_TENANT",
            message: "the tenant has too many claims",
        });
    }
    let sql = "INSERT INTO registry.claims (claim_id, tenant_id, display_name, devices_max, certificate,
               certificate_digest, key_digest, created_at, expires_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)";
    let (digest, key) = (stored.certificate_digest.as_slice(), stored.key_digest.as_slice());
    tx.execute(
        sql,
        &[
            &claim.id.to_string(),
            &tenant,
            &claim.display_name,
            &claim.devices_max,
            &claim.certificate,
            &digest,
            &key,
            &claim.created_at,
            &claim.expires_at,
        ],
    )
    .await?;
    Ok(())
}

pub(crate) async fn get_claim(tx: &Tx, tenant: TenantId, claim: ClaimId) -> Result<Option<Claim>, Error> {
    let sql = format!("SELECT {CLAIM} FROM registry.claims WHERE tenant_id = $1 AND claim_id = $2");
    let row = tx.query_opt(&sql, &[&tenant.to_string(), &claim.to_string()]).await?;
    row.map(|row| read(&row).map(|stored| stored.claim)).transpose()
}

/// Whichever tenant's: for certificates, which name no tenant.
pub(crate) async fn by_id(tx: &Tx, claim: ClaimId) -> Result<Option<StoredClaim>, Error> {
    let sql = format!("SELECT {CLAIM} FROM registry.claims WHERE claim_id = $1");
    tx.query_opt(&sql, &[&claim.to_string()]).await?.map(|row| read(&row)).transpose()
}

pub(crate) async fn list(tx: &Tx, tenant: TenantId, after: &str, limit: i64) -> Result<Vec<Claim>, Error> {
    let sql = format!(
        "SELECT {CLAIM} FROM registry.claims WHERE tenant_id = $1 AND claim_id > $2 ORDER BY claim_id LIMIT $3"
    );
    let rows = tx.query(&sql, &[&tenant.to_string(), &after, &limit]).await?;
    rows.iter().map(|row| read(row).map(|stored| stored.claim)).collect()
}

/// None: no such claim of this tenant. Revoking again keeps the first time.
pub(crate) async fn revoke(
    tx: &Tx,
    tenant: TenantId,
    claim: ClaimId,
    now: SystemTime,
) -> Result<Option<Claim>, Error> {
    let sql = format!(
        "UPDATE registry.claims SET revoked_at = coalesce(revoked_at, $3) WHERE tenant_id = $1 AND claim_id = $2
         RETURNING {CLAIM}"
    );
    let row = tx.query_opt(&sql, &[&tenant.to_string(), &claim.to_string(), &now]).await?;
    row.map(|row| read(&row).map(|stored| stored.claim)).transpose()
}

/// Counts one more device. False: revoked, expired or exhausted meanwhile.
pub(crate) async fn count_one(tx: &Tx, claim: ClaimId, now: SystemTime) -> Result<bool, Error> {
    let sql = "UPDATE registry.claims SET devices_enrolled = devices_enrolled + 1
               WHERE claim_id = $1 AND revoked_at IS NULL AND expires_at > $2 AND devices_enrolled < devices_max";
    Ok(tx.execute(sql, &[&claim.to_string(), &now]).await? == 1)
}

fn read(row: &Row) -> Result<StoredClaim, Error> {
    let claim = Claim {
        id: id(row, "claim_id")?,
        tenant: id(row, "tenant_id")?,
        display_name: get(row, "display_name")?,
        devices_max: get(row, "devices_max")?,
        devices_enrolled: get(row, "devices_enrolled")?,
        certificate: get(row, "certificate")?,
        created_at: get(row, "created_at")?,
        expires_at: get(row, "expires_at")?,
        revoked_at: get(row, "revoked_at")?,
    };
    let certificate_digest = digest(row, "certificate_digest")?;
    Ok(StoredClaim { claim, certificate_digest, key_digest: digest(row, "key_digest")? })
}
