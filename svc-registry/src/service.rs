//! Puts the parts together: binds everything, opens or makes the installation's keys, then runs until the signal.
//! Tasks are spawned here and nowhere else.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use kit::auth::{Authenticator, KeySource};
use kit::broker::BrokerControl;
use kit::mqtt::LinkSetup;
use kit::pg::Pg;
use kit::seal::MasterKey;
use kit::serve::Grpc;
use kit::telemetry::Metrics;
use kit::tls::Tls;
use kit::{Shutdown, Tasks};
use wire::Service as Name;

use crate::app::{self, App, Installation, Settings};
use crate::config::Config;
use crate::grpc::Api;
use crate::link::{self, Link};
use crate::store::Store;
use crate::store::presence::{Announcements, Leases};

/// Channel of the change feed's notifications.
const CHANGE_HINTS: &str = "registry_change";
/// How long the database may take to come up beside us.
const DATABASE_WAIT_MAX: Duration = Duration::from_secs(30);
const DATABASE_RETRY: Duration = Duration::from_millis(500);

/// Why the service cannot start or had to stop.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Tls(#[from] kit::tls::TlsError),
    #[error("registry cannot be opened")]
    Open(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error(transparent)]
    Database(#[from] kit::pg::Error),
    #[error(transparent)]
    MasterKey(#[from] kit::seal::SealError),
    #[error(transparent)]
    Redis(#[from] kit::redis::RedisError),
    #[error("REDIS_URL cannot be used")]
    Announcements(#[source] redis::RedisError),
    #[error(transparent)]
    Control(#[from] kit::broker::ControlError),
    #[error(transparent)]
    Link(#[from] kit::mqtt::LinkError),
    #[error(transparent)]
    Serve(#[from] kit::serve::ServeError),
    #[error(transparent)]
    Telemetry(#[from] kit::telemetry::TelemetryError),
    #[error("nothing can be written to {}", dir.display())]
    Write { dir: PathBuf, source: std::io::Error },
    #[error("an address cannot be told")]
    Address(#[from] std::io::Error),
    #[error(transparent)]
    Run(#[from] kit::run::RunError),
}

impl From<crate::error::Error> for StartError {
    fn from(error: crate::error::Error) -> Self {
        Self::Open(Box::new(error))
    }
}

/// Everything bound, nothing running.
#[derive(Debug)]
pub struct Service {
    config: Config,
    tls: Tls,
    app: Arc<App>,
    pg: Pg,
    control: BrokerControl,
    grpc: Grpc,
    metrics: Metrics,
    announcements: Announcements,
}

impl Service {
    pub async fn build(config: Config) -> Result<Self, StartError> {
        let tls = Tls::load(&config.common.tls)?;
        kit::trace::export(Name::Registry.common_name(), config.common.otlp_endpoint.as_deref(), &tls)?;
        let metrics = Metrics::bind(config.common.metrics_listen).await?;
        let grpc = Grpc::bind(config.common.grpc_listen).await?;
        let control =
            BrokerControl::new(&tls, &config.broker_control_urls, config.broker_control_key.as_ref())?;
        let master = MasterKey::load(&config.master_key_file)?;
        let pg = Pg::new(config.postgres_url.expose(), &tls)?;
        let store = Store::new(pg.clone());
        migrated(&store).await?;
        let installation = Installation::open(&store, &master, SystemTime::now()).await?;
        let leases = Leases::new(kit::redis::connect(config.redis_url.expose())?, config.presence_lease);
        let announcements =
            Announcements::new(config.redis_url.expose()).map_err(StartError::Announcements)?;
        let settings = Settings {
            device_address: config.device_address.clone(),
            enroll_address: config.enroll_address.clone(),
            device_certificate: config.device_certificate,
            token: config.token,
        };
        let app = Arc::new(App::new(store, leases, master, installation, settings));
        Ok(Self { config, tls, app, pg, control, grpc, metrics, announcements })
    }

    pub fn grpc_address(&self) -> SocketAddr {
        self.grpc.address()
    }

    pub fn metrics_address(&self) -> Result<SocketAddr, StartError> {
        Ok(self.metrics.address()?)
    }

    /// Until SIGTERM or SIGINT; then drains.
    pub async fn run(self) -> Result<(), StartError> {
        let mut tasks = Tasks::new(Shutdown::new());
        let stop = tasks.shutdown();
        let mut setup = LinkSetup::new(Name::Registry, &self.config.broker_url, &self.tls)?;
        let inbox = link::subscribe(&mut setup);
        let (mqtt, connected) = setup.start(stop.clone());
        let link = Arc::new(Link::new(self.app.clone(), mqtt, self.control));
        let (hints, listening) = self.pg.listen(CHANGE_HINTS, stop.clone());

        tasks.spawn("mqtt", connected);
        tasks.spawn("listen", listening);
        tasks.spawn("metrics", self.metrics.run(stop.clone()));
        let (app, shutdown) = (self.app.clone(), stop.clone());
        tasks.spawn("changes", async move { app.follow_changes(hints, shutdown).await });
        let (app, shutdown, announcements) = (self.app.clone(), stop.clone(), self.announcements);
        tasks.spawn("presence", async move { app.follow_presence(announcements, shutdown).await });
        let (own, shutdown) = (link.clone(), stop.clone());
        tasks.spawn("enroll", async move { own.answer_enrolments(inbox.enroll, shutdown).await });
        let (own, shutdown) = (link.clone(), stop.clone());
        tasks.spawn("hello", async move { own.answer_hellos(inbox.hello, shutdown).await });
        let (own, shutdown) = (link.clone(), stop.clone());
        tasks.spawn("sweep", async move { own.sweep(shutdown).await });

        let authenticator = Arc::new(Authenticator::new(KeySource::Local(self.app.jwks())));
        let routes = Api::new(self.app, link, stop.clone()).routes();
        let (grpc, tls) = (self.grpc, self.tls);
        tasks.spawn("grpc", async move {
            if let Err(error) = grpc.run(&tls, authenticator, routes, stop).await {
                tracing::error!(error = kit::status::chain(&error), "gRPC server ended");
            }
        });
        Ok(tasks.run().await?)
    }
}

/// A one-time code for the first administrator; none when there is one.
pub async fn bootstrap_code(config: &Config) -> Result<Option<String>, StartError> {
    let tls = Tls::load(&config.common.tls)?;
    let store = Store::new(Pg::new(config.postgres_url.expose(), &tls)?);
    migrated(&store).await?;
    Ok(app::new_code(&store).await?)
}

/// Brings the schema up to date.
pub async fn migrate(config: &Config) -> Result<(), StartError> {
    let tls = Tls::load(&config.common.tls)?;
    Ok(migrated(&Store::new(Pg::new(config.postgres_url.expose(), &tls)?)).await?)
}

/// Writes the roots that a broker other than svc-broker is to trust, as `device-roots.pem` and `enroll-roots.pem`.
pub async fn write_trust(config: &Config, dir: &Path) -> Result<(), StartError> {
    let tls = Tls::load(&config.common.tls)?;
    let master = MasterKey::load(&config.master_key_file)?;
    let store = Store::new(Pg::new(config.postgres_url.expose(), &tls)?);
    migrated(&store).await?;
    let installation = Installation::open(&store, &master, SystemTime::now()).await?;
    let roots = [
        ("device-roots.pem", app::device_roots_der(&store).await?),
        ("enroll-roots.pem", vec![installation.enroll().certificate().to_vec()]),
    ];
    let written = |source| StartError::Write { dir: dir.to_path_buf(), source };
    std::fs::create_dir_all(dir).map_err(written)?;
    for (name, ders) in roots {
        let pems: Vec<pem::Pem> = ders.into_iter().map(|der| pem::Pem::new("CERTIFICATE", der)).collect();
        let text = pem::encode_many(&pems);
        std::fs::write(dir.join(name), text).map_err(written)?;
    }
    Ok(())
}

/// Waits for a database that is still starting.
async fn migrated(store: &Store) -> Result<(), crate::error::Error> {
    let deadline = tokio::time::Instant::now() + DATABASE_WAIT_MAX;
    loop {
        match store.migrate().await {
            Err(crate::error::Error::Database(error))
                if error.is_transient() && tokio::time::Instant::now() < deadline =>
            {
                tracing::warn!(error = kit::status::chain(&error), "waiting for the database");
                tokio::time::sleep(DATABASE_RETRY).await;
            }
            done => return done,
        }
    }
}
