//! Which ELF file is kept for which bundle.

use wire::{Digest, TenantId};

use super::{Tx, digest, unsigned};
use crate::error::Error;
use crate::model::symbols::Symbols;

pub(crate) async fn find(tx: &Tx, tenant: TenantId, manifest: Digest) -> Result<Option<Symbols>, Error> {
    let sql = "SELECT digest, size, object FROM symbols WHERE tenant_id = $1 AND manifest_digest = $2";
    let row = tx.query_opt(sql, &[&tenant.text().as_str(), &manifest.0.as_slice()]).await?;
    row.map(|row| {
        Ok(Symbols {
            digest: digest(&row, "digest")?,
            bytes: unsigned(&row, "size")?,
            object: row.try_get("object")?,
        })
    })
    .transpose()
}

/// Makes these the bundle's; the bundle is held by the caller, and what it had before is forgotten already.
pub(crate) async fn insert(
    tx: &Tx,
    tenant: TenantId,
    manifest: Digest,
    symbols: &Symbols,
) -> Result<(), Error> {
    tx.execute(
        "INSERT INTO symbols (tenant_id, manifest_digest, digest, size, object) VALUES ($1, $2, $3, $4, $5)",
        &[
            &tenant.text().as_str(),
            &manifest.0.as_slice(),
            &symbols.digest.0.as_slice(),
            &(symbols.bytes as i64),
            &symbols.object,
        ],
    )
    .await?;
    Ok(())
}

/// Forgets what is kept for a bundle, if anything, and gives the object that nobody refers to any more.
pub(crate) async fn delete(tx: &Tx, tenant: TenantId, manifest: Digest) -> Result<Option<String>, Error> {
    let sql = "DELETE FROM symbols WHERE tenant_id = $1 AND manifest_digest = $2 RETURNING object";
    let row = tx.query_opt(sql, &[&tenant.text().as_str(), &manifest.0.as_slice()]).await?;
    Ok(row.map(|row| row.try_get("object")).transpose()?)
}
