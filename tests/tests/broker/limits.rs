//! Every bound at its edge, made small by configuration; reached, it costs only who reached it and is counted.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use scenarios::broker::client::{Client, Connect, frame, publish, tls};
use scenarios::broker::rig::{Rig, soon};

/// Waits until a metric reaches a value: it is written after the client was told.
async fn counted(rig: &Rig, name: &str, labels: &str, at_least: f64) {
    let reached = async {
        while rig.metric(name, labels).await < at_least {
            tokio::task::yield_now().await;
        }
    };
    soon(reached).await;
}

/// Reads until the other end closes.
async fn closed(mut stream: impl tokio::io::AsyncRead + Unpin) {
    let mut rest = Vec::new();
    // A reset is an end as well.
    let _ = soon(stream.read_to_end(&mut rest)).await;
}

fn hello(name: &str) -> String {
    format!("hf/1/{name}/up/hello")
}

/// Milliseconds that no machine needs: what is held back is let go by the test, not by the clock.
const PATIENT: &str = "60000";
const HELLOS: &str = "$share/ota-hello/hf/1/+/up/hello";

#[tokio::test]
async fn bytes_before_authentication_are_bounded() {
    let rig = Rig::start_with(&[("HANDSHAKE_BYTES_MAX", "4096")]).await;
    // A record of 16 KiB that never ends: rustls would wait for all of it.
    let mut stream = TcpStream::connect(&rig.device).await.unwrap();
    stream.write_all(&[0x16, 3, 1, 0x40, 0]).await.unwrap();
    stream.write_all(&[0; 4091]).await.unwrap();
    // The edge is allowed, the byte after it is not.
    let _ = stream.write_all(&[0]).await;
    closed(stream).await;
    counted(&rig, "holdfast_broker_handshakes_total", "handshake_bytes_max", 1.0).await;
    let device = rig.device(1);
    assert!(rig.connected(&device).await.ping().await.is_empty(), "a chain of certificates fits");
}

#[tokio::test]
async fn seconds_before_authentication_are_bounded() {
    let rig = Rig::start_with(&[("HANDSHAKE_MS_MAX", "100")]).await;
    closed(TcpStream::connect(&rig.device).await.unwrap()).await;
    counted(&rig, "holdfast_broker_handshakes_total", "timeout", 1.0).await;
    let rig = Rig::start_with(&[("CONNECT_MS_MAX", "100")]).await;
    let device = rig.device(1);
    closed(tls(&rig.device, &rig.server_ca, Some(&device)).await.unwrap()).await;
    counted(&rig, "holdfast_broker_connects_total", "connect_timeout", 1.0).await;
}

#[tokio::test]
async fn a_connect_is_bounded_in_bytes() {
    let connect = |name: &str| Connect::v5(name).will(&hello(name), "x");
    let device_bytes = connect(&scenarios::broker::rig::device_id(1)).bytes().len();
    let rig = Rig::start_with(&[("CONNECT_BYTES_MAX", &device_bytes.to_string())]).await;
    let device = rig.device(1);
    assert!(rig.connect(&device, connect(&device.name)).await.is_ok());
    let longer = Connect::v5(&device.name).will(&hello(&device.name), "xx");
    assert_eq!(rig.connect(&device, longer).await.err(), Some(0xff));
    counted(&rig, "holdfast_broker_connects_total", "packet_too_large", 1.0).await;
}

#[tokio::test]
async fn handshakes_a_second_are_paced_and_nobody_is_lost() {
    let rig = Rig::start_with(&[("HANDSHAKES_PER_S", "2")]).await;
    let devices = [rig.device(1), rig.device(2), rig.device(3), rig.device(4)];
    let (one, two, three, four) = soon(async {
        tokio::join!(
            rig.connected(&devices[0]),
            rig.connected(&devices[1]),
            rig.connected(&devices[2]),
            rig.connected(&devices[3])
        )
    })
    .await;
    counted(&rig, "holdfast_broker_paced_total", "handshakes_per_s", 1.0).await;
    for mut client in [one, two, three, four] {
        assert!(client.ping().await.is_empty());
    }
}

#[tokio::test]
async fn when_too_many_ask_at_once_the_next_hears_that_the_server_is_busy() {
    let rig = Rig::start_with(&[("AUTHORIZATIONS_MAX", "1"), ("AUTHORIZE_MS_MAX", PATIENT)]).await;
    let (slow, next) = (rig.device(1), rig.device(2));
    rig.registry.hold(&slow.name);
    let waiting = rig.connect(&slow, Connect::v5(&slow.name));
    let busy = async {
        rig.registry.asked_about(&slow.name).await;
        let busy = [Connect::v5(&next.name), Connect::v4(&next.name)];
        for (connect, code) in busy.into_iter().zip([0x89, 3]) {
            assert_eq!(rig.connect(&next, connect).await.err(), Some(code));
        }
        rig.registry.release();
    };
    let (slow, ()) = tokio::join!(waiting, busy);
    assert!(slow.unwrap().ping().await.is_empty());
    assert!(rig.connect(&next, Connect::v5(&next.name)).await.is_ok());
    counted(&rig, "holdfast_broker_connects_total", "server_busy", 2.0).await;
}

#[tokio::test]
async fn a_device_that_publishes_too_fast_is_slowed_down_and_loses_nothing() {
    for (bound, messages, payload) in
        [("DEVICE_PUBLISHES_PER_S", 4, 1), ("DEVICE_PUBLISH_BYTES_PER_S", 6, 16 * 1024)]
    {
        let value = if payload == 1 { "2" } else { "65536" };
        let rig = Rig::start_with(&[(bound, value)]).await;
        let mut service = rig.service("svc-ota", "one", &[HELLOS]).await;
        let (device, other) = (rig.device(1), rig.device(2));
        let (mut client, mut innocent) = (rig.connected(&device).await, rig.connected(&other).await);
        for id in 1..=messages {
            let packet = publish(5, 0x32, hello(&device.name).as_bytes(), Some(id), &vec![id as u8; payload]);
            client.send(&packet).await;
        }
        assert!(innocent.ping().await.is_empty());
        for id in 1..=messages {
            assert_eq!(client.expect(4).await.body[..2], id.to_be_bytes());
            assert_eq!(service.message().await.1, vec![id as u8; payload]);
        }
        counted(&rig, "holdfast_broker_paced_total", &bound.to_lowercase()[7..], 1.0).await;
    }
}

#[tokio::test]
async fn a_client_that_takes_no_byte_is_closed() {
    let rig = Rig::start_with(&[("WRITE_MS_MAX", "300"), ("DEVICE_MAILBOX_BYTES_MAX", "33554432")]).await;
    let device = rig.device(1);
    let _deaf = rig.connected(&device).await;
    let mut service = rig.service("svc-ota", "one", &[]).await;
    let topic = format!("hf/1/{}/dn/layer", device.name);
    let flood = async {
        while rig.metric("holdfast_broker_closed_total", "write").await < 1.0 {
            for _ in 0..16 {
                service.publish(&topic, vec![0; 16 * 1024]).await;
            }
        }
    };
    soon(flood).await;
    assert!(service.ping().await.is_empty());
}

#[tokio::test]
async fn what_one_device_may_hold_is_bounded_by_name() {
    let rig = Rig::start_with(&[
        ("DEVICE_SUBSCRIPTIONS_MAX", "2"),
        ("DEVICE_INFLIGHT_MAX", "1"),
        ("DEVICE_MAILBOX_MESSAGES_MAX", "2"),
        ("DENIALS_MAX", "2"),
    ])
    .await;
    let device = rig.device(1);
    let dn = |channel: &str| format!("hf/1/{}/dn/{channel}", device.name);
    let mut client = rig.connect(&device, Connect::v5(&device.name)).await.unwrap();
    let filters = [dn("hello"), dn("update"), dn("log")];
    let filters: Vec<_> = filters.iter().map(|filter| (filter.as_str(), 1)).collect();
    assert_eq!(client.subscribe(&filters).await, [1, 1, 0x97]);

    // One is out and not acknowledged, two wait, the fourth is told that there is no room.
    let mut service = rig.service("svc-ota", "one", &[]).await;
    let mut codes = Vec::new();
    for _ in 0..4 {
        codes.push(service.publish1(&dn("update"), "x").await);
        if codes.len() == 1 {
            let first = client.expect(3).await;
            assert_eq!(first.first & 6, 2);
        }
    }
    assert_eq!(codes, [0, 0, 0, 0x97]);
    counted(&rig, "holdfast_broker_dropped_total", "mailbox_full", 1.0).await;

    let foreign = hello(&scenarios::broker::rig::device_id(2));
    assert_eq!(client.publish1(&foreign, "x").await, 0x87);
    client.send(&publish(5, 0x32, foreign.as_bytes(), Some(9), b"x")).await;
    assert_eq!(client.closed().await, Some(0x87));
    counted(&rig, "holdfast_broker_closed_total", "denied", 1.0).await;
}

#[tokio::test]
async fn a_longer_keepalive_than_the_bound_is_not_granted() {
    let rig = Rig::start_with(&[("KEEPALIVE_S_MAX", "1")]).await;
    let device = rig.device(1);
    let mut silent = rig.connect(&device, Connect::v5(&device.name).keep_alive(100)).await.unwrap();
    assert!(silent.welcome.windows(3).any(|bytes| bytes == [0x13, 0, 1]), "it is told so");
    assert_eq!(silent.closed().await, Some(0x8d));
}

#[tokio::test]
async fn one_certificate_holds_no_more_connections_than_its_share() {
    let bounds = [("DEVICE_CONNECTIONS_MAX", "2"), ("ENROLLEES_MAX", "1"), ("AUTHORIZE_MS_MAX", PATIENT)];
    let rig = Rig::start_with(&bounds).await;
    let device = rig.device(1);
    rig.registry.hold(&device.name);
    let waiting = || rig.connect(&device, Connect::v5(&device.name));
    let third = async {
        rig.registry.asked_times(&device.name, 2).await;
        assert_eq!(waiting().await.err(), Some(0x89));
        rig.registry.release();
    };
    let (first, second, ()) = tokio::join!(waiting(), waiting(), third);
    assert!(first.is_ok() || second.is_ok());

    let claim = rig.claim(1);
    let enrol = |nonce: &str| Client::connect(&rig.enroll, &rig.server_ca, &claim, Connect::v5(nonce));
    let mut one = enrol("00112233445566778899aabbccddeeff").await.unwrap();
    assert_eq!(enrol("10112233445566778899aabbccddeeff").await.err(), Some(0x89));
    assert!(one.ping().await.is_empty());
}

#[tokio::test]
async fn wrong_bounds_are_all_named_and_the_broker_does_not_start() {
    let program = dev::binary("svc-broker").unwrap();
    let output = tokio::process::Command::new(program)
        .env_clear()
        .env("HOLDFAST_WRITE_MS_MAX", "0")
        .env("HOLDFAST_DEVICE_INFLIGHT_MAX", "many")
        .output();
    let output = soon(output).await.unwrap();
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("HOLDFAST_WRITE_MS_MAX: must be at least 1"), "{said}");
    assert!(said.contains("HOLDFAST_DEVICE_INFLIGHT_MAX"), "{said}");
}

#[tokio::test]
async fn what_waits_and_how_long_is_measured() {
    let rig = Rig::start().await;
    let device = rig.device(1);
    let mut service = rig.service("svc-ota", "one", &[HELLOS]).await;
    let mut client = rig.connected(&device).await;
    assert_eq!(client.publish1(&hello(&device.name), "x").await, 0);
    service.message().await;
    for name in ["handshake", "connect", "wait"] {
        counted(&rig, &format!("holdfast_broker_{name}_seconds_count"), "", 1.0).await;
    }
    // One in its mailbox, one on its way: the client acknowledges nothing.
    let down = format!("hf/1/{}/dn/update", device.name);
    for _ in 0..18 {
        assert_eq!(service.publish1(&down, "x").await, 0);
    }
    counted(&rig, "holdfast_broker_waiting_messages", "dn", 2.0).await;
    client.send(&frame(0xe0, &[])).await;
}
