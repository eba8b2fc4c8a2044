//! A registry that lets everybody in: svc-broker asks about every device over gRPC as it does in production, and the
//! answer costs as little as an answer can.

use anyhow::{Context, Result};
use proto::registry::v1::authority_service_server::{AuthorityService, AuthorityServiceServer};
use proto::registry::v1::{
    AuthorizeConnectionRequest, AuthorizeConnectionResponse, GetTrustRequest, GetTrustResponse,
};
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};
use tonic::{Request, Response, Status};

use super::pki::Pki;

struct Registry {
    trust: GetTrustResponse,
}

/// Serves until the process ends; gives the address.
pub(crate) fn start(pki: &Pki) -> Result<String> {
    let root = pki.device_root.der.to_vec();
    let trust = GetTrustResponse { device_roots: vec![root.clone()], enroll_roots: vec![root] };
    let incoming = TcpIncoming::bind(([127, 0, 0, 1], 0).into())?.with_nodelay(Some(true));
    let port = incoming.local_addr()?.port();
    let files = pki.server_ca.server("svc-registry")?;
    let tls = ServerTlsConfig::new()
        .identity(Identity::from_pem(&files.cert, &files.key))
        .client_ca_root(Certificate::from_pem(&pki.service_ca.pem));
    let serving = Server::builder()
        .tls_config(tls)
        .context("the registry's TLS")?
        .add_service(AuthorityServiceServer::new(Registry { trust }))
        .serve_with_incoming(incoming);
    tokio::spawn(serving);
    Ok(format!("https://localhost:{port}"))
}

#[tonic::async_trait]
impl AuthorityService for Registry {
    async fn get_trust(&self, _: Request<GetTrustRequest>) -> Result<Response<GetTrustResponse>, Status> {
        Ok(Response::new(self.trust.clone()))
    }

    async fn authorize_connection(
        &self,
        _: Request<AuthorizeConnectionRequest>,
    ) -> Result<Response<AuthorizeConnectionResponse>, Status> {
        let (tenant_id, refusal) = (String::new(), String::new());
        Ok(Response::new(AuthorizeConnectionResponse { allowed: true, tenant_id, refusal }))
    }
}
