//! Uploads under way: what of each layer S3 holds, and the trash they leave.
//!
//! Always holds: `committed` of a layer is the end of its consecutive chunks, and S3 had each chunk before its row.

use std::time::SystemTime;

use kit::pg::Row;
use wire::{BundleId, Digest, TenantId, UploadId};

use super::{Tx, digest, parsed, unsigned};
use crate::error::Error;
use crate::model::upload::{Upload, UploadLayer};

/// One staged piece.
#[derive(Clone, Debug)]
pub(crate) struct Chunk {
    pub(crate) start: u64,
    pub(crate) bytes: u64,
    pub(crate) object: String,
}

const COLUMNS: &str = "upload_id, tenant_id, manifest_digest, envelope, bundle_id, expires_at";

pub(crate) async fn find(tx: &Tx, tenant: TenantId, id: UploadId) -> Result<Option<Upload>, Error> {
    one(tx, &format!("SELECT {COLUMNS} FROM uploads WHERE tenant_id = $1 AND upload_id = $2"), tenant, id)
        .await
}

/// The upload, locked: nobody else finishes or expires it before this transaction ends.
pub(crate) async fn lock(tx: &Tx, tenant: TenantId, id: UploadId) -> Result<Option<Upload>, Error> {
    let sql = format!("SELECT {COLUMNS} FROM uploads WHERE tenant_id = $1 AND upload_id = $2 FOR UPDATE");
    one(tx, &sql, tenant, id).await
}

async fn one(tx: &Tx, sql: &str, tenant: TenantId, id: UploadId) -> Result<Option<Upload>, Error> {
    let row = tx.query_opt(sql, &[&tenant.text().as_str(), &id.text().as_str()]).await?;
    row.map(|row| upload(&row)).transpose()
}

pub(crate) async fn find_open(tx: &Tx, tenant: TenantId, manifest: Digest) -> Result<Option<Upload>, Error> {
    let sql = format!(
        "SELECT {COLUMNS} FROM uploads WHERE tenant_id = $1 AND manifest_digest = $2 AND bundle_id IS NULL"
    );
    let row = tx.query_opt(&sql, &[&tenant.text().as_str(), &manifest.0.as_slice()]).await?;
    row.map(|row| upload(&row)).transpose()
}

pub(crate) async fn count_open(tx: &Tx, tenant: TenantId) -> Result<u64, Error> {
    let sql = "SELECT count(*) AS open FROM uploads WHERE tenant_id = $1 AND bundle_id IS NULL";
    unsigned(&tx.query_one(sql, &[&tenant.text().as_str()]).await?, "open")
}

/// False when the same manifest's upload was opened by someone else just now.
pub(crate) async fn insert(tx: &Tx, upload: &Upload) -> Result<bool, Error> {
    let inserted = tx
        .execute(
            "INSERT INTO uploads (upload_id, tenant_id, manifest_digest, envelope, expires_at) \
             VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING",
            &[
                &upload.id.text().as_str(),
                &upload.tenant.text().as_str(),
                &upload.manifest.0.as_slice(),
                &upload.envelope,
                &upload.expires_at,
            ],
        )
        .await?;
    Ok(inserted == 1)
}

pub(crate) async fn insert_layer(tx: &Tx, upload: &Upload, layer: UploadLayer) -> Result<(), Error> {
    tx.execute(
        "INSERT INTO upload_layers (upload_id, tenant_id, digest, size, committed, held) VALUES ($1, $2, $3, $4, $5, $6)",
        &[
            &upload.id.text().as_str(),
            &upload.tenant.text().as_str(),
            &layer.digest.0.as_slice(),
            &(layer.bytes as i64),
            &(layer.committed as i64),
            &layer.held,
        ],
    )
    .await?;
    Ok(())
}

pub(crate) async fn layers(tx: &Tx, id: UploadId) -> Result<Vec<UploadLayer>, Error> {
    let sql = "SELECT digest, size, committed, held FROM upload_layers WHERE upload_id = $1";
    let rows = tx.query(sql, &[&id.text().as_str()]).await?;
    rows.iter()
        .map(|row| {
            Ok(UploadLayer {
                digest: digest(row, "digest")?,
                bytes: unsigned(row, "size")?,
                committed: unsigned(row, "committed")?,
                held: row.try_get("held")?,
            })
        })
        .collect()
}

/// Takes a staged piece if it begins where the layer ends; returns whether it did. Locks the layer's row.
pub(crate) async fn commit_chunk(
    tx: &Tx,
    upload: &Upload,
    layer: Digest,
    chunk: &Chunk,
    expires_at: SystemTime,
) -> Result<bool, Error> {
    let (tenant, id) = (upload.tenant.text(), upload.id.text());
    let (start, end) = (chunk.start as i64, (chunk.start + chunk.bytes) as i64);
    let moved = tx
        .execute(
            "UPDATE upload_layers l SET committed = $4 FROM uploads u WHERE l.upload_id = $1 AND l.digest = $2 AND \
             l.committed = $3 AND NOT l.held AND u.upload_id = l.upload_id AND u.bundle_id IS NULL",
            &[&id.as_str(), &layer.0.as_slice(), &start, &end],
        )
        .await?;
    if moved == 0 {
        return Ok(false);
    }
    tx.execute(
        "INSERT INTO upload_chunks (upload_id, tenant_id, digest, start, length, object) VALUES ($1, $2, $3, $4, $5, $6)",
        &[&id.as_str(), &tenant.as_str(), &layer.0.as_slice(), &start, &(chunk.bytes as i64), &chunk.object],
    )
    .await?;
    tx.execute("UPDATE uploads SET expires_at = $2 WHERE upload_id = $1", &[&id.as_str(), &expires_at])
        .await?;
    Ok(true)
}

/// In order.
pub(crate) async fn chunks(tx: &Tx, id: UploadId, layer: Digest) -> Result<Vec<Chunk>, Error> {
    let sql =
        "SELECT start, length, object FROM upload_chunks WHERE upload_id = $1 AND digest = $2 ORDER BY start";
    let rows = tx.query(sql, &[&id.text().as_str(), &layer.0.as_slice()]).await?;
    rows.iter()
        .map(|row| {
            Ok(Chunk {
                start: unsigned(row, "start")?,
                bytes: unsigned(row, "length")?,
                object: row.try_get("object")?,
            })
        })
        .collect()
}

/// Begins a layer anew: what was staged is forgotten (the caller sees to the objects).
pub(crate) async fn restart_layer(tx: &Tx, id: UploadId, layer: Digest) -> Result<(), Error> {
    let key: (&str, &[u8]) = (&id.text(), &layer.0);
    tx.execute("DELETE FROM upload_chunks WHERE upload_id = $1 AND digest = $2", &[&key.0, &key.1]).await?;
    tx.execute(
        "UPDATE upload_layers SET committed = 0, held = false WHERE upload_id = $1 AND digest = $2",
        &[&key.0, &key.1],
    )
    .await?;
    Ok(())
}

/// Closes an upload; the row stays so that a repeated finish gets the same answer.
pub(crate) async fn finish(tx: &Tx, id: UploadId, bundle: BundleId) -> Result<(), Error> {
    tx.execute(
        "UPDATE uploads SET bundle_id = $2 WHERE upload_id = $1",
        &[&id.text().as_str(), &bundle.text().as_str()],
    )
    .await?;
    Ok(())
}

/// Deletes up to `limit` uploads whose time has come, and returns them.
pub(crate) async fn delete_expired(tx: &Tx, now: SystemTime, limit: i64) -> Result<Vec<Upload>, Error> {
    let sql = format!(
        "DELETE FROM uploads WHERE upload_id IN (SELECT upload_id FROM uploads WHERE expires_at <= $1 \
         ORDER BY expires_at LIMIT $2 FOR UPDATE SKIP LOCKED) RETURNING {COLUMNS}"
    );
    tx.query(&sql, &[&now, &limit]).await?.iter().map(upload).collect()
}

/// What must go from S3.
#[derive(Clone, Debug)]
pub(crate) struct Trash {
    pub(crate) id: i64,
    pub(crate) prefix: String,
}

/// Remembers that what begins with `prefix` must go once `after` has passed.
pub(crate) async fn discard(tx: &Tx, tenant: TenantId, prefix: &str, after: SystemTime) -> Result<(), Error> {
    tx.execute(
        "INSERT INTO trash (tenant_id, prefix, after) VALUES ($1, $2, $3)",
        &[&tenant.text().as_str(), &prefix, &after],
    )
    .await?;
    Ok(())
}

/// Takes an object out of the trash; false when it was there too long and is being deleted.
pub(crate) async fn keep(tx: &Tx, object: &str) -> Result<bool, Error> {
    Ok(tx.execute("DELETE FROM trash WHERE prefix = $1 AND NOT taken", &[&object]).await? > 0)
}

/// Takes up to `limit` whose time has come, and those that were taken and not forgotten.
pub(crate) async fn take_trash(tx: &Tx, now: SystemTime, limit: i64) -> Result<Vec<Trash>, Error> {
    let sql = "UPDATE trash SET taken = true WHERE trash_id IN (SELECT trash_id FROM trash WHERE after <= $1 \
               ORDER BY after LIMIT $2 FOR UPDATE SKIP LOCKED) RETURNING trash_id, prefix";
    let rows = tx.query(sql, &[&now, &limit]).await?;
    rows.iter().map(|row| Ok(Trash { id: row.try_get(0)?, prefix: row.try_get(1)? })).collect()
}

/// What S3 would not delete now is tried again then.
pub(crate) async fn postpone_trash(tx: &Tx, id: i64, after: SystemTime) -> Result<(), Error> {
    tx.execute("UPDATE trash SET after = $2 WHERE trash_id = $1", &[&id, &after]).await?;
    Ok(())
}

pub(crate) async fn forget_trash(tx: &Tx, id: i64) -> Result<(), Error> {
    tx.execute("DELETE FROM trash WHERE trash_id = $1", &[&id]).await?;
    Ok(())
}

fn upload(row: &Row) -> Result<Upload, Error> {
    let bundle: Option<&str> = row.try_get("bundle_id")?;
    Ok(Upload {
        tenant: parsed(row, "tenant_id")?,
        id: parsed(row, "upload_id")?,
        manifest: digest(row, "manifest_digest")?,
        envelope: row.try_get("envelope")?,
        bundle: bundle.map(|id| id.parse().map_err(|_| Error::Corrupt("bundle_id"))).transpose()?,
        expires_at: row.try_get("expires_at")?,
    })
}
