//! `BundleService`.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use kit::Shutdown;
use kit::once::Call;
use kit::{page, status};
use proto::name::{BundleName, TenantName, UploadName};
use proto::ota::v1::bundle_service_server::BundleService;
use proto::ota::v1::{
    Bundle, CreateUploadRequest, DeleteBundleRequest, FinishUploadRequest, GetBundleRequest,
    GetSymbolsRequest, GetUploadRequest, ListBundlesRequest, ListBundlesResponse, Upload, UploadLayer,
    UploadSymbolsRequest, UploadSymbolsResponse, WriteLayerRequest, WriteLayerResponse,
};
use tonic::{Code, Request, Response, Status, Streaming};
use wire::limits::ENVELOPE_BYTES_MAX;
use wire::{BundleId, Digest};

use super::{name, named, symbols, tenant, timestamp};
use crate::app::upload::{UploadView, WRITE_BYTES_MAX, Writer};
use crate::app::{App, bundle, upload};
use crate::model::bundle as model;

/// How long a caller that writes may say nothing; its place is somebody else's then.
const WRITE_IDLE_MAX: Duration = Duration::from_secs(60);

pub(super) struct Bundles {
    pub(super) app: Arc<App>,
    pub(super) shutdown: Shutdown,
}

#[tonic::async_trait]
impl BundleService for Bundles {
    async fn create_upload(&self, request: Request<CreateUploadRequest>) -> Result<Response<Upload>, Status> {
        let parent: TenantName = name("parent", &request.get_ref().parent)?;
        let tenant = tenant(&request, parent.tenant)?;
        let mut asked = request.into_inner();
        let call = Call::take(&mut asked, tenant)?;
        let envelope = asked.envelope;
        if envelope.is_empty() || envelope.len() > ENVELOPE_BYTES_MAX {
            let text = format!("has {} bytes, not 1 to {ENVELOPE_BYTES_MAX}", envelope.len());
            return Err(status::invalid("envelope", text));
        }
        let view = upload::create(&self.app, &call, tenant, envelope, SystemTime::now()).await?;
        let made = upload_message(view);
        Ok(Response::new(Upload { name: named(&call, made.name), ..made }))
    }

    async fn get_upload(&self, request: Request<GetUploadRequest>) -> Result<Response<Upload>, Status> {
        let asked: UploadName = name("name", &request.get_ref().name)?;
        let tenant = tenant(&request, asked.tenant)?;
        Ok(Response::new(upload_message(upload::find(&self.app, tenant, asked.id).await?)))
    }

    async fn write_layer(
        &self,
        request: Request<Streaming<WriteLayerRequest>>,
    ) -> Result<Response<WriteLayerResponse>, Status> {
        let caller = kit::auth::caller(&request)?;
        let mut stream = request.into_inner();
        let first = stream
            .message()
            .await?
            .ok_or_else(|| status::invalid("upload", "is missing: the stream is empty"))?;
        let asked: UploadName = name("upload", &first.upload)?;
        let tenant = caller.tenant(asked.tenant)?;
        let digest: Digest = first
            .digest
            .parse()
            .map_err(|_| status::invalid("digest", "is not a SHA-256 in lower-case hex"))?;
        let offset =
            u64::try_from(first.offset).map_err(|_| status::invalid("offset", "must not be negative"))?;
        let app = self.app.clone();
        let (place, attended) = app.writers.enter(tenant, asked.id)?;
        // Its own task: when the caller is cut off, what has arrived here is still staged, and the next caller is
        // told of it. It ends with the stream.
        let write = tokio::spawn(async move {
            let _place = place;
            let mut writer = Writer::open(&app, tenant, asked.id, digest, offset).await?;
            let received = receive(&mut writer, stream, first).await;
            let committed = writer.end().await?;
            received.map(|()| committed)
        });
        let written = write.await.map_err(|panicked| status::internal(&panicked))?;
        drop(attended);
        Ok(Response::new(WriteLayerResponse { committed: written? as i64 }))
    }

    async fn finish_upload(&self, request: Request<FinishUploadRequest>) -> Result<Response<Bundle>, Status> {
        let asked: UploadName = name("name", &request.get_ref().name)?;
        let tenant = tenant(&request, asked.tenant)?;
        let call = Call::take(&mut request.into_inner(), tenant)?;
        let bundle = upload::finish(&self.app, &call, tenant, asked.id, SystemTime::now()).await?;
        Ok(Response::new(bundle_message(bundle)))
    }

    async fn get_bundle(&self, request: Request<GetBundleRequest>) -> Result<Response<Bundle>, Status> {
        let asked: BundleName = name("name", &request.get_ref().name)?;
        let tenant = tenant(&request, asked.tenant)?;
        Ok(Response::new(bundle_message(bundle::find(&self.app, tenant, asked.id).await?)))
    }

    async fn list_bundles(
        &self,
        request: Request<ListBundlesRequest>,
    ) -> Result<Response<ListBundlesResponse>, Status> {
        let asked = request.get_ref();
        let parent: TenantName = name("parent", &asked.parent)?;
        let tenant = tenant(&request, parent.tenant)?;
        let (size, of) = (page::size(asked.page_size)?, ["bundles", &asked.parent]);
        let before = page::id_cursor::<BundleId>(&of, &asked.page_token)?;
        let mut found = bundle::list(&self.app, tenant, before, size + 1).await?;
        let next_page_token = next(&of, &mut found, size, |bundle| bundle.id.to_string());
        let bundles =
            found.into_iter().map(|bundle| Bundle { envelope: Vec::new(), ..bundle_message(bundle) });
        Ok(Response::new(ListBundlesResponse { bundles: bundles.collect(), next_page_token }))
    }

    async fn upload_symbols(
        &self,
        request: Request<Streaming<UploadSymbolsRequest>>,
    ) -> Result<Response<UploadSymbolsResponse>, Status> {
        symbols::upload(&self.app, request).await
    }

    type GetSymbolsStream = symbols::Pieces;

    async fn get_symbols(
        &self,
        request: Request<GetSymbolsRequest>,
    ) -> Result<Response<symbols::Pieces>, Status> {
        symbols::get(&self.app, &self.shutdown, request).await
    }

    async fn delete_bundle(&self, request: Request<DeleteBundleRequest>) -> Result<Response<()>, Status> {
        let asked: BundleName = name("name", &request.get_ref().name)?;
        let tenant = tenant(&request, asked.tenant)?;
        let call = Call::take(&mut request.into_inner(), tenant)?;
        bundle::delete(&self.app, &call, tenant, asked.id, SystemTime::now()).await?;
        Ok(Response::new(()))
    }
}

/// Feeds a writer until the stream ends; what came before a fault is written.
async fn receive(
    writer: &mut Writer<'_>,
    mut stream: Streaming<WriteLayerRequest>,
    first: WriteLayerRequest,
) -> Result<(), Status> {
    let mut message = Some(first);
    while let Some(WriteLayerRequest { data, .. }) = message {
        if data.len() > WRITE_BYTES_MAX {
            return Err(status::invalid(
                "data",
                format!("has {} bytes, more than {WRITE_BYTES_MAX}", data.len()),
            ));
        }
        writer.write(data).await?;
        message = heard(stream.message()).await?;
    }
    Ok(())
}

/// What the caller says next, unless it says nothing for too long.
pub(super) async fn heard<T>(next: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
    let silent = || {
        let text = format!("nothing was written for {} s; run the upload again", WRITE_IDLE_MAX.as_secs());
        status::status(Code::DeadlineExceeded, "WRITE_IDLE", text)
    };
    tokio::time::timeout(WRITE_IDLE_MAX, next).await.unwrap_or_else(|_| Err(silent()))
}

/// Cuts off the one item too many, if there is one, and names the last that stays.
pub(super) fn next<T>(of: &[&str], found: &mut Vec<T>, size: usize, id: impl Fn(&T) -> String) -> String {
    if found.len() <= size {
        return String::new();
    }
    found.truncate(size);
    found.last().map(|last| page::token(of, &id(last))).unwrap_or_default()
}

fn upload_message(view: UploadView) -> Upload {
    let UploadView { upload, layers } = view;
    let layers = layers.into_iter().map(|layer| UploadLayer {
        digest: layer.digest.to_string(),
        size: layer.bytes as i64,
        committed: layer.committed as i64,
    });
    Upload {
        name: UploadName::new(upload.tenant, upload.id).to_string(),
        manifest_digest: upload.manifest.to_string(),
        layers: layers.collect(),
        expire_time: timestamp(upload.expires_at),
    }
}

fn bundle_message(bundle: model::Bundle) -> Bundle {
    Bundle {
        name: BundleName::new(bundle.tenant, bundle.id).to_string(),
        manifest_digest: bundle.manifest.to_string(),
        component: bundle.component.to_string(),
        board: bundle.board,
        version: bundle.version,
        security_counter: bundle.security_counter,
        size: bundle.bytes as i64,
        create_time: timestamp(bundle.created_at),
        envelope: bundle.envelope,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_caller_that_says_nothing_loses_its_place() {
        let soon = async {
            tokio::time::sleep(WRITE_IDLE_MAX - Duration::from_millis(1)).await;
            Ok(7)
        };
        assert_eq!(heard(soon).await.unwrap(), 7);
        let refused = heard::<()>(std::future::pending()).await.unwrap_err();
        assert_eq!(status::reason(&refused).as_deref(), Some("WRITE_IDLE"));
    }
}
