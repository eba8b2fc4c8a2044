//! Director keys: one a tenant, the private half sealed.

use kit::pg::Row;
use wire::{PublicKey, TenantId};

use super::Tx;
use crate::error::Error;

pub(crate) struct SealedDirector {
    pub(crate) public: PublicKey,
    pub(crate) sealed: Vec<u8>,
}

pub(crate) async fn find(tx: &Tx, tenant: TenantId) -> Result<Option<SealedDirector>, Error> {
    let sql = "SELECT public_key, sealed_key FROM director_keys WHERE tenant_id = $1";
    tx.query_opt(sql, &[&tenant.text().as_str()]).await?.map(|row| director(&row)).transpose()
}

/// Keeps the key unless the tenant has one by now.
pub(crate) async fn insert(tx: &Tx, tenant: TenantId, key: &SealedDirector) -> Result<(), Error> {
    tx.execute(
        "INSERT INTO director_keys (tenant_id, public_key, sealed_key) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
        &[&tenant.text().as_str(), &key.public.as_bytes().as_slice(), &key.sealed],
    )
    .await?;
    Ok(())
}

fn director(row: &Row) -> Result<SealedDirector, Error> {
    let public =
        PublicKey::from_sec1(row.try_get("public_key")?).map_err(|_| Error::Corrupt("public_key"))?;
    Ok(SealedDirector { public, sealed: row.try_get("sealed_key")? })
}
