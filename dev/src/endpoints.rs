//! Where the parts of a running stack are, and what one shows to be let in.
//!
//! Everything here is read from the stack's settings: it stays true while a part is stopped.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::environment::{BUCKET, REGION};
use crate::options::{Part, Service};
use crate::stack::Stack;
use crate::{Identity, pki, places, postgres};

/// How long `svc-registry bootstrap-code` may take.
const CODE_MAX: Duration = Duration::from_secs(60);

/// How to reach the S3 server.
#[derive(Clone, Debug)]
pub struct S3 {
    pub endpoint: String,
    pub bucket: String,
    pub region: String,
    pub access_key: String,
    pub secret_key: String,
    /// The folder its objects lie in: one file per object.
    pub dir: PathBuf,
}

impl Stack {
    /// `https://localhost:port` of a service's gRPC.
    pub fn grpc_url(&self, service: Service) -> String {
        format!("https://{}", self.settings.address(service, "grpc"))
    }

    /// `http://127.0.0.1:port/metrics` of a service.
    pub fn metrics_url(&self, service: Service) -> String {
        format!("http://127.0.0.1:{}/metrics", self.settings.port(service, "metrics"))
    }

    /// `localhost:port` of the broker's listener for devices.
    pub fn device_address(&self) -> String {
        self.settings.address(Service::Broker, "device")
    }

    /// `localhost:port` of the broker's listener for claims and birth certificates.
    pub fn enroll_address(&self) -> String {
        self.settings.address(Service::Broker, "enroll")
    }

    /// `localhost:port` of the broker's listener for services.
    pub fn service_address(&self) -> String {
        self.settings.address(Service::Broker, "service")
    }

    /// The file of the CA that signed every server's certificate.
    pub fn server_ca_file(&self) -> PathBuf {
        self.pki.server_ca()
    }

    /// The CA that signed every server's certificate.
    pub fn server_ca_pem(&self) -> Result<String> {
        pki::read(&self.pki.server_ca())
    }

    /// The certificate and key of a service ("svc-ota", also "svc-debug-relay"), to speak in its name.
    pub fn service_identity(&self, name: &str) -> Result<Identity> {
        if !pki::SERVICES.contains(&name) {
            bail!("no service is called {name}: one of {}", pki::SERVICES.join(", "));
        }
        let (certificate, key) = self.pki.client(name);
        Ok((pki::read(&certificate)?, pki::read(&key)?))
    }

    /// The certificate and key a service shows when it is called, to stand in its place.
    pub fn server_identity(&self, name: &str) -> Result<Identity> {
        let (certificate, key) = self.pki.server(name);
        Ok((pki::read(&certificate)?, pki::read(&key)?))
    }

    /// The database as its superuser.
    pub fn postgres_url_admin(&self) -> String {
        self.settings.postgres_url("postgres")
    }

    /// The database as a service's role.
    pub fn postgres_url(&self, service: Service) -> Result<String> {
        let role = service.role().with_context(|| format!("{} has no database role", service.name()))?;
        Ok(self.settings.postgres_url(role))
    }

    /// Runs SQL as the superuser and returns the rows, columns separated by `|`.
    pub fn sql(&self, script: &str) -> Result<String> {
        let port = self.settings.port(Part::Postgres, "sql");
        postgres::psql(port, postgres::DATABASE, self.settings.password("postgres"), script)
    }

    /// Copies the database, all schemas, as `pg_dump` does: what an operator keeps.
    pub fn backup(&self, to: &Path) -> Result<()> {
        let port = self.settings.port(Part::Postgres, "sql");
        postgres::dump(port, self.settings.password("postgres"), to)
    }

    /// Puts a backup in the place of the database. The services are stopped before, and started after.
    pub fn restore(&self, from: &Path) -> Result<()> {
        let port = self.settings.port(Part::Postgres, "sql");
        postgres::restore(port, self.settings.password("postgres"), from)
    }

    /// The file with a service's master key.
    pub fn master_key_file(&self, service: Service) -> PathBuf {
        crate::stack::master_key(&self.dir, service)
    }

    pub fn redis_url(&self) -> String {
        self.settings.redis_url()
    }

    pub fn s3(&self) -> S3 {
        S3 {
            endpoint: self.settings.s3_endpoint(),
            bucket: BUCKET.to_owned(),
            region: REGION.to_owned(),
            access_key: self.settings.s3_access_key.clone(),
            secret_key: self.settings.s3_secret_key.clone(),
            dir: self.dir.join("s3"),
        }
    }

    /// The stack's own directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The file with all a part has said, over all its starts.
    pub fn log(&self, part: impl Into<Part>) -> PathBuf {
        self.dir.join("logs").join(format!("{}.log", part.into()))
    }

    /// A fresh one-time code for the first administrator, from `svc-registry bootstrap-code`.
    pub async fn bootstrap_code(&self) -> Result<String> {
        let mut command = tokio::process::Command::new(places::binary(Service::Registry.name())?);
        command.arg("bootstrap-code").envs(self.environment(Service::Registry)).kill_on_drop(true);
        let output = tokio::time::timeout(CODE_MAX, command.output())
            .await
            .context("no code within the deadline")??;
        if !output.status.success() {
            bail!(
                "svc-registry bootstrap-code failed ({}): {}",
                output.status,
                String::from_utf8_lossy(&output.stderr)
            );
        }
        Ok(String::from_utf8(output.stdout)?.trim().to_owned())
    }
}
