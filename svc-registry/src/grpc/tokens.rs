//! TokenService: open to anybody who reaches the port.

use std::time::SystemTime;

use proto::name::{KeyName, TenantName};
use proto::registry::v1::token_service_server::TokenService;
use proto::registry::v1::{
    BootstrapRequest, BootstrapResponse, ExchangeTokenRequest, ExchangeTokenResponse, GetJwksRequest,
    GetJwksResponse,
};
use tonic::{Request, Response, Status, async_trait};

use super::{Api, encode};

#[async_trait]
impl TokenService for Api {
    async fn bootstrap(
        &self,
        request: Request<BootstrapRequest>,
    ) -> Result<Response<BootstrapResponse>, Status> {
        let asked = request.into_inner();
        let now = SystemTime::now();
        let made =
            self.app.bootstrap(&asked.code, &asked.tenant_display_name, &asked.public_key, now).await?;
        let tenant = TenantName { tenant: made.tenant }.to_string();
        Ok(Response::new(BootstrapResponse { tenant, key: KeyName::new(made.tenant, made.key).to_string() }))
    }

    async fn exchange_token(
        &self,
        request: Request<ExchangeTokenRequest>,
    ) -> Result<Response<ExchangeTokenResponse>, Status> {
        let token = self.app.exchange(&request.get_ref().assertion, SystemTime::now()).await?;
        let expire_time = Some(encode::time(token.expires_at));
        Ok(Response::new(ExchangeTokenResponse { access_token: token.token, expire_time }))
    }

    async fn get_jwks(&self, _: Request<GetJwksRequest>) -> Result<Response<GetJwksResponse>, Status> {
        Ok(Response::new(GetJwksResponse { jwks_json: self.app.jwks_json() }))
    }
}
