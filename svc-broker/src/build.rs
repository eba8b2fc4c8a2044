//! Puts the parts together: binds everything, then runs until the signal.
//!
//! Holds: tasks are spawned here and nowhere else (a connection's is its listener's); on the signal listeners close
//! first, then connections are told.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use kit::auth::{Authenticator, KeySource};
use kit::serve::Grpc;
use kit::tls::Tls;
use kit::{Shutdown, Tasks};
use proto::broker::v1::broker_control_service_server::BrokerControlServiceServer;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::sync::Semaphore;
use tonic::service::Routes;

use crate::app::Connections;
use crate::config::Config;
use crate::error::Error;
use crate::grpc::{Authority, Control};
use crate::link::{self, Bound, Front, Hub, Metrics, Trust};
use crate::model::limits::DESCRIPTORS_RESERVED;
use crate::model::peer::Listener;
use crate::roots::Roots;

/// Everything bound, nothing running.
#[derive(Debug)]
pub struct App {
    front: Arc<Front>,
    listeners: Vec<Bound>,
    roots: Roots,
    grpc: Grpc,
    tls: Tls,
    authenticator: Arc<Authenticator>,
    metrics: kit::telemetry::Metrics,
    ready: Ready,
}

/// Where the broker listens.
#[derive(Debug, Clone, Copy)]
pub struct Ready {
    pub device: SocketAddr,
    pub enroll: SocketAddr,
    pub service: SocketAddr,
    pub grpc: SocketAddr,
    pub metrics: SocketAddr,
}

impl App {
    pub async fn build(config: Config) -> Result<Self, Error> {
        let bounds = Arc::new(config.bounds.clone());
        raise_descriptors(bounds.connections_max);
        let tls = Tls::load(&config.common.tls)?;
        kit::trace::export("svc-broker", config.common.otlp_endpoint.as_deref(), &tls)?;
        let metrics = kit::telemetry::Metrics::bind(config.common.metrics_listen).await?;
        let trusts = Trusts::load(&config)?;
        let listeners = vec![
            bind(Listener::Device, config.device_listen, &trusts.device)?,
            bind(Listener::Enroll, config.enroll_listen, &trusts.enroll)?,
            bind(Listener::Service, config.service_listen, &trusts.service)?,
        ];
        let registry = tls.channel(&config.registry_url)?;
        let authority = Authority::new(registry.clone());
        // No method of ours takes a token; the gate is the same everywhere.
        let authenticator = Arc::new(Authenticator::new(KeySource::Registry(registry)));
        let counted = Metrics::new();
        let front = Arc::new(Front {
            connections: Connections::new(bounds.clone()),
            deciding: Semaphore::new(bounds.authorizations_max),
            bounds,
            hub: Hub::new(counted.clone()),
            authority: authority.clone(),
            metrics: counted,
            shutdown: Shutdown::new(),
        });
        let grpc = Grpc::bind(config.common.grpc_listen).await?;
        let ready = Ready {
            device: listeners[0].address()?,
            enroll: listeners[1].address()?,
            service: listeners[2].address()?,
            grpc: grpc.address(),
            metrics: metrics.address()?,
        };
        let roots = Roots::new(authority, trusts.device, trusts.enroll);
        roots.first().await;
        Ok(Self { front, listeners, roots, grpc, tls, authenticator, metrics, ready })
    }

    pub fn ready(&self) -> Ready {
        self.ready
    }

    /// Until SIGTERM or SIGINT; then drains.
    pub async fn run(self) -> Result<(), Error> {
        let mut tasks = Tasks::new(self.front.shutdown.clone());
        let shutdown = tasks.shutdown();
        let control = BrokerControlServiceServer::new(Control::new(self.front.connections.clone()));
        let (grpc, stop) = (self.grpc, shutdown.clone());
        tasks.spawn("grpc", async move {
            if let Err(error) = grpc.run(&self.tls, self.authenticator, Routes::new(control), stop).await {
                tracing::error!(%error, "gRPC");
            }
        });
        tasks.spawn("metrics", self.metrics.run(shutdown.clone()));
        tasks.spawn("roots", self.roots.follow(shutdown.clone()));
        tasks.spawn("watchdog", link::watch(self.front.clone()));
        for listener in self.listeners {
            tasks.spawn(listener.name(), listener.run(self.front.clone()));
        }
        Ok(tasks.run().await?)
    }
}

struct Trusts {
    device: Arc<Trust>,
    enroll: Arc<Trust>,
    service: Arc<Trust>,
}

impl Trusts {
    /// The same server certificate on all listeners; the service CA is the only root known from the start.
    fn load(config: &Config) -> Result<Self, Error> {
        let files = &config.common.tls;
        let chain = certificates(&files.cert)?;
        let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|source| pem(&files.key, source))?;
        let trust = || Arc::new(Trust::new(chain.clone(), key.clone_key()));
        let service = trust();
        service.believe(certificates(&files.service_ca)?).map_err(|error| Error::Trust(error.to_string()))?;
        Ok(Self { device: trust(), enroll: trust(), service })
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    match all {
        Ok(all) if all.is_empty() => Err(Error::NoCertificate { path: path.display().to_string() }),
        Ok(all) => Ok(all),
        Err(source) => Err(pem(path, source)),
    }
}

fn pem(path: &Path, source: rustls::pki_types::pem::Error) -> Error {
    Error::Pem { path: path.display().to_string(), source }
}

fn bind(listener: Listener, address: SocketAddr, trust: &Arc<Trust>) -> Result<Bound, Error> {
    link::bind(listener, address, trust.clone()).map_err(|source| Error::Bind {
        listener: listener.name(),
        address,
        source,
    })
}

/// A connection is a descriptor: asks the kernel for as many as the connections allowed, and says when it gives fewer.
fn raise_descriptors(connections_max: usize) {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    let wanted = u64::try_from(connections_max).unwrap_or(u64::MAX).saturating_add(DESCRIPTORS_RESERVED);
    if limit.current.is_none_or(|current| current >= wanted) {
        return;
    }
    limit.current = Some(limit.maximum.map_or(wanted, |maximum| wanted.min(maximum)));
    let raised = setrlimit(Resource::Nofile, limit);
    if raised.is_err() || limit.current.is_some_and(|current| current < wanted) {
        tracing::warn!(wanted, limit = limit.current, "fewer file descriptors than connections allowed");
    }
}
