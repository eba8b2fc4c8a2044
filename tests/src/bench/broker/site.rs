//! Where both brokers run: their files, their ports, and each as one process that is measured from outside.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use dev::{Process, Ready, Signal, Spec};
use tokio::net::TcpStream;

use super::client::Identity;
use super::pki::Pki;
use super::registry;

const MOSQUITTO_CONF: &str = include_str!("mosquitto.conf");
const MOSQUITTO_ACL: &str = include_str!("mosquitto.acl");
/// Longest wait for a broker to start or stop.
const PATIENCE: Duration = Duration::from_secs(20);
const LOOK_PERIOD: Duration = Duration::from_millis(20);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    Ours,
    Peer,
}

/// Files and certificates of one run.
pub struct Site {
    pki: Pki,
    registry: String,
    dir: tempfile::TempDir,
}

/// A running broker.
#[derive(Debug)]
pub struct Broker {
    pub which: Which,
    process: Process,
    pub device: String,
    pub service: String,
}

impl Site {
    /// In a runtime: the registry runs here.
    pub fn new() -> Result<Site> {
        kit::tls::install_provider();
        let pki = Pki::new()?;
        let registry = registry::start(&pki)?;
        let site = Site { pki, registry, dir: tempfile::tempdir()? };
        let (server, client) =
            (site.pki.server_ca.server("svc-broker")?, site.pki.service_ca.client("svc-broker")?);
        site.write("server.pem", &server.cert)?;
        site.write("server.key", &server.key)?;
        site.write("client.pem", &client.cert)?;
        site.write("client.key", &client.key)?;
        site.write("service-ca.pem", &site.pki.service_ca.pem)?;
        site.write("server-ca.pem", &site.pki.server_ca.pem)?;
        site.write("clients-ca.pem", &format!("{}{}", site.pki.device_root.pem, site.pki.service_ca.pem))?;
        site.write("mosquitto.acl", MOSQUITTO_ACL)?;
        Ok(site)
    }

    /// A device by its id.
    pub fn device(&self, name: &str) -> Result<Identity> {
        self.pki.device(name)
    }

    /// A service by its name.
    pub fn service(&self, name: &str) -> Result<Identity> {
        self.pki.service(name)
    }

    /// Starts a broker that listens.
    pub async fn start(&self, which: Which) -> Result<Broker> {
        match which {
            Which::Ours => self.start_ours().await,
            Which::Peer => self.start_peer().await,
        }
    }

    async fn start_ours(&self) -> Result<Broker> {
        let any = || "127.0.0.1:0".to_owned();
        let env = [
            ("GRPC_LISTEN", any()),
            ("METRICS_LISTEN", any()),
            ("DEVICE_LISTEN", any()),
            ("ENROLL_LISTEN", any()),
            ("SERVICE_LISTEN", any()),
            ("TLS_CERT", self.path("server.pem")),
            ("TLS_KEY", self.path("server.key")),
            ("SERVICE_CERT", self.path("client.pem")),
            ("SERVICE_KEY", self.path("client.key")),
            ("SERVICE_CA", self.path("service-ca.pem")),
            ("SERVER_CA", self.path("server-ca.pem")),
            ("REGISTRY_URL", self.registry.clone()),
            // The peer has no such bound: a publisher here sends what a thousand devices may.
            ("DEVICE_PUBLISHES_PER_S", "1000000".to_owned()),
            ("DEVICE_PUBLISH_BYTES_PER_S", "1000000000".to_owned()),
        ];
        let program = dev::binary("svc-broker")?;
        let mut spec =
            Spec::new("svc-broker", program, self.path("broker.log")).ready(Ready::Stdout("\"ready\""));
        spec.env = env.into_iter().map(|(key, value)| (format!("HOLDFAST_{key}"), value)).collect();
        let process = Process::spawn(spec)?;
        let line: serde_json::Value = serde_json::from_str(&process.ready(PATIENCE).await?)?;
        let address = |name: &str| {
            line.get(name)
                .and_then(|it| it.as_str())
                .map(str::to_owned)
                .with_context(|| format!("no {name} address"))
        };
        let (device, service) = (address("device")?, address("service")?);
        Ok(Broker { which: Which::Ours, process, device, service })
    }

    async fn start_peer(&self) -> Result<Broker> {
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let words = [
            ("{PORT}", port.to_string()),
            ("{CA}", self.path("clients-ca.pem")),
            ("{CERT}", self.path("server.pem")),
            ("{KEY}", self.path("server.key")),
            ("{ACL}", self.path("mosquitto.acl")),
        ];
        let conf =
            words.iter().fold(MOSQUITTO_CONF.to_owned(), |conf, (word, value)| conf.replace(word, value));
        self.write("mosquitto.conf", &conf)?;
        let spec = Spec::new("mosquitto", dev::program("mosquitto")?, self.path("mosquitto.log"));
        let process = Process::spawn(spec.arg("-c").arg(self.path("mosquitto.conf")))?;
        let address = format!("127.0.0.1:{port}");
        tokio::time::timeout(PATIENCE, listening(&process, &address))
            .await
            .context("mosquitto does not listen")??;
        Ok(Broker { which: Which::Peer, process, device: address.clone(), service: address })
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    fn write(&self, name: &str, text: &str) -> Result<()> {
        std::fs::write(Path::new(&self.path(name)), text).with_context(|| format!("writing {name}"))
    }
}

/// It says nothing: it listens when it can be reached.
async fn listening(process: &Process, address: &str) -> Result<()> {
    while TcpStream::connect(address).await.is_err() {
        anyhow::ensure!(process.running(), "mosquitto ended: {}", process.tail());
        tokio::time::sleep(LOOK_PERIOD).await;
    }
    Ok(())
}

impl fmt::Debug for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Site").field("dir", &self.dir).finish_non_exhaustive()
    }
}

impl Broker {
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    pub async fn stop(self) -> Result<()> {
        self.process.stop(Signal::Terminate, PATIENCE).await.map(drop)
    }

    /// What it said last, for an error.
    pub fn tail(&self) -> String {
        self.process.tail()
    }
}

/// The peer's name and version, as it says them itself.
pub fn peer_name() -> Result<String> {
    let output = std::process::Command::new(dev::program("mosquitto")?).arg("-h").output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.lines().next().unwrap_or("mosquitto").replace(" version", ""))
}
