//! Packets from a seed: mostly nearly right, sometimes not MQTT at all. The same seed gives the same packets.

use std::fmt;

use wire::Service;
use wire::rule::{Identity, Row, TABLE};
use wire::topic::ChannelKind;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Subject {
    Device,
    Claimant,
    Service(Service),
}

#[derive(Clone)]
pub(crate) struct Will {
    pub(crate) topic: Vec<u8>,
    pub(crate) qos: u8,
    pub(crate) retain: bool,
}

#[derive(Clone)]
pub(crate) enum Packet {
    Connect { client_id: Vec<u8>, will: Option<Will> },
    Publish { topic: Vec<u8>, qos: u8, retain: bool },
    Subscribe { filter: Vec<u8>, qos: u8 },
}

#[derive(Debug, Clone)]
pub(crate) struct Case {
    /// Its payload's name: unique in a run.
    pub(crate) number: u32,
    pub(crate) subject: Subject,
    /// Who the subject is by its certificate and right client id.
    pub(crate) identity: Identity,
    pub(crate) level: u8,
    pub(crate) packet: Packet,
}

/// The ids a lane's packets speak of.
#[derive(Debug, Clone)]
pub(crate) struct Names {
    /// Of the standing connection; a service has none and speaks of `other`.
    pub(crate) own: String,
    /// Of connections made by CONNECT packets.
    pub(crate) connecting: String,
    /// A device that listens.
    pub(crate) other: String,
    /// A device that never connects.
    pub(crate) stranger: String,
    pub(crate) relay: String,
    /// Makes odd client ids unlike those of other lanes: mosquitto has one room for all.
    pub(crate) lane: u32,
}

impl Packet {
    /// Of the message, or of the will.
    pub(crate) fn topic(&self) -> Option<&[u8]> {
        match self {
            Packet::Publish { topic, .. } | Packet::Connect { will: Some(Will { topic, .. }), .. } => {
                Some(topic)
            }
            _ => None,
        }
    }
}

impl fmt::Debug for Will {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "'{}' QoS {} retain {}", self.topic.escape_ascii(), self.qos, self.retain)
    }
}

impl fmt::Debug for Packet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Packet::Connect { client_id, will } => {
                write!(f, "CONNECT '{}' will {will:?}", client_id.escape_ascii())
            }
            Packet::Publish { topic, qos, retain } => {
                write!(f, "PUBLISH '{}' QoS {qos} retain {retain}", topic.escape_ascii())
            }
            Packet::Subscribe { filter, qos } => {
                write!(f, "SUBSCRIBE '{}' QoS {qos}", filter.escape_ascii())
            }
        }
    }
}

/// splitmix64.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn pick<'a, T: ?Sized>(&mut self, from: &[&'a T]) -> &'a T {
        from[self.below(from.len())]
    }
}

pub(crate) fn packet(random: &mut Random, subject: Subject, names: &Names) -> Packet {
    match random.below(16) {
        0..3 => Packet::Connect {
            client_id: client_id(random, subject, names),
            will: will(random, subject, names),
        },
        3..10 => {
            let topic =
                topic(random, subject, &names.own, names, if subject.is_service() { "dn" } else { "up" });
            let qos = [0, 0, 0, 1, 1, 1, 1, 1, 1, 2][random.below(10)];
            Packet::Publish { topic, qos, retain: random.one_in(12) }
        }
        _ => Packet::Subscribe { filter: filter(random, subject, names), qos: random.below(2) as u8 },
    }
}

fn will(random: &mut Random, subject: Subject, names: &Names) -> Option<Will> {
    if random.one_in(3) {
        return None;
    }
    let topic =
        topic(random, subject, &names.connecting, names, if subject.is_service() { "dn" } else { "up" });
    Some(Will { topic, qos: [0, 1, 1, 1, 2][random.below(5)], retain: random.one_in(6) })
}

fn client_id(random: &mut Random, subject: Subject, names: &Names) -> Vec<u8> {
    let lane = names.lane;
    let right = match subject {
        Subject::Device => names.connecting.clone(),
        Subject::Claimant => names.connecting.clone(),
        Subject::Service(_) => format!("client-{lane}"),
    };
    if !random.one_in(3) {
        return right.into_bytes();
    }
    match random.below(12) {
        0 => vec![],
        1 => names.stranger.clone().into_bytes(),
        2 => right.to_uppercase().into_bytes(),
        3 => format!("{right}x").into_bytes(),
        4 => format!("{lane}/{right}").into_bytes(),
        5 => format!("+{lane}").into_bytes(),
        6 => format!("#{lane}").into_bytes(),
        7 => format!("$SYS{lane}").into_bytes(),
        8 => format!("é{lane}").into_bytes(),
        9 => format!("{lane}\0").into_bytes(),
        10 => [right.as_bytes(), b"\xff"].concat(),
        _ => "x".repeat(300).into_bytes(),
    }
}

/// A topic name, nearly; `way` is the direction the subject may use.
fn topic(random: &mut Random, subject: Subject, own: &str, names: &Names, way: &str) -> Vec<u8> {
    if random.one_in(14) {
        return odd(random);
    }
    let levels = [id(random, subject, own, names), direction(random, way), channel(random, subject, names)];
    let root =
        if random.one_in(16) { random.pick(&["hf/2", "hf", "", "/hf/1", "$hf/1", "HF/1"]) } else { "hf/1" };
    let text = format!("{root}/{}", levels.join("/")).into_bytes();
    if random.one_in(8) { damaged(random, text) } else { text }
}

fn id(random: &mut Random, subject: Subject, own: &str, names: &Names) -> String {
    // A service has all devices; one of them listens.
    let right = if subject.is_service() { &names.other } else { own };
    match random.below(20) {
        0 | 1 => names.other.clone(),
        2 => names.stranger.clone(),
        3 => "+".into(),
        4 => right.to_uppercase(),
        5 => right[..right.len() - 1].into(),
        6 => format!("{right}0"),
        7 => random.pick(&["", "#", "x", "é", "0123456789abcdef0123456789abcdef"]).into(),
        _ => right.into(),
    }
}

fn direction(random: &mut Random, way: &str) -> String {
    match random.below(10) {
        0 | 1 => random.pick(&["up", "dn"]).into(),
        2 => random.pick(&["UP", "", "+", "#", "down"]).into(),
        _ => way.into(),
    }
}

fn channel(random: &mut Random, subject: Subject, names: &Names) -> String {
    let mut kind = ChannelKind::ALL[random.below(ChannelKind::ALL.len())];
    if let Subject::Service(service) = subject
        && random.one_in(2)
    {
        let own: Vec<&Row> = TABLE.iter().filter(|row| row.up.contains(&service)).collect();
        kind = random.pick(&own).channel;
    }
    if random.one_in(10) {
        return random.pick(&["", "x", "+", "#", "HELLO", "hello ", "debug/+"]).into();
    }
    match (kind, random.below(8)) {
        (ChannelKind::Debug, 0) => random.pick(&["debug", "debug/", "debug/x", "debug/x/y"]).into(),
        (ChannelKind::Debug, _) => format!("debug/{}", names.relay),
        _ => kind.name().into(),
    }
}

fn odd(random: &mut Random) -> Vec<u8> {
    match random.below(12) {
        0 => vec![],
        1 => b"/".to_vec(),
        2 => b"$SYS/broker/uptime".to_vec(),
        3 => b"$SYS/#".to_vec(),
        4 => "é/x".into(),
        5 => b"\0".to_vec(),
        6 => b"hf/1/\xff".to_vec(),
        7 => "/".repeat(300).into_bytes(),
        8 => format!("hf/1/{}", "x".repeat(5_000)).into_bytes(),
        9 => b"#".to_vec(),
        10 => b"+/+/+/up/hello".to_vec(),
        _ => "\u{feff}hf/1".into(),
    }
}

fn damaged(random: &mut Random, mut text: Vec<u8>) -> Vec<u8> {
    let end: &[u8] = match random.below(9) {
        0 => b"/",
        1 => b"/x",
        2 => b"\0",
        3 => b"\xff",
        4 => b"\x01",
        5 => "é".as_bytes(),
        6 => b"/+",
        7 => b"/#",
        _ => {
            text.insert(0, b'/');
            b""
        }
    };
    text.extend_from_slice(end);
    text
}

fn filter(random: &mut Random, subject: Subject, names: &Names) -> Vec<u8> {
    if random.one_in(12) {
        let wide = [
            "#",
            "+/#",
            "hf/#",
            "hf/1/#",
            "hf/1/+/#",
            "hf/1/+/+/+",
            "$SYS/#",
            "hf/#/up",
            "hf/1+/up",
            "$share",
            "$share/g",
        ];
        return random.pick(&wide).into();
    }
    let way = if subject.is_service() { "up" } else { "dn" };
    let mut plain = if subject.is_service() && !random.one_in(4) {
        format!("hf/1/+/{}/{}", direction(random, way), channel(random, subject, names)).into_bytes()
    } else {
        topic(random, subject, &names.own, names, way)
    };
    if !subject.is_service() && random.one_in(6) {
        plain = format!("hf/1/{}/dn/{}", names.own, random.pick(&["#", "+"])).into_bytes();
    }
    let prefix = match (random.below(if subject.is_service() { 3 } else { 8 }), subject) {
        (0, Subject::Service(service)) if !random.one_in(3) => {
            let channel = String::from_utf8_lossy(&plain).split('/').nth(4).unwrap_or_default().to_owned();
            format!("$share/{}-{channel}/", service.name())
        }
        (0, _) => random
            .pick(&["$share/g/", "$share//", "$share/+/", "$share/ota-hello/", "$queue/", "$SYS/"])
            .into(),
        _ => String::new(),
    };
    [prefix.as_bytes(), &plain].concat()
}

impl Subject {
    pub(crate) fn identity(self, id: &str) -> Identity {
        match self {
            Subject::Device => Identity::Device(id.parse().unwrap()),
            Subject::Claimant => Identity::Claimant(id.parse().unwrap()),
            Subject::Service(service) => Identity::Service(service),
        }
    }

    pub(crate) fn is_service(self) -> bool {
        matches!(self, Subject::Service(_))
    }
}
