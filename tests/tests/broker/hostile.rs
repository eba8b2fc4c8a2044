//! Bytes nobody should send, from clients whose certificates are good: the broker lives, and says so.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::client::{self, Connect, frame, publish};
use super::rig::{Rig, device_id, soon};

const SEED: u64 = 0x5eed_0001;
const CONNECTIONS: usize = 400;

/// SplitMix64: the same bytes in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    fn bytes(&mut self, max: usize) -> Vec<u8> {
        let length = self.below(max + 1);
        (0..length).map(|_| self.next() as u8).collect()
    }

    fn damage(&mut self, mut bytes: Vec<u8>) -> Vec<u8> {
        for _ in 0..1 + self.below(4) {
            match (self.below(4), bytes.len()) {
                (_, 0) => bytes = self.bytes(8),
                (0, length) => bytes.truncate(self.below(length)),
                (1, length) => bytes.insert(self.below(length), self.next() as u8),
                (_, length) => bytes[self.below(length)] = self.next() as u8,
            }
        }
        bytes
    }
}

/// A packet that is right or nearly so, of any type and version.
fn packet(random: &mut Random, name: &str) -> Vec<u8> {
    let level = if random.below(2) == 0 { 4 } else { 5 };
    let topics = [
        format!("hf/1/{name}/up/hello"),
        format!("hf/1/{}/up/hello", device_id(99)),
        "é/x".into(),
        "$SYS/#".into(),
        String::from_utf8_lossy(&random.bytes(20)).into_owned(),
    ];
    let topic = topics[random.below(topics.len())].clone();
    let payload = random.bytes(300);
    let filter = [
        &[0, 1][..],
        &if level == 5 { vec![0] } else { vec![] },
        &[0, topic.len() as u8],
        topic.as_bytes(),
        &[1],
    ];
    match random.below(9) {
        0 => Connect { level, ..Connect::v5(name) }.bytes(),
        1 => publish(level, 0x30, topic.as_bytes(), None, &payload),
        2 => publish(level, 0x32, topic.as_bytes(), Some(random.next() as u16), &payload),
        3 => frame(0x82, &filter.concat()),
        4 => frame(0xa2, &filter[..4].concat()),
        5 => frame(0x40, &random.bytes(8)),
        6 => frame(random.next() as u8, &random.bytes(64)),
        7 => random.bytes(64),
        _ => vec![0xc0, 0],
    }
}

#[tokio::test]
async fn no_bytes_of_a_certified_client_panic_the_broker_or_end_another() {
    let rig = Rig::start().await;
    let mut random = Random(SEED);
    let innocent = rig.device(1000);
    let mut innocent_client = rig.connected(&innocent).await;
    let _ota = rig.service("svc-ota", "one", &["hf/1/+/up/hello"]).await;
    for round in 0..CONNECTIONS {
        let device = rig.device(round as u32 % 7);
        let Ok(mut stream) = client::tls(&rig.device, &rig.server_ca, Some(&device)).await else { continue };
        let mut bytes = Connect { level: 4 + (round as u8 % 2), ..Connect::v5(&device.name) }.bytes();
        if random.below(3) == 0 {
            bytes = random.damage(bytes);
        }
        for _ in 0..random.below(12) {
            let packet = packet(&mut random, &device.name);
            bytes.extend(if random.below(3) == 0 { random.damage(packet) } else { packet });
        }
        // The broker may close at any byte.
        let _ = stream.write_all(&bytes).await;
        if random.below(2) == 0 {
            let mut answer = [0; 256];
            let _ = tokio::time::timeout(Duration::from_millis(20), stream.read(&mut answer)).await;
        }
    }
    assert!(innocent_client.ping().await.is_empty());
    assert_eq!(rig.metric("holdfast_broker_panics_total", "").await, 0.0, "seed {SEED:#x}");
    assert!(rig.metric("holdfast_broker_connects_total", "\"ok\"").await > CONNECTIONS as f64 / 4.0);
}

#[tokio::test]
async fn what_is_not_tls_ends_at_once_and_a_huge_connect_before_it_is_read() {
    let rig = Rig::start().await;
    for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"\x10\x0e\x00\x04MQTT\x04\x02\x00\x3c\x00\x02dv", &[0; 64]]
    {
        let mut socket = tokio::net::TcpStream::connect(&rig.device).await.unwrap();
        socket.write_all(bytes).await.unwrap();
        let mut rest = Vec::new();
        let _ = soon(socket.read_to_end(&mut rest)).await;
    }
    let device = rig.device(1);
    let mut stream = client::tls(&rig.device, &rig.server_ca, Some(&device)).await.unwrap();
    stream.write_all(&[0x10, 0xff, 0xff, 0xff, 0x7f]).await.unwrap();
    assert_eq!(client::read_packet(&mut stream).await, None);
    assert!(rig.metric("holdfast_broker_connects_total", "packet_too_large").await >= 1.0);
}
