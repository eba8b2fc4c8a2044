//! One broker process with everything it needs.

use std::path::Path;
use std::time::Duration;

use dev::{Process, Ready, Signal, Spec};
use proto::broker::v1::broker_control_service_client::BrokerControlServiceClient;
use proto::broker::v1::{DisconnectRequest, ListConnectionsRequest};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};

use super::client::{Client, Connect};
use super::pki::{Authority, Identity};
use super::registry::Registry;

/// Longest wait for anything that should happen at once.
pub(crate) const SOON: Duration = Duration::from_secs(20);

pub(crate) struct Rig {
    pub(crate) device_root: Authority,
    pub(crate) tenant: Authority,
    pub(crate) enroll_root: Authority,
    pub(crate) service_ca: Authority,
    pub(crate) server_ca: Authority,
    pub(crate) registry: Registry,
    pub(crate) device: String,
    pub(crate) enroll: String,
    pub(crate) service: String,
    grpc: String,
    metrics: String,
    pub(crate) broker: Process,
    _dir: tempfile::TempDir,
}

impl Rig {
    pub(crate) async fn start() -> Rig {
        Rig::start_with(&[]).await
    }

    pub(crate) async fn start_with(more: &[(&str, &str)]) -> Rig {
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
        let (broker, line) = spawn(dir.path(), env, more).await;
        let address = |name: &str| line[name].as_str().unwrap().to_owned();
        Rig {
            device: address("device"),
            enroll: address("enroll"),
            service: address("service"),
            grpc: address("grpc"),
            metrics: address("metrics"),
            device_root,
            tenant,
            enroll_root,
            service_ca,
            server_ca,
            registry,
            broker,
            _dir: dir,
        }
    }

    /// A device of the first tenant that may connect; `n` makes its id.
    pub(crate) fn device(&self, n: u32) -> Identity {
        let identity = self.tenant.client(&device_id(n));
        self.registry.admit(&identity);
        identity
    }

    pub(crate) fn claim(&self, n: u32) -> Identity {
        let identity = self.enroll_root.client(&format!("cl{n:032x}"));
        self.registry.admit(&identity);
        identity
    }

    /// A connected device that hears everything meant for it.
    pub(crate) async fn connected(&self, identity: &Identity) -> Client {
        let mut device = self.connect(identity, Connect::v5(&identity.name)).await.unwrap();
        let filter = format!("hf/1/{}/dn/#", identity.name);
        assert_eq!(device.subscribe(&[(&filter, 1)]).await, [1]);
        device
    }

    pub(crate) async fn connect(&self, identity: &Identity, connect: Connect) -> Result<Client, u8> {
        Client::connect(&self.device, &self.server_ca, identity, connect).await
    }

    /// A service by the name of its certificate, subscribed to these filters at QoS 1.
    pub(crate) async fn service(&self, name: &str, client_id: &str, filters: &[&str]) -> Client {
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

    pub(crate) async fn disconnect(&self, identity: &str) -> i32 {
        let request = DisconnectRequest { identity: identity.to_owned() };
        self.control().await.disconnect(request).await.unwrap().into_inner().closed
    }

    pub(crate) async fn list(&self) -> Vec<String> {
        let request = ListConnectionsRequest { device_ids: vec![] };
        self.control().await.list_connections(request).await.unwrap().into_inner().device_ids
    }

    /// The control interface as somebody without a service certificate calls it.
    pub(crate) async fn disconnect_as_stranger(&self, identity: &str) -> tonic::Code {
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
    pub(crate) async fn metric(&self, name: &str, labels: &str) -> f64 {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut stream = tokio::net::TcpStream::connect(&self.metrics).await.unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\n\r\n").await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        let lines = text.lines().filter(|line| line.starts_with(name) && line.contains(labels));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    pub(crate) async fn stop(&self) -> std::process::ExitStatus {
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

async fn spawn(
    dir: &Path,
    env: impl IntoIterator<Item = (&'static str, String)>,
    more: &[(&str, &str)],
) -> (Process, serde_json::Value) {
    let program = dev::binary("svc-broker").unwrap();
    let mut spec = Spec::new("svc-broker", program, dir.join("broker.log")).ready(Ready::Stdout("\"ready\""));
    spec.env = env.into_iter().map(|(key, value)| (format!("HOLDFAST_{key}"), value)).collect();
    spec.env.extend(more.iter().map(|(key, value)| (format!("HOLDFAST_{key}"), (*value).to_owned())));
    let broker = Process::spawn(spec).unwrap();
    let line = broker.ready(SOON).await.unwrap();
    (broker, serde_json::from_str(&line).unwrap())
}

pub(crate) fn device_id(n: u32) -> String {
    format!("dv{n:032x}")
}

/// Fails the test when the future takes longer than anything here should.
pub(crate) async fn soon<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(SOON, future).await.expect("it takes too long")
}
