//! TenantService.

use std::time::SystemTime;

use kit::auth::caller;
use kit::once::Call;
use kit::status;
use proto::name::{KeyName, TenantName};
use proto::registry::v1::tenant_service_server::TenantService;
use proto::registry::v1::{
    CreateKeyRequest, CreateTenantRequest, DeleteKeyRequest, GetTenantRequest, Key as PbKey, ListKeysRequest,
    ListKeysResponse, ListTenantsRequest, ListTenantsResponse, Role as PbRole, Tenant as PbTenant,
};
use tonic::{Request, Response, Status, async_trait};
use wire::{KeyId, TenantId};

use super::{Api, Paging, actor, encode, name, named, own, tenant_name};
use crate::model::{Key, Role};

#[async_trait]
impl TenantService for Api {
    async fn create_tenant(
        &self,
        request: Request<CreateTenantRequest>,
    ) -> Result<Response<PbTenant>, Status> {
        let actor = actor(&request)?;
        let caller = caller(&request)?.person()?.tenant;
        let mut asked = request.into_inner();
        let call = Call::take(&mut asked, caller)?;
        let (name, key) = (&asked.display_name, &asked.admin_public_key);
        let (tenant, key) = self.app.create_tenant(&actor, &call, name, key, SystemTime::now()).await?;
        let admin_key = named(&call, KeyName::new(tenant.id, key).to_string());
        let made = encode::tenant(tenant);
        Ok(Response::new(PbTenant { name: named(&call, made.name), admin_key, ..made }))
    }

    async fn get_tenant(&self, request: Request<GetTenantRequest>) -> Result<Response<PbTenant>, Status> {
        let tenant = own(&request, tenant_name("name", &request.get_ref().name)?)?;
        Ok(Response::new(encode::tenant(self.app.tenant(tenant).await?)))
    }

    async fn list_tenants(
        &self,
        request: Request<ListTenantsRequest>,
    ) -> Result<Response<ListTenantsResponse>, Status> {
        let asked = request.into_inner();
        let paging = Paging::new::<TenantId>(vec!["tenants"], asked.page_size, &asked.page_token)?;
        let page = self.app.tenants(paging.after(), paging.size).await?;
        let next_page_token = paging.next(page.next);
        let tenants = page.items.into_iter().map(encode::tenant).collect();
        Ok(Response::new(ListTenantsResponse { tenants, next_page_token }))
    }

    async fn create_key(&self, request: Request<CreateKeyRequest>) -> Result<Response<PbKey>, Status> {
        let tenant = own(&request, tenant_name("parent", &request.get_ref().parent)?)?;
        let actor = actor(&request)?;
        let mut asked = request.into_inner();
        let call = Call::take(&mut asked, tenant)?;
        let key = asked.key.ok_or_else(|| status::invalid("key", "is missing"))?;
        let key = new_key(tenant, key)?;
        let made = encode::key(self.app.create_key(&actor, &call, key, SystemTime::now()).await?);
        Ok(Response::new(PbKey { name: named(&call, made.name), ..made }))
    }

    async fn list_keys(
        &self,
        request: Request<ListKeysRequest>,
    ) -> Result<Response<ListKeysResponse>, Status> {
        let tenant = own(&request, tenant_name("parent", &request.get_ref().parent)?)?;
        let asked = request.into_inner();
        let parent = TenantName { tenant }.to_string();
        let paging = Paging::new::<KeyId>(vec!["keys", &parent], asked.page_size, &asked.page_token)?;
        let page = self.app.keys(tenant, paging.after(), paging.size).await?;
        let next_page_token = paging.next(page.next);
        let keys = page.items.into_iter().map(encode::key).collect();
        Ok(Response::new(ListKeysResponse { keys, next_page_token }))
    }

    async fn delete_key(&self, request: Request<DeleteKeyRequest>) -> Result<Response<()>, Status> {
        let key = name::<KeyId>("name", &request.get_ref().name)?;
        let tenant = own(&request, key.tenant)?;
        let actor = actor(&request)?;
        let call = Call::take(&mut request.into_inner(), tenant)?;
        self.app.delete_key(&actor, &call, tenant, key.id, SystemTime::now()).await?;
        Ok(Response::new(()))
    }
}

fn new_key(tenant: TenantId, key: PbKey) -> Result<Key, Status> {
    let role = match PbRole::try_from(key.role) {
        Ok(PbRole::Viewer) => Role::Viewer,
        Ok(PbRole::Operator) => Role::Operator,
        Ok(PbRole::Developer) => Role::Developer,
        Ok(PbRole::Admin) => Role::Admin,
        Ok(PbRole::Unspecified) | Err(_) => {
            return Err(status::invalid("key.role", "must be one of the roles"));
        }
    };
    Ok(Key {
        // Given by the use case.
        id: KeyId::new([0; 16]),
        tenant,
        display_name: key.display_name,
        role,
        installation: key.installation,
        public_key: key.public_key,
        created_at: SystemTime::UNIX_EPOCH,
    })
}
