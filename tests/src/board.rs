//! A board played by the test, so that it can ask for anything: its key, its enrolment, its MQTT session.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::client::unique;
use anyhow::{Context, Result, bail};
use dev::Stack;
use prost::Message;
use proto::device::v1::{BootId, BootReason, EnrollDown, EnrollUp, HelloDown, HelloUp, Slot, SlotStatus};
use rcgen::{CertificateParams, KeyPair, SigningKey};
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{LastWill, Packet, PubAckReason};
use rumqttc::v5::{AsyncClient, Event, EventLoop, MqttOptions};
use rumqttc::{TlsConfiguration, Transport};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ClientConfig, RootCertStore};
use wire::Digest;

/// How long anything a test waits for may take.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Messages that wait in the client: twice the window of a debug session.
const QUEUE_MAX: usize = 2 * wire::limits::DEBUG_WINDOW_FRAMES_MAX as usize;

/// What stands behind an enrolment: a claim's or a birth certificate, and its key.
pub struct Voucher<'a> {
    pub certificate: &'a [u8],
    pub key: &'a KeyPair,
}

/// A board before it is anybody.
pub struct Board {
    pub key: KeyPair,
    pub hardware_id: String,
}

/// A board that is a device.
pub struct Enrolled {
    pub board: Board,
    pub answer: EnrollDown,
}

/// An MQTT session.
pub struct Session {
    pub client: AsyncClient,
    pub events: EventLoop,
    /// Came while something else was waited for.
    kept: VecDeque<(String, Vec<u8>)>,
}

impl Board {
    pub fn new(hardware_id: &str) -> Result<Board> {
        Ok(Board { key: KeyPair::generate()?, hardware_id: hardware_id.into() })
    }

    pub fn csr(&self) -> Result<Vec<u8>> {
        Ok(CertificateParams::default().serialize_request(&self.key)?.der().to_vec())
    }

    /// What this board asks under a client id, with every proof right.
    pub fn request(&self, voucher: &Voucher<'_>, client_id: &str) -> Result<EnrollUp> {
        let csr = self.csr()?;
        let vouching_signature = vouch(voucher.key, &csr, client_id, &self.hardware_id)?;
        Ok(EnrollUp {
            csr,
            hardware_id: self.hardware_id.clone(),
            board: "bench".into(),
            old_key_signature: vec![],
            vouching_certificate: voucher.certificate.to_vec(),
            vouching_signature,
        })
    }

    /// Enrols over the broker's enrolment listener.
    pub async fn enroll(&self, stack: &Stack, voucher: &Voucher<'_>) -> Result<EnrollDown> {
        self.enroll_with(stack, voucher, |request| request).await
    }

    /// The same after a change that may break a proof.
    pub async fn enroll_with(
        &self,
        stack: &Stack,
        voucher: &Voucher<'_>,
        change: impl FnOnce(EnrollUp) -> EnrollUp,
    ) -> Result<EnrollDown> {
        let client_id = unique();
        let mut session = Session::enrolling(stack, voucher, &client_id).await?;
        let down = format!("hf/1/{client_id}/dn/enroll");
        session.subscribe_to(&down).await?;
        let request = change(self.request(voucher, &client_id)?);
        session.publish(&format!("hf/1/{client_id}/up/enroll"), request.encode_to_vec()).await?;
        let (topic, payload) = session.message().await?;
        assert_eq!(topic, down, "nobody else's reply");
        Ok(EnrollDown::decode(payload.as_slice())?)
    }
}

impl Enrolled {
    pub fn id(&self) -> &str {
        &self.answer.device_id
    }

    /// The name under which the tenant knows it.
    pub fn name(&self) -> String {
        format!("tenants/{}/devices/{}", self.answer.tenant_id, self.answer.device_id)
    }

    pub fn birth(&self) -> Voucher<'_> {
        Voucher { certificate: &self.answer.birth, key: &self.board.key }
    }

    /// Connects to the device listener, subscribed to `dn/hello`.
    pub async fn connect(&self, stack: &Stack) -> Result<Session> {
        self.connect_with_will(stack, None).await
    }

    pub async fn connect_with_will(&self, stack: &Stack, will: Option<&HelloUp>) -> Result<Session> {
        let chain = [self.answer.leaf.as_slice(), self.answer.intermediate.as_slice()];
        let will = will.map(|will| (format!("hf/1/{}/up/hello", self.id()), will.encode_to_vec()));
        let mut session =
            Session::connect(stack, &stack.device_address(), self.id(), &chain, &self.board.key, will)
                .await?;
        session.subscribe_to(&format!("hf/1/{}/dn/hello", self.id())).await?;
        Ok(session)
    }

    pub async fn say(&self, session: &mut Session, hello: &HelloUp) -> Result<()> {
        session.publish(&format!("hf/1/{}/up/hello", self.id()), hello.encode_to_vec()).await
    }
}

impl Session {
    pub async fn enrolling(stack: &Stack, voucher: &Voucher<'_>, client_id: &str) -> Result<Session> {
        Session::connect(stack, &stack.enroll_address(), client_id, &[voucher.certificate], voucher.key, None)
            .await
    }

    /// Ends in an error when the broker refuses.
    pub async fn connect(
        stack: &Stack,
        address: &str,
        client_id: &str,
        chain: &[&[u8]],
        key: &KeyPair,
        will: Option<(String, Vec<u8>)>,
    ) -> Result<Session> {
        kit::tls::install_provider();
        let (host, port) = address.rsplit_once(':').context("an address has a port")?;
        let mut options = MqttOptions::new(client_id, host, port.parse()?);
        options.set_transport(Transport::Tls(TlsConfiguration::Rustls(tls(stack, chain, key)?)));
        options.set_clean_start(true).set_keep_alive(Duration::from_secs(30)).set_connection_timeout(20);
        options.set_max_packet_size(Some(32 * 1024));
        if let Some((topic, payload)) = will {
            options.set_last_will(LastWill::new(topic, payload, QoS::AtLeastOnce, false, None));
        }
        let (client, events) = AsyncClient::new(options, QUEUE_MAX);
        let mut session = Session { client, events, kept: VecDeque::new() };
        session.until(|packet| matches!(packet, Packet::ConnAck(_)).then_some(())).await?;
        Ok(session)
    }

    pub async fn subscribe_to(&mut self, filter: &str) -> Result<()> {
        self.client.subscribe(filter, QoS::AtLeastOnce).await?;
        self.until(|packet| matches!(packet, Packet::SubAck(_)).then_some(())).await
    }

    /// Says it again, as every board does, while nobody is there to hear it: svc-registry may still be connecting.
    pub async fn publish(&mut self, topic: &str, payload: Vec<u8>) -> Result<()> {
        loop {
            self.client.publish(topic, QoS::AtLeastOnce, false, payload.clone()).await?;
            let reason = self.until(|packet| match packet {
                Packet::PubAck(ack) => Some(ack.reason),
                _ => None,
            });
            if reason.await? != PubAckReason::NoMatchingSubscribers {
                return Ok(());
            }
        }
    }

    /// The next message: topic and payload.
    pub async fn message(&mut self) -> Result<(String, Vec<u8>)> {
        match self.kept.pop_front() {
            Some(kept) => Ok(kept),
            None => self.until(message).await,
        }
    }

    /// Asks to enrol on a session that listens already.
    pub async fn ask(&mut self, client_id: &str, request: &EnrollUp) -> Result<EnrollDown> {
        self.publish(&format!("hf/1/{client_id}/up/enroll"), request.encode_to_vec()).await?;
        Ok(EnrollDown::decode(self.message().await?.1.as_slice())?)
    }

    /// The next answer to a hello.
    pub async fn hello_down(&mut self) -> Result<HelloDown> {
        Ok(HelloDown::decode(self.message().await?.1.as_slice())?)
    }

    /// Until the broker ends the connection.
    pub async fn closed(mut self) -> Result<()> {
        match self.until(|_| None::<()>).await {
            Err(error) if error.to_string().contains("deadline") => Err(error),
            _ => Ok(()),
        }
    }

    async fn until<T>(&mut self, wanted: impl Fn(&Packet) -> Option<T>) -> Result<T> {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let event = tokio::time::timeout_at(deadline, self.events.poll()).await;
            let Ok(event) = event else { bail!("nothing came before the deadline") };
            if let Event::Incoming(packet) = event.context("connection ended")? {
                if let Some(found) = wanted(&packet) {
                    return Ok(found);
                }
                self.kept.extend(message(&packet));
            }
        }
    }
}

fn message(packet: &Packet) -> Option<(String, Vec<u8>)> {
    match packet {
        Packet::Publish(publish) => {
            Some((String::from_utf8_lossy(&publish.topic).into_owned(), publish.payload.to_vec()))
        }
        _ => None,
    }
}

/// The signature that ties a request to its vouching certificate (device.proto, EnrollUp).
pub fn vouch(key: &KeyPair, csr: &[u8], client_id: &str, hardware_id: &str) -> Result<Vec<u8>> {
    let digest = Digest::of_parts(&[csr, client_id.as_bytes(), hardware_id.as_bytes()]);
    Ok(key.sign(&[b"holdfast enroll\0".as_slice(), &digest.0].concat())?)
}

/// What the first hello of a boot says.
pub fn hello(boot: u32, sequence: u32) -> HelloUp {
    HelloUp {
        nonce: vec![9; 16],
        boot: Some(BootId { counter: boot, random: 0xfeed }),
        connection: 1,
        sequence,
        boot_reason: BootReason::PowerOn.into(),
        hardware_id: "whatever".into(),
        board: "bench".into(),
        microvisor_version: "0.1.0".into(),
        slots: vec![slot("1.0.0")],
        app_floor: 3,
        keyset_version: 1,
        ..HelloUp::default()
    }
}

pub fn slot(version: &str) -> Slot {
    Slot {
        component: "app".into(),
        index: 0,
        status: SlotStatus::Confirmed.into(),
        manifest_digest: vec![5; 32],
        version: version.into(),
        security_counter: 2,
        running: true,
    }
}

fn tls(stack: &Stack, chain: &[&[u8]], key: &KeyPair) -> Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(stack.server_ca_pem()?.as_bytes())?)?;
    let chain = chain.iter().map(|der| CertificateDer::from(der.to_vec())).collect();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    Ok(Arc::new(ClientConfig::builder().with_root_certificates(roots).with_client_auth_cert(chain, key)?))
}
