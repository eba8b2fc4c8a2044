//! Bundles and the layers they are made of.

use std::collections::HashMap;
use std::time::SystemTime;

use kit::pg::{Row, ToSql};
use wire::{BundleId, Digest, TenantId};

use super::{Tx, digest, parsed, unsigned};
use crate::error::Error;
use crate::model::bundle::{Bundle, Candidate};

const COLUMNS: &str = "bundle_id, tenant_id, manifest_digest, component, board, version, security_counter, size, \
                       envelope, created_at";

pub(crate) async fn find(tx: &Tx, tenant: TenantId, id: BundleId) -> Result<Option<Bundle>, Error> {
    let sql = format!("SELECT {COLUMNS} FROM bundles WHERE tenant_id = $1 AND bundle_id = $2");
    tx.query_opt(&sql, &[&tenant.text().as_str(), &id.text().as_str()])
        .await?
        .map(|row| bundle(&row))
        .transpose()
}

/// Their signed manifests.
pub(crate) async fn envelopes(tx: &Tx, ids: &[String]) -> Result<HashMap<BundleId, Vec<u8>>, Error> {
    let rows =
        tx.query("SELECT bundle_id, envelope FROM bundles WHERE bundle_id = ANY ($1)", &[&ids]).await?;
    rows.iter().map(|row| Ok((parsed(row, "bundle_id")?, row.try_get("envelope")?))).collect()
}

/// The bundle, held against deletion until the transaction ends.
pub(crate) async fn hold(tx: &Tx, tenant: TenantId, id: BundleId) -> Result<Option<Bundle>, Error> {
    let sql = format!("SELECT {COLUMNS} FROM bundles WHERE tenant_id = $1 AND bundle_id = $2 FOR KEY SHARE");
    tx.query_opt(&sql, &[&tenant.text().as_str(), &id.text().as_str()])
        .await?
        .map(|row| bundle(&row))
        .transpose()
}

pub(crate) async fn find_by_manifest(
    tx: &Tx,
    tenant: TenantId,
    manifest: Digest,
) -> Result<Option<Bundle>, Error> {
    let sql = format!("SELECT {COLUMNS} FROM bundles WHERE tenant_id = $1 AND manifest_digest = $2");
    let row = tx.query_opt(&sql, &[&tenant.text().as_str(), &manifest.0.as_slice()]).await?;
    row.map(|row| bundle(&row)).transpose()
}

/// Newest first.
pub(crate) async fn page(
    tx: &Tx,
    tenant: TenantId,
    before: Option<BundleId>,
    limit: i64,
) -> Result<Vec<Bundle>, Error> {
    let bound = if before.is_some() { "AND bundle_id < $3" } else { "" };
    let sql = format!(
        "SELECT {COLUMNS} FROM bundles WHERE tenant_id = $1 {bound} ORDER BY bundle_id DESC LIMIT $2"
    );
    let (tenant, before) = (tenant.to_string(), before.map(|id| id.to_string()));
    let mut values: Vec<&(dyn ToSql + Sync)> = vec![&tenant, &limit];
    values.extend(before.as_ref().map(|before| before as &(dyn ToSql + Sync)));
    tx.query(&sql, &values).await?.iter().map(bundle).collect()
}

pub(crate) async fn insert(
    tx: &Tx,
    tenant: TenantId,
    id: BundleId,
    candidate: &Candidate,
    envelope: &[u8],
    now: SystemTime,
) -> Result<(), Error> {
    tx.execute(
        "INSERT INTO bundles (bundle_id, tenant_id, manifest_digest, component, board, version, security_counter, \
         size, envelope, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        &[
            &id.text().as_str(),
            &tenant.text().as_str(),
            &candidate.manifest.0.as_slice(),
            &candidate.component.name(),
            &candidate.board,
            &candidate.version,
            &candidate.security_counter,
            &(candidate.bytes as i64),
            &envelope,
            &now,
        ],
    )
    .await?;
    for layer in &candidate.layers {
        tx.execute(
            "INSERT INTO bundle_layers (bundle_id, tenant_id, digest) VALUES ($1, $2, $3)",
            &[&id.text().as_str(), &tenant.text().as_str(), &layer.digest.0.as_slice()],
        )
        .await?;
    }
    Ok(())
}

/// Locks the bundle, if it is there, until the transaction ends.
pub(crate) async fn lock(tx: &Tx, id: BundleId) -> Result<(), Error> {
    tx.execute("SELECT 1 FROM bundles WHERE bundle_id = $1 FOR UPDATE", &[&id.text().as_str()]).await?;
    Ok(())
}

/// Who still needs a bundle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    Deployment,
    ConfirmedSlot,
}

/// Locks the bundle for deletion and says whether anything uses it.
pub(crate) async fn in_use(tx: &Tx, bundle: &Bundle) -> Result<Option<Use>, Error> {
    let (tenant, id) = (bundle.tenant.text(), bundle.id.text());
    // Waits for whoever creates a deployment of it now; the next statement sees what that committed.
    lock(tx, bundle.id).await?;
    let row = tx
        .query_one(
            "SELECT EXISTS (SELECT FROM deployments WHERE tenant_id = $1 AND bundle_id = $2 AND state IN ('pending', \
             'fetching', 'verified', 'polite', 'ready', 'granted', 'installing', 'trial')), \
             EXISTS (SELECT FROM device_links WHERE tenant_id = $1 AND confirmed @> ARRAY[$3::bytea])",
            &[&tenant.as_str(), &id.as_str(), &bundle.manifest.0.as_slice()],
        )
        .await?;
    Ok(match (row.try_get(0)?, row.try_get(1)?) {
        (true, _) => Some(Use::Deployment),
        (_, true) => Some(Use::ConfirmedSlot),
        _ => None,
    })
}

pub(crate) async fn delete(tx: &Tx, id: BundleId) -> Result<(), Error> {
    tx.execute("DELETE FROM bundles WHERE bundle_id = $1", &[&id.text().as_str()]).await?;
    Ok(())
}

/// The stored layer of this digest, held against collection until the transaction ends.
pub(crate) async fn hold_layer(tx: &Tx, tenant: TenantId, layer: Digest) -> Result<bool, Error> {
    let held = tx
        .query_opt(
            "SELECT 1 FROM layers WHERE tenant_id = $1 AND digest = $2 FOR KEY SHARE",
            &[&tenant.text().as_str(), &layer.0.as_slice()],
        )
        .await?;
    Ok(held.is_some())
}

/// Makes `object` the tenant's one blob of this digest; false when there is another already.
pub(crate) async fn insert_layer(
    tx: &Tx,
    tenant: TenantId,
    layer: Digest,
    bytes: u32,
    object: &str,
) -> Result<bool, Error> {
    let inserted = tx
        .execute(
            "INSERT INTO layers (tenant_id, digest, size, object) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
            &[&tenant.text().as_str(), &layer.0.as_slice(), &i64::from(bytes), &object],
        )
        .await?;
    Ok(inserted == 1)
}

/// Lets go of up to `limit` layers that no bundle and no open upload refers to; returns their objects.
pub(crate) async fn release_layers(tx: &Tx, limit: i64) -> Result<Vec<(TenantId, String)>, Error> {
    const UNUSED: &str = "NOT EXISTS (SELECT FROM bundle_layers b WHERE (b.tenant_id, b.digest) = (l.tenant_id, l.digest)) \
        AND NOT EXISTS (SELECT FROM upload_layers u JOIN uploads o USING (upload_id) \
        WHERE (u.tenant_id, u.digest) = (l.tenant_id, l.digest) AND o.bundle_id IS NULL)";
    // Two statements: the first waits for nobody, the second sees what those it had locked out committed before.
    let sql =
        format!("SELECT tenant_id, digest FROM layers l WHERE {UNUSED} LIMIT $1 FOR UPDATE SKIP LOCKED");
    let mut released = Vec::new();
    for row in tx.query(&sql, &[&limit]).await? {
        let sql = format!(
            "DELETE FROM layers l WHERE tenant_id = $1 AND digest = $2 AND {UNUSED} RETURNING object"
        );
        let key: (&str, &[u8]) = (row.try_get(0)?, row.try_get(1)?);
        if let Some(gone) = tx.query_opt(&sql, &[&key.0, &key.1]).await? {
            released.push((parsed(&row, "tenant_id")?, gone.try_get(0)?));
        }
    }
    Ok(released)
}

fn bundle(row: &Row) -> Result<Bundle, Error> {
    Ok(Bundle {
        tenant: parsed(row, "tenant_id")?,
        id: parsed(row, "bundle_id")?,
        manifest: digest(row, "manifest_digest")?,
        component: parsed(row, "component")?,
        board: row.try_get("board")?,
        version: row.try_get("version")?,
        security_counter: row.try_get("security_counter")?,
        bytes: unsigned(row, "size")?,
        envelope: row.try_get("envelope")?,
        created_at: row.try_get("created_at")?,
    })
}
