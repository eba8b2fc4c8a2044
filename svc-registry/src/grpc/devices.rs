//! DeviceService.

use std::pin::Pin;
use std::time::SystemTime;

use futures::stream::{Stream, try_unfold};
use kit::once::Call;
use kit::status;
use proto::name::{DeviceName, TenantName};
use proto::registry::v1::device_service_server::DeviceService;
use proto::registry::v1::watch_devices_response::{Kind, ResetReason};
use proto::registry::v1::{
    AcceptPendingEnrollmentRequest, BatchDeleteDevicesRequest, BatchGetDevicesRequest,
    BatchGetDevicesResponse, BatchUpdateDevicesRequest, BatchUpdateDevicesResponse, DeleteDeviceRequest,
    Device as PbDevice, GetDeviceRequest, ListDevicesRequest, ListDevicesResponse,
    ListPendingEnrollmentsRequest, ListPendingEnrollmentsResponse, ReleaseDeviceRequest,
    ReplaceDeviceRequest, RevokeDeviceRequest, UpdateDeviceRequest, WatchDevicesRequest,
    WatchDevicesResponse,
};
use tonic::{Request, Response, Status, async_trait};
use wire::{DeviceId, PendingId, TenantId};

use super::batch::Batch;
use super::{Api, Paging, actor, encode, name, named, own, tenant_name};
use crate::app::{Reset, Shown, Told, Watch, WatchItem};
use crate::error::Error;
use crate::model::Filter;
use crate::model::device::Relabel;

/// The one field UpdateDevice changes.
const LABELS: &str = "labels";

#[async_trait]
impl DeviceService for Api {
    async fn get_device(&self, request: Request<GetDeviceRequest>) -> Result<Response<PbDevice>, Status> {
        let device = name::<DeviceId>("name", &request.get_ref().name)?;
        let tenant = own(&request, device.tenant)?;
        let shown = self.app.device(tenant, device.id, SystemTime::now()).await?;
        Ok(Response::new(encode::device(shown)))
    }

    async fn list_devices(
        &self,
        request: Request<ListDevicesRequest>,
    ) -> Result<Response<ListDevicesResponse>, Status> {
        let tenant = own(&request, tenant_name("parent", &request.get_ref().parent)?)?;
        let asked = request.into_inner();
        let filter = filter(&asked.filter)?;
        let parent = TenantName { tenant }.to_string();
        let paging = Paging::new::<DeviceId>(
            vec!["devices", &parent, &asked.filter],
            asked.page_size,
            &asked.page_token,
        )?;
        let page = self.app.devices(tenant, &filter, paging.after(), paging.size, SystemTime::now()).await?;
        let next_page_token = paging.next(page.next);
        let devices = page.items.into_iter().map(encode::device).collect();
        Ok(Response::new(ListDevicesResponse { devices, next_page_token }))
    }

    type WatchDevicesStream = Pin<Box<dyn Stream<Item = Result<WatchDevicesResponse, Status>> + Send>>;

    async fn watch_devices(
        &self,
        request: Request<WatchDevicesRequest>,
    ) -> Result<Response<Self::WatchDevicesStream>, Status> {
        let tenant = own(&request, tenant_name("parent", &request.get_ref().parent)?)?;
        let asked = request.get_ref();
        let filter = (filter(&asked.filter)?, asked.filter.as_str());
        let (app, shutdown) = (self.app.clone(), self.shutdown.clone());
        let watch = Watch::new(app, &self.watchers, tenant, filter, &asked.resume_token, shutdown)?;
        let stream = try_unfold(watch, move |mut watch| async move {
            let told = watch.next().await?;
            Ok(told.map(|told| (watched(tenant, told), watch)))
        });
        Ok(Response::new(Box::pin(stream)))
    }

    async fn update_device(
        &self,
        request: Request<UpdateDeviceRequest>,
    ) -> Result<Response<PbDevice>, Status> {
        let named = request.get_ref().device.as_ref().map(|device| device.name.as_str());
        let named = named.ok_or_else(|| status::invalid("device", "is missing"))?;
        let tenant = own(&request, name::<DeviceId>("device.name", named)?.tenant)?;
        let actor = actor(&request)?;
        let mut asked = request.into_inner();
        let call = Call::take(&mut asked, tenant)?;
        let change = [relabel(tenant, asked)?];
        let shown = self.app.set_labels(&actor, &call, tenant, &change, SystemTime::now()).await;
        only(shown.map_err(Error::alone)?)
    }

    async fn revoke_device(
        &self,
        request: Request<RevokeDeviceRequest>,
    ) -> Result<Response<PbDevice>, Status> {
        let device = name::<DeviceId>("name", &request.get_ref().name)?;
        let tenant = own(&request, device.tenant)?;
        let actor = actor(&request)?;
        let mut asked = request.into_inner();
        let call = Call::take(&mut asked, tenant)?;
        let now = SystemTime::now();
        let revoked = self.app.revoke_device(&actor, &call, tenant, device.id, &asked.etag, now);
        let (shown, effects) = revoked.await?;
        self.link.carry_out(&effects).await?;
        Ok(Response::new(encode::device(shown)))
    }

    async fn release_device(
        &self,
        request: Request<ReleaseDeviceRequest>,
    ) -> Result<Response<PbDevice>, Status> {
        let device = name::<DeviceId>("name", &request.get_ref().name)?;
        let tenant = own(&request, device.tenant)?;
        let actor = actor(&request)?;
        let mut asked = request.into_inner();
        let call = Call::take(&mut asked, tenant)?;
        let now = SystemTime::now();
        let shown = self.app.release_device(&actor, &call, tenant, device.id, &asked.etag, now).await?;
        Ok(Response::new(encode::device(shown)))
    }

    async fn replace_device(
        &self,
        request: Request<ReplaceDeviceRequest>,
    ) -> Result<Response<PbDevice>, Status> {
        let device = name::<DeviceId>("name", &request.get_ref().name)?;
        let replacement = name::<DeviceId>("replacement", &request.get_ref().replacement)?;
        let tenant = own(&request, device.tenant)?;
        if replacement.tenant != tenant {
            return Err(status::not_found());
        }
        let actor = actor(&request)?;
        let mut asked = request.into_inner();
        let call = Call::take(&mut asked, tenant)?;
        let (both, now) = ((device.id, replacement.id), SystemTime::now());
        let replaced = self.app.replace_device(&actor, &call, tenant, both, &asked.etag, now).await;
        let (shown, effects) = replaced?;
        self.link.carry_out(&effects).await?;
        Ok(Response::new(encode::device(shown)))
    }

    async fn delete_device(&self, request: Request<DeleteDeviceRequest>) -> Result<Response<()>, Status> {
        let device = name::<DeviceId>("name", &request.get_ref().name)?;
        let tenant = own(&request, device.tenant)?;
        let actor = actor(&request)?;
        let mut asked = request.into_inner();
        let call = Call::take(&mut asked, tenant)?;
        let doomed = [(device.id, asked.etag)];
        let deleted = self.app.delete_devices(&actor, &call, tenant, &doomed, SystemTime::now()).await;
        Ok(Response::new(deleted.map_err(Error::alone)?))
    }

    async fn batch_get_devices(
        &self,
        request: Request<BatchGetDevicesRequest>,
    ) -> Result<Response<BatchGetDevicesResponse>, Status> {
        let tenant = own(&request, tenant_name("parent", &request.get_ref().parent)?)?;
        let batch = Batch::of("names", request.into_inner().names)?;
        let ids = batch.ids(tenant)?;
        let shown = self.app.devices_named(tenant, &ids, SystemTime::now()).await;
        let devices = shown.map_err(|error| batch.told(error))?.into_iter().map(encode::device).collect();
        Ok(Response::new(BatchGetDevicesResponse { devices }))
    }

    async fn batch_update_devices(
        &self,
        request: Request<BatchUpdateDevicesRequest>,
    ) -> Result<Response<BatchUpdateDevicesResponse>, Status> {
        let tenant = own(&request, tenant_name("parent", &request.get_ref().parent)?)?;
        let actor = actor(&request)?;
        let mut asked = request.into_inner();
        let call = Call::take(&mut asked, tenant)?;
        let name = |one: &UpdateDeviceRequest| one.device.as_ref().map(|device| device.name.clone());
        let names = asked.requests.iter().map(|one| name(one).unwrap_or_default());
        let batch = Batch::of("requests", names.collect())?;
        batch.ids_once(tenant)?;
        let one = |(at, request)| batch.one(at, relabel_one(tenant, request));
        let changes: Vec<_> = asked.requests.into_iter().enumerate().map(one).collect::<Result<_, _>>()?;
        let shown = self.app.set_labels(&actor, &call, tenant, &changes, SystemTime::now()).await;
        let devices = shown.map_err(|error| batch.told(error))?.into_iter().map(encode::device).collect();
        Ok(Response::new(BatchUpdateDevicesResponse { devices }))
    }

    async fn batch_delete_devices(
        &self,
        request: Request<BatchDeleteDevicesRequest>,
    ) -> Result<Response<()>, Status> {
        let tenant = own(&request, tenant_name("parent", &request.get_ref().parent)?)?;
        let actor = actor(&request)?;
        let mut asked = request.into_inner();
        let call = Call::take(&mut asked, tenant)?;
        let batch = Batch::of("names", asked.names)?;
        let doomed: Vec<_> = batch.ids_once(tenant)?.into_iter().map(|id| (id, String::new())).collect();
        let deleted = self.app.delete_devices(&actor, &call, tenant, &doomed, SystemTime::now()).await;
        Ok(Response::new(deleted.map_err(|error| batch.told(error))?))
    }

    async fn list_pending_enrollments(
        &self,
        request: Request<ListPendingEnrollmentsRequest>,
    ) -> Result<Response<ListPendingEnrollmentsResponse>, Status> {
        let tenant = own(&request, tenant_name("parent", &request.get_ref().parent)?)?;
        let asked = request.into_inner();
        let parent = TenantName { tenant }.to_string();
        let paging = Paging::new::<PendingId>(vec!["pending", &parent], asked.page_size, &asked.page_token)?;
        let page = self.app.pending(tenant, paging.after(), paging.size).await?;
        let next_page_token = paging.next(page.next);
        let pending_enrollments = page.items.into_iter().map(encode::pending).collect();
        Ok(Response::new(ListPendingEnrollmentsResponse { pending_enrollments, next_page_token }))
    }

    async fn accept_pending_enrollment(
        &self,
        request: Request<AcceptPendingEnrollmentRequest>,
    ) -> Result<Response<PbDevice>, Status> {
        let pending = name::<PendingId>("name", &request.get_ref().name)?;
        let tenant = own(&request, pending.tenant)?;
        let actor = actor(&request)?;
        let call = Call::take(&mut request.into_inner(), tenant)?;
        let now = SystemTime::now();
        let (shown, effects) = self.app.accept_pending(&actor, &call, tenant, pending.id, now).await?;
        // The new device is there whatever becomes of the old one's connection, which the sweep goes on ending.
        let _ = self.link.carry_out(&effects).await;
        let made = encode::device(shown);
        Ok(Response::new(PbDevice { name: named(&call, made.name), ..made }))
    }
}

/// What is to become of the device that the request names.
fn relabel(tenant: TenantId, request: UpdateDeviceRequest) -> Result<Relabel, Status> {
    let device = request.device.ok_or_else(|| status::invalid("device", "is missing"))?;
    let named = name::<DeviceId>("device.name", &device.name)?;
    if named.tenant != tenant {
        return Err(status::not_found());
    }
    let mask = request.update_mask.unwrap_or_default();
    if mask.paths.is_empty() {
        return Err(status::invalid("update_mask", "must name labels"));
    }
    if mask.paths.iter().any(|path| path != LABELS) {
        return Err(status::invalid("update_mask", "may name only labels"));
    }
    Ok(Relabel { device: named.id, labels: device.labels, etag: device.etag })
}

/// One of several: the batch has the one name of the call.
fn relabel_one(tenant: TenantId, request: UpdateDeviceRequest) -> Result<Relabel, Status> {
    for (field, set) in
        [("request_id", !request.request_id.is_empty()), ("validate_only", request.validate_only)]
    {
        if set {
            return Err(status::invalid(field, "stands in the batch, not in one of it"));
        }
    }
    relabel(tenant, request)
}

/// The answer about the one device that was spoken of.
fn only(mut shown: Vec<Shown>) -> Result<Response<PbDevice>, Status> {
    let device = shown.pop().map(encode::device).ok_or_else(status::not_found)?;
    Ok(Response::new(device))
}

fn filter(text: &str) -> Result<Filter, Status> {
    Filter::parse(text).map_err(|wrong| status::invalid_filter("filter", wrong.position, wrong.to_string()))
}

fn watched(tenant: TenantId, told: Told) -> WatchDevicesResponse {
    let (mut missed, mut reset_reason) = (0, ResetReason::Unspecified);
    let (kind, device) = match told.item {
        WatchItem::Snapshot(shown) => (Kind::Snapshot, Some(encode::device(*shown))),
        WatchItem::Synced => (Kind::Synced, None),
        WatchItem::Changed(shown) => (Kind::Changed, Some(encode::device(*shown))),
        WatchItem::Gone(id) => {
            let name = DeviceName::new(tenant, id).to_string();
            (Kind::Deleted, Some(PbDevice { name, ..PbDevice::default() }))
        }
        WatchItem::Missed(changes) => {
            missed = changes;
            (Kind::Missed, None)
        }
        WatchItem::Reset(reset) => {
            reset_reason = match reset {
                Reset::Expired => ResetReason::Expired,
                Reset::Presence => ResetReason::Presence,
                Reset::Behind(changes) => {
                    missed = changes;
                    ResetReason::Behind
                }
            };
            (Kind::Reset, None)
        }
    };
    WatchDevicesResponse {
        kind: kind.into(),
        device,
        resume_token: told.resume_token,
        missed: i64::try_from(missed).unwrap_or(i64::MAX),
        reset_reason: reset_reason.into(),
    }
}
