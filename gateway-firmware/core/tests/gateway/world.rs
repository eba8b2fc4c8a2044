//! A board with its gateway, and a broker end that can be told to fail. The broker's packets are read and written by
//! rumqttc's codec, which shares nothing with the device's.

use std::collections::VecDeque;
use std::rc::Rc;

use bytes::{Bytes, BytesMut};
use gateway_core::Gateway;
use gateway_core::device::{Device, Next};
use gateway_core::gateway::{
    Buffers, Credential, Happening, Provisioning, RECEIVE_BYTES_MIN, SEND_BYTES_MIN,
};
use gateway_core::logs::KEPT_HEAD_BYTES;
use gateway_core::net::link::End;
use gateway_core::ports::{Board, Keys, KeysError, Ports};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType, IsCa,
    Issuer, KeyPair, date_time_ymd,
};
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{
    ConnAck, ConnectReturnCode, Packet, PingResp, PubAck, Publish, SubAck, SubscribeReasonCode,
};
use wire::msg::{EnrollDown, EnrollStatus, EnumValue, HelloUp, Message};
use wire::sign::{ManifestSpec, Signer as _, SoftKey};
use wire::{Nonce, PublicKey};

use crate::probe::SimProbe;
use crate::sim::*;

/// Turns after which a test is stuck.
const TURNS_MAX: usize = 20_000;

pub(crate) struct NetBoard;

impl std::fmt::Debug for NetBoard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("NetBoard")
    }
}

impl Board for NetBoard {
    type Flash = SimFlash;
    type Counter = <SimBoard as Board>::Counter;
    type Keys = SoftKeys;
    type Clock = <SimBoard as Board>::Clock;
    type Entropy = <SimBoard as Board>::Entropy;
    type Reset = <SimBoard as Board>::Reset;
    type Watchdog = <SimBoard as Board>::Watchdog;
    type App = <SimBoard as Board>::App;
    type Firmware = <SimBoard as Board>::Firmware;
    type Probe = SimProbe;
    type Verify = <SimBoard as Board>::Verify;
}

#[derive(Debug)]
pub(crate) struct SoftKeys {
    pub(crate) identity: SoftKey,
    pub(crate) claim: SoftKey,
}

impl Keys for SoftKeys {
    fn public_key(&mut self) -> Result<[u8; 65], KeysError> {
        let spki = self.identity.public_key().spki_der().map_err(|_| KeysError)?;
        spki[26..].try_into().map_err(|_| KeysError)
    }

    fn sign(&mut self, message: &[u8]) -> Result<[u8; 64], KeysError> {
        self.identity.sign(message).map(|signature| signature.0).map_err(|_| KeysError)
    }

    fn sign_as_claim(&mut self, message: &[u8]) -> Result<[u8; 64], KeysError> {
        self.claim.sign(message).map(|signature| signature.0).map_err(|_| KeysError)
    }
}

/// The tenant's device CA.
#[derive(Clone)]
pub(crate) struct Ca {
    issuer: Rc<Issuer<'static, KeyPair>>,
    intermediate: Vec<u8>,
}

impl Ca {
    pub(crate) fn new() -> Ca {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        let intermediate = params.self_signed(&key).unwrap().der().to_vec();
        Ca { issuer: Rc::new(Issuer::new(params, key)), intermediate }
    }

    /// A certificate for the CSR's key; rcgen checks the CSR's own signature.
    pub(crate) fn leaf(&self, csr: &[u8], name: &str, years: (i32, i32)) -> Vec<u8> {
        let mut request = CertificateSigningRequestParams::from_der(&csr.to_vec().into()).unwrap();
        assert!(
            request.params.distinguished_name.iter().next().is_none(),
            "the subject is not the device's to choose"
        );
        request.params.distinguished_name = DistinguishedName::new();
        request.params.distinguished_name.push(DnType::CommonName, name);
        request.params.not_before = date_time_ymd(years.0, 1, 1);
        request.params.not_after = date_time_ymd(years.1, 1, 1);
        request.signed_by(&self.issuer).unwrap().der().to_vec()
    }
}

/// What a CONNECT and its SUBSCRIBE said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Opened {
    pub(crate) client_id: String,
    pub(crate) filter: String,
    pub(crate) will: Option<(String, Vec<u8>)>,
    pub(crate) credential: &'static str,
    pub(crate) address: String,
}

/// Board, broker and what was said.
pub(crate) struct World {
    pub(crate) bench: Bench,
    pub(crate) maker: Maker,
    pub(crate) ca: Ca,
    pub(crate) gateway: Gateway<'static, NetBoard>,
    /// Number of the identity key from the next boot on.
    pub(crate) identity_key: u8,
    pub(crate) opened: Vec<Opened>,
    pub(crate) happened: Vec<Happening>,
    pub(crate) said: VecDeque<(String, Vec<u8>)>,
    /// Nonce of the newest hello.
    pub(crate) nonce: Nonce,
    /// The broker does not answer a dial.
    pub(crate) unreachable: bool,
    /// The broker takes bytes and says nothing.
    pub(crate) mute: bool,
    pub(crate) connected: bool,
    /// Packet ids of our publishes the device acknowledged.
    pub(crate) acked: Vec<u16>,
    /// Good-byes that asked for the will.
    pub(crate) left_with_will: usize,
    epoch: u32,
    bytes: BytesMut,
}

/// The identity key of a board that keeps it.
const IDENTITY_KEY: u8 = 77;

/// One kind of identity key a test needs, by number.
pub(crate) fn soft_key(seed: u8) -> SoftKey {
    SoftKey::from_scalar(&[seed; 32]).unwrap()
}

impl World {
    pub(crate) fn new() -> World {
        let maker = Maker::new();
        let bench = Bench::new(SMALL, &maker);
        World::on(maker, bench, Ca::new())
    }

    pub(crate) fn on(maker: Maker, bench: Bench, ca: Ca) -> World {
        World {
            gateway: boot(&bench, IDENTITY_KEY),
            identity_key: IDENTITY_KEY,
            bench,
            maker,
            ca,
            opened: Vec::new(),
            happened: Vec::new(),
            said: VecDeque::new(),
            nonce: Nonce([0; 16]),
            unreachable: false,
            mute: false,
            connected: false,
            acked: Vec::new(),
            left_with_will: 0,
            epoch: 0,
            bytes: BytesMut::new(),
        }
    }

    /// A board that has enrolled and is connected.
    pub(crate) fn serving() -> World {
        let mut world = World::new();
        world.enrol((2020, 2040));
        world.until("hello", |world| world.take("hello").is_some());
        world
    }

    /// The same, with a first version confirmed on it.
    pub(crate) fn with_app(change: impl FnOnce(&mut ManifestSpec<'_>)) -> World {
        let maker = Maker::new();
        let bench = Bench::new(SMALL, &maker);
        let v1 = maker.bundle_of(1, Behaviour::Healthy, change).known_on(&bench);
        let mut device = maker.enrolled(&bench);
        assert!(Director::new(&maker, &bench).drive(&mut device, &v1, 1, Goal::Confirmed));
        let mut world = World::on(maker, bench, Ca::new());
        world.enrol((2020, 2040));
        world.until("hello", |world| world.take("hello").is_some());
        world
    }

    /// Lets the board enrol for a leaf of these years.
    pub(crate) fn enrol(&mut self, years: (i32, i32)) {
        self.until("enrolment", |world| {
            let Some((topic, question)) = world.take_enroll() else { return false };
            let issued = world.issue(&question, years);
            world.tell(&topic, &encode(&issued.message()));
            true
        });
    }

    pub(crate) fn issue(&self, question: &[u8], years: (i32, i32)) -> Issued {
        let csr = wire::msg::EnrollUp::decode(question).unwrap().csr;
        let id = self.maker.device.to_string();
        Issued {
            leaf: self.ca.leaf(csr, &id, years),
            birth: self.ca.leaf(csr, &id, (2020, 4000)),
            intermediate: self.ca.intermediate.clone(),
            device: id,
            tenant: self.maker.tenant.to_string(),
            keyset: self.maker.keyset(1),
        }
    }

    /// Power off and on again.
    pub(crate) fn reboot(&mut self) {
        self.bench.flash.power_on();
        self.bench.now_ms.set(1000);
        self.gateway = boot(&self.bench, self.identity_key);
        (self.connected, self.epoch) = (false, 0);
        self.bytes.clear();
        self.said.clear();
    }

    /// The stream breaks.
    pub(crate) fn cut(&mut self) {
        self.connected = false;
        self.bytes.clear();
        self.gateway.ended(self.epoch, End::Lost);
    }

    /// The other side ends the stream with an alert about our certificate.
    pub(crate) fn refuse_certificate(&mut self) {
        self.connected = false;
        self.bytes.clear();
        self.gateway.ended(self.epoch, End::CertificateRefused);
    }

    /// One turn of the board's loop; returns when it wants the next.
    pub(crate) fn turn(&mut self) -> Next {
        let next = self.gateway.poll();
        while let Some(happening) = self.gateway.take_happening() {
            self.happened.push(happening);
        }
        let (epoch, dial) = self.gateway.wish();
        if epoch != self.epoch {
            (self.epoch, self.connected) = (epoch, false);
            self.bytes.clear();
            if let Some(dial) = dial {
                if self.unreachable {
                    self.gateway.ended(epoch, End::Unreachable);
                    return next;
                }
                let credential = match dial.credential {
                    Credential::Claim(_) => "claim",
                    Credential::Birth(_) => "birth",
                    Credential::Chain(_) => "chain",
                };
                let address = dial.address.to_owned();
                let (client_id, filter) = (String::new(), String::new());
                self.opened.push(Opened { client_id, filter, will: None, credential, address });
                self.connected = true;
                self.gateway.opened(epoch);
            }
        }
        if self.connected && !self.gateway.pending().is_empty() {
            self.bytes.extend_from_slice(self.gateway.pending());
            let count = self.gateway.pending().len();
            self.gateway.sent(count);
            self.understand();
            return Next::Now;
        }
        next
    }

    /// Turns until the condition holds, moving the clock whenever nothing else moves.
    pub(crate) fn until(&mut self, what: &str, mut reached: impl FnMut(&mut World) -> bool) {
        for _ in 0..TURNS_MAX {
            let next = self.turn();
            if reached(self) {
                return;
            }
            match next {
                Next::Now => {}
                Next::At(at_ms) => self.bench.now_ms.set(at_ms.max(self.bench.now_ms.get())),
                Next::Never => self.bench.advance_ms(1000),
            }
        }
        panic!("never reached: {what}; {:?} {:?}", self.gateway.device().progress(), self.happened);
    }

    /// Turns for so long.
    pub(crate) fn pass_ms(&mut self, milliseconds: u64) {
        let end_ms = self.bench.now_ms.get() + milliseconds;
        loop {
            match self.turn() {
                Next::Now => {}
                Next::At(at_ms) if at_ms < end_ms => {
                    self.bench.now_ms.set(at_ms.max(self.bench.now_ms.get()))
                }
                _ => break,
            }
        }
        self.bench.now_ms.set(end_ms);
        self.turn();
    }

    /// The oldest message not taken yet on this channel; those before it on other channels stay.
    pub(crate) fn take(&mut self, channel: &str) -> Option<Vec<u8>> {
        let own = format!("hf/1/{}/up/{channel}", self.maker.device);
        let index = self.said.iter().position(|(topic, _)| *topic == own)?;
        self.said.remove(index).map(|(_, payload)| payload)
    }

    /// A question on an enrolment connection, and the topic of its answer.
    pub(crate) fn take_enroll(&mut self) -> Option<(String, Vec<u8>)> {
        let index = self.said.iter().position(|(topic, _)| topic.ends_with("/up/enroll"))?;
        self.said.remove(index).map(|(topic, payload)| (topic.replace("/up/", "/dn/"), payload))
    }

    /// Publishes to the device.
    pub(crate) fn tell_channel<'m>(&mut self, channel: &str, message: &impl Message<'m>) {
        let topic = format!("hf/1/{}/dn/{channel}", self.maker.device);
        self.tell(&topic, &encode(message));
    }

    pub(crate) fn tell(&mut self, topic: &str, payload: &[u8]) {
        self.send_packet(&Packet::Publish(Publish::new(topic, QoS::AtMostOnce, payload.to_vec(), None)));
    }

    pub(crate) fn send_packet(&mut self, packet: &Packet) {
        let mut bytes = BytesMut::new();
        packet.write(&mut bytes, None).unwrap();
        self.send(&bytes);
    }

    /// Bytes from the broker, in whatever pieces there is room for.
    pub(crate) fn send(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() && self.connected {
            let spare = self.gateway.spare();
            let count = spare.len().min(bytes.len());
            if count == 0 {
                self.turn();
                continue;
            }
            spare[..count].copy_from_slice(&bytes[..count]);
            self.gateway.received(count);
            bytes = &bytes[count..];
        }
    }

    /// Understands every whole packet the device sent.
    fn understand(&mut self) {
        loop {
            // MQTT 5 §3.14.2.2.1 allows a reason without properties, and rumqttc does not: disconnect with will message.
            if self.bytes[..] == [0xe0, 1, 0x04] {
                self.bytes.clear();
                self.left_with_will += 1;
                return;
            }
            let packet = match Packet::read(&mut self.bytes, None) {
                Ok(packet) => packet,
                Err(rumqttc::v5::mqttbytes::Error::InsufficientBytes(_)) => return,
                Err(error) => panic!("not MQTT 5: {error:?}"),
            };
            if let Some(answer) = self.hear(packet)
                && !self.mute
            {
                self.send_packet(&answer);
            }
        }
    }

    /// Notes one packet; returns what a broker answers at once.
    fn hear(&mut self, packet: Packet) -> Option<Packet> {
        match packet {
            Packet::Connect(connect, will, login) => {
                assert!(connect.clean_start && login.is_none());
                let opened = self.opened.last_mut().unwrap();
                opened.client_id = connect.client_id;
                opened.will = will.map(|will| (text(&will.topic), will.message.to_vec()));
                let code = ConnectReturnCode::Success;
                Some(Packet::ConnAck(ConnAck { session_present: false, code, properties: None }))
            }
            Packet::Subscribe(subscribe) => {
                let [filter] = &subscribe.filters[..] else { panic!("one filter is enough") };
                self.opened.last_mut().unwrap().filter = filter.path.clone();
                let return_codes = vec![SubscribeReasonCode::Success(QoS::AtLeastOnce)];
                Some(Packet::SubAck(SubAck { pkid: subscribe.pkid, return_codes, properties: None }))
            }
            Packet::PingReq(_) => Some(Packet::PingResp(PingResp)),
            Packet::Publish(publish) => {
                assert!(!publish.retain && publish.properties.is_none());
                let (topic, payload) = (text(&publish.topic), publish.payload.to_vec());
                if topic.ends_with("/up/hello") {
                    self.nonce = Nonce::try_from(HelloUp::decode(&payload).unwrap().nonce).unwrap();
                }
                self.said.push_back((topic, payload));
                (publish.qos == QoS::AtLeastOnce).then(|| Packet::PubAck(PubAck::new(publish.pkid, None)))
            }
            Packet::PubAck(ack) => {
                self.acked.push(ack.pkid);
                None
            }
            other => panic!("a device does not send {other:?}"),
        }
    }
}

fn text(bytes: &Bytes) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// What a registry issues; owned, so that a test can spoil it.
#[derive(Debug, Clone)]
pub(crate) struct Issued {
    pub(crate) leaf: Vec<u8>,
    pub(crate) birth: Vec<u8>,
    pub(crate) intermediate: Vec<u8>,
    pub(crate) device: String,
    pub(crate) tenant: String,
    pub(crate) keyset: Vec<u8>,
}

impl Issued {
    pub(crate) fn message(&self) -> EnrollDown<'_> {
        EnrollDown {
            status: EnumValue::Known(EnrollStatus::Issued),
            device_id: &self.device,
            tenant_id: &self.tenant,
            leaf: &self.leaf,
            intermediate: &self.intermediate,
            birth: &self.birth,
            broker: "broker:8883",
            keyset: &self.keyset,
            ..Default::default()
        }
    }
}

fn boot(bench: &Bench, identity_key: u8) -> Gateway<'static, NetBoard> {
    let Ports { flash, crash_flash, counter, clock, entropy, reset, watchdog, app, firmware, verify, .. } =
        bench.ports();
    let probe = SimProbe::default();
    let keys = SoftKeys { identity: soft_key(identity_key), claim: soft_key(78) };
    let ports = Ports {
        flash,
        crash_flash,
        counter,
        keys,
        clock,
        entropy,
        reset,
        watchdog,
        app,
        firmware,
        probe,
        verify,
    };
    let device = Device::boot(ports, bench.facts.clone(), Box::leak(Box::default())).unwrap();
    let leak = |bytes: usize| Box::leak(vec![0; bytes].into_boxed_slice());
    let buffers = Buffers {
        receive: leak(RECEIVE_BYTES_MIN),
        send: leak(SEND_BYTES_MIN),
        log: [leak(4096 + KEPT_HEAD_BYTES), &mut []],
        identity: Box::leak(Box::default()),
        debug: Some(Box::leak(Box::default())),
    };
    Gateway::new(device, Provisioning { enroll_address: "enroll:8884", claim: CLAIM }, buffers)
}

/// What stands for the claim certificate.
pub(crate) const CLAIM: &[u8] = &[0x30, 3, 2, 1, 7];

pub(crate) fn claim_key() -> PublicKey {
    soft_key(78).public_key()
}

pub(crate) fn encode<'m>(message: &impl Message<'m>) -> Vec<u8> {
    let mut bytes = vec![0; message.encoded_len()];
    message.encode(&mut &mut bytes[..]).unwrap();
    bytes
}
