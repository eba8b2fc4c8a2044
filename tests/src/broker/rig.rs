//! One broker process with everything it needs.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use dev::{Process, Ready, Signal, Spec};
use proto::broker::v1::broker_control_service_client::BrokerControlServiceClient;
use proto::broker::v1::{DisconnectRequest, ListConnectionsRequest};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};

use super::client::{Client, Connect};
use super::pki::{Authority, Identity};
use super::registry::Registry;

/// Longest wait for anything that should happen at once.
pub const SOON: Duration = Duration::from_secs(20);

#[derive(Debug)]
pub struct Rig {
    pub device_root: Authority,
    pub tenant: Authority,
    pub enroll_root: Authority,
    pub service_ca: Authority,
    pub server_ca: Authority,
    pub registry: Registry,
    pub device: String,
    pub enroll: String,
    pub service: String,
    grpc: String,
    metrics: String,
    pub broker: Process,
    env: Vec<(String, String)>,
    dir: Arc<tempfile::TempDir>,
}

impl Rig {
    pub async fn start() -> Rig {
        Rig::start_with(&[]).await
    }

    pub async fn start_with(more: &[(&str, &str)]) -> Rig {
        kit::tls::install_provider();
        let device_root = Authority::root("Holdfast device root");
        let tenant = device_root.intermediate("Device CA");
        let (enroll_root, service_ca) = (Authority::root("Enrolment root"), Authority::root("Service CA"));
        let server_ca = Authority::root("Server CA");
        let registry =
            Registry::start(&device_root, &enroll_root, &server_ca.server("svc-registry"), &service_ca).await;
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            path.display().to_string()
        };
        let (server, client) = (server_ca.server("svc-broker"), service_ca.client("svc-broker"));
        let any = || "127.0.0.1:0".to_owned();
        let env = [
            ("GRPC_LISTEN", any()),
            ("METRICS_LISTEN", any()),
            ("DEVICE_LISTEN", any()),
            ("ENROLL_LISTEN", any()),
            ("SERVICE_LISTEN", any()),
            ("TLS_CERT", write("server.pem", &server.pem)),
            ("TLS_KEY", write("server.key", &server.key_pem)),
            ("SERVICE_CERT", write("client.pem", &client.pem)),
            ("SERVICE_KEY", write("client.key", &client.key_pem)),
            ("SERVICE_CA", write("service-ca.pem", &service_ca.pem)),
            ("SERVER_CA", write("server-ca.pem", &server_ca.pem)),
            ("REGISTRY_URL", registry.url.clone()),
        ];
        let more = more.iter().map(|(key, value)| (*key, (*value).to_owned()));
        let env: Vec<_> =
            env.into_iter().chain(more).map(|(key, value)| (format!("HOLDFAST_{key}"), value)).collect();
        let started = Started::new(dir.path(), &env, None).await.unwrap();
        Rig {
            device: started.address("device"),
            enroll: started.address("enroll"),
            service: started.address("service"),
            grpc: started.address("grpc"),
            metrics: started.address("metrics"),
            device_root,
            tenant,
            enroll_root,
            service_ca,
            server_ca,
            registry,
            broker: started.broker,
            env,
            dir: Arc::new(dir),
        }
    }

    /// Another broker of the same installation; a key without a value is left out.
    pub async fn another(&self, changes: &[(&str, Option<&str>)]) -> Result<Rig> {
        let mut env = self.env.clone();
        for (key, value) in changes {
            let key = format!("HOLDFAST_{key}");
            env.retain(|(held, _)| *held != key);
            env.extend(value.map(|value| (key, value.to_owned())));
        }
        Ok(self.beside(Started::new(self.dir.path(), &env, None).await?, env))
    }

    /// Another broker of the same installation, which may have no more descriptors open than this.
    pub async fn another_with_descriptors(&self, max: u32) -> Result<Rig> {
        Ok(self.beside(Started::new(self.dir.path(), &self.env, Some(max)).await?, self.env.clone()))
    }

    fn beside(&self, started: Started, env: Vec<(String, String)>) -> Rig {
        Rig {
            device: started.address("device"),
            enroll: started.address("enroll"),
            service: started.address("service"),
            grpc: started.address("grpc"),
            metrics: started.address("metrics"),
            device_root: self.device_root.clone(),
            tenant: self.tenant.clone(),
            enroll_root: self.enroll_root.clone(),
            service_ca: self.service_ca.clone(),
            server_ca: self.server_ca.clone(),
            registry: self.registry.clone(),
            broker: started.broker,
            env,
            dir: self.dir.clone(),
        }
    }

    /// Where it says that it listens.
    pub fn addresses(&self) -> [&str; 5] {
        [&self.device, &self.enroll, &self.service, &self.grpc, &self.metrics]
    }

    /// A device of the first tenant that may connect; `n` makes its id.
    pub fn device(&self, n: u32) -> Identity {
        let identity = self.tenant.client(&device_id(n));
        self.registry.admit(&identity);
        identity
    }

    pub fn claim(&self, n: u32) -> Identity {
        let identity = self.enroll_root.client(&format!("cl{n:032x}"));
        self.registry.admit(&identity);
        identity
    }

    /// A connected device that hears everything meant for it.
    pub async fn connected(&self, identity: &Identity) -> Client {
        let mut device = self.connect(identity, Connect::v5(&identity.name)).await.unwrap();
        let filter = format!("hf/1/{}/dn/#", identity.name);
        assert_eq!(device.subscribe(&[(&filter, 1)]).await, [1]);
        device
    }

    pub async fn connect(&self, identity: &Identity, connect: Connect) -> Result<Client, u8> {
        Client::connect(&self.device, &self.server_ca, identity, connect).await
    }

    /// A service by the name of its certificate, subscribed to these filters at QoS 1.
    pub async fn service(&self, name: &str, client_id: &str, filters: &[&str]) -> Client {
        let identity = self.service_ca.client(name);
        let mut service =
            Client::connect(&self.service, &self.server_ca, &identity, Connect::v5(client_id)).await.unwrap();
        for filter in filters {
            assert_eq!(service.subscribe(&[(filter, 1)]).await, [1], "{filter}");
        }
        service
    }

    async fn control(&self) -> BrokerControlServiceClient<Channel> {
        let identity = self.service_ca.client("svc-registry");
        let tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(&self.server_ca.pem))
            .domain_name("localhost")
            .identity(tonic::transport::Identity::from_pem(&identity.pem, &identity.key_pem));
        let endpoint =
            Endpoint::from_shared(format!("https://{}", self.grpc)).unwrap().tls_config(tls).unwrap();
        BrokerControlServiceClient::new(endpoint.connect().await.unwrap())
    }

    pub async fn disconnect(&self, identity: &str) -> i32 {
        let request = DisconnectRequest { identity: identity.to_owned() };
        self.control().await.disconnect(request).await.unwrap().into_inner().closed
    }

    pub async fn list(&self) -> Vec<String> {
        let request = ListConnectionsRequest { device_ids: vec![] };
        self.control().await.list_connections(request).await.unwrap().into_inner().device_ids
    }

    /// The control interface as somebody without a service certificate calls it.
    pub async fn disconnect_as_stranger(&self, identity: &str) -> tonic::Code {
        let tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(&self.server_ca.pem))
            .domain_name("localhost");
        let endpoint =
            Endpoint::from_shared(format!("https://{}", self.grpc)).unwrap().tls_config(tls).unwrap();
        let mut control = BrokerControlServiceClient::new(endpoint.connect().await.unwrap());
        let request = DisconnectRequest { identity: identity.to_owned() };
        control.disconnect(request).await.unwrap_err().code()
    }

    /// The sum of a metric over the label sets that contain `labels`.
    pub async fn metric(&self, name: &str, labels: &str) -> f64 {
        self.try_metric(name, labels).await.unwrap()
    }

    /// The same of a broker that may have ended.
    pub async fn try_metric(&self, name: &str, labels: &str) -> Result<f64> {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut stream = tokio::net::TcpStream::connect(&self.metrics).await.context("no metrics")?;
        stream.write_all(b"GET /metrics HTTP/1.1\r\n\r\n").await?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await?;
        let lines = text.lines().filter(|line| line.starts_with(name) && line.contains(labels));
        Ok(lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum())
    }

    pub async fn stop(&self) -> std::process::ExitStatus {
        self.broker.stop(Signal::Terminate, SOON).await.unwrap()
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.broker.tail());
        }
    }
}

/// A broker that said it is ready, and the line it said so in.
struct Started {
    broker: Process,
    line: serde_json::Value,
}

impl Started {
    async fn new(dir: &Path, env: &[(String, String)], descriptors: Option<u32>) -> Result<Started> {
        let (program, log) = (dev::binary("svc-broker")?, dir.join("broker.log"));
        let mut spec = match descriptors {
            None => Spec::new("svc-broker", program, log),
            Some(max) => Spec::new("svc-broker", dev::program("sh")?, log)
                .arg("-c")
                .arg(format!("ulimit -n {max} && exec \"$0\""))
                .arg(program),
        }
        .ready(Ready::Stdout("\"ready\""));
        spec.env = env.to_vec();
        let broker = Process::spawn(spec)?;
        let line = broker.ready(SOON).await?;
        Ok(Started { broker, line: serde_json::from_str(&line).context("the ready line")? })
    }

    fn address(&self, name: &str) -> String {
        self.line[name].as_str().unwrap().to_owned()
    }
}

pub fn device_id(n: u32) -> String {
    format!("dv{n:032x}")
}

/// Fails the test when the future takes longer than anything here should.
pub async fn soon<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(SOON, future).await.expect("it takes too long")
}
