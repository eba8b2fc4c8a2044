//! Messages that try what a subscription hears, and who publishes them.

use wire::Service;
use wire::rule::TABLE;

use super::Lane;
use super::packets::{Names, Subject};
use super::side::{Broker, Cast, bulk};
use scenarios::broker::client::Client;

/// A message that tries whether a subscription hears it.
pub(crate) struct Probe {
    pub(crate) name: &'static str,
    by: usize,
    pub(crate) topic: String,
    /// The subject may hear it.
    pub(crate) rightful: bool,
}

/// Publishers of probes, and the probes for one subject.
pub(crate) struct Probers {
    clients: Vec<Client>,
    pub(crate) probes: Vec<Probe>,
    /// Publisher and topic.
    pub(crate) marker: (usize, String),
}

const BY_DEVICE: usize = 4;
const BY_CLAIMANT: usize = 5;

impl Probers {
    pub(crate) async fn start(broker: &Broker, lane: &Lane) -> Probers {
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
    pub(crate) async fn round(&mut self, round: u32) {
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
                TABLE.iter().any(|row| row.channel.name() == channel && row.up.contains(&service))
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
