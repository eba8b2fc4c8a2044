//! The same packets to svc-broker and to mosquitto under the generated rules: one verdict, or a difference with a reason.
//!
//! Always holds, difference or not: svc-broker lets no message through that mosquitto stops; no subscription hears what
//! its subject may not hear; nobody publishes as somebody else. The list of differences is closed: one that is not in
//! [`DIFFERENCES`] fails, and so does one that no packet meets any more. docs/brokers.md has the same list.

mod listeners;
mod packets;
mod probes;
mod side;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use listeners::{DEVICE, IMPOSTOR, Listeners};
use packets::{Case, Names, Packet, Random, Subject};
use side::{Broker, Cast, Said, Seen, Side};
use tokio::task::JoinSet;
use wire::Service;
use wire::rule::{Action, verdict};

use super::mosquitto::Mosquitto;
use scenarios::broker::rig::{Rig, device_id};

const PACKETS: u32 = 5_000;
const SEED: u64 = 0x686f_6c64_6661_7374;

/// Subject, MQTT level, and packets of every hundred.
const LANES: [(Subject, u8, u32); 10] = [
    (Subject::Device, 4, 17),
    (Subject::Device, 4, 17),
    (Subject::Device, 5, 17),
    (Subject::Device, 5, 17),
    (Subject::Claimant, 4, 8),
    (Subject::Claimant, 5, 8),
    (Subject::Service(Service::Registry), 5, 4),
    (Subject::Service(Service::Ota), 4, 4),
    (Subject::Service(Service::Logs), 5, 4),
    (Subject::Service(Service::Relay), 5, 4),
];

/// Devices of the rig: two for all lanes, and four for each.
const LISTENING: u32 = 1;
const LAST: u32 = 2;
const STRANGER: u32 = 3;

struct Difference {
    name: &'static str,
    reason: &'static str,
    is: fn(&Case, &Seen, &Seen) -> bool,
}

/// Why svc-broker (first) and mosquitto (second) may differ.
const DIFFERENCES: &[Difference] = &[
    Difference {
        name: "publish without a right, MQTT 3.1.1",
        reason: "svc-broker closes: PUBACK has no word for no. mosquitto acknowledges, and drops",
        is: |case, ours, theirs| {
            matches!(case.packet, Packet::Publish { .. })
                && case.level == 4
                && !is_right(case)
                && (ours.said, theirs.said) == (Said::Closed, Said::Accepted)
                && theirs.reached.is_empty()
        },
    },
    Difference {
        name: "publish on a topic of 200 levels or more, MQTT 5",
        reason: "svc-broker refuses the message. mosquitto has a limit, and closes",
        is: |case, ours, theirs| {
            matches!(&case.packet, Packet::Publish { topic, .. } if !is_name(topic))
                && case.level == 5
                && ours.said < Said::Closed
                && theirs.said == Said::Closed
        },
    },
    Difference {
        name: "publish to an id that is none, by a service",
        reason: "a pattern knows levels, not ids: nobody hears it",
        is: |case, ours, theirs| {
            case.subject.is_service()
                && matches!(case.packet, Packet::Publish { qos: 1, .. })
                && (ours.said, theirs.said) == (Said::Refused, Said::Accepted)
                && theirs.reached.is_empty()
        },
    },
    Difference {
        name: "`debug/` of a relay that is none",
        reason: "a pattern knows levels, not ids: the other end hears a topic that does not parse, and drops it",
        is: |case, ours, theirs| {
            case.packet.topic().is_some_and(|topic| lossy(topic).contains("/debug/"))
                && !is_right(case)
                && ours.reached.is_empty()
                && theirs.reached.iter().eq([if case.subject.is_service() { &DEVICE } else { &"relay" }])
        },
    },
    Difference {
        name: "subscription without a right",
        reason: "mosquitto grants every filter and rules on each message it delivers",
        is: |case, ours, theirs| {
            matches!(case.packet, Packet::Subscribe { .. })
                && !is_right(case)
                && (ours.said, theirs.said) == (Said::Refused, Said::Accepted)
        },
    },
    Difference {
        name: "subscription to a text that is no filter",
        reason: "svc-broker refuses the filter. mosquitto closes",
        is: |case, ours, theirs| {
            matches!(&case.packet, Packet::Subscribe { filter, .. } if !is_filter(filter))
                && (ours.said, theirs.said) == (Said::Refused, Said::Closed)
        },
    },
    Difference {
        name: "client id that is not the certificate's",
        reason: "mosquitto puts the device's name in its place; enrolments and services may have any",
        is: |case, ours, theirs| {
            matches!(&case.packet, Packet::Connect { client_id, .. } if !is_client_id(case.subject, client_id))
                && (ours.said, theirs.said) == (Said::Refused, Said::Accepted)
        },
    },
    Difference {
        name: "client id that is no text",
        reason: "svc-broker refuses a name with NUL or control characters. mosquitto closes before CONNACK",
        is: |case, ours, theirs| {
            matches!(&case.packet, Packet::Connect { client_id, .. } if !is_text(client_id))
                && (ours.said, theirs.said) == (Said::Refused, Said::Closed)
        },
    },
    Difference {
        name: "will without a right",
        reason: "mosquitto takes it and drops it when it is due",
        is: |case, ours, theirs| {
            matches!(&case.packet, Packet::Connect { will: Some(_), .. })
                && !is_right(case)
                && (ours.said, theirs.said) == (Said::Refused, Said::Accepted)
                && theirs.reached.is_empty()
        },
    },
    Difference {
        name: "will of a service",
        reason: "svc-broker has none for services. mosquitto publishes it where the service may write",
        is: |case, ours, theirs| {
            case.subject.is_service()
                && matches!(&case.packet, Packet::Connect { will: Some(_), .. })
                && (ours.said, theirs.said) == (Said::Refused, Said::Accepted)
                && !theirs.reached.is_empty()
        },
    },
    Difference {
        name: "will with QoS 2, retained, or on a text that is no topic name",
        reason: "svc-broker says no in CONNACK. mosquitto closes without one",
        is: |case, ours, theirs| {
            matches!(&case.packet, Packet::Connect { will: Some(will), .. }
                if will.qos == 2 || will.retain || !is_name(&will.topic))
                && (ours.said, theirs.said) == (Said::Refused, Said::Closed)
        },
    },
    Difference {
        name: "client id that is no UTF-8, with a will of QoS 2 or retained, MQTT 5",
        reason: "svc-broker closes at the text. mosquitto looks at the will first, and says no in CONNACK",
        is: |case, ours, theirs| {
            matches!(&case.packet, Packet::Connect { client_id, will: Some(will) }
                if std::str::from_utf8(client_id).is_err() && (will.qos == 2 || will.retain))
                && case.level == 5
                && (ours.said, theirs.said) == (Said::Closed, Said::Refused)
        },
    },
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn svc_broker_and_mosquitto_agree_or_differ_for_a_known_reason() {
    let rig = Arc::new(Rig::start().await);
    let mosquitto = Mosquitto::start(&rig).await;
    let broker = |device: &String, enroll: &String, service: &String| Broker {
        rig: rig.clone(),
        device: device.clone(),
        enroll: enroll.clone(),
        service: service.clone(),
    };
    let ours = broker(&rig.device, &rig.enroll, &rig.service);
    let theirs = broker(&mosquitto.device, &mosquitto.enroll, &mosquitto.service);
    let audience = Audience { listening: rig.device(LISTENING), last: rig.device(LAST) };
    let lanes: Vec<Arc<Lane>> =
        (0..).zip(LANES).map(|(at, lane)| Arc::new(Lane::new(&rig, at, lane))).collect();
    let cases: Vec<&Case> = lanes.iter().flat_map(|lane| &lane.cases).collect();
    assert_eq!(cases.len(), PACKETS as usize);
    let (ours, theirs) = tokio::join!(run(ours, &lanes, &audience), run(theirs, &lanes, &audience));
    report(&cases, &ours, &theirs);
}

/// The device that listens to all lanes, and the one that speaks behind them.
struct Audience {
    listening: scenarios::broker::pki::Identity,
    last: scenarios::broker::pki::Identity,
}

/// One subject and its packets.
struct Lane {
    subject: Subject,
    level: u8,
    names: Names,
    cast: Cast,
    cases: Vec<Case>,
}

impl Lane {
    fn new(rig: &Rig, at: u32, (subject, level, share): (Subject, u8, u32)) -> Lane {
        let number = 10 + at * 4;
        let claimant = |n: u32| format!("{n:032x}");
        let (own, connecting) = match subject {
            Subject::Device => (rig.device(number), rig.device(number + 1)),
            Subject::Claimant => (rig.claim(number), rig.claim(number + 1)),
            Subject::Service(service) => {
                let identity = rig.service_ca.client(service.common_name());
                (identity.clone(), identity)
            }
        };
        let names = Names {
            own: if subject == Subject::Claimant { claimant(number) } else { own.name.clone() },
            connecting: if subject == Subject::Claimant {
                claimant(number + 1)
            } else {
                connecting.name.clone()
            },
            other: device_id(LISTENING),
            stranger: device_id(STRANGER),
            relay: claimant(0xee),
            lane: at,
        };
        let cast = Cast {
            own,
            connecting,
            device: rig.device(number + 2),
            claim: rig.claim(number + 3),
            claimant: claimant(number + 3),
        };
        let mut random = Random(SEED ^ u64::from(at) << 32);
        let case = |index| {
            let packet = packets::packet(&mut random, subject, &names);
            let connects = matches!(packet, Packet::Connect { .. });
            let identity = subject.identity(if connects { &names.connecting } else { &names.own });
            Case { number: at * PACKETS + index, subject, identity, level, packet }
        };
        let cases = (0..PACKETS * share / 100).map(case).collect();
        Lane { subject, level, names, cast, cases }
    }
}

/// All lanes at one broker, at the same time; the verdict on each case by its number.
async fn run(broker: Broker, lanes: &[Arc<Lane>], audience: &Audience) -> BTreeMap<u32, Seen> {
    let listeners = Listeners::start(&broker, &audience.listening).await;
    let mut running = JoinSet::new();
    for lane in lanes.iter().cloned() {
        let broker = broker.clone();
        running.spawn(async move {
            let mut side = Side::start(broker, lane.clone()).await;
            let mut seen = Vec::new();
            for case in &lane.cases {
                seen.push((case.number, side.see(case).await));
            }
            seen
        });
    }
    let mut seen: BTreeMap<u32, Seen> = running.join_all().await.into_iter().flatten().collect();
    let relay = &lanes[0].names.relay;
    for (number, names) in listeners.heard(&broker, &audience.last, &audience.listening.name, relay).await {
        seen.get_mut(&number).unwrap().reached.extend(names);
    }
    seen
}

fn report(cases: &[&Case], ours: &BTreeMap<u32, Seen>, theirs: &BTreeMap<u32, Seen>) {
    let mut met = vec![0u32; DIFFERENCES.len()];
    let mut unlisted = Vec::new();
    let mut reached: BTreeSet<&str> = BTreeSet::new();
    let mut through = 0;
    for case in cases {
        let (ours, theirs) = (&ours[&case.number], &theirs[&case.number]);
        assert!(
            ours.reached.is_subset(&theirs.reached),
            "only svc-broker lets it through: {case:?} {ours:?} {theirs:?}"
        );
        assert!(!theirs.reached.contains(IMPOSTOR), "{case:?} {theirs:?}");
        assert!(ours.reached.is_empty() || is_right(case), "without a right: {case:?} {ours:?}");
        reached.extend(&ours.reached);
        through += usize::from(!ours.reached.is_empty());
        if ours == theirs {
            continue;
        }
        match DIFFERENCES.iter().position(|known| (known.is)(case, ours, theirs)) {
            Some(at) => met[at] += 1,
            None => unlisted.push(format!("{case:?}\n    svc-broker {ours:?}\n    mosquitto  {theirs:?}")),
        }
    }
    for (known, times) in DIFFERENCES.iter().zip(&met) {
        eprintln!("{times:5} {}", known.name);
    }
    eprintln!("{through:5} of {} let through by both", cases.len());
    for name in Service::ALL.map(Service::name).into_iter().chain([DEVICE, "own hello", "up hello"]) {
        assert!(reached.contains(name), "no packet reaches `{name}`: {reached:?}");
    }
    let sample = unlisted.iter().take(20).cloned().collect::<Vec<_>>().join("\n");
    assert!(unlisted.is_empty(), "{} differences without a reason:\n{sample}", unlisted.len());
    for (known, times) in DIFFERENCES.iter().zip(&met) {
        assert!(*times > 0, "no packet meets `{}` any more", known.name);
    }
}

#[test]
fn the_page_on_brokers_has_the_same_differences() {
    let page = std::fs::read_to_string(dev::root().join("docs/brokers.md")).unwrap();
    for known in DIFFERENCES {
        let row = format!("| {} | {} |", known.name, known.reason);
        assert!(page.lines().any(|line| line == row), "docs/brokers.md lacks: {row}");
    }
}

/// What `wire::rule` says of the topic that got through.
fn is_right(case: &Case) -> bool {
    let (action, text) = match &case.packet {
        Packet::Connect { will: Some(will), .. } => (Action::Will, &will.topic),
        Packet::Connect { .. } => return false,
        Packet::Publish { topic, .. } => (Action::Publish, topic),
        Packet::Subscribe { filter, .. } => (Action::Subscribe, filter),
    };
    verdict(case.identity, action, &lossy(text)).allowed()
}

fn is_client_id(subject: Subject, id: &[u8]) -> bool {
    let text = lossy(id);
    match subject {
        Subject::Device => {
            text.parse::<wire::DeviceId>().is_ok_and(|id| id != device_id(STRANGER).parse().unwrap())
        }
        Subject::Claimant => text.parse::<wire::ClientNonce>().is_ok(),
        Subject::Service(_) => {
            (1..=64).contains(&text.len())
                && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
        }
    }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// MQTT 5 §1.5.4: what a UTF-8 string may hold, as mosquitto reads it.
fn is_text(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_ok_and(|text| !text.chars().any(char::is_control))
}

/// MQTT 5 §4.7: a name is not empty and has no wildcards; mosquitto has a limit of 200 levels.
fn is_name(topic: &[u8]) -> bool {
    is_text(topic)
        && !topic.is_empty()
        && !topic.iter().any(|byte| b"+#".contains(byte))
        && topic.iter().filter(|byte| **byte == b'/').count() < 200
}

/// MQTT 5 §4.7.1: a wildcard is a whole level, and `#` the last.
fn is_filter(filter: &[u8]) -> bool {
    let levels: Vec<&[u8]> = filter.split(|byte| *byte == b'/').collect();
    let (last, others) = levels.split_last().unwrap();
    let wild = |level: &[u8]| level.len() > 1 && level.iter().any(|byte| b"+#".contains(byte));
    is_text(filter)
        && !filter.is_empty()
        && levels.len() <= 200
        && !wild(last)
        && !others.iter().any(|level| wild(level) || level == b"#")
        // MQTT 5 §4.8.2.
        && (levels[0] != b"$share" || levels.len() > 2)
}
