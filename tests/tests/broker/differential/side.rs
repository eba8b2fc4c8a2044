//! One broker and one lane of packets: what it says to each, and whom it lets it reach.
//!
//! Holds: nothing is decided by waiting. A message that did not arrive is one that was sent before another that did:
//! PUBACK says that the broker has routed, and a marker behind the probes, on the channel it delivers last, that it
//! has delivered.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::io::AsyncWriteExt as _;
use wire::Service;

use super::Lane;
use super::packets::{Case, Packet, Subject, Will};
use super::probes::Probers;
use scenarios::broker::client::{self, Client, Connect, Stream, frame, publish, read_packet};
use scenarios::broker::pki::Identity;
use scenarios::broker::rig::{Rig, soon};

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

    pub(crate) async fn join(
        &self,
        subject: Subject,
        identity: &Identity,
        client_id: &str,
        level: u8,
    ) -> Client {
        let connect = Connect { level, ..Connect::v5(client_id) }.keep_alive(300);
        Client::connect(self.address(subject), &self.rig.server_ca, identity, connect).await.unwrap()
    }

    pub(crate) async fn join_service(&self, service: Service, client_id: &str) -> Client {
        let identity = self.rig.service_ca.client(service.common_name());
        self.join(Subject::Service(service), &identity, client_id, 5).await
    }
}

/// The channel of a service that a broker delivers last.
pub(crate) fn bulk(service: Service, relay: &str) -> String {
    match service {
        Service::Registry => "telemetry".into(),
        Service::Ota => "layer".into(),
        Service::Logs => "log".into(),
        Service::Relay => format!("debug/{relay}"),
    }
}

/// Packet id, with QoS 1, and payload.
pub(crate) fn message(level: u8, body: &[u8], first: u8) -> (Option<[u8; 2]>, &[u8]) {
    let mut at = 2 + usize::from(u16::from_be_bytes([body[0], body[1]]));
    let id = (first & 6 != 0).then(|| [body[at], body[at + 1]]);
    at += if id.is_some() { 2 } else { 0 };
    at += if level == 5 { 1 + usize::from(body[at]) } else { 0 };
    (id, &body[at..])
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
