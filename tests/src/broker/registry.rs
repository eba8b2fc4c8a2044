//! A registry that knows the certificates it was shown and answers as it was told to.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use proto::registry::v1::authority_service_server::{AuthorityService, AuthorityServiceServer};
use proto::registry::v1::{
    AuthorizeConnectionRequest, AuthorizeConnectionResponse, GetTrustRequest, GetTrustResponse,
};
use tokio::sync::Notify;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Certificate, Server, ServerTlsConfig};
use tonic::{Request, Response, Status};

use super::pki::{Authority, Identity};

#[derive(Debug, Clone)]
pub struct Registry {
    state: Arc<State>,
    pub url: String,
}

#[derive(Debug)]
struct State {
    script: Mutex<Script>,
    /// Somebody was asked about.
    asked: Notify,
    /// An answer held back may go on.
    released: Notify,
}

/// Of a leaf's key and of its issuer's.
type Digests = (Vec<u8>, Vec<u8>);

#[derive(Debug, Default)]
struct Script {
    trust: GetTrustResponse,
    known: HashMap<String, Vec<Digests>>,
    /// Names whose answers are held back.
    held: Vec<String>,
    away: bool,
    questions: Vec<String>,
}

impl Registry {
    pub async fn start(
        device_root: &Authority,
        enroll_root: &Authority,
        server: &Identity,
        service_ca: &Authority,
    ) -> Registry {
        let state =
            Arc::new(State { script: Mutex::default(), asked: Notify::new(), released: Notify::new() });
        let incoming = TcpIncoming::bind(([127, 0, 0, 1], 0).into()).unwrap();
        let port = incoming.local_addr().unwrap().port();
        let tls = ServerTlsConfig::new()
            .identity(tonic::transport::Identity::from_pem(&server.pem, &server.key_pem))
            .client_ca_root(Certificate::from_pem(&service_ca.pem));
        let service = AuthorityServiceServer::from_arc(state.clone());
        let serving =
            Server::builder().tls_config(tls).unwrap().add_service(service).serve_with_incoming(incoming);
        tokio::spawn(serving);
        let registry = Registry { state, url: format!("https://localhost:{port}") };
        registry.name_roots(&[device_root.der.to_vec()], &[enroll_root.der.to_vec()]);
        registry
    }

    /// From now on these are the roots, whatever they are.
    pub fn name_roots(&self, device: &[Vec<u8>], enroll: &[Vec<u8>]) {
        self.script().trust =
            GetTrustResponse { device_roots: device.to_vec(), enroll_roots: enroll.to_vec() };
    }

    /// From now on this certificate may connect.
    pub fn admit(&self, identity: &Identity) {
        let digests = (sha256(&identity.spki), sha256(&identity.issuer_spki));
        self.script().known.entry(identity.name.clone()).or_default().push(digests);
    }

    pub fn revoke(&self, name: &str) {
        self.script().known.remove(name);
    }

    /// Holds back the answers about this name until `release`. They are what they were when asked.
    pub fn hold(&self, name: &str) {
        self.script().held.push(name.to_owned());
    }

    pub fn release(&self) {
        self.script().held.clear();
        self.state.released.notify_waiters();
    }

    /// Answers nothing any more.
    pub fn go_away(&self, away: bool) {
        self.script().away = away;
    }

    /// Waits until somebody asked about this name.
    pub async fn asked_about(&self, name: &str) {
        self.asked_times(name, 1).await;
    }

    /// The same, so many times in all.
    pub async fn asked_times(&self, name: &str, times: usize) {
        loop {
            let asked = self.state.asked.notified();
            if self.script().questions.iter().filter(|asked| *asked == name).count() >= times {
                return;
            }
            asked.await;
        }
    }

    fn script(&self) -> std::sync::MutexGuard<'_, Script> {
        self.state.script.lock().unwrap()
    }
}

#[tonic::async_trait]
impl AuthorityService for State {
    async fn get_trust(&self, _: Request<GetTrustRequest>) -> Result<Response<GetTrustResponse>, Status> {
        Ok(Response::new(self.script.lock().unwrap().trust.clone()))
    }

    async fn authorize_connection(
        &self,
        request: Request<AuthorizeConnectionRequest>,
    ) -> Result<Response<AuthorizeConnectionResponse>, Status> {
        let asked = request.into_inner();
        let answer = {
            let mut script = self.script.lock().unwrap();
            script.questions.push(asked.common_name.clone());
            if script.away {
                return Err(Status::unavailable("away"));
            }
            let digests = (asked.public_key_digest, asked.issuer_key_digest);
            let allowed = script.known.get(&asked.common_name).is_some_and(|known| known.contains(&digests));
            let refusal = if allowed { "" } else { "unknown" }.to_owned();
            AuthorizeConnectionResponse { allowed, tenant_id: String::new(), refusal }
        };
        self.asked.notify_waiters();
        loop {
            let released = self.released.notified();
            if !self.script.lock().unwrap().held.contains(&asked.common_name) {
                return Ok(Response::new(answer));
            }
            released.await;
        }
    }
}

pub fn sha256(bytes: &[u8]) -> Vec<u8> {
    wire::Digest::of(bytes).0.to_vec()
}
