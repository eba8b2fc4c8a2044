//! TenantService.

use std::time::SystemTime;

use kit::once::Once;
use kit::status;
use prost::Message;
use proto::name::{KeyName, TenantName};
use proto::registry::v1::tenant_service_server::TenantService;
use proto::registry::v1::{
    CreateKeyRequest, CreateTenantRequest, DeleteKeyRequest, GetTenantRequest, Key as PbKey, ListKeysRequest,
    ListKeysResponse, ListTenantsRequest, ListTenantsResponse, Role as PbRole, Tenant as PbTenant,
};
use tonic::{Request, Response, Status, async_trait};
use wire::{KeyId, TenantId};

use super::{Api, Paging, actor, encode, name, own, tenant_name};
use crate::model::{Key, Role};

#[async_trait]
impl TenantService for Api {
    async fn create_tenant(
        &self,
        request: Request<CreateTenantRequest>,
    ) -> Result<Response<PbTenant>, Status> {
        let actor = actor(&request)?;
        let asked = request.into_inner();
        let made =
            self.app.create_tenant(&actor, &asked.display_name, &asked.admin_public_key, SystemTime::now());
        let (tenant, key) = made.await?;
        let admin_key = KeyName::new(tenant.id, key).to_string();
        Ok(Response::new(PbTenant { admin_key, ..encode::tenant(tenant) }))
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
        let request_id = std::mem::take(&mut asked.request_id);
        let once = Once::read(&request_id, "CreateKey", &asked.encode_to_vec())?;
        let key = asked.key.ok_or_else(|| status::invalid("key", "is missing"))?;
        let key = new_key(tenant, key)?;
        let made = self.app.create_key(&actor, key, once.as_ref(), SystemTime::now()).await?;
        Ok(Response::new(encode::key(made)))
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
        self.app.delete_key(&actor(&request)?, tenant, key.id).await?;
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
