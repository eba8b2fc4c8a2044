//! ClaimService.

use std::time::{Duration, SystemTime};

use kit::once::Call;
use kit::status;
use proto::name::TenantName;
use proto::registry::v1::claim_service_server::ClaimService;
use proto::registry::v1::{
    Claim as PbClaim, CreateClaimRequest, GetClaimRequest, ListClaimsRequest, ListClaimsResponse,
    RevokeClaimRequest,
};
use tonic::{Request, Response, Status, async_trait};
use wire::ClaimId;

use super::{Api, Paging, actor, encode, name, named, own, tenant_name};
use crate::app::NewClaim;

#[async_trait]
impl ClaimService for Api {
    async fn create_claim(&self, request: Request<CreateClaimRequest>) -> Result<Response<PbClaim>, Status> {
        let tenant = own(&request, tenant_name("parent", &request.get_ref().parent)?)?;
        let actor = actor(&request)?;
        let mut asked = request.into_inner();
        let call = Call::take(&mut asked, tenant)?;
        let ttl = asked.ttl.ok_or_else(|| status::invalid("ttl", "is missing"))?;
        let ttl = Duration::try_from(ttl).map_err(|_| status::invalid("ttl", "must not be negative"))?;
        let new = NewClaim {
            tenant,
            display_name: asked.display_name,
            devices_max: asked.devices_max,
            ttl,
            public_key: asked.public_key,
        };
        let claim = self.app.create_claim(&actor, &call, new, SystemTime::now()).await?;
        let made = encode::claim(claim, self.app.enroll_address());
        Ok(Response::new(PbClaim { name: named(&call, made.name), ..made }))
    }

    async fn get_claim(&self, request: Request<GetClaimRequest>) -> Result<Response<PbClaim>, Status> {
        let claim = name::<ClaimId>("name", &request.get_ref().name)?;
        let tenant = own(&request, claim.tenant)?;
        let claim = self.app.claim(tenant, claim.id).await?;
        Ok(Response::new(encode::claim(claim, self.app.enroll_address())))
    }

    async fn list_claims(
        &self,
        request: Request<ListClaimsRequest>,
    ) -> Result<Response<ListClaimsResponse>, Status> {
        let tenant = own(&request, tenant_name("parent", &request.get_ref().parent)?)?;
        let asked = request.into_inner();
        let parent = TenantName { tenant }.to_string();
        let paging = Paging::new::<ClaimId>(vec!["claims", &parent], asked.page_size, &asked.page_token)?;
        let page = self.app.claims(tenant, paging.after(), paging.size).await?;
        let next_page_token = paging.next(page.next);
        let claims =
            page.items.into_iter().map(|claim| encode::claim(claim, self.app.enroll_address())).collect();
        Ok(Response::new(ListClaimsResponse { claims, next_page_token }))
    }

    async fn revoke_claim(&self, request: Request<RevokeClaimRequest>) -> Result<Response<PbClaim>, Status> {
        let claim = name::<ClaimId>("name", &request.get_ref().name)?;
        let tenant = own(&request, claim.tenant)?;
        let actor = actor(&request)?;
        let call = Call::take(&mut request.into_inner(), tenant)?;
        let now = SystemTime::now();
        let (claim, effects) = self.app.revoke_claim(&actor, &call, tenant, claim.id, now).await?;
        self.link.carry_out(&effects).await?;
        Ok(Response::new(encode::claim(claim, self.app.enroll_address())))
    }
}
