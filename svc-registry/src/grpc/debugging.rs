//! DebuggingService.

use std::time::SystemTime;

use kit::once::Call;
use kit::status;
use proto::name::TenantName;
use proto::registry::v1::debug_scope::Scope as PbScope;
use proto::registry::v1::debugging_service_server::DebuggingService;
use proto::registry::v1::{
    AllowDebuggingRequest, DebugBan, DebugScope, ForbidDebuggingRequest, ListDebugBansRequest,
    ListDebugBansResponse,
};
use tonic::{Request, Response, Status, async_trait};
use wire::{DeviceId, TenantId};

use super::{Api, actor, encode, name, own, tenant_name};
use crate::model::debugging::Scope;

#[async_trait]
impl DebuggingService for Api {
    async fn forbid_debugging(
        &self,
        request: Request<ForbidDebuggingRequest>,
    ) -> Result<Response<DebugBan>, Status> {
        let tenant = own(&request, tenant_name("parent", &request.get_ref().parent)?)?;
        let scope = scope(tenant, request.get_ref().scope.as_ref())?;
        let actor = actor(&request)?;
        let call = Call::take(&mut request.into_inner(), tenant)?;
        let ban = self.app.forbid_debugging(&actor, &call, tenant, &scope, SystemTime::now()).await?;
        Ok(Response::new(encode::debug_ban(tenant, ban)))
    }

    async fn allow_debugging(&self, request: Request<AllowDebuggingRequest>) -> Result<Response<()>, Status> {
        let tenant = own(&request, tenant_name("parent", &request.get_ref().parent)?)?;
        let scope = scope(tenant, request.get_ref().scope.as_ref())?;
        let actor = actor(&request)?;
        let call = Call::take(&mut request.into_inner(), tenant)?;
        self.app.allow_debugging(&actor, &call, tenant, &scope, SystemTime::now()).await?;
        Ok(Response::new(()))
    }

    async fn list_debug_bans(
        &self,
        request: Request<ListDebugBansRequest>,
    ) -> Result<Response<ListDebugBansResponse>, Status> {
        let tenant = own(&request, tenant_name("parent", &request.get_ref().parent)?)?;
        let asked = request.into_inner();
        let parent = TenantName { tenant }.to_string();
        let listed = ["debug_bans", parent.as_str()];
        let after: Option<Scope> = kit::page::id_cursor(&listed, &asked.page_token)?;
        let size = kit::page::size(asked.page_size)?;
        let page = self.app.debug_bans(tenant, after.as_ref(), size).await?;
        let next_page_token = page.next.map(|last| kit::page::token(&listed, &last)).unwrap_or_default();
        let debug_bans = page.items.into_iter().map(|ban| encode::debug_ban(tenant, ban)).collect();
        Ok(Response::new(ListDebugBansResponse { debug_bans, next_page_token }))
    }
}

/// Of the caller's own tenant: another's device looks like one that does not exist.
fn scope(tenant: TenantId, scope: Option<&DebugScope>) -> Result<Scope, Status> {
    match scope.and_then(|scope| scope.scope.as_ref()) {
        Some(PbScope::Tenant(true)) => Ok(Scope::Tenant),
        Some(PbScope::Label(label)) => Ok(Scope::label(&label.key, &label.value)),
        Some(PbScope::Device(device)) => {
            let device = name::<DeviceId>("scope.device", device)?;
            if device.tenant == tenant { Ok(Scope::Device(device.id)) } else { Err(status::not_found()) }
        }
        Some(PbScope::Tenant(false)) | None => {
            Err(status::invalid("scope", "must say which devices: a device, a label, or tenant: true"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_that_says_nothing_is_refused_and_not_taken_for_the_tenant() {
        let tenant = TenantId::new([1; 16]);
        let of = |one: Option<PbScope>| scope(tenant, Some(&DebugScope { scope: one }));
        assert_eq!(of(Some(PbScope::Tenant(true))).unwrap(), Scope::Tenant);
        for empty in [scope(tenant, None), of(None), of(Some(PbScope::Tenant(false)))] {
            assert_eq!(empty.unwrap_err().code(), tonic::Code::InvalidArgument);
        }
    }
}
