//! The service put together: binds, connects, and spawns every task it has.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use kit::auth::{Authenticator, KeySource};
use kit::pg::Pg;
use kit::serve::{Grpc, ServeError};
use kit::telemetry::{Metrics, TelemetryError};
use kit::tls::{Tls, TlsError};
use kit::{Shutdown, Tasks, status};
use rand::Rng;

use crate::app::{App, director, sweep, watch};
use crate::config::Config;
use crate::error::Error;
use crate::link::Outbox;
use crate::store::hellos::Hellos;
use crate::{grpc, link, store};

/// How long a database that is not there yet is waited for.
const MIGRATE_WAIT_MAX: Duration = Duration::from_secs(60);
/// Sweeps between two looks at devices that are gone, which reads every unfinished deployment, and at director keys that
/// nobody obeys, which reads every device of a tenant that replaces one.
const GONE_EVERY: u64 = 16;
const MIGRATE_RETRY: Duration = Duration::from_millis(500);

/// A service that is bound and running its tasks.
#[derive(Debug)]
pub struct Service {
    tasks: Tasks,
    grpc: SocketAddr,
    metrics: SocketAddr,
}

/// Why it cannot start.
#[derive(Debug, thiserror::Error)]
#[error("cannot start")]
pub enum StartError {
    Tls(#[from] TlsError),
    Serve(#[from] ServeError),
    Telemetry(#[from] TelemetryError),
    Metrics(#[from] std::io::Error),
    Database(#[from] kit::pg::Error),
    Redis(#[from] kit::redis::RedisError),
    Link(#[from] kit::mqtt::LinkError),
    #[doc(hidden)]
    App(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Brings the schema up to date.
pub async fn migrate(config: &Config) -> Result<(), StartError> {
    let tls = Tls::load(&config.common.tls)?;
    migrated(&Pg::new(config.postgres_url.expose(), &tls)?).await.map_err(StartError::from)
}

impl Service {
    pub async fn build(config: Config) -> Result<Self, StartError> {
        let tls = Tls::load(&config.common.tls)?;
        kit::trace::export("svc-ota", config.common.otlp_endpoint.as_deref(), &tls)?;
        let metrics = Metrics::bind(config.common.metrics_listen).await?;
        let metrics_address = metrics.address()?;
        let server = Grpc::bind(config.common.grpc_listen).await?;
        let grpc_address = server.address();
        let pg = Pg::new(config.postgres_url.expose(), &tls)?;
        migrated(&pg).await?;
        let hellos = Hellos::new(kit::redis::connect(config.redis_url.expose())?);
        let registry = tls.channel(&config.registry_url)?;
        let sweep_every = config.sweep;
        let app = Arc::new(App::new(config, pg, hellos).map_err(|error| StartError::App(Box::new(error)))?);

        let mut tasks = Tasks::new(Shutdown::new());
        let shutdown = tasks.shutdown();
        tasks.spawn("metrics", metrics.run(shutdown.clone()));
        let (hints, listening) = app.pg.listen("ota_deployment", shutdown.clone());
        tasks.spawn("listen", listening);
        tasks.spawn("hints", hint(app.clone(), hints, shutdown.clone()));
        let outbox = link::start(&app, &tls, &mut tasks)?;
        tasks.spawn("resend", resend(app.clone(), outbox.clone(), sweep_every, shutdown.clone()));
        tasks.spawn("collect", collect(app.clone(), sweep_every, shutdown.clone()));
        let routes = grpc::routes(app, outbox, shutdown.clone());
        let authenticator = Arc::new(Authenticator::new(KeySource::Registry(registry)));
        tasks.spawn("grpc", async move {
            if let Err(error) = server.run(&tls, authenticator, routes, shutdown.clone()).await {
                tracing::error!(error = status::chain(&error), "gRPC server failed");
            }
        });
        Ok(Self { tasks, grpc: grpc_address, metrics: metrics_address })
    }

    /// What it listens on, by name.
    pub fn listeners(&self) -> [(&'static str, SocketAddr); 2] {
        [("grpc", self.grpc), ("metrics", self.metrics)]
    }

    /// Runs until a signal, then drains.
    pub async fn run(self) -> Result<(), kit::run::RunError> {
        self.tasks.run().await
    }
}

/// Moves the schema; waits for a database that is not up yet.
async fn migrated(pg: &Pg) -> Result<(), kit::pg::Error> {
    let deadline = tokio::time::Instant::now() + MIGRATE_WAIT_MAX;
    loop {
        match pg.migrate("ota", store::migrations()).await {
            Err(error) if error.is_transient() && tokio::time::Instant::now() < deadline => {
                tracing::warn!(error = status::chain(&error), "waiting for the database");
                tokio::time::sleep(MIGRATE_RETRY).await;
            }
            other => return other,
        }
    }
}

async fn hint(app: Arc<App>, hints: tokio::sync::mpsc::Receiver<kit::pg::Hint>, shutdown: Shutdown) {
    shutdown.or(watch::spread(&app, hints)).await;
    shutdown.wait().await;
}

async fn resend(app: Arc<App>, outbox: Outbox, every: Duration, shutdown: Shutdown) {
    while pause(every, &shutdown).await {
        match shutdown.or(sweep::resend(&app, SystemTime::now())).await {
            Some(Ok(effects)) => outbox.send(effects),
            Some(Err(error)) => failed("resend", &error),
            None => return,
        }
    }
}

async fn collect(app: Arc<App>, every: Duration, shutdown: Shutdown) {
    let mut rounds = 0u64;
    while pause(every, &shutdown).await {
        rounds += 1;
        let now = SystemTime::now();
        let round = async {
            // Each by itself: an object store that is away must not keep uploads from expiring.
            let counts = [
                ("expire uploads", sweep::expire_uploads(&app, now).await),
                ("forget requests", sweep::forget_requests(&app, now).await),
                ("release layers", sweep::release_layers(&app, now).await),
                ("empty trash", sweep::empty_trash(&app, now).await),
                ("close directors", director::close_gone(&app).await),
            ];
            for (step, outcome) in counts {
                if let Err(error) = outcome {
                    failed(step, &error);
                }
            }
            if rounds.is_multiple_of(GONE_EVERY) {
                let counts = [
                    ("end gone", sweep::end_gone(&app, now).await),
                    ("forget directors", director::forget_idle(&app).await),
                ];
                for (step, outcome) in counts {
                    if let Err(error) = outcome {
                        failed(step, &error);
                    }
                }
            }
        };
        if shutdown.or(round).await.is_none() {
            return;
        }
    }
}

/// False when everything is to stop. Jittered, so that replicas do not meet.
async fn pause(every: Duration, shutdown: &Shutdown) -> bool {
    let jittered = rand::rng().random_range(every / 2..=every);
    shutdown.or(tokio::time::sleep(jittered)).await.is_some()
}

fn failed(step: &'static str, error: &Error) {
    metrics::counter!("ota_sweep_failures_total", "step" => step).increment(1);
    tracing::warn!(step, error = status::chain(error), "will be tried again by the next sweep");
}
