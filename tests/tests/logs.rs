//! Logs from a device's MQTT session to a person's gRPC call, with services stopped under way.
//!
//! The device is scripted here, packet by packet, so that it can lose, repeat and lie; it enrols and connects as any
//! other. What svc-logs does with replicas, transactions and pages is tested beside its code.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use dev::{Options, Part, Service, Stack};
use prost::Message;
use proto::device::v1::{
    BootId, EnrollDown, EnrollStatus, EnrollUp, LogDown, LogLevel, LogRecord, LogSource, LogUp,
};
use proto::logs::v1::log_service_client::LogServiceClient;
use proto::logs::v1::{ListRecordsRequest, TailRecordsRequest, TailRecordsResponse};
use proto::registry::v1::claim_service_client::ClaimServiceClient;
use proto::registry::v1::device_service_client::DeviceServiceClient;
use proto::registry::v1::keyset_service_client::KeysetServiceClient;
use proto::registry::v1::{CreateClaimRequest, CreateKeysetRequest, RevokeDeviceRequest};
use rcgen::{CertificateParams, KeyPair, PublicKeyData, SigningKey};
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::Packet;
use rumqttc::v5::{AsyncClient, Event, MqttOptions};
use rumqttc::{TlsConfiguration, Transport};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use scenarios::client::{self, Client, Person};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tonic::{Code, Streaming};
use wire::sign::{KeysetSpec, ReleaseKeySpec, Signer, SoftKey};

const PATIENCE: Duration = Duration::from_secs(60);
/// How long a device waits for an acknowledgement before it sends again.
const RESEND: Duration = Duration::from_millis(500);
const BOOT: BootId = BootId { counter: 1, random: 0x0123_4567_89ab_cdef };

struct World {
    stack: Stack,
    person: Person,
    claim: Identity,
}

/// A certificate chain and its key.
struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: KeyPair,
}

/// A device's MQTT session.
struct Session {
    client: AsyncClient,
    incoming: mpsc::Receiver<Vec<u8>>,
    up: String,
    pump: JoinHandle<()>,
}

/// An enrolled device.
struct Device {
    id: String,
    name: String,
    identity: Identity,
}

impl World {
    async fn start() -> Result<Self> {
        let stack = Stack::start(Options::only([Service::Registry, Service::Broker, Service::Logs])).await?;
        let person = client::bootstrap(&stack).await?;
        publish_keyset(&stack, &person).await?;
        let key = KeyPair::generate()?;
        let request = CreateClaimRequest {
            parent: person.tenant.clone(),
            display_name: "scripted".into(),
            devices_max: 10,
            ttl: Some(Duration::from_secs(3600).try_into()?),
            public_key: key.subject_public_key_info(),
            ..Default::default()
        };
        let mut claims = ClaimServiceClient::new(person.client(&stack, Service::Registry).await?);
        let claim = claims.create_claim(request).await?.into_inner();
        let chain = vec![CertificateDer::from(claim.certificate)];
        Ok(Self { stack, person, claim: Identity { chain, key } })
    }

    async fn device(&self, hardware_id: &str) -> Result<Device> {
        let client_id = client::unique();
        let topic = |way: &str| format!("hf/1/{client_id}/{way}/enroll");
        let address = self.stack.enroll_address();
        let mut session = self.connect(&address, &client_id, &self.claim, topic("up"), topic("dn")).await?;
        let key = KeyPair::generate()?;
        let csr = CertificateParams::default().serialize_request(&key)?.der().to_vec();
        let named = [&csr[..], client_id.as_bytes(), hardware_id.as_bytes()].concat();
        let vouched = [&b"holdfast enroll\0"[..], &wire::Digest::of(&named).0].concat();
        let request = EnrollUp {
            csr,
            hardware_id: hardware_id.into(),
            board: "host".into(),
            vouching_certificate: self.claim.chain[0].to_vec(),
            vouching_signature: self.claim.key.sign(&vouched)?,
            ..EnrollUp::default()
        };
        session.client.publish(&session.up, QoS::AtLeastOnce, false, request.encode_to_vec()).await?;
        let answer = timeout(PATIENCE, session.incoming.recv()).await?.context("the session ended")?;
        let issued = EnrollDown::decode(&answer[..])?;
        anyhow::ensure!(issued.status() == EnrollStatus::Issued, "{issued:?}");
        session.pump.abort();
        let chain = vec![CertificateDer::from(issued.leaf), CertificateDer::from(issued.intermediate)];
        let name = format!("{}/devices/{}", self.person.tenant, issued.device_id);
        Ok(Device { id: issued.device_id, name, identity: Identity { chain, key } })
    }

    async fn session(&self, device: &Device) -> Result<Session> {
        let topic = |way: &str| format!("hf/1/{}/{way}/log", device.id);
        let address = self.stack.device_address();
        self.connect(&address, &device.id, &device.identity, topic("up"), topic("dn")).await
    }

    /// Connects and subscribes; incoming payloads of the one subscription come in order.
    async fn connect(
        &self,
        address: &str,
        client_id: &str,
        identity: &Identity,
        up: String,
        down: String,
    ) -> Result<Session> {
        let (host, port) = address.rsplit_once(':').context("host:port")?;
        let mut options = MqttOptions::new(client_id, host, port.parse()?);
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.stack.server_ca_pem()?.as_bytes())?)?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(identity.key.serialize_der()));
        let tls = rustls::ClientConfig::builder()
            .with_root_certificates(roots)
            .with_client_auth_cert(identity.chain.clone(), key)?;
        options.set_transport(Transport::Tls(TlsConfiguration::Rustls(Arc::new(tls))));
        options.set_max_packet_size(Some(64 * 1024));
        let (client, mut events) = AsyncClient::new(options, 64);
        client.subscribe(&down, QoS::AtLeastOnce).await?;
        let (sender, incoming) = mpsc::channel(1024);
        let (ready, subscribed) = tokio::sync::oneshot::channel();
        let mut ready = Some(ready);
        let pump = tokio::spawn(async move {
            // Ends with the first error: a test that cuts a connection makes a new session.
            while let Ok(event) = events.poll().await {
                match event {
                    Event::Incoming(Packet::SubAck(_)) => drop(ready.take().map(|ready| ready.send(()))),
                    Event::Incoming(Packet::Publish(publish))
                        if sender.send(publish.payload.to_vec()).await.is_err() =>
                    {
                        return;
                    }
                    _ => {}
                }
            }
        });
        timeout(PATIENCE, subscribed).await?.context("the broker refused the session")?;
        Ok(Session { client, incoming, up, pump })
    }

    async fn logs(&self) -> Result<LogServiceClient<Client>> {
        Ok(LogServiceClient::new(self.person.client(&self.stack, Service::Logs).await?))
    }

    async fn listed(&self, device: &Device) -> Result<Vec<proto::logs::v1::LogRecord>> {
        let request =
            ListRecordsRequest { parent: device.name.clone(), page_size: 1000, ..Default::default() };
        Ok(self.logs().await?.list_records(request).await?.into_inner().records)
    }

    async fn tail(&self, device: &Device, last: i32) -> Result<Streaming<TailRecordsResponse>> {
        let request = TailRecordsRequest { parent: device.name.clone(), last, ..Default::default() };
        Ok(self.logs().await?.tail_records(request).await?.into_inner())
    }
}

impl Session {
    async fn send(&self, batch: &LogUp) -> Result<()> {
        Ok(self.client.publish(&self.up, QoS::AtMostOnce, false, batch.encode_to_vec()).await?)
    }

    /// Sends again and again, as a device does, until it is told that everything up to `wanted` is stored.
    async fn until_stored(&mut self, batch: &LogUp, wanted: u64) -> Result<()> {
        let told = async {
            loop {
                self.send(batch).await?;
                while let Ok(Some(answer)) = timeout(RESEND, self.incoming.recv()).await {
                    let ack = LogDown::decode(&answer[..])?;
                    anyhow::ensure!(ack.boot == batch.boot, "an acknowledgement of another boot");
                    anyhow::ensure!(ack.stored_up_to <= wanted, "told {} of {wanted}", ack.stored_up_to);
                    if ack.stored_up_to == wanted {
                        return Ok(());
                    }
                }
            }
        };
        timeout(PATIENCE, told).await.with_context(|| format!("{wanted} was never acknowledged"))?
    }
}

async fn publish_keyset(stack: &Stack, person: &Person) -> Result<()> {
    let key = |number: u8| SoftKey::from_scalar(&[number; 32]).expect("a scalar");
    let anchor = CertificateDer::from_pem_slice(stack.server_ca_pem()?.as_bytes())?.to_vec();
    let keyset = KeysetSpec {
        tenant: person.tenant.trim_start_matches("tenants/").parse()?,
        version: 1,
        root_keys: vec![key(1).public_key()],
        root_threshold: 1,
        release_keys: vec![ReleaseKeySpec { key: key(2).public_key(), component: None, board: None }],
        director_key: key(3).public_key(),
        crash_key: None,
        broker_anchors: vec![anchor],
    };
    let signed = keyset.sign(&[&key(1)])?;
    let mut service = KeysetServiceClient::new(person.client(stack, Service::Registry).await?);
    service
        .create_keyset(CreateKeysetRequest { parent: person.tenant.clone(), signed, ..Default::default() })
        .await?;
    Ok(())
}

fn batch(sequences: impl IntoIterator<Item = u64>, lost_up_to: u64) -> LogUp {
    let record = |sequence| LogRecord {
        sequence,
        uptime_us: sequence,
        level: LogLevel::Info.into(),
        source: LogSource::App.into(),
        text: format!("line {sequence}"),
    };
    LogUp {
        boot: Some(BOOT),
        records: sequences.into_iter().map(record).collect(),
        lost_up_to,
        dropped: lost_up_to,
    }
}

fn gaps(records: &[proto::logs::v1::LogRecord]) -> Vec<(i64, i64)> {
    records.iter().map(|r| (r.sequence, r.gap_before)).collect()
}

#[tokio::test]
async fn a_devices_lines_are_stored_acknowledged_listed_and_tailed() {
    let world = World::start().await.unwrap();
    let device = world.device("HW-1").await.unwrap();
    let mut session = world.session(&device).await.unwrap();
    session.until_stored(&batch(1..=5, 0), 5).await.unwrap();

    let listed = world.listed(&device).await.unwrap();
    assert_eq!(gaps(&listed), [(1, 0), (2, 0), (3, 0), (4, 0), (5, 0)]);
    assert_eq!((listed[0].text.as_str(), listed[0].boot.as_str()), ("line 1", "1-0123456789abcdef"));
    assert_eq!((listed[0].level.as_str(), listed[0].source.as_str()), ("info", "app"));

    let mut tail = world.tail(&device, 2).await.unwrap();
    // 6 and 7 were lost in the ring; 8 shows it.
    session.until_stored(&batch([8, 9], 7), 9).await.unwrap();
    let mut seen = Vec::new();
    while seen.len() < 4 {
        let next = timeout(PATIENCE, tail.message()).await.unwrap().unwrap().unwrap();
        assert_eq!(next.missed, 0);
        seen.push(next.record.unwrap());
    }
    assert_eq!(gaps(&seen), [(4, 0), (5, 0), (8, 2), (9, 0)]);
    // A stopping server ends its tails.
    world.stack.stop(Service::Logs).await.unwrap();
    assert!(!matches!(timeout(PATIENCE, tail.message()).await.unwrap(), Ok(Some(_))));
}

#[tokio::test]
async fn nothing_acknowledged_is_lost_while_services_stop_and_start() {
    let world = World::start().await.unwrap();
    let device = world.device("HW-1").await.unwrap();
    let mut session = world.session(&device).await.unwrap();
    session.until_stored(&batch(1..=10, 0), 10).await.unwrap();

    world.stack.kill(Service::Logs).await.unwrap();
    session.send(&batch(11..=20, 0)).await.unwrap();
    world.stack.start_service(Service::Logs).await.unwrap();
    session.until_stored(&batch(11..=20, 0), 20).await.unwrap();

    world.stack.stop(Part::Postgres).await.unwrap();
    session.send(&batch(21..=30, 0)).await.unwrap();
    world.stack.start_service(Part::Postgres).await.unwrap();
    session.until_stored(&batch(21..=30, 0), 30).await.unwrap();

    world.stack.kill(Service::Broker).await.unwrap();
    world.stack.start_service(Service::Broker).await.unwrap();
    session.pump.abort();
    let mut session = world.session(&device).await.unwrap();
    session.until_stored(&batch(31..=40, 0), 40).await.unwrap();

    let expected: Vec<_> = (1..=40).map(|n| (n, 0)).collect();
    assert_eq!(gaps(&world.listed(&device).await.unwrap()), expected);
}

#[tokio::test]
async fn a_device_that_lies_or_was_revoked_hurts_no_other() {
    let world = World::start().await.unwrap();
    let (liar, honest) = (world.device("HW-1").await.unwrap(), world.device("HW-2").await.unwrap());
    let lying = world.session(&liar).await.unwrap();
    for bytes in [b"".to_vec(), vec![0xff; 2000], batch(1..=65, 0).encode_to_vec()] {
        lying.client.publish(&lying.up, QoS::AtMostOnce, false, bytes).await.unwrap();
    }
    for absurd in [batch([0], 0), batch([u64::MAX], 0), batch([], u64::MAX), batch([1_000_000], 0)] {
        lying.send(&absurd).await.unwrap();
    }
    let long = LogRecord { text: "é".repeat(2000), ..batch([1], 0).records.remove(0) };
    lying.send(&LogUp { records: vec![long], ..batch([], 0) }).await.unwrap();
    let mut session = world.session(&honest).await.unwrap();
    session.until_stored(&batch(1..=5, 0), 5).await.unwrap();
    let mut lying = lying;
    lying.until_stored(&batch(2..=3, 0), 3).await.unwrap();
    let listed = world.listed(&liar).await.unwrap();
    assert_eq!(gaps(&listed), [(1, 0), (2, 0), (3, 0)]);
    assert_eq!(listed[0].text.len(), wire::limits::LOG_TEXT_BYTES_MAX);

    let registry = world.person.client(&world.stack, Service::Registry).await.unwrap();
    let revoke = RevokeDeviceRequest { name: liar.name.clone(), ..Default::default() };
    DeviceServiceClient::new(registry).revoke_device(revoke).await.unwrap();
    // Its connection ends; whatever it sent last, nothing more of it is stored.
    timeout(PATIENCE, &mut lying.pump).await.unwrap().unwrap();
    assert!(world.session(&liar).await.is_err());
    session.until_stored(&batch(6..=8, 0), 8).await.unwrap();
    assert_eq!(world.listed(&liar).await.unwrap().len(), 3);
}

#[tokio::test]
async fn another_tenants_logs_are_not_found() {
    let world = World::start().await.unwrap();
    let device = world.device("HW-1").await.unwrap();
    let mut session = world.session(&device).await.unwrap();
    session.until_stored(&batch(1..=2, 0), 2).await.unwrap();
    let stranger = client::new_tenant(&world.stack, &world.person, "Other").await.unwrap();
    let mut logs = LogServiceClient::new(stranger.client(&world.stack, Service::Logs).await.unwrap());
    let unknown = format!("{}/devices/dv{}", stranger.tenant, "0".repeat(32));
    let moved = device.name.replace(&world.person.tenant, &stranger.tenant);
    for parent in [device.name.clone(), moved, unknown] {
        let list = ListRecordsRequest { parent: parent.clone(), ..Default::default() };
        let refused = logs.list_records(list).await.unwrap_err();
        assert_eq!((refused.code(), refused.message()), (Code::NotFound, "no such resource"), "{parent}");
        let tail = TailRecordsRequest { parent, ..Default::default() };
        assert_eq!(logs.tail_records(tail).await.unwrap_err().code(), Code::NotFound);
    }
    let wrong = ListRecordsRequest { parent: "tenants/x".into(), ..Default::default() };
    assert_eq!(logs.list_records(wrong).await.unwrap_err().code(), Code::InvalidArgument);
}
