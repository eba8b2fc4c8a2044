//! svc-debug-relay: pipes between a developer's machine and a device's debug stub, which it cannot read.
//!
//! Owns: debug sessions, whether their creators are attached, and the audit of both, in schema `debug`.
//! Promises: a frame reaches its end in order and once, and is acknowledged only by that end, so that either end, its
//! connection, or this process may be lost and the session goes on from where it was; who reads slowly holds nobody up but
//! itself; every attachment and every session ends with a reason, which is written down with who, when, and how much.
//! Never: reads, keeps or prints what a frame holds; lets anybody attach to another's session; holds a session another
//! process took; keeps a watcher from writing, which only the device can.
//!
//! Any number of replicas may run. Each has a random relay id, which ends its topics, and holds a session by a lease and an
//! epoch: a device's frames reach the holder and no other, and a device ignores who lost the session (docs/decisions/0011).
//! A call that reaches another replica than the holder is passed on to it.

mod app;
mod config;
mod error;
mod grpc;
mod link;
mod model;
mod store;

use std::net::SocketAddr;
use std::sync::Arc;

use kit::auth::{Authenticator, KeySource};
use kit::{Shutdown, Tasks, mqtt, pg, run, serve, telemetry, tls};
use proto::debug::v1::debug_session_service_server::DebugSessionServiceServer;
use rand::Rng;
use tonic::service::Routes;
use wire::{RelayId, Service};

use crate::app::App;
use crate::store::Store;

pub use config::Config;

/// The service, bound and not yet running.
#[derive(Debug)]
pub struct Server {
    grpc: SocketAddr,
    metrics: SocketAddr,
    tasks: Tasks,
}

/// Why the service cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Tls(#[from] tls::TlsError),
    #[error(transparent)]
    Postgres(#[from] pg::Error),
    #[error(transparent)]
    Link(#[from] mqtt::LinkError),
    #[error(transparent)]
    Serve(#[from] serve::ServeError),
    #[error(transparent)]
    Telemetry(#[from] telemetry::TelemetryError),
    #[error("an address cannot be told")]
    Address(#[from] std::io::Error),
}

/// Brings the schema up to date.
pub async fn migrate(config: &Config) -> Result<(), StartError> {
    let tls = tls::Tls::load(&config.common.tls)?;
    Ok(Store::new(pg::Pg::new(config.postgres_url.expose(), &tls)?).migrate().await?)
}

impl Server {
    /// Migrates, binds, and begins to serve.
    pub async fn build(config: Config) -> Result<Self, StartError> {
        let tls = tls::Tls::load(&config.common.tls)?;
        let store = Store::new(pg::Pg::new(config.postgres_url.expose(), &tls)?);
        store.migrate().await?;
        kit::trace::export("svc-debug-relay", config.common.otlp_endpoint.as_deref(), &tls)?;
        let metrics = telemetry::Metrics::bind(config.common.metrics_listen).await?;
        let metrics_address = metrics.address()?;
        let grpc = serve::Grpc::bind(config.common.grpc_listen).await?;
        let grpc_address = grpc.address();
        let registry = tls.channel(&config.registry_url)?;
        let authenticator = Arc::new(Authenticator::new(KeySource::Registry(registry)));

        let shutdown = Shutdown::new();
        let url = config.advertise_url.clone().unwrap_or_else(|| format!("https://{grpc_address}"));
        let relay = RelayId::new(rand::rng().random());
        let (hints, listening) = store.hints(shutdown.clone());
        let app = Arc::new(App::new(store, relay, url, config.device_silence()));
        let mut setup = mqtt::LinkSetup::new(Service::Relay, &config.broker_url, &tls)?;
        let incoming = link::subscribe(&mut setup, relay);
        let (mqtt_link, keep_connected) = setup.start(shutdown.clone());

        let mut tasks = Tasks::new(shutdown.clone());
        tasks.spawn("metrics", metrics.run(shutdown.clone()));
        tasks.spawn("link", keep_connected);
        tasks.spawn("hear", link::hear(app.clone(), incoming, shutdown.clone()));
        tasks.spawn("speak", link::speak(app.clone(), mqtt_link, shutdown.clone()));
        tasks.spawn("listen", listening);
        tasks.spawn("keep", app::keep::run(app.clone(), hints, shutdown.clone()));
        let retention = config.audit_retention();
        tasks.spawn("sweep", app::sweep::run(app.clone(), retention, shutdown.clone()));
        let peers = grpc::Peers::new(tls.clone(), config.advertise_name);
        let relay = grpc::Relay::new(app, peers, shutdown.clone());
        let routes = Routes::new(DebugSessionServiceServer::new(relay));
        tasks.spawn("grpc", async move {
            if let Err(error) = grpc.run(&tls, authenticator, routes, shutdown).await {
                tracing::error!(error = kit::status::chain(&error), "gRPC server ended");
            }
        });
        Ok(Self { grpc: grpc_address, metrics: metrics_address, tasks })
    }

    /// Where it listens, by name.
    pub fn listeners(&self) -> [(&'static str, SocketAddr); 2] {
        [("grpc", self.grpc), ("metrics", self.metrics)]
    }

    /// Runs until a signal, then drains.
    pub async fn run(self) -> Result<(), run::RunError> {
        self.tasks.run().await
    }
}
