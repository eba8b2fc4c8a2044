//! What reaches whom, and what reaches nobody.

use std::collections::HashMap;

use scenarios::broker::client::{Client, Connect, frame, publish};
use scenarios::broker::rig::{Rig, device_id, soon};

const RELAY: &str = "0123456789abcdef0123456789abcdef";

#[tokio::test]
async fn both_versions_speak_on_one_port_in_both_directions() {
    let rig = Rig::start().await;
    let mut ota = rig.service("svc-ota", "one", &["$share/ota-hello/hf/1/+/up/hello"]).await;
    for (n, version) in [(1, Connect::v4 as fn(&str) -> Connect), (2, Connect::v5)] {
        let device = rig.device(n);
        let mut client = rig.connect(&device, version(&device.name)).await.unwrap();
        let (up, down) = (format!("hf/1/{}/up/hello", device.name), format!("hf/1/{}/dn/hello", device.name));
        assert_eq!(client.subscribe(&[(&down, 1), (&format!("hf/1/{}/dn/+", device.name), 0)]).await, [1, 0]);
        client.publish(&up, "zero").await;
        assert_eq!(client.publish1(&up, "one").await, 0);
        assert_eq!(ota.message().await, (up.clone(), b"zero".to_vec()));
        assert_eq!(ota.message().await, (up, b"one".to_vec()));
        assert_eq!(ota.publish1(&down, "time").await, 0);
        assert_eq!(client.message().await, (down.clone(), b"time".to_vec()));
        assert_eq!(client.unsubscribe(&down).await.len(), if client.level == 5 { 1 } else { 0 });
        assert!(client.ping().await.is_empty());
    }
}

#[tokio::test]
async fn rumqttc_of_both_versions_exchanges_messages() {
    use rumqttc::{TlsConfiguration, Transport};
    let rig = Rig::start().await;
    let (host, port) = rig.device.rsplit_once(':').unwrap();
    assert_eq!(host, "127.0.0.1");
    let port: u16 = port.parse().unwrap();
    let mut ota = rig.service("svc-ota", "one", &["hf/1/+/up/hello"]).await;
    let tls = |identity| {
        let config = scenarios::broker::client::config(&rig.server_ca, Some(identity));
        Transport::Tls(TlsConfiguration::Rustls(std::sync::Arc::new(config)))
    };

    let device = rig.device(1);
    let topic = format!("hf/1/{}/up/hello", device.name);
    let mut options = rumqttc::v5::MqttOptions::new(&device.name, "localhost", port);
    options.set_transport(tls(&device));
    let (client, mut events) = rumqttc::v5::AsyncClient::new(options, 8);
    client.publish(&topic, rumqttc::v5::mqttbytes::QoS::AtLeastOnce, false, "five").await.unwrap();
    let acknowledged = async {
        use rumqttc::v5::{Event, mqttbytes::v5::Packet};
        while !matches!(events.poll().await.unwrap(), Event::Incoming(Packet::PubAck(_))) {}
    };
    soon(acknowledged).await;
    assert_eq!(ota.message().await, (topic, b"five".to_vec()));

    let device = rig.device(2);
    let topic = format!("hf/1/{}/up/hello", device.name);
    let mut options = rumqttc::MqttOptions::new(&device.name, "localhost", port);
    options.set_transport(tls(&device));
    let (client, mut events) = rumqttc::AsyncClient::new(options, 8);
    client.publish(&topic, rumqttc::QoS::AtLeastOnce, false, "four").await.unwrap();
    let acknowledged = async {
        while !matches!(events.poll().await.unwrap(), rumqttc::Event::Incoming(rumqttc::Packet::PubAck(_))) {}
    };
    soon(acknowledged).await;
    assert_eq!(ota.message().await, (topic, b"four".to_vec()));
}

#[tokio::test]
async fn a_publish_on_anothers_topic_is_denied_and_reaches_nobody() {
    let rig = Rig::start().await;
    let mut ota = rig.service("svc-ota", "one", &["hf/1/+/up/hello", "hf/1/+/up/update"]).await;
    let (device, victim) = (rig.device(1), rig.device(2));
    let mut heard = rig.connected(&victim).await;
    let mut liar = rig.connected(&device).await;
    for topic in [
        format!("hf/1/{}/up/hello", victim.name),
        format!("hf/1/{}/dn/hello", victim.name),
        format!("hf/1/{}/dn/hello", device.name),
        format!("hf/1/{}/up/enroll", device.name),
        format!("hf/1/{}/up/unknown", device.name),
        format!("hf/1/{}/up/hello/more", device.name),
        format!("HF/1/{}/up/hello", device.name),
        "$SYS/broker".into(),
        "é/x".into(),
    ] {
        assert_eq!(liar.publish1(&topic, "lie").await, 0x87, "{topic}");
        liar.publish(&topic, "lie").await;
    }
    assert_eq!(liar.publish1(&format!("hf/1/{}/up/hello", device.name), "truth").await, 0, "it goes on");
    assert_eq!(ota.message().await.1, b"truth");
    assert!(heard.ping().await.is_empty());
    assert_eq!(rig.metric("holdfast_broker_dropped_total", "denied").await, 18.0);

    // MQTT 3.1.1 has no way to say no but to close.
    let mut old = rig.connect(&device, Connect::v4(&device.name)).await.unwrap();
    old.publish(&format!("hf/1/{}/up/hello", victim.name), "lie").await;
    assert_eq!(old.closed().await, None);
    assert!(ota.ping().await.is_empty());
}

/// MQTT 5 §1.5.4, §3.3.2.1 and §4.7.3: malformed, which ends the connection.
#[tokio::test]
async fn a_topic_that_is_no_name_ends_the_connection() {
    let rig = Rig::start().await;
    let device = rig.device(1);
    for topic in [&b"hf/1/+/up/hello"[..], b"hf/#", b"", b"a\0b", b"a\x1fb", b"\xff", b"\xed\xa0\x80"] {
        for level in [4, 5] {
            let connect = Connect { level, ..Connect::v5(&device.name) };
            let mut client = rig.connect(&device, connect).await.unwrap();
            client.send(&publish(level, 0x30, topic, None, b"")).await;
            assert_eq!(client.closed().await, (level == 5).then_some(0x81), "{topic:?}");
        }
    }
    // No text has a NUL, filters included.
    for (packet, rest) in [(0x82, &[1][..]), (0xa2, &[])] {
        let mut client = rig.connect(&device, Connect::v5(&device.name)).await.unwrap();
        client.send(&frame(packet, &[&[0, 1, 0, 0, 3, b'a', 0, b'b'], rest].concat())).await;
        assert_eq!(client.closed().await, Some(0x81));
    }
}

#[tokio::test]
async fn a_client_that_keeps_lying_is_closed() {
    let rig = Rig::start().await;
    let device = rig.device(1);
    let mut liar = rig.connected(&device).await;
    let lie = publish(5, 0x30, b"hf/1/x", None, b"");
    for _ in 0..63 {
        liar.send(&lie).await;
    }
    assert!(liar.ping().await.is_empty());
    liar.send(&lie).await;
    assert_eq!(liar.closed().await, Some(0x87));
}

#[tokio::test]
async fn a_device_subscribes_to_nothing_but_its_own_topics() {
    let rig = Rig::start().await;
    let (device, victim) = (rig.device(1), rig.device(2));
    for (version, no) in [(Connect::v4 as fn(&str) -> Connect, 0x80), (Connect::v5, 0x87)] {
        let mut client = rig.connect(&device, version(&device.name)).await.unwrap();
        let own = format!("hf/1/{}/dn/#", device.name);
        for filter in [
            format!("hf/1/{}/dn/#", victim.name),
            "hf/1/+/dn/hello".into(),
            "#".into(),
            "+/+/+/+/+".into(),
            "$SYS/#".into(),
            format!("$share/g/{own}"),
            format!("$share/ota-hello/hf/1/{}/dn/hello", device.name),
            format!("hf/1/{}/up/hello", device.name),
            "hf/1/é/dn/#".into(),
            "a/#/b".into(),
        ] {
            assert_eq!(client.subscribe(&[(&filter, 1), (&own, 1)]).await, [no, 1], "{filter}");
        }
        assert_eq!(client.subscribe(&[(&own, 2)]).await, [1], "at most QoS 1 is granted");
    }
}

#[tokio::test]
async fn a_service_uses_its_own_channels_only() {
    let rig = Rig::start().await;
    let device = rig.device(1);
    let mut heard = rig.connected(&device).await;
    let mut logs = rig.service("svc-logs", "one", &["$share/logs-log/hf/1/+/up/log"]).await;
    let refused = [
        ("hf/1/+/up/update", 1),
        ("$share/ota-update/hf/1/+/up/update", 1),
        ("$share/g/hf/1/+/up/log", 1),
        ("hf/1/+/up/#", 1),
        ("hf/1/+/dn/log", 1),
        ("#", 0),
    ];
    assert_eq!(logs.subscribe(&refused).await, [0x87; 6]);
    assert_eq!(logs.publish1(&format!("hf/1/{}/dn/update", device.name), "go").await, 0x87);
    assert_eq!(logs.publish1(&format!("hf/1/{}/up/log", device.name), "as a device").await, 0x87);
    assert_eq!(logs.publish1(&format!("hf/1/{}/dn/log", device.name), "stored").await, 0);
    assert_eq!(heard.message().await.1, b"stored");
}

#[tokio::test]
async fn nothing_is_retained_and_qos_2_is_refused() {
    let rig = Rig::start().await;
    let device = rig.device(1);
    let topic = format!("hf/1/{}/up/hello", device.name);
    let topic = topic.as_bytes();
    let v5 = Connect::v5(&device.name);
    let connect = || async { rig.connect(&device, v5.clone()).await.unwrap() };
    let alias = frame(0x30, &[&[0, topic.len() as u8][..], topic, b"\x03\x23\x00\x01x"].concat());
    let identifier = [&b"\x00\x01\x02\x0b\x07"[..], &[0, topic.len() as u8], topic, b"\x00"].concat();
    for (bytes, reason) in [
        (publish(5, 0x31, topic, None, b"x"), 0x9a),
        (publish(5, 0x31, topic, None, b""), 0x9a),
        (publish(5, 0x34, topic, Some(1), b"x"), 0x9b),
        (alias, 0x94),
        (frame(0x82, &identifier), 0xa1),
        (frame(0x30, &[0xff; 4]), 0x81),
        (publish(5, 0x30, topic, None, &[0; 32 * 1024]), 0x95),
    ] {
        let mut client = connect().await;
        client.send(&bytes).await;
        assert_eq!(client.closed().await, Some(reason), "{:x?}", &bytes[..bytes.len().min(16)]);
    }
    let mut old = rig.connect(&device, Connect::v4(&device.name)).await.unwrap();
    old.send(&publish(4, 0x31, topic, None, b"x")).await;
    assert_eq!(old.closed().await, None);
}

#[tokio::test]
async fn a_packet_of_exactly_the_maximum_passes() {
    let rig = Rig::start().await;
    let mut logs = rig.service("svc-logs", "one", &["hf/1/+/up/log"]).await;
    let device = rig.device(1);
    let topic = format!("hf/1/{}/up/log", device.name);
    let mut client = rig.connected(&device).await;
    let head = publish(5, 0x30, topic.as_bytes(), None, &[0; 20_000]).len() - 20_000;
    client.publish(&topic, vec![7; wire::limits::PACKET_BYTES_MAX - head]).await;
    assert_eq!(logs.message().await.1.len(), wire::limits::PACKET_BYTES_MAX - head);
    client.publish(&topic, vec![7; wire::limits::PACKET_BYTES_MAX - head + 1]).await;
    assert_eq!(client.closed().await, Some(0x95));
}

#[tokio::test]
async fn a_shared_group_splits_by_device_and_a_leavers_devices_move() {
    let rig = Rig::start().await;
    let filter = ["$share/ota-hello/hf/1/+/up/hello"];
    let mut one = rig.service("svc-ota", "one", &filter).await;
    let mut two = rig.service("svc-ota", "two", &filter).await;
    let mut other = rig.service("svc-registry", "one", &["$share/registry-hello/hf/1/+/up/hello"]).await;
    let mut devices = Vec::new();
    for n in 1..=12 {
        devices.push(rig.connected(&rig.device(n)).await);
    }
    let mut homes: HashMap<String, [usize; 2]> = HashMap::new();
    for round in 0..3 {
        for (n, device) in (1..).zip(&mut devices) {
            assert_eq!(
                device.publish1(&format!("hf/1/{}/up/hello", device_id(n)), format!("{round}")).await,
                0
            );
        }
    }
    for (member, service) in [&mut one, &mut two].into_iter().enumerate() {
        for packet in service.ping().await {
            let topic = String::from_utf8(packet.body[2..50].to_vec()).unwrap();
            homes.entry(topic).or_default()[member] += 1;
        }
    }
    assert_eq!(homes.len(), 12);
    assert!(homes.values().all(|home| matches!(home, [3, 0] | [0, 3])), "{homes:?}");
    assert!(homes.values().any(|home| home[0] > 0) && homes.values().any(|home| home[1] > 0));
    assert_eq!(other.ping().await.len(), 36, "every group gets all");

    two.disconnect().await;
    for (n, device) in (1..).zip(&mut devices) {
        assert_eq!(device.publish1(&format!("hf/1/{}/up/hello", device_id(n)), "moved").await, 0);
    }
    assert_eq!(one.ping().await.iter().filter(|packet| packet.first >> 4 == 3).count(), 12);
}

#[tokio::test]
async fn whoever_publishes_learns_that_nobody_was_there() {
    let rig = Rig::start().await;
    let device = rig.device(1);
    let mut ota = rig.service("svc-ota", "one", &[]).await;
    let down = format!("hf/1/{}/dn/update", device.name);
    assert_eq!(ota.publish1(&down, "go").await, 0x10, "not connected");
    let mut client = rig.connect(&device, Connect::v5(&device.name)).await.unwrap();
    assert_eq!(ota.publish1(&down, "go").await, 0x10, "not subscribed");
    assert_eq!(client.publish1(&format!("hf/1/{}/up/update", device.name), "done").await, 0x10);
    assert_eq!(client.subscribe(&[(&down, 1)]).await, [1]);
    assert_eq!(ota.publish1(&down, "go").await, 0);
    assert_eq!(client.message().await.1, b"go");
    for reason in ["not_connected", "not_subscribed", "no_subscriber"] {
        assert_eq!(rig.metric("holdfast_broker_dropped_total", reason).await, 1.0, "{reason}");
    }
}

#[tokio::test]
async fn a_device_that_reads_nothing_costs_its_own_messages_only() {
    let rig = Rig::start().await;
    let (stuck, healthy) = (rig.device(1), rig.device(2));
    let _stuck = rig.connected(&stuck).await;
    let mut reader = rig.connected(&healthy).await;
    let mut ota = rig.service("svc-ota", "one", &[]).await;
    let chunk = vec![7u8; 16 * 1024];
    let flood = format!("hf/1/{}/dn/layer", stuck.name);
    let mut sent = 0;
    // Until socket buffers and mailbox are full.
    while rig.metric("holdfast_broker_dropped_total", "mailbox_full").await == 0.0 {
        for _ in 0..64 {
            ota.publish(&flood, &chunk).await;
        }
        assert!(ota.ping().await.is_empty());
        sent += 64;
        assert!(sent < 4096, "64 MiB fit nowhere");
    }
    assert_eq!(ota.publish1(&format!("hf/1/{}/dn/update", healthy.name), "go").await, 0);
    assert_eq!(reader.message().await.1, b"go");
}

#[tokio::test]
async fn debug_frames_go_to_the_relay_that_holds_the_session() {
    let rig = Rig::start().await;
    let device = rig.device(1);
    let mut client = rig.connected(&device).await;
    let other = "f".repeat(32);
    let mut relay = rig.service("svc-debug-relay", "one", &[&format!("hf/1/+/up/debug/{RELAY}")]).await;
    let mut elsewhere = rig.service("svc-debug-relay", "two", &[&format!("hf/1/+/up/debug/{other}")]).await;
    client.publish(&format!("hf/1/{}/up/debug/{RELAY}", device.name), "frame").await;
    assert_eq!(relay.message().await.1, b"frame");
    assert!(elsewhere.ping().await.is_empty());
    relay.publish(&format!("hf/1/{}/dn/debug/{RELAY}", device.name), "answer").await;
    assert_eq!(client.message().await.1, b"answer");
}

#[tokio::test]
async fn the_clients_own_limits_are_kept() {
    let rig = Rig::start().await;
    let device = rig.device(1);
    // Receive maximum 1, packets of at most 1,000 bytes.
    let connect =
        Connect { properties: b"\x21\x00\x01\x27\x00\x00\x03\xe8".to_vec(), ..Connect::v5(&device.name) };
    let mut client: Client = rig.connect(&device, connect).await.unwrap();
    let topic = format!("hf/1/{}/dn/update", device.name);
    client.subscribe(&[(&topic, 1)]).await;
    let mut ota = rig.service("svc-ota", "one", &[]).await;
    assert_eq!(ota.publish1(&topic, vec![0; 2_000]).await, 0x97);
    assert_eq!(ota.publish1(&topic, "first").await, 0);
    assert_eq!(ota.publish1(&topic, "second").await, 0);
    let before = client.ping().await;
    assert_eq!(before.len(), 1, "one in flight: {before:?}");
    let id = &before[0].body[2 + topic.len()..4 + topic.len()];
    client.send(&frame(0x40, id)).await;
    assert_eq!(client.message().await.1, b"second");
}

#[tokio::test]
async fn mosquittos_clients_of_both_versions_exchange_messages() {
    let rig = Rig::start().await;
    let mut ota = rig.service("svc-ota", "one", &["hf/1/+/up/hello"]).await;
    let files = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = files.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let ca = file("ca.pem", &rig.server_ca.pem);
    let (host, port) = rig.device.rsplit_once(':').unwrap();
    for (n, version) in [(1, "mqttv311"), (2, "mqttv5")] {
        let device = rig.device(n);
        let (cert, key) = (file("cert.pem", &device.pem), file("key.pem", &device.key_pem));
        let client = |program: &str, topic: &str| {
            let mut command = tokio::process::Command::new(program);
            command.args(["-V", version, "-h", host, "-p", port, "-i", &device.name, "-q", "1", "-t", topic]);
            command
                .arg("--cafile")
                .arg(&ca)
                .arg("--cert")
                .arg(&cert)
                .arg("--key")
                .arg(&key)
                .kill_on_drop(true);
            command
        };
        let up = format!("hf/1/{}/up/hello", device.name);
        let said = soon(client("mosquitto_pub", &up).args(["-m", "hello"]).status()).await;
        assert!(said.expect("mosquitto_pub is installed by `cargo dev setup`").success());
        assert_eq!(ota.message().await, (up, b"hello".to_vec()));

        let down = format!("hf/1/{}/dn/hello", device.name);
        let heard = tokio::spawn(
            client("mosquitto_sub", &format!("hf/1/{}/dn/#", device.name)).args(["-C", "1"]).output(),
        );
        let told = async {
            while ota.publish1(&down, "time").await != 0 {
                tokio::task::yield_now().await;
            }
        };
        soon(told).await;
        let heard = soon(heard).await.unwrap().unwrap();
        assert_eq!((heard.status.success(), heard.stdout), (true, b"time\n".to_vec()));
    }
}
