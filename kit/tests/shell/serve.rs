//! A gRPC server of ours, asked by peers with every kind of certificate, until it drains.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use kit::auth::{Authenticator, KeySource, Peer, caller};
use kit::broker::{BrokerControl, Ended};
use kit::{Shutdown, serve};
use proto::broker::v1::broker_control_service_client::BrokerControlServiceClient;
use proto::broker::v1::broker_control_service_server::{BrokerControlService, BrokerControlServiceServer};
use proto::broker::v1::{
    DisconnectRequest, DisconnectResponse, ListConnectionsRequest, ListConnectionsResponse,
};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tonic::service::Routes;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Code, Request, Response, Status};
use wire::{DeviceId, Service};

use crate::pki::{By, Pki};

const PATIENCE: Duration = Duration::from_secs(20);

/// Says who asked.
struct Broker;

#[tonic::async_trait]
impl BrokerControlService for Broker {
    async fn disconnect(
        &self,
        request: Request<DisconnectRequest>,
    ) -> Result<Response<DisconnectResponse>, Status> {
        assert_eq!(caller(&request)?.peer()?, Peer::Service(Service::Registry));
        Ok(Response::new(DisconnectResponse { closed: 2 }))
    }

    async fn list_connections(
        &self,
        request: Request<ListConnectionsRequest>,
    ) -> Result<Response<ListConnectionsResponse>, Status> {
        Ok(Response::new(ListConnectionsResponse { device_ids: request.into_inner().device_ids }))
    }
}

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) shutdown: Shutdown,
    pub(crate) task: JoinHandle<Result<(), serve::ServeError>>,
}

pub(crate) async fn server(pki: &Pki) -> Server {
    let grpc = serve::Grpc::bind(([127, 0, 0, 1], 0).into()).await.unwrap();
    let (address, shutdown, tls) = (grpc.address(), Shutdown::new(), pki.tls("svc-registry"));
    let (_, keys) = watch::channel(String::from("{\"keys\":[]}"));
    let authenticator = Arc::new(Authenticator::new(KeySource::Local(keys)));
    let routes = Routes::new(BrokerControlServiceServer::new(Broker));
    let stop = shutdown.clone();
    let task = tokio::spawn(async move { grpc.run(&tls, authenticator, routes, stop).await });
    Server { address, shutdown, task }
}

pub(crate) async fn channel(
    server: &Server,
    pki: &Pki,
    identity: Option<(String, String)>,
) -> Result<Channel, tonic::transport::Error> {
    let mut tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pki.ca(By::Server)));
    if let Some((certificate, key)) = identity {
        tls = tls.identity(Identity::from_pem(certificate, key));
    }
    let url = format!("https://localhost:{}", server.address.port());
    Endpoint::from_shared(url).unwrap().tls_config(tls).unwrap().timeout(PATIENCE).connect().await
}

pub(crate) async fn ask(channel: Channel) -> Result<i32, Code> {
    let request = DisconnectRequest { identity: "dv".into() };
    let answer = BrokerControlServiceClient::new(channel).disconnect(request).await;
    answer.map(|answer| answer.into_inner().closed).map_err(|status| status.code())
}

#[tokio::test]
async fn only_a_certificate_of_the_service_ca_with_a_services_name_passes_the_gate() {
    let pki = Pki::new();
    let server = server(&pki).await;
    let with = |identity| channel(&server, &pki, identity);

    let registry = with(Some(pki.leaf(By::Service, "svc-registry"))).await.unwrap();
    assert_eq!(ask(registry).await, Ok(2));
    assert_eq!(ask(with(None).await.unwrap()).await, Err(Code::Unauthenticated));
    let nobody = with(Some(pki.leaf(By::Service, "svc-nobody"))).await.unwrap();
    assert_eq!(ask(nobody).await, Err(Code::Unauthenticated));
    // Another CA of the same name, and the server CA: TLS itself refuses, at the handshake or the first call.
    for by in [By::Foreign, By::Server] {
        if let Ok(channel) = with(Some(pki.leaf(by, "svc-registry"))).await {
            assert!(matches!(ask(channel).await, Err(Code::Unavailable | Code::Unknown)));
        }
    }
    server.shutdown.begin();
    server.task.await.unwrap().unwrap();
}

#[tokio::test]
async fn broker_control_asks_every_node_and_a_silent_one_is_an_error() {
    let pki = Pki::new();
    let (one, two) = (server(&pki).await, server(&pki).await);
    let url = |server: &Server| format!("https://localhost:{}", server.address.port());
    let control = BrokerControl::new(&pki.tls("svc-registry"), &[url(&one), url(&two)], None).unwrap();
    assert_eq!(control.disconnect("dv").await.unwrap(), Ended::Closed(4));
    let device = DeviceId::new([1; 16]);
    assert_eq!(control.connected(&[device]).await.unwrap(), [device].into());

    two.shutdown.begin();
    two.task.await.unwrap().unwrap();
    assert!(control.disconnect("dv").await.is_err());
    one.shutdown.begin();
    one.task.await.unwrap().unwrap();
}

#[tokio::test]
async fn without_a_node_nothing_is_ended_and_it_is_said() {
    let control = BrokerControl::new(&Pki::new().tls("svc-registry"), &[], None).unwrap();
    assert_eq!(control.disconnect("dv").await.unwrap(), Ended::NotOnDemand);
}

#[tokio::test]
async fn health_is_told_to_anyone_and_reflection_lists_every_service() {
    use tonic_health::pb::HealthCheckRequest;
    use tonic_health::pb::health_client::HealthClient;
    let pki = Pki::new();
    let server = server(&pki).await;
    let channel = channel(&server, &pki, None).await.unwrap();
    let answer =
        HealthClient::new(channel).check(HealthCheckRequest { service: String::new() }).await.unwrap();
    assert_eq!(answer.into_inner().status, tonic_health::ServingStatus::Serving as i32);
    server.shutdown.begin();
    server.task.await.unwrap().unwrap();
}
