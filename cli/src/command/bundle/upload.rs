//! Sending a bundle: manifest first, then the layers the server does not hold, from where it stopped.

use std::path::Path;

use anyhow::{Context as _, Result};
use indicatif::{ProgressBar, ProgressStyle};
use proto::ota::v1::{
    Bundle, CreateUploadRequest, FinishUploadRequest, GetUploadRequest, Upload, UploadLayer,
    WriteLayerRequest,
};

use crate::args::Global;
use crate::command::bundle::inspect::BundleFile;
use crate::command::bundle::symbols::Symbols;
use crate::command::fresh_request_id;
use crate::failure::input;
use crate::session::Session;

/// Bytes a message; the server takes at most 256 KiB.
pub(super) const CHUNK_BYTES: usize = 256 * 1024;
/// Messages read ahead of the network.
pub(super) const CHUNKS_AHEAD: usize = 4;

pub(super) async fn run(global: &Global, args: &super::Upload) -> Result<()> {
    let session = Session::open(global).await?;
    let file = BundleFile::read(&args.file)?;
    let symbols = match (&args.symbols, args.no_symbols) {
        (Some(symbols), _) => Some(Symbols::read(symbols, &file)?),
        (None, true) => None,
        (None, false) => Symbols::beside(&args.file, &file),
    };
    super::show(global, &send_with(global, &session, &args.file, &file, symbols).await?)
}

/// Sends a bundle file, or what the server lacks of it, and gives the bundle as the server has it.
pub(crate) async fn send(global: &Global, session: &Session, path: &Path) -> Result<Bundle> {
    let file = BundleFile::read(path)?;
    let symbols = Symbols::beside(path, &file);
    send_with(global, session, path, &file, symbols).await
}

async fn send_with(
    global: &Global,
    session: &Session,
    path: &Path,
    file: &BundleFile,
    symbols: Option<Symbols>,
) -> Result<Bundle> {
    let mut client = session.bundles().await?;
    let request = CreateUploadRequest {
        parent: session.tenant(),
        envelope: file.envelope().to_vec(),
        request_id: fresh_request_id(),
        ..Default::default()
    };
    let upload = client.create_upload(request).await.context("the server refused the manifest")?.into_inner();
    let bar = progress_bar(global, &upload)?;
    for layer in upload.layers.iter().filter(|layer| layer.committed < layer.size) {
        let bytes = file
            .layer(&layer.digest)
            .ok_or_else(|| input(format!("{} does not hold layer {}", path.display(), layer.digest)))?;
        write(session, &upload.name, layer, bytes, &bar).await?;
    }
    bar.finish_and_clear();
    let bundle = client
        .finish_upload(FinishUploadRequest { name: upload.name, request_id: fresh_request_id() })
        .await
        .context("cannot finish the upload")?;
    if let Some(symbols) = symbols {
        symbols.send(global, session, &file.manifest_digest()).await?;
    }
    Ok(bundle.into_inner())
}

/// Streams one layer from its committed offset. When the stream breaks it asks the server where it stands and, if
/// that moved, goes on once more; what an earlier run left is gone on with in the same way.
async fn write(
    session: &Session,
    upload: &str,
    layer: &UploadLayer,
    bytes: &[u8],
    bar: &ProgressBar,
) -> Result<()> {
    let mut committed = layer.committed;
    loop {
        match stream(session, upload, layer, committed, bytes, bar).await {
            Ok(()) => return Ok(()),
            Err(error) => {
                let request = GetUploadRequest { name: upload.to_owned() };
                let Ok(state) = session.bundles().await?.get_upload(request).await else {
                    return Err(error.context("run the same command again to go on where it stopped"));
                };
                let now = state
                    .into_inner()
                    .layers
                    .iter()
                    .find(|l| l.digest == layer.digest)
                    .map_or(0, |l| l.committed);
                if now <= committed {
                    return Err(error.context("run the same command again to go on where it stopped"));
                }
                committed = now;
            }
        }
    }
}

async fn stream(
    session: &Session,
    upload: &str,
    layer: &UploadLayer,
    from: i64,
    bytes: &[u8],
    bar: &ProgressBar,
) -> Result<()> {
    let start = usize::try_from(from)
        .ok()
        .filter(|start| *start <= bytes.len())
        .context("the server holds more than the layer has")?;
    let (sender, receiver) = tokio::sync::mpsc::channel(CHUNKS_AHEAD);
    let feed = async move {
        for (index, chunk) in bytes[start..].chunks(CHUNK_BYTES).enumerate() {
            let first = index == 0;
            let message = WriteLayerRequest {
                upload: if first { upload.to_owned() } else { String::new() },
                digest: if first { layer.digest.clone() } else { String::new() },
                offset: if first { from } else { 0 },
                data: chunk.to_vec().into(),
            };
            // A closed channel means that the call ended; its result says why.
            if sender.send(message).await.is_err() {
                return;
            }
            bar.inc(chunk.len() as u64);
        }
    };
    let mut client = session.bundles().await?;
    let call = client.write_layer(tokio_stream::wrappers::ReceiverStream::new(receiver));
    let (reply, ()) = tokio::join!(call, feed);
    let committed = reply.context("cannot write the layer")?.into_inner().committed;
    anyhow::ensure!(committed == layer.size, "the server holds {committed} of {} bytes", layer.size);
    Ok(())
}

fn progress_bar(global: &Global, upload: &Upload) -> Result<ProgressBar> {
    let total: i64 = upload.layers.iter().map(|layer| layer.size).sum();
    let held: i64 = upload.layers.iter().map(|layer| layer.committed).sum();
    let bar = bar(global, "uploading", u64::try_from(total).unwrap_or(0))?;
    bar.set_position(u64::try_from(held).unwrap_or(0));
    Ok(bar)
}

pub(super) fn bar(global: &Global, what: &str, total: u64) -> Result<ProgressBar> {
    if global.json {
        return Ok(ProgressBar::hidden());
    }
    let template = format!("{what} [{{bar:40}}] {{bytes}}/{{total_bytes}} {{binary_bytes_per_sec}} {{eta}}");
    let style = ProgressStyle::with_template(&template)?;
    Ok(ProgressBar::new(total).with_style(style.progress_chars("=> ")))
}
