//! One broker and one lane of packets: what it says to each, and whom it lets it reach.
//!
//! Holds: nothing is decided by waiting. A message that did not arrive is one that was sent before another that did: PUBACK says that
//! the broker has routed, and a marker behind the probes, in the lane a broker delivers last, that it has delivered.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio::io::AsyncWriteExt as _;
use tokio::task::JoinHandle;
use wire::Service;

use super::Lane;
use super::packets::{Case, Names, Packet, Subject, Will};
use crate::client::{self, Client, Connect, Stream, frame, publish, read_packet};
use crate::pki::Identity;
use crate::rig::{Rig, soon};

/// svc-broker closes at 64.
const DENIALS_MAX: u32 = 50;

/// What the client is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Said {
    /// Yes; or nothing, where the packet has no answer and the connection goes on.
    Accepted,
    Refused,
    Closed,
}

/// The verdict on one packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) said: Said,
    /// Who heard the message or the will; for a subscription, which probes it let through.
    pub(crate) reached: BTreeSet<&'static str>,
}

/// Where a broker listens.
#[derive(Clone)]
pub(crate) struct Broker {
    pub(crate) rig: Arc<Rig>,
    pub(crate) device: String,
    pub(crate) enroll: String,
    pub(crate) service: String,
}

/// Certificates of a lane.
pub(crate) struct Cast {
    pub(crate) own: Identity,
    pub(crate) connecting: Identity,
    /// A device and an enrolment that publish.
    pub(crate) device: Identity,
    pub(crate) claim: Identity,
    pub(crate) claimant: String,
}

impl Broker {
    fn address(&self, subject: Subject) -> &str {
        match subject {
            Subject::Device => &self.device,
            Subject::Claimant => &self.enroll,
            Subject::Service(_) => &self.service,
        }
    }

    async fn join(&self, subject: Subject, identity: &Identity, client_id: &str, level: u8) -> Client {
        let connect = Connect { level, ..Connect::v5(client_id) }.keep_alive(300);
        Client::connect(self.address(subject), &self.rig.server_ca, identity, connect).await.unwrap()
    }

    async fn join_service(&self, service: Service, client_id: &str) -> Client {
        let identity = self.rig.service_ca.client(service.common_name());
        self.join(Subject::Service(service), &identity, client_id, 5).await
    }
}

/// Who is listening all the time: every service on all its channels, and one device.
pub(crate) struct Listeners {
    tasks: Vec<JoinHandle<(&'static str, Vec<u32>)>>,
}

/// Names in `Seen::reached`.
pub(crate) const DEVICE: &str = "device";
/// A message that was published as somebody else arrived.
pub(crate) const IMPOSTOR: &str = "impostor";

fn bulk(service: Service, relay: &str) -> String {
    match service {
        Service::Registry => "telemetry".into(),
        Service::Ota => "layer".into(),
        Service::Logs => "log".into(),
        Service::Relay => format!("debug/{relay}"),
    }
}

impl Listeners {
    pub(crate) async fn start(broker: &Broker, device: &Identity) -> Listeners {
        let mut tasks = Vec::new();
        for service in Service::ALL {
            // mosquitto has one room for all client ids: each its own.
            let mut client = broker.join_service(service, &format!("listener-{service}")).await;
            for row in wire::rule::TABLE.iter().filter(|row| row.up.contains(&service)) {
                let relay = if row.channel.name() == "debug" { "/+" } else { "" };
                let filter = format!("hf/1/+/up/{}{relay}", row.channel.name());
                assert_eq!(client.subscribe(&[(&filter, 0)]).await, [0], "{filter}");
            }
            tasks.push(tokio::spawn(listen(client, service.name())));
        }
        let mut client = broker.join(Subject::Device, device, &device.name, 5).await;
        assert_eq!(client.subscribe(&[(&format!("hf/1/{}/dn/#", device.name), 0)]).await, [0]);
        tasks.push(tokio::spawn(listen(client, DEVICE)));
        Listeners { tasks }
    }

    /// Ends them behind everything that was sent before.
    pub(crate) async fn heard(
        self,
        broker: &Broker,
        last: &Identity,
        device: &str,
        relay: &str,
    ) -> BTreeMap<u32, BTreeSet<&'static str>> {
        let mut publisher = broker.join(Subject::Device, last, &last.name, 5).await;
        for service in Service::ALL {
            let topic = format!("hf/1/{}/up/{}", last.name, bulk(service, relay));
            assert!(publisher.publish1(&topic, "end").await < 0x80, "{topic}");
        }
        let mut logs = broker.join_service(Service::Logs, "last").await;
        assert!(logs.publish1(&format!("hf/1/{device}/dn/log"), "end").await < 0x80);
        let mut heard: BTreeMap<u32, BTreeSet<&'static str>> = BTreeMap::new();
        for task in self.tasks {
            let (name, numbers) = soon(task).await.unwrap();
            for number in numbers {
                let impostor = number & IMPOSTOR_BIT != 0;
                let name = if impostor { IMPOSTOR } else { name };
                heard.entry(number & !IMPOSTOR_BIT).or_default().insert(name);
            }
        }
        heard
    }
}

const IMPOSTOR_BIT: u32 = 1 << 31;

async fn listen(mut client: Client, name: &'static str) -> (&'static str, Vec<u32>) {
    let mut numbers = Vec::new();
    loop {
        let packet = read_packet(&mut client.stream).await.expect("a listener lost its connection");
        let (_, payload) = message(5, &packet.body, packet.first);
        match payload {
            b"end" => return (name, numbers),
            [b'c', rest @ ..] => numbers.push(number(rest)),
            [b'x', rest @ ..] => numbers.push(number(rest) | IMPOSTOR_BIT),
            _ => {}
        }
    }
}

fn number(digits: &[u8]) -> u32 {
    std::str::from_utf8(digits).unwrap().parse().unwrap()
}

/// Packet id, with QoS 1, and payload.
fn message(level: u8, body: &[u8], first: u8) -> (Option<[u8; 2]>, &[u8]) {
    let mut at = 2 + usize::from(u16::from_be_bytes([body[0], body[1]]));
    let id = (first & 6 != 0).then(|| [body[at], body[at + 1]]);
    at += if id.is_some() { 2 } else { 0 };
    at += if level == 5 { 1 + usize::from(body[at]) } else { 0 };
    (id, &body[at..])
}

/// A message that tries whether a subscription hears it.
struct Probe {
    name: &'static str,
    by: usize,
    topic: String,
    /// The subject may hear it.
    rightful: bool,
}

/// Publishers of probes, and the probes for one subject.
struct Probers {
    clients: Vec<Client>,
    probes: Vec<Probe>,
    /// Publisher and topic.
    marker: (usize, String),
}

const BY_DEVICE: usize = 4;
const BY_CLAIMANT: usize = 5;

impl Probers {
    async fn start(broker: &Broker, lane: &Lane) -> Probers {
        let (names, cast) = (&lane.names, &lane.cast);
        let mut clients = Vec::new();
        for service in Service::ALL {
            clients.push(broker.join_service(service, &format!("prober-{service}-{}", names.lane)).await);
        }
        clients.push(broker.join(Subject::Device, &cast.device, &cast.device.name, 5).await);
        clients.push(broker.join(Subject::Claimant, &cast.claim, &cast.claimant, 5).await);
        let (probes, marker) = probes(lane.subject, names, cast);
        Probers { clients, probes, marker }
    }

    /// Every probe and then the marker, each routed when this returns.
    async fn round(&mut self, round: u32) {
        for (index, probe) in self.probes.iter().enumerate() {
            self.clients[probe.by].publish1(&probe.topic, format!("p{index}.{round}")).await;
        }
        self.clients[self.marker.0].publish1(&self.marker.1, format!("m.{round}")).await;
    }
}

fn probes(subject: Subject, names: &Names, cast: &Cast) -> (Vec<Probe>, (usize, String)) {
    let by = |service: Service| Service::ALL.iter().position(|known| *known == service).unwrap();
    let (own, other, up) = (&names.own, &names.other, &cast.device.name);
    let down = |name, service, id: &str, channel: &str, rightful| Probe {
        name,
        by: by(service),
        topic: format!("hf/1/{id}/dn/{channel}"),
        rightful,
    };
    let said = |name, channel: &str, rightful| Probe {
        name,
        by: BY_DEVICE,
        topic: format!("hf/1/{up}/up/{channel}"),
        rightful,
    };
    let debug = format!("debug/{}", names.relay);
    match subject {
        Subject::Device => {
            let probes = vec![
                down("own hello", Service::Registry, own, "hello", true),
                down("own layer", Service::Ota, own, "layer", true),
                down("own debug", Service::Relay, own, &debug, true),
                down("another's hello", Service::Registry, other, "hello", false),
                down("another's config", Service::Registry, &names.stranger, "config", false),
                down("a claimant's enroll", Service::Registry, &cast.claimant, "enroll", false),
                said("another's up", "log", false),
            ];
            (probes, (by(Service::Logs), format!("hf/1/{own}/dn/log")))
        }
        Subject::Claimant => {
            let probes = vec![
                down("another's enroll", Service::Registry, &cast.claimant, "enroll", false),
                down("a device's hello", Service::Registry, other, "hello", false),
                said("a device's up", "log", false),
            ];
            (probes, (by(Service::Registry), format!("hf/1/{own}/dn/enroll")))
        }
        Subject::Service(service) => {
            let may = |channel: &str| {
                wire::rule::TABLE.iter().any(|row| row.channel.name() == channel && row.up.contains(&service))
            };
            let enroll = Probe {
                name: "up enroll",
                by: BY_CLAIMANT,
                topic: format!("hf/1/{}/up/enroll", cast.claimant),
                rightful: may("enroll"),
            };
            let probes = vec![
                said("up hello", "hello", may("hello")),
                said("up update", "update", may("update")),
                said("up log", "log", may("log")),
                said("up debug", &debug, may("debug")),
                said("up telemetry", "telemetry", may("telemetry")),
                enroll,
                down("dn hello", Service::Registry, other, "hello", false),
            ];
            (probes, (BY_DEVICE, format!("hf/1/{up}/up/{}", bulk(service, &names.relay))))
        }
    }
}

/// A lane at one broker.
pub(crate) struct Side {
    broker: Broker,
    lane: Arc<Lane>,
    probers: Probers,
    client: Option<Client>,
    /// The standing subscription that the marker comes through.
    marker: String,
    denials: u32,
    next_id: u16,
}

impl Side {
    pub(crate) async fn start(broker: Broker, lane: Arc<Lane>) -> Side {
        let probers = Probers::start(&broker, &lane).await;
        let marker = match lane.subject {
            Subject::Service(service) => format!("hf/1/+/up/{}", bulk(service, "+")),
            _ => probers.marker.1.clone(),
        };
        Side { broker, lane, probers, client: None, marker, denials: 0, next_id: 1 }
    }

    /// Whom a publish or a will reached is not yet known: `Listeners::heard` says it.
    pub(crate) async fn see(&mut self, case: &Case) -> Seen {
        let nobody = BTreeSet::new();
        match &case.packet {
            Packet::Connect { client_id, will } => {
                Seen { said: self.connect(case.number, client_id, will.as_ref()).await, reached: nobody }
            }
            Packet::Publish { topic, qos, retain } => {
                Seen { said: self.publish(case.number, topic, *qos, *retain).await, reached: nobody }
            }
            Packet::Subscribe { filter, qos } => self.subscribe(case.number, filter, *qos).await,
        }
    }

    async fn connect(&mut self, number: u32, client_id: &[u8], will: Option<&Will>) -> Said {
        let rig = self.broker.rig.clone();
        let address = self.broker.address(self.lane.subject);
        let mut stream =
            client::tls(address, &rig.server_ca, Some(&self.lane.cast.connecting)).await.unwrap();
        stream.write_all(&connect_bytes(self.lane.level, client_id, will, number)).await.unwrap();
        let Some(answer) = next(&mut stream).await else { return Said::Closed };
        assert_eq!(answer.0, 0x20, "CONNACK is the first packet");
        if answer.1[1] != 0 {
            return Said::Refused;
        }
        let impostor = format!("hf/1/{}/up/hello", self.lane.names.stranger);
        let mut bytes =
            publish(self.lane.level, 0x30, impostor.as_bytes(), None, format!("x{number}").as_bytes());
        // No packet has type 0: the connection ends, and not by the client's wish.
        bytes.extend([0, 0]);
        let _ = stream.write_all(&bytes).await;
        while next(&mut stream).await.is_some() {}
        Said::Accepted
    }

    async fn publish(&mut self, number: u32, topic: &[u8], qos: u8, retain: bool) -> Said {
        let (id, first) = (self.id(), 0x30 | qos << 1 | u8::from(retain));
        let payload = format!("c{number}");
        let mut bytes = publish(self.lane.level, first, topic, (qos > 0).then_some(id), payload.as_bytes());
        if qos == 0 {
            bytes.extend([0xc0, 0]);
        }
        let said = match self.answer(&bytes, if qos == 0 { 13 } else { 4 }).await {
            None => Said::Closed,
            Some(body) if qos > 0 && body.get(2).is_some_and(|code| *code >= 0x80) => Said::Refused,
            Some(_) => Said::Accepted,
        };
        // QoS 0 is refused without a word.
        self.settle(said, qos == 0);
        said
    }

    async fn subscribe(&mut self, number: u32, filter: &[u8], qos: u8) -> Seen {
        let bytes = subscribe_bytes(self.lane.level, self.id(), filter, qos);
        let said = match self.answer(&bytes, 9).await {
            None => Said::Closed,
            Some(body) if *body.last().unwrap() >= 0x80 => Said::Refused,
            Some(_) => Said::Accepted,
        };
        self.settle(said, false);
        let mut seen = Seen { said, reached: BTreeSet::new() };
        if said == Said::Accepted {
            self.probers.round(number).await;
            seen.reached = self.probed(number).await;
            let bytes = unsubscribe_bytes(self.lane.level, self.id(), filter);
            self.answer(&bytes, 11).await.expect("UNSUBACK");
            if filter == self.marker.as_bytes() {
                let bytes = subscribe_bytes(self.lane.level, self.id(), filter, 0);
                self.answer(&bytes, 9).await.expect("SUBACK");
            }
        }
        seen
    }

    /// Probes of this round that came before its marker.
    async fn probed(&mut self, round: u32) -> BTreeSet<&'static str> {
        let mut heard = BTreeSet::new();
        let marker = format!("m.{round}");
        loop {
            let (first, body) = self.read().await.expect("a subscriber lost its connection");
            assert_eq!(first >> 4, 3, "a message");
            let payload = message(self.lane.level, &body, first).1;
            if payload == marker.as_bytes() {
                return heard;
            }
            for (index, probe) in self.probers.probes.iter().enumerate() {
                if payload == format!("p{index}.{round}").as_bytes() {
                    assert!(probe.rightful, "{:?} hears {}", self.lane.subject, probe.topic);
                    heard.insert(probe.name);
                }
            }
        }
    }

    /// Sends on the standing connection; the body of the first packet of this type, or the connection's end.
    async fn answer(&mut self, bytes: &[u8], kind: u8) -> Option<Vec<u8>> {
        if self.client.is_none() {
            self.client = Some(self.standing().await);
        }
        let client = self.client.as_mut()?;
        let _ = client.stream.write_all(bytes).await;
        while let Some((first, body)) = self.read().await {
            match first >> 4 {
                answered if answered == kind => return Some(body),
                3 | 14 => {}
                other => panic!("unexpected packet type {other}"),
            }
        }
        None
    }

    /// The next packet; messages are acknowledged.
    async fn read(&mut self) -> Option<(u8, Vec<u8>)> {
        let client = self.client.as_mut()?;
        let (first, body) = next(&mut client.stream).await?;
        if first >> 4 == 3
            && let (Some(id), _) = message(self.lane.level, &body, first)
        {
            let _ = client.stream.write_all(&frame(0x40, &id)).await;
        }
        Some((first, body))
    }

    async fn standing(&mut self) -> Client {
        self.denials = 0;
        let client_id = match self.lane.subject {
            Subject::Service(_) => format!("subject-{}", self.lane.names.lane),
            _ => self.lane.names.own.clone(),
        };
        let mut client =
            self.broker.join(self.lane.subject, &self.lane.cast.own, &client_id, self.lane.level).await;
        assert_eq!(client.subscribe(&[(&self.marker, 0)]).await, [0], "{}", self.marker);
        client
    }

    fn settle(&mut self, said: Said, silent: bool) {
        self.denials += u32::from(silent || said == Said::Refused);
        if said == Said::Closed || self.denials >= DENIALS_MAX {
            self.client = None;
        }
    }

    fn id(&mut self) -> u16 {
        self.next_id = self.next_id % 60_000 + 1;
        self.next_id
    }
}

async fn next(stream: &mut Stream) -> Option<(u8, Vec<u8>)> {
    soon(read_packet(stream)).await.map(|packet| (packet.first, packet.body))
}

fn connect_bytes(level: u8, client_id: &[u8], will: Option<&Will>, number: u32) -> Vec<u8> {
    let will_flags = will.map_or(0, |will| 4 | will.qos << 3 | u8::from(will.retain) << 5);
    let mut body = b"\x00\x04MQTT".to_vec();
    body.extend([level, 2 | will_flags, 0, 60]);
    let no_properties: &[u8] = if level == 5 { &[0] } else { &[] };
    body.extend(no_properties);
    string(&mut body, client_id);
    if let Some(will) = will {
        body.extend(no_properties);
        string(&mut body, &will.topic);
        string(&mut body, format!("c{number}").as_bytes());
    }
    frame(0x10, &body)
}

fn subscribe_bytes(level: u8, id: u16, filter: &[u8], qos: u8) -> Vec<u8> {
    let mut body = filters(level, id, filter);
    body.push(qos);
    frame(0x82, &body)
}

fn unsubscribe_bytes(level: u8, id: u16, filter: &[u8]) -> Vec<u8> {
    frame(0xa2, &filters(level, id, filter))
}

fn filters(level: u8, id: u16, filter: &[u8]) -> Vec<u8> {
    let mut body = id.to_be_bytes().to_vec();
    if level == 5 {
        body.push(0);
    }
    string(&mut body, filter);
    body
}

fn string(body: &mut Vec<u8>, text: &[u8]) {
    body.extend((text.len() as u16).to_be_bytes());
    body.extend_from_slice(text);
}
