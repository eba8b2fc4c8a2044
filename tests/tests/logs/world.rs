//! A stack, and devices scripted packet by packet, so that they can lose, repeat and lie; they enrol and connect as any other.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use dev::{Options, Service, Stack};
use prost::Message;
use proto::device::v1::{BootId, EnrollDown, EnrollStatus, EnrollUp, LogDown, LogUp};
use proto::logs::v1::log_service_client::LogServiceClient;
use proto::logs::v1::{ListRecordsRequest, TailRecordsRequest, TailRecordsResponse};
use proto::registry::v1::claim_service_client::ClaimServiceClient;
use proto::registry::v1::keyset_service_client::KeysetServiceClient;
use proto::registry::v1::{CreateClaimRequest, CreateKeysetRequest};
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
use tonic::Streaming;
use wire::sign::{KeysetSpec, ReleaseKeySpec, Signer, SoftKey};

pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// How long a device waits for an acknowledgement before it sends again.
pub(crate) const RESEND: Duration = Duration::from_millis(500);
pub(crate) const BOOT: BootId = BootId { counter: 1, random: 0x0123_4567_89ab_cdef };

pub(crate) struct World {
    pub(crate) stack: Stack,
    pub(crate) person: Person,
    claim: Identity,
}

/// A certificate chain and its key.
pub(crate) struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: KeyPair,
}

/// A device's MQTT session.
pub(crate) struct Session {
    pub(crate) client: AsyncClient,
    /// Channel and payload.
    incoming: mpsc::Receiver<(String, Vec<u8>)>,
    /// `hf/1/{id}/up`
    up: String,
    pub(crate) pump: JoinHandle<()>,
}

/// An enrolled device.
pub(crate) struct Device {
    id: String,
    pub(crate) name: String,
    identity: Identity,
}

impl World {
    pub(crate) async fn start() -> Result<Self> {
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

    pub(crate) async fn device(&self, hardware_id: &str) -> Result<Device> {
        let client_id = client::unique();
        let address = self.stack.enroll_address();
        let mut session = self.connect(&address, &client_id, &self.claim, "enroll").await?;
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
        // The broker remembers nothing: what comes before svc-registry listens is lost, and a device asks again.
        let mut issued = EnrollDown::default();
        session
            .until("enroll", &request, |answer: EnrollDown| {
                issued = answer;
                Ok(true)
            })
            .await?;
        anyhow::ensure!(issued.status() == EnrollStatus::Issued, "{issued:?}");
        session.pump.abort();
        let chain = vec![CertificateDer::from(issued.leaf), CertificateDer::from(issued.intermediate)];
        let name = format!("{}/devices/{}", self.person.tenant, issued.device_id);
        Ok(Device { id: issued.device_id, name, identity: Identity { chain, key } })
    }

    pub(crate) async fn session(&self, device: &Device) -> Result<Session> {
        let address = self.stack.device_address();
        self.connect(&address, &device.id, &device.identity, "#").await
    }

    /// Connects and subscribes; what comes is kept in order.
    async fn connect(
        &self,
        address: &str,
        client_id: &str,
        identity: &Identity,
        channels: &str,
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
        client.subscribe(format!("hf/1/{client_id}/dn/{channels}"), QoS::AtLeastOnce).await?;
        let (sender, incoming) = mpsc::channel(1024);
        let (ready, subscribed) = tokio::sync::oneshot::channel();
        let mut ready = Some(ready);
        let pump = tokio::spawn(async move {
            // Ends with the first error: a test that cuts a connection makes a new session.
            while let Ok(event) = events.poll().await {
                match event {
                    Event::Incoming(Packet::SubAck(_)) => drop(ready.take().map(|ready| ready.send(()))),
                    Event::Incoming(Packet::Publish(publish)) => {
                        let topic = String::from_utf8_lossy(&publish.topic).into_owned();
                        let channel = topic.rsplit('/').next().unwrap_or_default().to_owned();
                        if sender.send((channel, publish.payload.to_vec())).await.is_err() {
                            return;
                        }
                    }
                    _ => {}
                }
            }
        });
        timeout(PATIENCE, subscribed).await?.context("the broker refused the session")?;
        let up = format!("hf/1/{client_id}/up");
        Ok(Session { client, incoming, up, pump })
    }

    pub(crate) async fn logs(&self) -> Result<LogServiceClient<Client>> {
        Ok(LogServiceClient::new(self.person.client(&self.stack, Service::Logs).await?))
    }

    pub(crate) async fn listed(&self, device: &Device) -> Result<Vec<proto::logs::v1::LogRecord>> {
        let request =
            ListRecordsRequest { parent: device.name.clone(), page_size: 1000, ..Default::default() };
        Ok(self.logs().await?.list_records(request).await?.into_inner().records)
    }

    pub(crate) async fn tail(&self, device: &Device, last: i32) -> Result<Streaming<TailRecordsResponse>> {
        let request = TailRecordsRequest { parent: device.name.clone(), last, ..Default::default() };
        Ok(self.logs().await?.tail_records(request).await?.into_inner())
    }
}

impl Session {
    pub(crate) async fn publish(&self, channel: &str, payload: Vec<u8>) -> Result<()> {
        let topic = format!("{}/{channel}", self.up);
        Ok(self.client.publish(topic, QoS::AtLeastOnce, false, payload).await?)
    }

    /// The next message on a channel; others are passed over.
    pub(crate) async fn next(&mut self, channel: &str) -> Result<Vec<u8>> {
        loop {
            let (of, payload) = self.incoming.recv().await.context("the session ended")?;
            if of == channel {
                return Ok(payload);
            }
        }
    }

    /// Sends again and again, as a device does, until an answer on the channel is `enough`.
    pub(crate) async fn until<M: Message + Default>(
        &mut self,
        channel: &str,
        message: &impl Message,
        mut enough: impl FnMut(M) -> Result<bool>,
    ) -> Result<()> {
        let told = async {
            loop {
                self.publish(channel, message.encode_to_vec()).await?;
                while let Ok(answer) = timeout(RESEND, self.next(channel)).await {
                    if enough(M::decode(&answer?[..])?)? {
                        return Ok(());
                    }
                }
            }
        };
        timeout(PATIENCE, told).await.with_context(|| format!("{channel}: never acknowledged"))?
    }

    pub(crate) async fn send(&self, batch: &LogUp) -> Result<()> {
        self.publish("log", batch.encode_to_vec()).await
    }

    /// Until it is told that everything up to `wanted` is stored.
    pub(crate) async fn until_stored(&mut self, batch: &LogUp, wanted: u64) -> Result<()> {
        let boot = batch.boot;
        self.until("log", batch, |ack: LogDown| {
            anyhow::ensure!(ack.boot == boot, "an acknowledgement of another boot");
            anyhow::ensure!(ack.stored_up_to <= wanted, "told {} of {wanted}", ack.stored_up_to);
            Ok(ack.stored_up_to == wanted)
        })
        .await
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
