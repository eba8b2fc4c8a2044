//! How connections end: takeover, keepalive, wills, revocation, shutdown.

use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use scenarios::broker::client::{self, Connect};
use scenarios::broker::rig::{Rig, soon};

async fn watcher(rig: &Rig) -> client::Client {
    rig.service("svc-ota", "watcher", &["hf/1/+/up/hello"]).await
}

fn with_will(name: &str) -> Connect {
    Connect::v5(name).will(&format!("hf/1/{name}/up/hello"), "will")
}

#[tokio::test]
async fn a_takeover_closes_the_old_connection_before_the_new_one_is_live() {
    let rig = Rig::start().await;
    let mut ota = watcher(&rig).await;
    let device = rig.device(1);
    for version in [Connect::v5 as fn(&str) -> Connect, Connect::v4] {
        let old = Connect { will: with_will(&device.name).will, ..version(&device.name) };
        let mut old = rig.connect(&device, old).await.unwrap();
        let mut new = rig.connect(&device, version(&device.name)).await.unwrap();
        assert_eq!(new.publish1(&format!("hf/1/{}/up/hello", device.name), "new").await, 0);
        assert_eq!(old.closed().await, if old.level == 5 { Some(0x8e) } else { None });
        assert_eq!(ota.message().await.1, b"will", "the old session's end comes first");
        assert_eq!(ota.message().await.1, b"new");
        assert!(new.ping().await.is_empty());
        new.disconnect().await;
    }
}

#[tokio::test]
async fn fast_reconnects_never_end_an_innocent() {
    let rig = Rig::start().await;
    let flaky = rig.device(1);
    let mut innocents = Vec::new();
    for n in 2..6 {
        innocents.push(rig.connected(&rig.device(n)).await);
    }
    for round in 0..60 {
        let client = rig.connect(&flaky, Connect::v5(&flaky.name)).await.unwrap();
        match round % 3 {
            0 => client.disconnect().await,
            // A reset, not an end: as a device that loses power behind a NAT.
            1 => {
                client.stream.get_ref().0.set_zero_linger().unwrap();
                drop(client);
            }
            _ => drop(client),
        }
    }
    // Between TLS and CONNACK too.
    for _ in 0..20 {
        let mut stream = client::tls(&rig.device, &rig.server_ca, Some(&flaky)).await.unwrap();
        stream.write_all(&Connect::v5(&flaky.name).bytes()).await.unwrap();
        stream.get_ref().0.set_zero_linger().unwrap();
    }
    for innocent in &mut innocents {
        assert!(innocent.ping().await.is_empty());
    }
    assert!(rig.connect(&flaky, Connect::v5(&flaky.name)).await.is_ok());
    assert_eq!(rig.metric("holdfast_broker_panics_total", "").await, 0.0);
}

#[tokio::test]
async fn a_silent_client_is_closed_after_one_and_a_half_keepalives_and_its_will_published() {
    let rig = Rig::start().await;
    let mut ota = watcher(&rig).await;
    let device = rig.device(1);
    let started = Instant::now();
    let mut client = rig.connect(&device, with_will(&device.name).keep_alive(1)).await.unwrap();
    assert_eq!(client.closed().await, Some(0x8d));
    assert!(started.elapsed() >= Duration::from_millis(1_500));
    assert_eq!(ota.message().await, (format!("hf/1/{}/up/hello", device.name), b"will".to_vec()));
}

#[tokio::test]
async fn a_byte_now_and_then_is_no_sign_of_life() {
    let rig = Rig::start().await;
    let device = rig.device(1);
    let client = rig.connect(&device, Connect::v5(&device.name).keep_alive(1)).await.unwrap();
    let (mut from, mut to) = tokio::io::split(client.stream);
    let dripping = async {
        let mut tick = tokio::time::interval(Duration::from_millis(200));
        // A PUBLISH of 128 bytes that never comes to its end.
        for byte in [0x30, 0x80, 0x01].into_iter().chain(std::iter::repeat(b'x')) {
            tick.tick().await;
            if to.write_all(&[byte]).await.is_err() {
                break;
            }
        }
    };
    let ended = async { while tokio::io::AsyncReadExt::read_u8(&mut from).await.is_ok() {} };
    tokio::select! { () = dripping => {}, () = soon(ended) => {} }
}

#[tokio::test]
async fn a_clean_disconnect_discards_the_will_and_a_lost_connection_publishes_it() {
    let rig = Rig::start().await;
    let mut ota = watcher(&rig).await;
    let device = rig.device(1);
    let connect = || rig.connect(&device, with_will(&device.name));
    connect().await.unwrap().disconnect().await;
    assert!(ota.ping().await.is_empty());

    drop(connect().await.unwrap());
    assert_eq!(ota.message().await.1, b"will");

    let mut asks = connect().await.unwrap();
    asks.send(&[0xe0, 1, 0x04]).await;
    assert_eq!(ota.message().await.1, b"will", "MQTT 5: disconnect with will message");

    let mut wrong = connect().await.unwrap();
    wrong.send(&[0xf0, 0]).await;
    assert_eq!(ota.message().await.1, b"will", "a protocol error is no clean end");
}

#[tokio::test]
async fn a_revoked_device_is_gone_within_a_second_without_a_last_word() {
    let rig = Rig::start().await;
    let mut ota = watcher(&rig).await;
    let (device, other) = (rig.device(1), rig.device(2));
    let mut client = rig.connect(&device, with_will(&device.name)).await.unwrap();
    let mut bystander = rig.connected(&other).await;
    rig.registry.revoke(&device.name);
    let started = Instant::now();
    assert_eq!(rig.disconnect(&device.name).await, 1);
    assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
    assert_eq!(client.closed().await, Some(0x98));
    assert_eq!(rig.list().await, [other.name]);
    assert!(bystander.ping().await.is_empty());
    assert!(ota.ping().await.is_empty(), "a revoked device's will is not published");
    assert_eq!(rig.connect(&device, Connect::v5(&device.name)).await.err(), Some(0x87));
    assert_eq!(rig.disconnect(&device.name).await, 0, "again is nothing");
}

#[tokio::test]
async fn a_revocation_reaches_a_connection_whose_answer_is_still_under_way() {
    // Let go by the test, not by the clock.
    let rig = Rig::start_with(&[("AUTHORIZE_MS_MAX", "60000")]).await;
    let device = rig.device(1);
    rig.registry.hold(&device.name);
    let connecting = {
        let (address, connect) = (rig.device.clone(), Connect::v5(&device.name));
        let mut stream = client::tls(&address, &rig.server_ca, Some(&device)).await.unwrap();
        stream.write_all(&connect.bytes()).await.unwrap();
        tokio::spawn(async move { client::read_packet(&mut stream).await })
    };
    // The registry has said yes, and the yes is on its way; then the device is revoked.
    soon(rig.registry.asked_about(&device.name)).await;
    rig.registry.revoke(&device.name);
    assert_eq!(rig.disconnect(&device.name).await, 1);
    rig.registry.release();
    let answer = soon(connecting).await.unwrap();
    assert!(answer.is_none_or(|packet| packet.first == 0x20 && packet.body[1] != 0), "never a welcome");
    assert!(rig.list().await.is_empty());
}

#[tokio::test]
async fn a_revocation_during_the_handshake_lets_nobody_through() {
    let rig = Rig::start().await;
    let device = rig.device(1);
    // TCP is there, TLS is not: the broker does not yet know who this is.
    let mut socket = TcpStream::connect(&rig.device).await.unwrap();
    rig.registry.revoke(&device.name);
    assert_eq!(rig.disconnect(&device.name).await, 0);
    socket.flush().await.unwrap();
    let config = std::sync::Arc::new(client::config(&rig.server_ca, Some(&device)));
    let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
    let mut stream = tokio_rustls::TlsConnector::from(config).connect(name, socket).await.unwrap();
    stream.write_all(&Connect::v5(&device.name).bytes()).await.unwrap();
    let packet = soon(client::read_packet(&mut stream)).await.unwrap();
    assert_eq!((packet.first, packet.body[1]), (0x20, 0x87));
}

#[tokio::test]
async fn a_revoked_claim_ends_the_enrolments_made_with_it() {
    let rig = Rig::start().await;
    let claim = rig.claim(7);
    let mut boards = Vec::new();
    for n in 0..3 {
        let connect = Connect::v5(&format!("{n:032x}"));
        boards.push(client::Client::connect(&rig.enroll, &rig.server_ca, &claim, connect).await.unwrap());
    }
    rig.registry.revoke(&claim.name);
    assert_eq!(rig.disconnect(&claim.name).await, 3);
    for board in &mut boards {
        assert_eq!(board.closed().await, Some(0x98));
    }
}

#[tokio::test]
async fn silent_sockets_cost_nobody_else() {
    let rig = Rig::start().await;
    let mut silent = Vec::new();
    for _ in 0..300 {
        silent.push(TcpStream::connect(&rig.device).await.unwrap());
    }
    let device = rig.device(1);
    // Through TLS, then silent: nobody yet either.
    for _ in 0..5 {
        silent.push(client::tls(&rig.device, &rig.server_ca, Some(&device)).await.unwrap().into_inner().0);
    }
    let mut client = tokio::time::timeout(Duration::from_secs(5), rig.connected(&device)).await.unwrap();
    assert!(client.ping().await.is_empty());
}

#[tokio::test]
async fn more_connections_than_allowed_are_refused_until_one_leaves() {
    let rig = Rig::start_with(&[("CONNECTIONS_MAX", "2")]).await;
    let (one, two, three) = (rig.device(1), rig.device(2), rig.device(3));
    let first = rig.connected(&one).await;
    let mut second = rig.connected(&two).await;
    assert_eq!(rig.connect(&three, Connect::v5(&three.name)).await.err(), Some(0x89));
    assert_eq!(rig.connect(&three, Connect::v4(&three.name)).await.err(), Some(3));
    first.disconnect().await;
    let third = async {
        while rig.connect(&three, Connect::v5(&three.name)).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    soon(third).await;
    assert!(second.ping().await.is_empty());
}

#[tokio::test]
async fn a_signal_drains_says_goodbye_and_exits_well() {
    let rig = Rig::start().await;
    let device = rig.device(1);
    let mut client = rig.connected(&device).await;
    // Neither a socket nor a TLS connection that says nothing may hold it up.
    let _silent = TcpStream::connect(&rig.device).await.unwrap();
    let _silent_tls = client::tls(&rig.device, &rig.server_ca, Some(&device)).await.unwrap();
    let started = Instant::now();
    let (status, reason) = tokio::join!(rig.stop(), client.closed());
    assert!(status.success(), "{status}");
    assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
    assert_eq!(reason, Some(0x8b));
    assert!(TcpStream::connect(&rig.device).await.is_err());
}
