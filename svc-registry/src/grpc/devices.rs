//! DeviceService.

use std::pin::Pin;
use std::time::SystemTime;

use futures::stream::{Stream, try_unfold};
use kit::status;
use proto::name::{DeviceName, TenantName};
use proto::registry::v1::device_service_server::DeviceService;
use proto::registry::v1::watch_devices_response::{Kind, ResetReason};
use proto::registry::v1::{
    AcceptPendingEnrollmentRequest, DeleteDeviceRequest, Device as PbDevice, GetDeviceRequest,
    ListDevicesRequest, ListDevicesResponse, ListPendingEnrollmentsRequest, ListPendingEnrollmentsResponse,
    RevokeDeviceRequest, UpdateDeviceRequest, WatchDevicesRequest, WatchDevicesResponse,
};
use tonic::{Request, Response, Status, async_trait};
use wire::{DeviceId, PendingId, TenantId};

use super::{Api, Paging, actor, encode, name, own, tenant_name};
use crate::app::{Reset, Told, Watch, WatchItem};
use crate::model::Filter;

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
        let device =
            request.get_ref().device.clone().ok_or_else(|| status::invalid("device", "is missing"))?;
        let id = name::<DeviceId>("device.name", &device.name)?;
        let tenant = own(&request, id.tenant)?;
        let actor = actor(&request)?;
        let mask = request.into_inner().update_mask.unwrap_or_default();
        if mask.paths.is_empty() {
            return Err(status::invalid("update_mask", "must name labels"));
        }
        if mask.paths.iter().any(|path| path != LABELS) {
            return Err(status::invalid("update_mask", "may name only labels"));
        }
        let labels = device.labels.into_iter().collect();
        let now = SystemTime::now();
        let shown = self.app.set_labels(&actor, tenant, id.id, &labels, &device.etag, now).await?;
        Ok(Response::new(encode::device(shown)))
    }

    async fn revoke_device(
        &self,
        request: Request<RevokeDeviceRequest>,
    ) -> Result<Response<PbDevice>, Status> {
        let device = name::<DeviceId>("name", &request.get_ref().name)?;
        let tenant = own(&request, device.tenant)?;
        let actor = actor(&request)?;
        let (shown, effects) = self.app.revoke_device(&actor, tenant, device.id, SystemTime::now()).await?;
        self.link.carry_out(&effects).await?;
        Ok(Response::new(encode::device(shown)))
    }

    async fn delete_device(&self, request: Request<DeleteDeviceRequest>) -> Result<Response<()>, Status> {
        let device = name::<DeviceId>("name", &request.get_ref().name)?;
        let tenant = own(&request, device.tenant)?;
        self.app.delete_device(&actor(&request)?, tenant, device.id).await?;
        Ok(Response::new(()))
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
        let (shown, effects) = self.app.accept_pending(&actor, tenant, pending.id, SystemTime::now()).await?;
        // The new device is there whatever becomes of the old one's connection, which the sweep goes on ending.
        let _ = self.link.carry_out(&effects).await;
        Ok(Response::new(encode::device(shown)))
    }
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
