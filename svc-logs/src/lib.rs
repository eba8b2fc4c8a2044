//! svc-logs: what devices said.
//!
//! Owns: log records, crash reports and telemetry, each by (device, boot, sequence), in schema `logs`.
//! Promises: a device is told to forget a record or a crash report only after it is stored, or a record was reported lost by the device itself;
//! whatever it sends is stored once, however often it is sent; a missing record is always shown as a gap on the record after it; who
//! tails and cannot keep up is told how much was missed. Any number of replicas may run.
//! Never: believes a device's clock, its tenant, or its numbers beyond a stated window; keeps truth in the process.

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
use proto::logs::v1::log_service_server::LogServiceServer;
use tonic::service::Routes;
use wire::Service;

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
        kit::trace::export("svc-logs", config.common.otlp_endpoint.as_deref(), &tls)?;
        let metrics = telemetry::Metrics::bind(config.common.metrics_listen).await?;
        let metrics_address = metrics.address()?;
        let grpc = serve::Grpc::bind(config.common.grpc_listen).await?;
        let grpc_address = grpc.address();
        let registry = tls.channel(&config.registry_url)?;
        let authenticator = Arc::new(Authenticator::new(KeySource::Registry(registry)));

        let shutdown = Shutdown::new();
        let app = Arc::new(App::new(store));
        let mut setup = mqtt::LinkSetup::new(Service::Logs, &config.broker_url, &tls)?;
        let channels = link::subscribe(&mut setup);
        let (mqtt_link, keep_connected) = setup.start(shutdown.clone());

        let mut tasks = Tasks::new(shutdown.clone());
        tasks.spawn("metrics", metrics.run(shutdown.clone()));
        tasks.spawn("link", keep_connected);
        for worker in link::workers(&app, &mqtt_link, channels, &shutdown) {
            tasks.spawn("ingest", worker);
        }
        tasks.spawn("sweep", app::sweep::run(app.clone(), config.retention(), shutdown.clone()));
        let routes = Routes::new(LogServiceServer::new(grpc::Logs::new(app, shutdown.clone())));
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
