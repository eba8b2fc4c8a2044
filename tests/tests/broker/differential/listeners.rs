//! Who listens at a broker while the packets go through: every service on all its channels, and one device.

use std::collections::{BTreeMap, BTreeSet};

use tokio::task::JoinHandle;
use wire::Service;
use wire::rule::TABLE;

use super::packets::Subject;
use super::side::{Broker, bulk, message};
use scenarios::broker::client::{Client, read_packet};
use scenarios::broker::pki::Identity;
use scenarios::broker::rig::soon;

/// Running; each task gives its name in `Seen::reached` and the cases it heard of.
pub(crate) struct Listeners {
    tasks: Vec<JoinHandle<(&'static str, Vec<u32>)>>,
}

/// Names in `Seen::reached`.
pub(crate) const DEVICE: &str = "device";
/// A message that was published as somebody else arrived.
pub(crate) const IMPOSTOR: &str = "impostor";

impl Listeners {
    pub(crate) async fn start(broker: &Broker, device: &Identity) -> Listeners {
        let mut tasks = Vec::new();
        for service in Service::ALL {
            // mosquitto has one room for all client ids: each its own.
            let mut client = broker.join_service(service, &format!("listener-{service}")).await;
            for row in TABLE.iter().filter(|row| row.up.contains(&service)) {
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
