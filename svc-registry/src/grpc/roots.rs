//! RootService.

use std::time::SystemTime;

use kit::auth::caller;
use kit::once::Call;
use proto::registry::v1::root_service_server::RootService;
use proto::registry::v1::{
    CreateDeviceRootRequest, DeviceRoot, ListDeviceRootsRequest, ListDeviceRootsResponse,
    RetireDeviceRootRequest,
};
use tonic::{Request, Response, Status, async_trait};

use super::{Api, actor, encode, named};

#[async_trait]
impl RootService for Api {
    async fn list_device_roots(
        &self,
        _: Request<ListDeviceRootsRequest>,
    ) -> Result<Response<ListDeviceRootsResponse>, Status> {
        let roots = self.app.device_roots(SystemTime::now()).await?;
        let roots = roots.into_iter().map(encode::device_root).collect();
        Ok(Response::new(ListDeviceRootsResponse { roots }))
    }

    async fn create_device_root(
        &self,
        request: Request<CreateDeviceRootRequest>,
    ) -> Result<Response<DeviceRoot>, Status> {
        let actor = actor(&request)?;
        let caller = caller(&request)?.person()?.tenant;
        let call = Call::take(&mut request.into_inner(), caller)?;
        let made = self.app.create_device_root(&actor, &call, SystemTime::now()).await?;
        let made = encode::device_root(made);
        Ok(Response::new(DeviceRoot { root: named(&call, made.root), ..made }))
    }

    async fn retire_device_root(
        &self,
        request: Request<RetireDeviceRootRequest>,
    ) -> Result<Response<DeviceRoot>, Status> {
        let actor = actor(&request)?;
        let caller = caller(&request)?.person()?.tenant;
        let mut asked = request.into_inner();
        let call = Call::take(&mut asked, caller)?;
        let (root, force) = (&asked.root, asked.force);
        let retired = self.app.retire_device_root(&actor, &call, root, force, SystemTime::now()).await?;
        // Many may be on their way out: nobody waits for each.
        self.link.hurry();
        Ok(Response::new(encode::device_root(retired)))
    }
}
