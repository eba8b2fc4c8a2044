//! A device played by the test: it enrols, connects, says hello, hears directives, asks for layers, and may lie.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use dev::{Service, Stack};
use prost::Message;
use proto::device::v1::{
    BootId, EnrollDown, EnrollStatus, EnrollUp, HelloDown, HelloUp, LayerDown, LayerUp, ResultAck, Slot,
    SlotStatus, UpdateDown, UpdateReason, UpdateState, UpdateUp,
};
use proto::registry::v1::CreateClaimRequest;
use proto::registry::v1::claim_service_client::ClaimServiceClient;
use rcgen::{CertificateParams, KeyPair, PublicKeyData, SigningKey};
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::Packet;
use rumqttc::v5::{AsyncClient, Event, MqttOptions};
use rumqttc::{TlsConfiguration, Transport};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use scenarios::client::unique;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use wire::cose::P256;
use wire::directive::{self, Directive};
use wire::{DeploymentId, DeviceId, Digest, Nonce, PublicKey};

use crate::tenant::{BOARD, PATIENCE, Tenant};

/// How long a device waits for its certificate before it asks again.
const RESEND: Duration = Duration::from_millis(500);

/// A device and its session.
pub(crate) struct Device {
    pub(crate) id: DeviceId,
    /// tenants/{tenant}/devices/{device}
    pub(crate) name: String,
    pub(crate) boot: BootId,
    pub(crate) sequence: u32,
    pub(crate) slots: Vec<Slot>,
    pub(crate) app_floor: u64,
    pub(crate) microvisor_floor: u64,
    /// Its version.
    pub(crate) microvisor: String,
    pub(crate) time_bound_s: u64,
    /// Version of the keyset it says it holds.
    pub(crate) keyset: u32,
    pub(crate) result: Option<UpdateUp>,
    pub(crate) director: PublicKey,
    /// What svc-registry asked this boot, said back in its hellos; only who takes it by `challenged` answers.
    challenge: Vec<u8>,
    hellos: u32,
    nonce: [u8; 16],
    chain: Vec<CertificateDer<'static>>,
    key: KeyPair,
    session: Session,
}

/// A directive that verified, and the envelope beside it.
#[derive(Debug)]
pub(crate) struct Heard {
    pub(crate) order: directive::Order,
    pub(crate) envelope: Vec<u8>,
}

/// An MQTT session: everything that comes is kept until somebody asks for it.
struct Session {
    client: AsyncClient,
    incoming: mpsc::Receiver<(String, Vec<u8>)>,
    kept: VecDeque<(String, Vec<u8>)>,
    pump: JoinHandle<()>,
}

impl Device {
    /// Enrols on a fresh claim and connects.
    pub(crate) async fn enroll(stack: &Stack, tenant: &Tenant) -> Result<Device> {
        let claim_key = KeyPair::generate()?;
        let request = CreateClaimRequest {
            parent: tenant.person.tenant.clone(),
            display_name: "played".into(),
            devices_max: 1,
            ttl: Some(Duration::from_secs(3600).try_into()?),
            public_key: claim_key.subject_public_key_info(),
            ..Default::default()
        };
        let mut claims = ClaimServiceClient::new(tenant.person.client(stack, Service::Registry).await?);
        let claim = claims.create_claim(request).await?.into_inner().certificate;

        let (client_id, key) = (unique(), KeyPair::generate()?);
        let csr = CertificateParams::default().serialize_request(&key)?.der().to_vec();
        let hardware_id = unique();
        let vouched = Digest::of_parts(&[&csr, client_id.as_bytes(), hardware_id.as_bytes()]);
        let request = EnrollUp {
            csr,
            hardware_id,
            board: BOARD.into(),
            old_key_signature: Vec::new(),
            vouching_signature: claim_key.sign(&[b"holdfast enroll\0".as_slice(), &vouched.0].concat())?,
            vouching_certificate: claim.clone(),
        };
        let address = stack.enroll_address();
        let filter = format!("hf/1/{client_id}/dn/enroll");
        let chain = vec![CertificateDer::from(claim)];
        let mut session = Session::connect(stack, &address, &client_id, &filter, chain, &claim_key).await?;
        let issued = session.enroll(&client_id, &request).await?;
        ensure!(issued.status() == EnrollStatus::Issued, "{issued:?}");

        let chain = vec![CertificateDer::from(issued.leaf), CertificateDer::from(issued.intermediate)];
        let id: DeviceId = issued.device_id.parse()?;
        let session = Session::device(stack, id, &chain, &key).await?;
        Ok(Device {
            id,
            name: format!("{}/devices/{id}", tenant.person.tenant),
            boot: BootId { counter: 1, random: 0xfeed },
            sequence: 0,
            slots: Vec::new(),
            app_floor: 0,
            microvisor_floor: 0,
            microvisor: "0.1.0".to_owned(),
            time_bound_s: 0,
            keyset: 1,
            result: None,
            director: tenant.director,
            challenge: Vec::new(),
            hellos: 0,
            nonce: [0; 16],
            chain,
            key,
            session,
        })
    }

    /// A new connection in place of the old one.
    pub(crate) async fn reconnect(&mut self, stack: &Stack) -> Result<()> {
        self.session.pump.abort();
        self.session = Session::device(stack, self.id, &self.chain, &self.key).await?;
        Ok(())
    }

    /// A new boot: counters start over.
    pub(crate) fn reboot(&mut self) {
        self.starts_as(BootId { counter: self.boot.counter + 1, random: self.boot.random + 1 });
    }

    /// A boot that counts this.
    pub(crate) fn starts_as(&mut self, boot: BootId) {
        self.boot = boot;
        (self.hellos, self.sequence) = (0, 0);
        self.challenge.clear();
    }

    /// Takes the next challenge of svc-registry.
    pub(crate) async fn challenged(&mut self) -> Result<()> {
        loop {
            let message = HelloDown::decode(self.session.next("hello").await?.as_slice())?;
            if !message.challenge.is_empty() && message.challenge != self.challenge {
                self.challenge = message.challenge;
                return Ok(());
            }
        }
    }

    /// Proves to svc-registry that its boot is the current one.
    pub(crate) async fn proves_itself(&mut self) -> Result<()> {
        self.say_hello().await?;
        self.challenged().await?;
        self.say_hello().await?;
        // Another one, for who comes after it: it was taken.
        self.challenged().await
    }

    /// Says hello under a new nonce.
    pub(crate) async fn say_hello(&mut self) -> Result<()> {
        self.hellos += 1;
        self.nonce = unique().as_bytes()[..16].try_into()?;
        let hello = self.hello();
        self.publish("hello", hello.encode_to_vec()).await
    }

    /// The hello as it was last said.
    pub(crate) fn hello(&self) -> HelloUp {
        HelloUp {
            nonce: self.nonce.to_vec(),
            boot: Some(self.boot),
            connection: 1,
            sequence: self.hellos,
            board: BOARD.into(),
            slots: self.slots.clone(),
            app_floor: self.app_floor,
            microvisor_floor: self.microvisor_floor,
            microvisor_version: self.microvisor.clone(),
            time_bound_s: self.time_bound_s,
            keyset_version: self.keyset,
            last_result: self.result.clone(),
            challenge: self.challenge.clone(),
            ..HelloUp::default()
        }
    }

    pub(crate) async fn publish(&mut self, channel: &str, payload: Vec<u8>) -> Result<()> {
        let qos = if channel == "layer" { QoS::AtMostOnce } else { QoS::AtLeastOnce };
        self.session.publish(&format!("hf/1/{}/up/{channel}", self.id), qos, payload).await
    }

    /// A report of this boot, the next in order.
    pub(crate) fn report(&mut self, target: &directive::Target, state: UpdateState) -> UpdateUp {
        self.sequence += 1;
        UpdateUp {
            boot: Some(self.boot),
            sequence: self.sequence,
            deployment: target.deployment.to_string(),
            manifest_digest: target.manifest.0.to_vec(),
            state: state.into(),
            reason: UpdateReason::Unspecified.into(),
            bytes_done: 0,
            bytes_total: 0,
            attempts: 0,
        }
    }

    pub(crate) async fn say(&mut self, report: &UpdateUp) -> Result<()> {
        self.publish("update", report.encode_to_vec()).await
    }

    pub(crate) async fn say_state(
        &mut self,
        target: &directive::Target,
        state: UpdateState,
    ) -> Result<UpdateUp> {
        let report = self.report(target, state);
        self.say(&report).await?;
        Ok(report)
    }

    /// The next directive on `dn/update` that is for this device, answers its newest hello and verifies. Others, as
    /// on the device, are ignored.
    pub(crate) async fn directive(&mut self) -> Result<Heard> {
        loop {
            let message = UpdateDown::decode(self.session.next("update").await?.as_slice())?;
            if message.directive.is_empty() {
                self.session.kept.push_back((format!("hf/1/{}/dn/ack", self.id), message.encode_to_vec()));
                continue;
            }
            if let Ok(Directive { order, .. }) =
                directive::open(&message.directive, &self.director, &self.id, &Nonce(self.nonce), &P256)
            {
                return Ok(Heard { order, envelope: message.envelope });
            }
        }
    }

    /// The next acknowledgement of a result; directives before it are passed over.
    pub(crate) async fn acknowledged(&mut self) -> Result<ResultAck> {
        loop {
            let kept = self.session.kept.iter().position(|(topic, _)| topic.ends_with("/ack"));
            let message = match kept.and_then(|at| self.session.kept.remove(at)) {
                Some((_, payload)) => payload,
                None => self.session.next("update").await?,
            };
            if let Some(ack) = UpdateDown::decode(message.as_slice())?.result_ack {
                return Ok(ack);
            }
        }
    }

    /// A signed time that answers another hello than the newest: it is to say another.
    pub(crate) async fn asked_again(&mut self) -> Result<()> {
        loop {
            let message = HelloDown::decode(self.session.next("hello").await?.as_slice())?;
            if let Ok(time) = directive::open_any(&message.signed_time, &self.director, &P256) {
                ensure!(time.order == directive::Order::Time && time.device == self.id);
                if time.nonce != Nonce(self.nonce) {
                    return Ok(());
                }
            }
        }
    }

    /// The signed time in answer to the newest hello.
    pub(crate) async fn time(&mut self) -> Result<u64> {
        loop {
            let message = HelloDown::decode(self.session.next("hello").await?.as_slice())?;
            let nonce = Nonce(self.nonce);
            if let Ok(time) = directive::open(&message.signed_time, &self.director, &self.id, &nonce, &P256) {
                ensure!(time.order == directive::Order::Time);
                return Ok(time.issued_at_s);
            }
        }
    }

    /// Asks for a window and returns the first answer.
    pub(crate) async fn ask(&mut self, digest: Digest, offset: u32, length: u32) -> Result<LayerDown> {
        let request = LayerUp { digest: digest.0.to_vec(), offset, length };
        self.publish("layer", request.encode_to_vec()).await?;
        self.layer_message().await
    }

    pub(crate) async fn layer_message(&mut self) -> Result<LayerDown> {
        Ok(LayerDown::decode(self.session.next("layer").await?.as_slice())?)
    }

    /// Fetches a whole layer, a window at a time, asking again for what does not come or cannot be had yet.
    pub(crate) async fn fetch(&mut self, digest: Digest, bytes: usize) -> Result<Vec<u8>> {
        let mut layer = Vec::with_capacity(bytes);
        while layer.len() < bytes {
            let window = (bytes - layer.len()).min(128 * 1024);
            let end = layer.len() + window;
            let mut next =
                timeout(Duration::from_secs(5), self.ask(digest, layer.len() as u32, window as u32)).await;
            while let Ok(answer) = next {
                let answer = answer?;
                if answer.error != 0 || answer.digest != digest.0 || answer.offset as usize != layer.len() {
                    break;
                }
                ensure!(
                    !answer.data.is_empty() && answer.data.len() <= 16 * 1024,
                    "{} bytes",
                    answer.data.len()
                );
                layer.extend_from_slice(&answer.data);
                if layer.len() >= end {
                    break;
                }
                next = timeout(Duration::from_secs(5), self.layer_message()).await;
            }
        }
        ensure!(layer.len() == bytes, "more than was asked for");
        Ok(layer)
    }

    /// Nothing more came than what was asked for: after a hello and its answer, no message of this kind is there.
    pub(crate) async fn nothing_on(&mut self, channel: &str) -> Result<()> {
        self.say_hello().await?;
        self.time().await?;
        let found = self.session.kept.iter().any(|(topic, _)| topic.ends_with(channel));
        ensure!(!found, "something came on {channel}");
        Ok(())
    }

    /// A slot that holds a bundle.
    pub(crate) fn slot(manifest: Digest, status: SlotStatus, running: bool) -> Slot {
        Slot {
            component: "app".into(),
            status: status.into(),
            manifest_digest: manifest.0.to_vec(),
            version: "1.0.0".into(),
            security_counter: 1,
            running,
            ..Slot::default()
        }
    }
}

/// What an order is about.
pub(crate) fn target(order: &directive::Order) -> Result<directive::Target> {
    match order {
        directive::Order::Install(target)
        | directive::Order::Go(target)
        | directive::Order::Commit(target, _)
        | directive::Order::Cancel(target) => Ok(*target),
        directive::Order::Time => bail!("only the time"),
    }
}

/// An id nobody made.
pub(crate) fn nobody() -> DeploymentId {
    DeploymentId::new([7; 16])
}

impl Session {
    async fn device(
        stack: &Stack,
        id: DeviceId,
        chain: &[CertificateDer<'static>],
        key: &KeyPair,
    ) -> Result<Session> {
        let filter = format!("hf/1/{id}/dn/#");
        Session::connect(stack, &stack.device_address(), &id.to_string(), &filter, chain.to_vec(), key).await
    }

    async fn connect(
        stack: &Stack,
        address: &str,
        client_id: &str,
        filter: &str,
        chain: Vec<CertificateDer<'static>>,
        key: &KeyPair,
    ) -> Result<Session> {
        kit::tls::install_provider();
        let (host, port) = address.rsplit_once(':').context("an address has a port")?;
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(stack.server_ca_pem()?.as_bytes())?)?;
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let tls = rustls::ClientConfig::builder()
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)?;
        let mut options = MqttOptions::new(client_id, host, port.parse()?);
        options.set_transport(Transport::Tls(TlsConfiguration::Rustls(Arc::new(tls))));
        options.set_clean_start(true).set_keep_alive(Duration::from_secs(30)).set_connection_timeout(20);
        options.set_max_packet_size(Some(32 * 1024));
        let (client, mut events) = AsyncClient::new(options, 64);
        client.subscribe(filter, QoS::AtLeastOnce).await?;
        let (sender, incoming) = mpsc::channel(4096);
        let (ready, subscribed) = oneshot::channel();
        let mut ready = Some(ready);
        let pump = tokio::spawn(async move {
            // Ends with the first error: a test that cuts a connection makes a new one.
            while let Ok(event) = events.poll().await {
                match event {
                    Event::Incoming(Packet::SubAck(_)) => drop(ready.take().map(|ready| ready.send(()))),
                    Event::Incoming(Packet::Publish(publish)) => {
                        let topic = String::from_utf8_lossy(&publish.topic).into_owned();
                        if sender.send((topic, publish.payload.to_vec())).await.is_err() {
                            return;
                        }
                    }
                    _ => {}
                }
            }
        });
        timeout(PATIENCE, subscribed).await?.context("the broker refused the session")?;
        Ok(Session { client, incoming, kept: VecDeque::new(), pump })
    }

    async fn publish(&mut self, topic: &str, qos: QoS, payload: Vec<u8>) -> Result<()> {
        Ok(self.client.publish(topic, qos, false, payload).await?)
    }

    /// The next message of a channel; others are kept for whoever asks for them.
    /// Asks until there is an answer, as a device does: what comes before svc-registry listens is lost.
    async fn enroll(&mut self, client_id: &str, request: &EnrollUp) -> Result<EnrollDown> {
        let topic = format!("hf/1/{client_id}/up/enroll");
        let issued = async {
            loop {
                self.publish(&topic, QoS::AtLeastOnce, request.encode_to_vec()).await?;
                if let Ok(answer) = timeout(RESEND, self.next("enroll")).await {
                    return Ok(EnrollDown::decode(answer?.as_slice())?);
                }
            }
        };
        timeout(PATIENCE, issued).await.context("no certificate came")?
    }

    async fn next(&mut self, channel: &str) -> Result<Vec<u8>> {
        if let Some(at) = self.kept.iter().position(|(topic, _)| topic.ends_with(channel)) {
            return Ok(self.kept.remove(at).map(|(_, payload)| payload).unwrap_or_default());
        }
        let wanted = async {
            loop {
                let (topic, payload) = self.incoming.recv().await.context("the session ended")?;
                if topic.ends_with(channel) {
                    return Ok(payload);
                }
                self.kept.push_back((topic, payload));
            }
        };
        timeout(PATIENCE, wanted).await.with_context(|| format!("nothing came on {channel}"))?
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.pump.abort();
    }
}
