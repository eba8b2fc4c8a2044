//! What each service is told: its environment, made from the stack's ports, certificates and credentials.
//!
//! The keys are the services' `config.rs`; a service gets the credentials it uses and no other's.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::options::{Broker, Part, Service};
use crate::pki::Pki;
use crate::ports::Ports;
use crate::postgres::DATABASE;
use crate::secret;

pub(crate) const BUCKET: &str = "holdfast";
pub(crate) const REGION: &str = "us-east-1";

/// Everything random about a stack, kept in `settings.json` so that a kept state comes back the same.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Settings {
    pub(crate) block: u16,
    ports: BTreeMap<String, u16>,
    /// By user: `postgres`, `redis`, and each service's role.
    passwords: BTreeMap<String, String>,
    pub(crate) s3_access_key: String,
    pub(crate) s3_secret_key: String,
}

/// The listeners of each part, by name.
const LISTENERS: &[(Part, &[&str])] = &[
    (Part::Postgres, &["sql"]),
    (Part::Redis, &["redis"]),
    (Part::S3, &["http"]),
    (Part::Service(Service::Registry), &["grpc", "metrics"]),
    (Part::Service(Service::Broker), &["grpc", "metrics", "device", "enroll", "service"]),
    (Part::Service(Service::Ota), &["grpc", "metrics"]),
    (Part::Service(Service::Logs), &["grpc", "metrics"]),
    (Part::Service(Service::DebugRelay), &["grpc", "metrics"]),
];

impl Settings {
    pub(crate) fn make(ports: &mut Ports) -> Result<Settings> {
        let mut taken = BTreeMap::new();
        for (part, listeners) in LISTENERS {
            for listener in *listeners {
                taken.insert(format!("{part}.{listener}"), ports.take()?);
            }
        }
        let mut passwords = BTreeMap::new();
        for user in ["postgres", "redis"].into_iter().chain(Service::ALL.iter().filter_map(|s| s.role())) {
            passwords.insert(user.to_owned(), secret::hex(16)?);
        }
        let (s3_access_key, s3_secret_key) = (secret::hex(10)?, secret::hex(20)?);
        Ok(Settings { block: ports.block(), ports: taken, passwords, s3_access_key, s3_secret_key })
    }

    pub(crate) fn load(file: &Path) -> Result<Option<Settings>> {
        if !file.is_file() {
            return Ok(None);
        }
        let text = std::fs::read_to_string(file)?;
        let settings: Settings =
            serde_json::from_str(&text).with_context(|| format!("reading {}", file.display()))?;
        let roles = Service::ALL.iter().filter_map(|service| service.role());
        if let Some(role) = roles.into_iter().find(|role| !settings.passwords.contains_key(*role)) {
            bail!("{} is of before there was {role}: `cargo dev reset` makes a new one", file.display());
        }
        Ok(Some(settings))
    }

    pub(crate) fn save(&self, file: &Path) -> Result<()> {
        secret::write(file, &serde_json::to_string_pretty(self)?)
    }

    /// The same credentials on other ports, when the old ones were taken meanwhile.
    pub(crate) fn with_ports_of(self, other: Settings) -> Settings {
        Settings { block: other.block, ports: other.ports, ..self }
    }

    pub(crate) fn port(&self, part: impl Into<Part>, listener: &str) -> u16 {
        let key = format!("{}.{listener}", part.into());
        *self.ports.get(&key).expect("every listener of the table has a port")
    }

    pub(crate) fn password(&self, user: &str) -> &str {
        self.passwords.get(user).expect("every user has a password")
    }

    /// The connection string of a user of the database.
    pub(crate) fn postgres_url(&self, user: &str) -> String {
        let port = self.port(Part::Postgres, "sql");
        format!("postgres://{user}:{}@127.0.0.1:{port}/{DATABASE}", self.password(user))
    }

    pub(crate) fn redis_url(&self) -> String {
        format!("redis://:{}@127.0.0.1:{}/0", self.password("redis"), self.port(Part::Redis, "redis"))
    }

    pub(crate) fn s3_endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port(Part::S3, "http"))
    }

    pub(crate) fn address(&self, part: impl Into<Part>, listener: &str) -> String {
        format!("localhost:{}", self.port(part, listener))
    }
}

/// The environment of one service.
pub(crate) fn of(
    service: Service,
    broker: Broker,
    settings: &Settings,
    pki: &Pki,
    master_key: &Path,
) -> Vec<(String, String)> {
    let listen = |listener| format!("127.0.0.1:{}", settings.port(service, listener));
    let path = |p: PathBuf| p.display().to_string();
    let (tls_cert, tls_key) = pki.server(service.name());
    let (service_cert, service_key) = pki.client(service.name());
    let mut env = vec![
        ("GRPC_LISTEN", listen("grpc")),
        ("METRICS_LISTEN", listen("metrics")),
        ("TLS_CERT", path(tls_cert)),
        ("TLS_KEY", path(tls_key)),
        ("SERVICE_CA", path(pki.service_ca())),
        ("SERVICE_CERT", path(service_cert)),
        ("SERVICE_KEY", path(service_key)),
        ("SERVER_CA", path(pki.server_ca())),
    ];
    if let Some(role) = service.role() {
        env.push(("POSTGRES_URL", settings.postgres_url(role)));
        env.push(("BROKER_URL", format!("mqtts://{}", settings.address(Service::Broker, "service"))));
    }
    if service != Service::Registry {
        env.push(("REGISTRY_URL", format!("https://{}", settings.address(Service::Registry, "grpc"))));
    }
    match service {
        Service::Registry => env.extend([
            ("REDIS_URL", settings.redis_url()),
            ("BROKER_CONTROL_URLS", control_url(broker, settings)),
            ("MASTER_KEY_FILE", path(master_key.to_path_buf())),
            ("DEVICE_ADDRESS", settings.address(Service::Broker, "device")),
            ("ENROLL_ADDRESS", settings.address(Service::Broker, "enroll")),
        ]),
        Service::Broker => env.extend([
            ("DEVICE_LISTEN", listen("device")),
            ("ENROLL_LISTEN", listen("enroll")),
            ("SERVICE_LISTEN", listen("service")),
        ]),
        Service::Ota => env.extend([
            ("REDIS_URL", settings.redis_url()),
            ("MASTER_KEY_FILE", path(master_key.to_path_buf())),
            ("S3_ENDPOINT", settings.s3_endpoint()),
            ("S3_BUCKET", BUCKET.to_owned()),
            ("S3_REGION", REGION.to_owned()),
            ("S3_ACCESS_KEY", settings.s3_access_key.clone()),
            ("S3_SECRET_KEY", settings.s3_secret_key.clone()),
        ]),
        Service::Logs | Service::DebugRelay => {}
    }
    env.into_iter().map(|(key, value)| (format!("HOLDFAST_{key}"), value)).collect()
}

/// How connections are ended there.
fn control_url(broker: Broker, settings: &Settings) -> String {
    match broker {
        Broker::SvcBroker => format!("https://{}", settings.address(Service::Broker, "grpc")),
        Broker::Mosquitto => format!("mqtts://{}", settings.address(Service::Broker, "service")),
    }
}
