//! AuthorityService: brokers ask.

use std::time::SystemTime;

use proto::registry::v1::authority_service_server::AuthorityService;
use proto::registry::v1::{
    AuthorizeConnectionRequest, AuthorizeConnectionResponse, GetTrustRequest, GetTrustResponse, Listener,
};
use tonic::{Request, Response, Status, async_trait};

use super::Api;
use crate::app::Asked;

#[async_trait]
impl AuthorityService for Api {
    async fn get_trust(&self, _: Request<GetTrustRequest>) -> Result<Response<GetTrustResponse>, Status> {
        let trust = self.app.trust().await?;
        let answer = GetTrustResponse { device_roots: trust.device_roots, enroll_roots: trust.enroll_roots };
        Ok(Response::new(answer))
    }

    async fn authorize_connection(
        &self,
        request: Request<AuthorizeConnectionRequest>,
    ) -> Result<Response<AuthorizeConnectionResponse>, Status> {
        let listener = request.get_ref().listener();
        let request = request.into_inner();
        let asked = Asked {
            common_name: request.common_name,
            key_digest: request.public_key_digest,
            issuer_key_digest: request.issuer_key_digest,
            certificate_digest: request.certificate_digest,
        };
        let answer = match listener {
            Listener::Device => self.app.authorize_device(&asked).await?,
            Listener::Enroll => self.app.authorize_enroll(&asked, SystemTime::now()).await?,
            Listener::Unspecified => {
                return Err(kit::status::invalid("listener", "must be one of the listeners"));
            }
        };
        if let Err(refusal) = answer {
            metrics::counter!("registry_connections_refused_total", "reason" => refusal).increment(1);
        }
        Ok(Response::new(AuthorizeConnectionResponse {
            allowed: answer.is_ok(),
            tenant_id: answer.map(|tenant| tenant.to_string()).unwrap_or_default(),
            refusal: answer.err().unwrap_or_default().to_owned(),
        }))
    }
}
