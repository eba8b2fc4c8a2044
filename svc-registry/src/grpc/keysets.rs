//! KeysetService.

use std::time::SystemTime;

use kit::once::Call;
use kit::page;
use proto::name::{KeysetVersion, TenantName};
use proto::registry::v1::keyset_service_server::KeysetService;
use proto::registry::v1::{
    CreateKeysetRequest, GetKeysetRequest, Keyset as PbKeyset, ListKeysetsRequest, ListKeysetsResponse,
};
use tonic::{Request, Response, Status, async_trait};

use super::{Api, actor, encode, name, named, own, tenant_name};

#[async_trait]
impl KeysetService for Api {
    async fn create_keyset(
        &self,
        request: Request<CreateKeysetRequest>,
    ) -> Result<Response<PbKeyset>, Status> {
        let tenant = own(&request, tenant_name("parent", &request.get_ref().parent)?)?;
        let actor = actor(&request)?;
        let mut asked = request.into_inner();
        let call = Call::take(&mut asked, tenant)?;
        let made = self.app.create_keyset(&actor, &call, tenant, &asked.signed, SystemTime::now()).await?;
        let made = encode::keyset(tenant, made);
        Ok(Response::new(PbKeyset { name: named(&call, made.name), ..made }))
    }

    async fn get_keyset(&self, request: Request<GetKeysetRequest>) -> Result<Response<PbKeyset>, Status> {
        let keyset = name::<KeysetVersion>("name", &request.get_ref().name)?;
        let tenant = own(&request, keyset.tenant)?;
        let version = match keyset.id {
            KeysetVersion::Latest => None,
            KeysetVersion::Number(number) => Some(number),
        };
        Ok(Response::new(encode::keyset(tenant, self.app.keyset(tenant, version).await?)))
    }

    async fn list_keysets(
        &self,
        request: Request<ListKeysetsRequest>,
    ) -> Result<Response<ListKeysetsResponse>, Status> {
        let tenant = own(&request, tenant_name("parent", &request.get_ref().parent)?)?;
        let asked = request.into_inner();
        let parent = TenantName { tenant }.to_string();
        let place = ["keysets", parent.as_str()];
        let after: i32 = page::cursor(&place, &asked.page_token)?.unwrap_or_default();
        let found = self.app.keysets(tenant, after, page::size(asked.page_size)?).await?;
        let next_page_token = match (&found.next, found.items.last()) {
            (Some(_), Some(last)) => page::token(&place, &last.version),
            _ => String::new(),
        };
        let keysets = found.items.into_iter().map(|keyset| encode::keyset(tenant, keyset)).collect();
        Ok(Response::new(ListKeysetsResponse { keysets, next_page_token }))
    }
}
