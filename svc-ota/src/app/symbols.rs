//! ELF files of bundles: taken whole, stored as one object each, read back in pieces.
//!
//! Always holds: a row names an object that S3 has; an object that no row names is in the trash, before it is put and from when it is let
//! go of. A file is in memory while it arrives, which is why few may arrive at once.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use wire::{Digest, TenantId};

use super::App;
use crate::error::Error;
use crate::model::symbols::Symbols;
use crate::store::objects::symbols_key;
use crate::store::{bundles, symbols, uploads};

/// Files that arrive at once, each of at most `SYMBOLS_BYTES_MAX` in memory.
pub(crate) const SYMBOLS_WRITERS_MAX: usize = 4;
/// Those of one tenant.
pub(crate) const SYMBOLS_WRITERS_OF_TENANT_MAX: usize = 2;
/// Bytes read from S3, and sent, at once.
const READ_BYTES: u64 = 256 * 1024;
/// Longest it may take from putting an object to naming it in a row.
const STORE: Duration = Duration::from_secs(300);

/// What is kept for a bundle; nothing if it has none, not found if there is no such bundle.
pub(crate) async fn kept(app: &App, tenant: TenantId, manifest: Digest) -> Result<Option<Symbols>, Error> {
    let tx = app.pg.tx(tenant).await?;
    bundles::find_by_manifest(&tx, tenant, manifest).await?.ok_or(Error::NotFound)?;
    symbols::find(&tx, tenant, manifest).await
}

/// Keeps a file for a bundle, instead of any it has.
pub(crate) async fn store(
    app: &App,
    tenant: TenantId,
    manifest: Digest,
    digest: Digest,
    data: &Bytes,
    now: SystemTime,
) -> Result<Symbols, Error> {
    let object = symbols_key(tenant, digest, rand::random());
    let tx = app.pg.tx(tenant).await?;
    uploads::discard(&tx, tenant, &object, now + STORE).await?;
    tx.commit().await?;
    app.objects.put(&object, data).await?;
    let tx = app.pg.tx(tenant).await?;
    let bundle = bundles::find_by_manifest(&tx, tenant, manifest).await?.ok_or(Error::NotFound)?;
    // One at a time, and none while the bundle is deleted.
    bundles::lock(&tx, bundle.id).await?;
    bundles::find(&tx, tenant, bundle.id).await?.ok_or(Error::NotFound)?;
    if let Some(before) = symbols::delete(&tx, tenant, manifest).await? {
        uploads::discard(&tx, tenant, &before, now).await?;
    }
    let stored = Symbols { digest, bytes: data.len() as u64, object };
    symbols::insert(&tx, tenant, manifest, &stored).await?;
    if !uploads::keep(&tx, &stored.object).await? {
        return Err(Error::Conflict);
    }
    tx.commit().await?;
    metrics::counter!("ota_symbols_total", "event" => "stored").increment(1);
    Ok(stored)
}

/// The piece of a file that begins at `start`; none at its end.
pub(crate) async fn read(app: &App, symbols: &Symbols, start: u64) -> Result<Option<Bytes>, Error> {
    let end = symbols.bytes.min(start + READ_BYTES);
    if start >= end {
        return Ok(None);
    }
    app.objects.range(&symbols.object, start, end).await.map(Some)
}
