//! The two streams of ELF files of `BundleService`.

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use kit::{Shutdown, status};
use proto::name::TenantName;
use proto::ota::v1::{GetSymbolsRequest, GetSymbolsResponse, UploadSymbolsRequest, UploadSymbolsResponse};
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Response, Status, Streaming};
use wire::Digest;

use super::bundle::heard;
use super::{name, tenant};
use crate::app::upload::WRITE_BYTES_MAX;
use crate::app::{App, symbols};
use crate::error::Error;
use crate::model::symbols::{Arriving, Symbols};

/// Longest one file may take to arrive, however steadily: it holds one of few places.
const ARRIVE_MAX: Duration = Duration::from_secs(15 * 60);
/// Longest one piece may wait for a caller that does not read.
const SEND_MAX: Duration = Duration::from_secs(60);

/// A file on its way to a caller.
pub(super) type Pieces = Pin<Box<dyn Stream<Item = Result<GetSymbolsResponse, Status>> + Send>>;

pub(super) async fn upload(
    app: &App,
    request: Request<Streaming<UploadSymbolsRequest>>,
) -> Result<Response<UploadSymbolsResponse>, Status> {
    let caller = kit::auth::caller(&request)?;
    let mut stream = request.into_inner();
    let first = heard(stream.message()).await?;
    let first = first.ok_or_else(|| status::invalid("parent", "is missing: the stream is empty"))?;
    let parent: TenantName = name("parent", &first.parent)?;
    let tenant = caller.tenant(parent.tenant)?;
    let manifest = sha256("manifest_digest", &first.manifest_digest)?;
    let digest = sha256("digest", &first.digest)?;
    let bytes = u64::try_from(first.size).map_err(|_| status::invalid("size", "must not be negative"))?;
    let mut arriving = Arriving::new(digest, bytes).map_err(Error::from)?;
    if let Some(kept) = symbols::kept(app, tenant, manifest).await?.filter(|kept| kept.digest == digest) {
        return Ok(Response::new(answer(&kept)));
    }
    let _place = app.symbols_writers.take(tenant)?;
    let late = || status::status(Code::DeadlineExceeded, "WRITE_IDLE", "the file takes too long to arrive");
    tokio::time::timeout(ARRIVE_MAX, receive(&mut arriving, stream, first)).await.map_err(|_| late())??;
    let data = arriving.finish().map_err(Error::from)?;
    let stored = symbols::store(app, tenant, manifest, digest, &data, SystemTime::now()).await?;
    Ok(Response::new(answer(&stored)))
}

async fn receive(
    arriving: &mut Arriving,
    mut stream: Streaming<UploadSymbolsRequest>,
    first: UploadSymbolsRequest,
) -> Result<(), Status> {
    let mut message = Some(first);
    while let Some(UploadSymbolsRequest { data, .. }) = message {
        if data.len() > WRITE_BYTES_MAX {
            let text = format!("has {} bytes, more than {WRITE_BYTES_MAX}", data.len());
            return Err(status::invalid("data", text));
        }
        arriving.push(&data).map_err(Error::from)?;
        message = heard(stream.message()).await?;
    }
    Ok(())
}

pub(super) async fn get(
    app: &Arc<App>,
    shutdown: &Shutdown,
    request: Request<GetSymbolsRequest>,
) -> Result<Response<Pieces>, Status> {
    let parent: TenantName = name("parent", &request.get_ref().parent)?;
    let tenant = tenant(&request, parent.tenant)?;
    let manifest = sha256("manifest_digest", &request.get_ref().manifest_digest)?;
    let kept = symbols::kept(app, tenant, manifest).await?.ok_or(Error::NotFound)?;
    let place = app.watches.take(tenant)?;
    let (sender, receiver) = mpsc::channel(1);
    let (app, shutdown) = (app.clone(), shutdown.clone());
    // Ends with the file, the caller or the process, whichever is first.
    tokio::spawn(async move {
        let _place = place;
        tokio::select! {
            () = send(&app, &kept, &sender) => {}
            () = sender.closed() => {}
            () = shutdown.wait() => {
                let _ = sender.try_send(Err(status::unavailable("shutting down; ask again")));
            }
        }
    });
    Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
}

async fn send(app: &App, kept: &Symbols, sender: &mpsc::Sender<Result<GetSymbolsResponse, Status>>) {
    let mut sent = 0;
    loop {
        let piece = match symbols::read(app, kept, sent).await {
            Ok(Some(data)) => {
                let first = GetSymbolsResponse {
                    digest: kept.digest.to_string(),
                    size: kept.bytes as i64,
                    data: Vec::new().into(),
                };
                let named = if sent == 0 { first } else { GetSymbolsResponse::default() };
                sent += data.len() as u64;
                Ok(GetSymbolsResponse { data, ..named })
            }
            Ok(None) => return,
            // Its bundle was deleted meanwhile, or the store is away.
            Err(error) => Err(error.into()),
        };
        let over = piece.is_err();
        if !matches!(tokio::time::timeout(SEND_MAX, sender.send(piece)).await, Ok(Ok(()))) || over {
            return;
        }
    }
}

fn sha256(field: &str, text: &str) -> Result<Digest, Status> {
    text.parse().map_err(|_| status::invalid(field, "is not a SHA-256 in lower-case hex"))
}

fn answer(symbols: &Symbols) -> UploadSymbolsResponse {
    UploadSymbolsResponse { digest: symbols.digest.to_string(), size: symbols.bytes as i64 }
}
