//! Packets that are right, or wrong in a way a parser may not expect: every type, both versions, every field.
//!
//! Damage to lengths and bytes comes on top (`damaged`), so that most packets reach the code behind the framing.

use super::super::client::{frame, string};
use super::super::random::Random;

/// Payload bytes of most messages, and of some.
const PAYLOAD_BYTES: usize = 300;
const PAYLOAD_BYTES_BIG: usize = 33_000;
/// A string's length has two bytes.
const STRING_BYTES_MAX: usize = 65_535;

/// Who speaks.
#[derive(Debug, Clone)]
pub(super) struct Voice {
    /// The protocol level its packets are written for.
    pub(super) level: u8,
    /// The client id, which is the id in its topics (a service has none of its own and uses a device's).
    pub(super) id: String,
    pub(super) client_id: String,
    /// Begins every payload it sends: who reads the message can tell the author.
    pub(super) mark: String,
    /// Devices it has nothing to do with.
    pub(super) others: Vec<String>,
    /// `up` for what devices say, `dn` for services.
    pub(super) says: &'static str,
}

const CHANNELS: [&str; 11] = [
    "hello",
    "update",
    "layer",
    "log",
    "crash",
    "config",
    "telemetry",
    "enroll",
    "debug/0123456789abcdef0123456789abcdef",
    "debug",
    "unknown",
];

/// The types of MQTT 5 properties (§2.2.2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Byte,
    Two,
    Four,
    Variable,
    Text,
    Pair,
}

/// Identifier and type of every property there is.
const PROPERTIES: [(u8, Kind); 27] = [
    (1, Kind::Byte),
    (2, Kind::Four),
    (3, Kind::Text),
    (8, Kind::Text),
    (9, Kind::Text),
    (11, Kind::Variable),
    (17, Kind::Four),
    (18, Kind::Text),
    (19, Kind::Two),
    (21, Kind::Text),
    (22, Kind::Text),
    (23, Kind::Byte),
    (24, Kind::Four),
    (25, Kind::Byte),
    (26, Kind::Text),
    (28, Kind::Text),
    (31, Kind::Text),
    (33, Kind::Two),
    (34, Kind::Two),
    (35, Kind::Two),
    (36, Kind::Byte),
    (37, Kind::Byte),
    (38, Kind::Pair),
    (39, Kind::Four),
    (40, Kind::Byte),
    (41, Kind::Byte),
    (42, Kind::Byte),
];
const OF_CONNECT: [u8; 9] = [17, 21, 22, 23, 25, 33, 34, 38, 39];
const OF_PUBLISH: [u8; 8] = [1, 2, 3, 8, 9, 11, 35, 38];
const OF_WILL: [u8; 7] = [1, 2, 3, 8, 9, 24, 38];
const OF_ACK: [u8; 2] = [31, 38];

/// A CONNECT as a client in order sends it.
pub(super) fn honest_connect(random: &mut Random, voice: &Voice) -> Vec<u8> {
    let will = random.one_in(4).then(|| (voice.says_on("hello").into_bytes(), random.pick(&[0, 1]), false));
    let keep_alive = random.pick(&[1, 60, 60, 300]);
    connect(random, voice, Asked { name: b"MQTT", level: voice.level, will, keep_alive, wild: false })
}

/// A CONNECT that asks for anything.
pub(super) fn wild_connect(random: &mut Random, voice: &Voice) -> Vec<u8> {
    let name = random.pick(&[&b"MQTT"[..], b"MQTT", b"MQTT", b"MQIsdp", b"", b"mqtt", b"MQTTX"]);
    let level = random.pick(&[voice.level, voice.level, voice.level, 3, 6, 0x84, 0xff]);
    let will =
        random.one_in(2).then(|| (topic(random, voice), random.pick(&[0, 1, 1, 2, 3]), random.one_in(4)));
    let keep_alive = random.pick(&[0, 1, 60, 65_535]);
    let mut voice = voice.clone();
    if random.one_in(3) {
        let others = ["", "+", "#", "$SYS", "a/b", "\u{e9}", "\0"].map(str::to_owned);
        let another = random.pick(&voice.others);
        voice.client_id = random.pick(&[&others[..], &[another, "x".repeat(STRING_BYTES_MAX)]].concat());
    }
    connect(random, &voice, Asked { name, level, will, keep_alive, wild: true })
}

struct Asked<'a> {
    name: &'a [u8],
    level: u8,
    /// Topic, QoS, retain.
    will: Option<(Vec<u8>, u8, bool)>,
    keep_alive: u16,
    wild: bool,
}

fn connect(random: &mut Random, voice: &Voice, asked: Asked<'_>) -> Vec<u8> {
    let mut flags = if random.one_in(4) { 0 } else { 2 };
    if let Some((_, qos, retain)) = &asked.will {
        flags |= 4 | qos << 3 | u8::from(*retain) << 5;
    }
    let login = random.one_in(8);
    if login {
        flags |= 0xc0;
    }
    if asked.wild && random.one_in(4) {
        flags = random.number() as u8;
    }
    let mut body = Vec::new();
    string(&mut body, asked.name);
    body.extend([asked.level, flags]);
    body.extend(asked.keep_alive.to_be_bytes());
    if asked.level == 5 {
        // What an honest client may ask for is not always granted: extended authentication is not.
        let own = if asked.wild { &OF_CONNECT[..] } else { &[17, 33, 34, 38, 39] };
        body.extend(properties(random, own, asked.wild));
    }
    string(&mut body, voice.client_id.as_bytes());
    if let Some((topic, ..)) = &asked.will {
        if asked.level == 5 {
            body.extend(properties(random, &OF_WILL, asked.wild));
        }
        string(&mut body, topic);
        string(&mut body, &payload(random, voice));
    }
    if login {
        string(&mut body, &text(random));
        string(&mut body, &text(random));
    }
    frame(0x10, &body)
}

/// A packet of any type; most are such as a connected client may send.
pub(super) fn packet(random: &mut Random, voice: &Voice) -> Vec<u8> {
    match random.below(40) {
        0..18 => publish(random, voice),
        18..23 => subscribe(random, voice),
        23..25 => unsubscribe(random, voice),
        25..29 => acknowledgement(random, voice, 0x40),
        29..32 => vec![0xc0, 0],
        32 => {
            let first = random.pick(&[0x50, 0x60, 0x62, 0x70]);
            acknowledgement(random, voice, first)
        }
        33 => wild_connect(random, voice),
        34 => only_a_servers(random),
        35 => disconnect(random, voice),
        36 => frame(0xf0, &[&[0x19][..], &properties(random, &[21, 22, 31, 38], true)].concat()),
        37 => frame(random.number() as u8, &random.bytes(64)),
        38 => random.bytes(64),
        // Acknowledgements of everything that may be under way, some twice.
        _ => (0..32u16).flat_map(|id| frame(0x40, &(id / 2 * 3 % 20).to_be_bytes())).collect(),
    }
}

fn publish(random: &mut Random, voice: &Voice) -> Vec<u8> {
    let qos = if random.one_in(12) { random.pick(&[2, 3]) } else { random.pick(&[0, 0, 1]) };
    let first = 0x30 | qos << 1 | u8::from(random.one_in(16)) | u8::from(random.one_in(4)) << 3;
    let mut body = Vec::new();
    string(&mut body, &topic(random, voice));
    if qos > 0 {
        body.extend(packet_id(random));
    }
    if voice.level == 5 {
        let wild = random.one_in(8);
        body.extend(properties(random, if wild { &OF_PUBLISH } else { &[1, 2, 3, 8, 9, 38] }, wild));
    }
    body.extend(payload(random, voice));
    frame(first, &body)
}

fn subscribe(random: &mut Random, voice: &Voice) -> Vec<u8> {
    let mut body = packet_id(random).to_vec();
    if voice.level == 5 {
        let wild = random.one_in(8);
        body.extend(properties(random, if wild { &[11, 38] } else { &[38] }, wild));
    }
    for _ in 0..random.pick(&[1, 1, 1, 2, 20, 0]) {
        string(&mut body, &filter(random, voice));
        // MQTT 5 §3.8.3.1: no-local, retain-as-published, retain handling; and what is reserved.
        body.push(random.pick(&[0, 1, 1, 2, 3, 0x2d, 0xff]));
    }
    frame(random.pick(&[0x82, 0x82, 0x82, 0x82, 0x82, 0x82, 0x80]), &body)
}

fn unsubscribe(random: &mut Random, voice: &Voice) -> Vec<u8> {
    let mut body = packet_id(random).to_vec();
    if voice.level == 5 {
        body.extend(properties(random, &[38], false));
    }
    for _ in 0..random.pick(&[1, 1, 2, 20, 0]) {
        string(&mut body, &filter(random, voice));
    }
    frame(0xa2, &body)
}

/// Of a few ids, so that some are right, out of order, or said twice.
fn acknowledgement(random: &mut Random, voice: &Voice, first: u8) -> Vec<u8> {
    let mut body = packet_id(random).to_vec();
    if voice.level == 5 && random.one_in(2) {
        let wild = random.one_in(4);
        body.push(random.pick(&[0, 0x10, 0x80, 0xff]));
        body.extend(properties(random, &OF_ACK, wild));
    }
    frame(first, &body)
}

/// CONNACK, SUBACK, UNSUBACK, PINGRESP.
fn only_a_servers(random: &mut Random) -> Vec<u8> {
    random
        .pick(&[
            &[0x20, 2, 0, 0][..],
            &[0x20, 3, 0, 0, 0],
            &[0x90, 3, 0, 1, 1],
            &[0x90, 4, 0, 1, 0, 1],
            &[0xb0, 2, 0, 1],
            &[0xb0, 4, 0, 1, 0, 0],
            &[0xd0, 0],
        ])
        .to_vec()
}

fn disconnect(random: &mut Random, voice: &Voice) -> Vec<u8> {
    if voice.level == 4 || random.one_in(2) {
        return vec![0xe0, 0];
    }
    let code = random.pick(&[0, 4, 0x81, 0xff]);
    frame(0xe0, &[&[code][..], &properties(random, &[17, 28, 31, 38], true)].concat())
}

fn packet_id(random: &mut Random) -> [u8; 2] {
    let small = random.below(20) as u16;
    let any = random.number() as u16;
    random.pick(&[small, small, small, any]).to_be_bytes()
}

impl Voice {
    fn says_on(&self, channel: &str) -> String {
        let channel = if self.client_id.len() == 32 { "enroll" } else { channel };
        format!("hf/1/{}/{}/{channel}", self.id, self.says)
    }
}

/// Most of them its own: one that is not ends an MQTT 3.1.1 conversation.
fn topic(random: &mut Random, voice: &Voice) -> Vec<u8> {
    let channel = random.pick(&CHANNELS);
    if !random.one_in(5) {
        return voice.says_on(channel).into_bytes();
    }
    let (own, other) = (&voice.id, random.pick(&voice.others));
    match random.below(16) {
        0 => format!("hf/1/{own}/up/{channel}"),
        1 => format!("hf/1/{own}/dn/{channel}"),
        2 | 3 => format!("hf/1/{other}/up/{channel}"),
        4 | 5 => format!("hf/1/{other}/dn/{channel}"),
        6 => format!("hf/1/{own}/up/../../{other}/up/{channel}"),
        7 => format!("hf/1/{own}/up/{channel}\0hf/1/{other}/up/{channel}"),
        8 => random
            .pick(&["", "/", "//", "$SYS/broker", "$", "\u{e9}/x", "\u{1f980}", "hf/1", "hf/1//up/hello"])
            .into(),
        9 => random
            .pick(&["#", "+", "hf/1/+/up/hello", "hf/1/+/dn/hello", "$share/ota-hello/hf/1/+/up/hello"])
            .into(),
        10 => format!("HF/1/{}/UP/{channel}", own.to_uppercase()),
        11 => format!("hf/1/{own}/up/{channel}/"),
        12 => "a/".repeat(random.below(STRING_BYTES_MAX / 2)),
        13 => "x".repeat(random.below(STRING_BYTES_MAX)),
        14 => return random.bytes(40),
        _ => return [format!("hf/1/{own}/up/").as_bytes(), &[0xff, 0xc0, 0x80]].concat(),
    }
    .into_bytes()
}

/// Half of them its own.
fn filter(random: &mut Random, voice: &Voice) -> Vec<u8> {
    let (own, other) = (voice.id.clone(), random.pick(&voice.others));
    let channel = random.pick(&CHANNELS);
    let hears = if voice.says == "up" { "dn" } else { "up" };
    if random.one_in(2) {
        let own = if voice.says == "up" { own } else { "+".into() };
        let end = if random.one_in(2) { "#" } else { channel };
        return format!("hf/1/{own}/{hears}/{end}").into_bytes();
    }
    match random.below(12) {
        0 => format!("hf/1/{other}/{hears}/#"),
        1 => format!("hf/1/+/{hears}/{channel}"),
        2 => format!("hf/1/{other}/{hears}/{channel}"),
        3 => format!("$share/g/hf/1/{other}/{hears}/{channel}"),
        4 => format!("$share/ota-{channel}/hf/1/+/up/{channel}"),
        5 => format!("$queue/hf/1/{other}/{hears}/{channel}"),
        6 => format!("$share/{}/hf/1/{own}/dn/{channel}", "g".repeat(random.below(300))),
        7 => random
            .pick(&["#", "+/#", "+/+/+/+/+", "$SYS/#", "$share/", "$share//#", "a/#/b", "a+", "\0"])
            .into(),
        8 => "+/".repeat(random.below(STRING_BYTES_MAX / 2)) + "#",
        9 => "hf/1/\u{e9}/dn/#".into(),
        10 => format!("hf/1/{own}/+/{channel}"),
        _ => return topic(random, voice),
    }
    .into_bytes()
}

fn payload(random: &mut Random, voice: &Voice) -> Vec<u8> {
    let bytes = if random.one_in(40) { PAYLOAD_BYTES_BIG } else { PAYLOAD_BYTES };
    [voice.mark.as_bytes(), &random.bytes(bytes)].concat()
}

/// Properties with their length; `wild` ones may be of another packet, twice, ill-typed, unknown or cut.
fn properties(random: &mut Random, own: &[u8], wild: bool) -> Vec<u8> {
    let mut body = Vec::new();
    let mut left = own.to_vec();
    for _ in 0..random.pick(&[0, 0, 0, 1, 2, 3]) {
        if left.is_empty() {
            break;
        }
        let id = left.swap_remove(random.below(left.len()));
        property(random, &mut body, id, wild);
    }
    if wild {
        match random.below(8) {
            0 => body.extend(body.clone()),
            1 => {
                let (id, _) = random.pick(&PROPERTIES);
                property(random, &mut body, id, true);
            }
            2 => body.push(random.number() as u8),
            3 => (0..random.below(2_000)).for_each(|_| body.extend([38, 0, 0, 0, 0])),
            4 => body.truncate(random.below(body.len() + 1)),
            _ => {}
        }
    }
    let mut length = variable(body.len());
    if wild && random.one_in(8) {
        length = variable(random.pick(&[0, 1, body.len() + 1, 127, 128, 268_435_455]));
    }
    [length, body].concat()
}

fn property(random: &mut Random, body: &mut Vec<u8>, id: u8, wild: bool) {
    let known = PROPERTIES.iter().find(|(known, _)| *known == id).map_or(Kind::Byte, |(_, kind)| *kind);
    let kind = if wild && random.one_in(8) { random.pick(&PROPERTIES).1 } else { known };
    body.push(id);
    match kind {
        Kind::Byte => body.push(random.pick(&[0, 1, 1, 2, 0xff])),
        Kind::Two => body.extend(random.pick(&[0u16, 1, 2, 16, 65_535]).to_be_bytes()),
        Kind::Four => body.extend(random.pick(&[0u32, 1, 30, 4_096, u32::MAX]).to_be_bytes()),
        Kind::Variable => body.extend(variable(random.pick(&[0, 1, 127, 128, 268_435_455]))),
        Kind::Text => string(body, &text(random)),
        Kind::Pair => {
            string(body, &text(random));
            string(body, &text(random));
        }
    }
}

fn text(random: &mut Random) -> Vec<u8> {
    let huge = "t".repeat(random.below(8_000));
    match random.below(16) {
        0 => huge.into_bytes(),
        1 => random.bytes(16),
        2 => Vec::new(),
        3 => "\u{e9}\0\u{feff}".into(),
        _ => b"text".to_vec(),
    }
}

/// MQTT 5 §1.5.5.
fn variable(mut value: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let more = value >= 0x80;
        bytes.push(value as u8 & 0x7f | u8::from(more) << 7);
        value >>= 7;
        if !more {
            return bytes;
        }
    }
}

/// The packet with some bytes changed, missing or added, or with another length.
pub(super) fn damaged(random: &mut Random, mut bytes: Vec<u8>) -> Vec<u8> {
    for _ in 0..1 + random.below(3) {
        match (random.below(6), bytes.len()) {
            (_, 0) => bytes = random.bytes(8),
            (0, length) => bytes.truncate(random.below(length)),
            (1, length) => bytes.insert(random.below(length), random.number() as u8),
            (2, 2..) => bytes = relabelled(random, &bytes),
            (_, length) => {
                // Near the front is where lengths and flags are.
                let near = length.min(random.pick(&[4, 16, usize::MAX]));
                bytes[random.below(near)] = random.number() as u8;
            }
        }
    }
    bytes
}

/// The same body under another remaining length.
fn relabelled(random: &mut Random, bytes: &[u8]) -> Vec<u8> {
    let header = 2 + bytes[1..].iter().take(3).take_while(|byte| **byte & 0x80 != 0).count();
    let body = bytes.get(header..).unwrap_or_default();
    let length = match random.below(5) {
        0 => variable(body.len() + 1),
        1 => variable(body.len().saturating_sub(1)),
        2 => variable(random.pick(&[0, 32_768, 268_435_455])),
        // The same number in more bytes than it needs.
        3 => vec![body.len() as u8 | 0x80, (body.len() >> 7) as u8 | 0x80, (body.len() >> 14) as u8 & 0x7f],
        _ => vec![0xff; 5],
    };
    [&bytes[..1], &length, body].concat()
}
