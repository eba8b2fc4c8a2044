//! Memory before and after authentication, and packets that should never arrive.

use scenarios::bench::usage;
use scenarios::broker::client::{self, Connect, Stream, frame, publish};
use scenarios::broker::pki::Identity as Certificate;
use scenarios::broker::rig::{Rig, device_id, soon};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{BOTH_VERSIONS, hello};

/// A broker in use grows by less; each storm here sends many times that.
const GROWTH_MIB_MAX: f64 = 16.0;

fn resident_mib(rig: &Rig) -> f64 {
    usage::resident_mib(rig.broker.pid()).unwrap()
}

/// TLS connections that have said these bytes, all at once.
async fn many(rig: &Rig, device: &Certificate, count: usize, bytes: &[u8]) -> Vec<Stream> {
    let mut streams = Vec::new();
    for _ in 0..count {
        let mut stream = client::tls(&rig.device, &rig.server_ca, Some(device)).await.unwrap();
        // The broker may close at any byte.
        let _ = stream.write_all(bytes).await;
        streams.push(stream);
    }
    streams
}

/// mosquitto: a CONNECT that announces much takes as much memory, before anybody is asked who it is.
#[tokio::test]
async fn cve_2017_7651_a_length_that_is_announced_takes_no_memory() {
    let rig = Rig::start().await;
    // Nor is it read: what is no TLS ends at once.
    for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"\x10\x0e\x00\x04MQTT\x04\x02\x00\x3c\x00\x02dv", &[0; 64]]
    {
        let mut socket = TcpStream::connect(&rig.device).await.unwrap();
        socket.write_all(bytes).await.unwrap();
        let mut rest = Vec::new();
        let _ = soon(socket.read_to_end(&mut rest)).await;
    }
    let device = rig.device(1);
    let before = resident_mib(&rig);
    // 256 MiB each; and the most that a CONNECT may have, held just before its end.
    let huge = many(&rig, &device, 64, &[0x10, 0xff, 0xff, 0xff, 0x7f]).await;
    let almost = frame(0x10, &[0; 8 * 1024 - 3]);
    let held = many(&rig, &device, 64, &almost[..almost.len() - 1]).await;
    for mut stream in huge {
        assert_eq!(soon(client::read_packet(&mut stream)).await, None);
    }
    assert!(resident_mib(&rig) < before + GROWTH_MIB_MAX, "{before} to {} MiB", resident_mib(&rig));
    assert_eq!(rig.metric("holdfast_broker_connects_total", "packet_too_large").await, 64.0);
    drop(held);
    // The same of one that is known.
    for _ in 0..16 {
        let mut known = rig.connected(&device).await;
        known.send(&[0x30, 0xff, 0xff, 0xff, 0x7f]).await;
        assert_eq!(known.closed().await, Some(0x95));
    }
    assert!(resident_mib(&rig) < before + GROWTH_MIB_MAX, "{before} to {} MiB", resident_mib(&rig));
}

/// mosquitto: a first packet that is no CONNECT is read whole, however large.
#[tokio::test]
async fn cve_2023_0809_a_first_packet_that_is_no_connect_ends_the_connection() {
    let rig = Rig::start().await;
    let device = rig.device(1);
    let before = resident_mib(&rig);
    for first in (0..=0xff).step_by(8).filter(|first| *first != 0x10) {
        for body in [&[][..], &[0, 1, 0], &[7; 8_000]] {
            for mut stream in many(&rig, &device, 1, &frame(first, body)).await {
                assert_eq!(soon(client::read_packet(&mut stream)).await, None, "{first:x}");
            }
        }
    }
    assert!(resident_mib(&rig) < before + GROWTH_MIB_MAX, "{before} to {} MiB", resident_mib(&rig));
    assert!(rig.list().await.is_empty());
    assert_eq!(rig.metric("holdfast_broker_panics_total", "").await, 0.0);
}

/// mosquitto: QoS 2 messages that are never released are kept; one id sent again and again leaks.
#[tokio::test]
async fn cve_2023_28366_qos_2_is_refused_and_holds_nothing() {
    let rig = Rig::start().await;
    let mut logs = rig.service("svc-logs", "one", &["hf/1/+/up/log"]).await;
    let device = rig.device(1);
    let topic = format!("hf/1/{}/up/log", device.name);
    let before = resident_mib(&rig);
    let storm: Vec<u8> =
        (1..=8).flat_map(|id| publish(5, 0x34, topic.as_bytes(), Some(id), &[7; 30_000])).collect();
    for _ in 0..200 {
        let mut client = rig.connect(&device, Connect::v5(&device.name)).await.unwrap();
        let _ = client.stream.write_all(&storm).await;
        // What is not read any more may reset the connection before the reason is read.
        assert!(matches!(client.closed().await, Some(0x9b) | None));
    }
    assert!(resident_mib(&rig) < before + GROWTH_MIB_MAX, "{before} to {} MiB", resident_mib(&rig));
    assert!(logs.settled().await.is_empty());
    assert_eq!(rig.metric("holdfast_broker_closed_total", "qos2").await, 200.0);
}

/// mosquitto: a CONNECT with a bad will property leaks.
#[tokio::test]
async fn cve_2023_3592_a_bad_will_property_is_refused_and_holds_nothing() {
    let rig = Rig::start().await;
    let device = rig.device(1);
    let big = [&[0x26, 0x0f, 0xa0][..], &[b'k'; 4_000], &[0, 0]].concat();
    let bad: [&[u8]; 6] = [
        // Of another packet; unknown; longer than it says; cut; a length without end.
        &[3, 0x23, 0, 1],
        &[2, 0x7f, 0],
        &[100, 0x26, 0, 1, b'k'],
        &[5, 0x18, 0, 0],
        &[0xff, 0xff, 0xff, 0xff, 0xff],
        &[&[0xa6, 0x1f][..], &big, &[0x7f]].concat(),
    ];
    let before = resident_mib(&rig);
    for round in 0..50 {
        for will_properties in bad {
            let connect = Connect {
                will_properties: will_properties.to_vec(),
                ..Connect::v5(&device.name).will(&hello(&device.name), &"w".repeat(2_000))
            };
            assert_eq!(
                rig.connect(&device, connect).await.err(),
                Some(0xff),
                "{round}: {will_properties:x?}"
            );
        }
    }
    assert!(resident_mib(&rig) < before + GROWTH_MIB_MAX, "{before} to {} MiB", resident_mib(&rig));
    assert!(rig.list().await.is_empty());
}

/// VerneMQ: every level of a topic takes memory.
#[tokio::test]
async fn cve_2021_33176_topics_of_any_depth_are_denied_and_hold_nothing() {
    let rig = Rig::start().await;
    let device = rig.device(1);
    let before = resident_mib(&rig);
    for version in BOTH_VERSIONS {
        for deep in [
            "a/".repeat(15_000),
            "/".repeat(30_000),
            "+/".repeat(15_000),
            format!("{}/x", hello(&device.name)),
        ] {
            for _ in 0..8 {
                let mut client = rig.connect(&device, version(&device.name)).await.unwrap();
                let codes = client.subscribe(&[(&deep, 1)]).await;
                assert!(codes[0] >= 0x80, "{codes:?}");
                client.unsubscribe(&deep).await;
                client.send(&publish(client.level, 0x32, deep.as_bytes(), Some(9), b"")).await;
                let answer = client.read().await;
                // MQTT 3.1.1 is closed without a word; a wildcard is in no topic's name.
                let malformed = deep.contains('+');
                assert!(
                    answer.is_none_or(|ack| ack.body == if malformed { &[0x81][..] } else { &[0, 9, 0x87] })
                );
            }
            let connect = version(&device.name).will(&deep, "x");
            assert!(rig.connect(&device, connect).await.is_err());
        }
    }
    assert!(resident_mib(&rig) < before + GROWTH_MIB_MAX, "{before} to {} MiB", resident_mib(&rig));
}

/// mosquitto: a CONNACK from a client crashes it.
#[tokio::test]
async fn cve_2021_28166_a_packet_only_a_server_sends_ends_its_sender_alone() {
    let rig = Rig::start().await;
    let (device, other) = (rig.device(1), rig.device(2));
    let mut innocent = rig.connected(&other).await;
    for version in BOTH_VERSIONS {
        for bytes in [
            &[0x20, 2, 0, 0][..],
            &[0x20, 3, 0, 0, 0],
            &[0x90, 3, 0, 1, 1],
            &[0xb0, 2, 0, 1],
            &[0xb0, 4, 0, 1, 0, 0],
            &[0xd0, 0],
            // Of QoS 2 and of extended authentication, which were not agreed on.
            &[0x50, 2, 0, 1],
            &[0x62, 2, 0, 1],
            &[0x70, 2, 0, 1],
            &[0xf0, 0],
            &[0x00, 0],
            &version(&device.name).bytes(),
        ] {
            let mut client = rig.connect(&device, version(&device.name)).await.unwrap();
            client.send(bytes).await;
            let reason = client.closed().await;
            assert_eq!(reason, (client.level == 5).then_some(0x82), "{bytes:x?}");
        }
    }
    assert!(innocent.ping().await.is_empty());
    assert_eq!(rig.metric("holdfast_broker_panics_total", "").await, 0.0);
}

/// mosquitto: a topic that begins with `$` and is no `$SYS` ends the process.
#[tokio::test]
async fn cve_2018_12543_a_topic_that_begins_with_a_dollar_is_denied_and_ends_nothing() {
    let rig = Rig::start().await;
    let device = rig.device(1);
    let mut client = rig.connected(&device).await;
    for topic in
        ["$", "$SYS", "$SYS/#", "$x/y", "$share", "$share/", "$share//", "$share/g", "$share/+/#", "$queue/"]
    {
        // A wildcard is in no topic's name: that would end the connection.
        if !topic.contains(['+', '#']) {
            assert_eq!(client.publish1(topic, "x").await, 0x87, "{topic}");
        }
        assert_eq!(client.subscribe(&[(topic, 1)]).await, [0x87], "{topic}");
        assert_eq!(client.unsubscribe(topic).await, [0x11], "{topic}");
        let will = Connect::v5(&device_id(2)).will(topic, "x");
        let other = rig.device(2);
        assert_eq!(rig.connect(&other, will).await.err(), Some(0x87), "{topic}");
    }
    assert!(client.ping().await.is_empty());
    assert!(rig.broker.running());
}

/// SlowITe: clients that name a long keepalive hold every connection there is.
#[tokio::test]
async fn cve_2020_13849_no_keepalive_buys_a_connection_for_ever_and_no_certificate_many() {
    let rig = Rig::start_with(&[("CONNECTIONS_MAX", "16")]).await;
    let device = rig.device(1);
    for asked in [0, 301, u16::MAX] {
        let client = rig.connect(&device, Connect::v5(&device.name).keep_alive(asked)).await.unwrap();
        assert!(client.welcome.windows(3).any(|window| window == [0x13, 1, 44]), "{asked} is 300 s");
    }
    // One certificate holds one connection, and what is to follow it does not fill the house.
    rig.registry.hold(&device.name);
    let connect = Connect::v5(&device.name).keep_alive(u16::MAX).bytes();
    let waiting = many(&rig, &device, 32, &connect).await;
    let other = rig.device(2);
    let mut innocent = rig.connected(&other).await;
    assert!(innocent.ping().await.is_empty());
    rig.registry.release();
    drop(waiting);
}
