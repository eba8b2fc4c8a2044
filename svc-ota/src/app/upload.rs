//! Uploads: create with the manifest, write layers at offsets, finish.
//!
//! Always holds: a byte answered as committed is in S3 and known to Postgres; S3 holds nothing for ever that no row
//! names (every object is in the trash, or under an upload's row, before it is put); a bundle's layers were hashed
//! from S3, not from memory of the upload.

use std::time::{Duration, SystemTime};

use bytes::{Bytes, BytesMut};
use kit::once::{Call, Known};
use kit::pg::micros;
use wire::{BundleId, Digest, TenantId, UploadId};

use super::App;
use crate::error::Error;
use crate::model::bundle::{self, Bundle, Candidate, CandidateLayer, LayerCheck};
use crate::model::staging::{Cutter, Piece};
use crate::model::upload::{Upload, UploadLayer};
use crate::store::objects::{S3_TIMEOUT, layer_key, staging_key, staging_prefix};
use crate::store::uploads::{self, Chunk};
use crate::store::{bundles, devices};

/// Unfinished uploads of one tenant.
pub(crate) const UPLOADS_OPEN_MAX: u64 = 64;
/// Bytes of data in one message of a writing stream.
pub(crate) const WRITE_BYTES_MAX: usize = 256 * 1024;
/// Uploads finished at once; each holds one layer at a time.
pub(crate) const FINISHING_MAX: usize = 2;
/// A writer that S3 answered late may still be at work this long after its upload ended.
const STRAGGLER: Duration = Duration::from_secs(3 * S3_TIMEOUT.as_secs());
/// Longest an attempt to finish may take between putting a layer and taking it on.
const FINISH: Duration = Duration::from_secs(900);

/// An upload as its owner sees it; layers in the manifest's order.
#[derive(Debug)]
pub(crate) struct UploadView {
    pub(crate) upload: Upload,
    pub(crate) layers: Vec<UploadLayer>,
}

/// Opens an upload of a verified envelope, or returns the one under way for the same manifest.
pub(crate) async fn create(
    app: &App,
    call: &Call,
    tenant: TenantId,
    envelope: Vec<u8>,
    now: SystemTime,
) -> Result<UploadView, Error> {
    let now = micros(now);
    let tx = app.pg.tx(tenant).await?;
    if let Known::Done(id) = call.begin(&tx, now).await? {
        drop(tx);
        return find(app, tenant, id.parse().map_err(|_| Error::Corrupt("request"))?).await;
    }
    let keyset = devices::keyset(&tx, tenant).await?;
    let candidate = bundle::verify(&envelope, keyset.as_deref()).inspect_err(count_refusal)?;
    if let Some(open) = uploads::find_open(&tx, tenant, candidate.manifest).await? {
        call.end(tx, &open.id.to_string()).await?;
        return find(app, tenant, open.id).await;
    }
    if uploads::count_open(&tx, tenant).await? >= UPLOADS_OPEN_MAX {
        return Err(Error::Limit { what: "UPLOADS_OPEN_MAX", limit: UPLOADS_OPEN_MAX });
    }
    let upload = Upload {
        tenant,
        id: UploadId::new(kit::fresh_id()),
        manifest: candidate.manifest,
        envelope,
        bundle: None,
        expires_at: now + app.config.upload_ttl,
    };
    if !uploads::insert(&tx, &upload).await? {
        // Opened by a twin of this call a moment ago.
        return Err(Error::Conflict);
    }
    let mut layers = Vec::new();
    for layer in &candidate.layers {
        let held = bundles::hold_layer(&tx, tenant, layer.digest).await?;
        let bytes = u64::from(layer.bytes);
        let layer =
            UploadLayer { digest: layer.digest, bytes, committed: if held { bytes } else { 0 }, held };
        uploads::insert_layer(&tx, &upload, layer).await?;
        layers.push(layer);
    }
    if call.end(tx, &upload.id.to_string()).await? {
        metrics::counter!("ota_uploads_total", "event" => "created").increment(1);
    }
    Ok(UploadView { upload, layers })
}

/// The upload, with all that has arrived of it counted.
pub(crate) async fn find(app: &App, tenant: TenantId, id: UploadId) -> Result<UploadView, Error> {
    app.writers.settled(id).await;
    load(app, tenant, id).await
}

async fn load(app: &App, tenant: TenantId, id: UploadId) -> Result<UploadView, Error> {
    let tx = app.pg.tx(tenant).await?;
    let upload = uploads::find(&tx, tenant, id).await?.ok_or(Error::NotFound)?;
    let layers = uploads::layers(&tx, id).await?;
    let candidate = bundle::reread(&upload.envelope)?;
    Ok(UploadView { upload, layers: ordered(layers, &candidate) })
}

/// One stream of bytes into one layer.
pub(crate) struct Writer<'a> {
    app: &'a App,
    upload: Upload,
    layer: UploadLayer,
    committed: u64,
    cutter: Cutter,
}

impl<'a> Writer<'a> {
    /// A writer at `offset`, which must be where the layer ends.
    pub(crate) async fn open(
        app: &'a App,
        tenant: TenantId,
        id: UploadId,
        digest: Digest,
        offset: u64,
    ) -> Result<Writer<'a>, Error> {
        let UploadView { upload, layers } = load(app, tenant, id).await?;
        let layer = *layers.iter().find(|layer| layer.digest == digest).ok_or(Error::NoSuchLayer(digest))?;
        if upload.bundle.is_some() || offset != layer.committed {
            return Err(Error::Offset { committed: layer.committed });
        }
        let cutter = Cutter::new(offset, layer.bytes);
        Ok(Writer { app, upload, layer, committed: offset, cutter })
    }

    /// Takes bytes; returns when every full chunk of them is committed.
    pub(crate) async fn write(&mut self, mut data: Bytes) -> Result<(), Error> {
        while !data.is_empty() {
            let piece =
                self.cutter.push(&mut data).map_err(|_| Error::OverSize { bytes: self.layer.bytes })?;
            if let Some(piece) = piece {
                self.stage(piece).await?;
            }
        }
        Ok(())
    }

    /// The stream ended, well or not: keeps what is worth it and returns what is committed.
    pub(crate) async fn end(mut self) -> Result<u64, Error> {
        if let Some(piece) = self.cutter.end_of_stream() {
            self.stage(piece).await?;
        }
        Ok(self.committed)
    }

    async fn stage(&mut self, piece: Piece) -> Result<(), Error> {
        let Upload { tenant, id, .. } = self.upload;
        let object = staging_key(tenant, id, self.layer.digest, piece.start, rand::random());
        self.app.objects.put(&object, &piece.data).await?;
        let chunk = Chunk { start: piece.start, bytes: piece.data.len() as u64, object };
        let expires_at = SystemTime::now() + self.app.config.upload_ttl;
        let tx = self.app.pg.tx(tenant).await?;
        if uploads::commit_chunk(&tx, &self.upload, self.layer.digest, &chunk, expires_at).await? {
            tx.commit().await?;
            self.committed = chunk.start + chunk.bytes;
            metrics::counter!("ota_upload_bytes_total").increment(chunk.bytes);
            return Ok(());
        }
        // Another writer was faster, or the upload is over: these bytes are nobody's.
        uploads::discard(&tx, tenant, &chunk.object, SystemTime::now()).await?;
        let layers = uploads::layers(&tx, id).await?;
        tx.commit().await?;
        let layer = layers.iter().find(|l| l.digest == self.layer.digest).ok_or(Error::NotFound)?;
        Err(Error::Offset { committed: layer.committed })
    }
}

/// Makes the bundle of a complete upload; again, the same bundle.
pub(crate) async fn finish(
    app: &App,
    call: &Call,
    tenant: TenantId,
    id: UploadId,
    now: SystemTime,
) -> Result<Bundle, Error> {
    let _permit = app.finishing.acquire().await.map_err(|_| Error::Draining)?;
    // The work is long, and no transaction is open for so long: the transaction that ends it asks the same again.
    let tx = app.pg.tx(tenant).await?;
    call.begin(&tx, now).await?;
    tx.rollback().await?;
    let UploadView { upload, layers } = find(app, tenant, id).await?;
    let candidate = bundle::reread(&upload.envelope)?;
    if upload.bundle.is_some() {
        // Nothing is left to do, but the call's name is taken by it.
        let tx = app.pg.tx(tenant).await?;
        call.begin(&tx, now).await?;
        call.end(tx, "").await?;
    } else {
        if let Some(layer) = layers.iter().find(|layer| layer.committed < layer.bytes) {
            return Err(Error::Incomplete {
                layer: layer.digest,
                committed: layer.committed,
                bytes: layer.bytes,
            });
        }
        let mut stored = Vec::new();
        for layer in
            candidate.layers.iter().filter(|l| layers.iter().any(|u| u.digest == l.digest && !u.held))
        {
            stored.push((layer.clone(), store_layer(app, &upload, layer, now).await?));
        }
        take_on(app, call, &upload, (&candidate, &layers, &stored), now).await?;
    }
    let tx = app.pg.tx(tenant).await?;
    bundles::find_by_manifest(&tx, tenant, upload.manifest).await?.ok_or(Error::NotFound)
}

/// Puts the layer's bytes together, checks every block and the whole, and stores them as one object, which is in the
/// trash until the bundle takes it on.
async fn store_layer(
    app: &App,
    upload: &Upload,
    layer: &CandidateLayer,
    now: SystemTime,
) -> Result<String, Error> {
    let tx = app.pg.tx(upload.tenant).await?;
    let chunks = uploads::chunks(&tx, upload.id, layer.digest).await?;
    let object = layer_key(upload.tenant, layer.digest, rand::random());
    uploads::discard(&tx, upload.tenant, &object, now + FINISH).await?;
    tx.commit().await?;
    let data = match assemble(app, layer, &chunks).await {
        Err(Error::Mismatch(mismatch)) => {
            restart(app, upload, layer.digest, &chunks, now).await?;
            return Err(Error::Mismatch(mismatch));
        }
        // The object store lost a piece that it said it had: the layer has to be sent again.
        Err(Error::Corrupt(_)) => {
            restart(app, upload, layer.digest, &chunks, now).await?;
            let bytes = u64::from(layer.bytes);
            return Err(Error::Incomplete { layer: layer.digest, committed: 0, bytes });
        }
        other => other?,
    };
    app.objects.put(&object, &data).await?;
    Ok(object)
}

/// At most `LAYER_BYTES_MAX` in memory, `FINISHING_MAX` times.
async fn assemble(app: &App, layer: &CandidateLayer, chunks: &[Chunk]) -> Result<Bytes, Error> {
    let mut check = LayerCheck::new(layer);
    let mut data = BytesMut::with_capacity(layer.bytes as usize);
    for chunk in chunks {
        let piece = app.objects.read(&chunk.object).await?;
        if piece.len() as u64 != chunk.bytes || chunk.start != data.len() as u64 {
            return Err(Error::Corrupt("staged chunk"));
        }
        check.update(&piece)?;
        data.extend_from_slice(&piece);
    }
    check.finish()?;
    Ok(data.freeze())
}

/// The bytes sent were wrong: what was staged goes, and the client may send the layer again.
async fn restart(
    app: &App,
    upload: &Upload,
    layer: Digest,
    chunks: &[Chunk],
    now: SystemTime,
) -> Result<(), Error> {
    let tx = app.pg.tx(upload.tenant).await?;
    uploads::restart_layer(&tx, upload.id, layer).await?;
    for chunk in chunks {
        uploads::discard(&tx, upload.tenant, &chunk.object, now).await?;
    }
    tx.commit().await?;
    metrics::counter!("ota_bundles_refused_total", "reason" => "layer_mismatch").increment(1);
    Ok(())
}

/// The transaction that makes the bundle: takes the layers out of the trash, and throws what was staged into it.
async fn take_on(
    app: &App,
    call: &Call,
    upload: &Upload,
    (candidate, layers, stored): (&Candidate, &[UploadLayer], &[(CandidateLayer, String)]),
    now: SystemTime,
) -> Result<(), Error> {
    let tenant = upload.tenant;
    let tx = app.pg.tx(tenant).await?;
    call.begin(&tx, now).await?;
    let upload = uploads::lock(&tx, tenant, upload.id).await?.ok_or(Error::NotFound)?;
    if upload.bundle.is_some() {
        call.end(tx, "").await?;
        return Ok(());
    }
    // The keyset may have moved on since the upload began.
    let keyset = devices::keyset(&tx, tenant).await?;
    bundle::verify(&upload.envelope, keyset.as_deref()).inspect_err(count_refusal)?;
    for (layer, object) in stored {
        if bundles::insert_layer(&tx, tenant, layer.digest, layer.bytes, object).await?
            && !uploads::keep(&tx, object).await?
        {
            return Err(Error::Conflict);
        }
    }
    for layer in layers {
        if !bundles::hold_layer(&tx, tenant, layer.digest).await? {
            return Err(Error::Conflict);
        }
    }
    let id = match bundles::find_by_manifest(&tx, tenant, upload.manifest).await? {
        Some(bundle) => bundle.id,
        None => {
            let id = BundleId::new(kit::fresh_id());
            bundles::insert(&tx, tenant, id, candidate, &upload.envelope, now).await?;
            id
        }
    };
    uploads::finish(&tx, upload.id, id).await?;
    throw_away_staged(&tx, &upload, now).await?;
    call.end(tx, "").await?;
    metrics::counter!("ota_uploads_total", "event" => "finished").increment(1);
    Ok(())
}

/// Now, and once more when no straggler can be writing any longer.
pub(super) async fn throw_away_staged(
    tx: &crate::store::Tx,
    upload: &Upload,
    now: SystemTime,
) -> Result<(), Error> {
    let prefix = staging_prefix(upload.tenant, upload.id);
    uploads::discard(tx, upload.tenant, &prefix, now).await?;
    uploads::discard(tx, upload.tenant, &prefix, now + STRAGGLER).await
}

fn ordered(mut layers: Vec<UploadLayer>, candidate: &Candidate) -> Vec<UploadLayer> {
    layers.sort_by_key(|layer| candidate.layers.iter().position(|known| known.digest == layer.digest));
    layers
}

fn count_refusal(refusal: &bundle::Refusal) {
    metrics::counter!("ota_bundles_refused_total", "reason" => refusal.reason()).increment(1);
}
