//! The link against a broker that is scripted packet by packet.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use kit::Shutdown;
use kit::mqtt::{Incoming, Link, LinkSetup, PublishError};
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{
    ConnAck, ConnectReturnCode, Filter, Packet, Publish, SubAck, SubscribeReasonCode,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use wire::topic::ChannelKind;
use wire::{Channel, DeviceId, Service, Topic};

use crate::pki::Pki;

const PATIENCE: Duration = Duration::from_secs(30);
const PACKET_MAX: usize = 64 * 1024;
const DEVICE: DeviceId = DeviceId::new([7; 16]);

/// A listener that becomes a broker by what each test makes of its connections.
struct Broker {
    listener: TcpListener,
    acceptor: TlsAcceptor,
}

/// One connection, as the broker sees it.
struct Session {
    stream: TlsStream<TcpStream>,
    read: BytesMut,
    client_id: String,
}

impl Broker {
    async fn bind(pki: &Pki) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self { listener, acceptor: TlsAcceptor::from(pki.broker()) }
    }

    fn url(&self) -> String {
        format!("mqtts://localhost:{}", self.listener.local_addr().unwrap().port())
    }

    /// The next client, after its CONNECT.
    async fn accept(&self, code: ConnectReturnCode) -> Session {
        let (stream, _) = timeout(PATIENCE, self.listener.accept()).await.unwrap().unwrap();
        let stream = self.acceptor.accept(stream).await.unwrap();
        let mut session = Session { stream, read: BytesMut::new(), client_id: String::new() };
        let Packet::Connect(connect, ..) = session.packet().await.unwrap() else { panic!("no CONNECT") };
        assert!(connect.clean_start);
        session.client_id = connect.client_id;
        session.send(Packet::ConnAck(ConnAck { session_present: false, code, properties: None })).await;
        session
    }

    /// The next client, connected and subscribed; what it subscribed to.
    async fn client(&self, filters: usize) -> (Session, Vec<Filter>) {
        let mut session = self.accept(ConnectReturnCode::Success).await;
        let mut seen = Vec::new();
        while seen.len() < filters {
            let Packet::Subscribe(subscribe) = session.packet().await.unwrap() else {
                panic!("no SUBSCRIBE")
            };
            let codes = vec![SubscribeReasonCode::Success(QoS::AtLeastOnce); subscribe.filters.len()];
            session
                .send(Packet::SubAck(SubAck { pkid: subscribe.pkid, return_codes: codes, properties: None }))
                .await;
            seen.extend(subscribe.filters);
        }
        (session, seen)
    }
}

impl Session {
    /// The next packet, or `None` at the end.
    async fn packet(&mut self) -> Option<Packet> {
        loop {
            match Packet::read(&mut self.read, Some(PACKET_MAX as u32)) {
                Ok(packet) => return Some(packet),
                Err(rumqttc::v5::mqttbytes::Error::InsufficientBytes(_)) => {}
                Err(error) => panic!("{error}"),
            }
            let read = timeout(PATIENCE, self.stream.read_buf(&mut self.read)).await.unwrap();
            if read.unwrap_or(0) == 0 {
                return None;
            }
        }
    }

    async fn publish(&mut self) -> Publish {
        loop {
            match self.packet().await.expect("the client is connected") {
                Packet::Publish(publish) => return publish,
                Packet::PingReq(_) => self.send(Packet::PingResp(rumqttc::v5::mqttbytes::v5::PingResp)).await,
                other => panic!("{other:?}"),
            }
        }
    }

    async fn send(&mut self, packet: Packet) {
        let mut bytes = BytesMut::new();
        packet.write(&mut bytes, None).unwrap();
        self.stream.write_all(&bytes).await.unwrap();
        self.stream.flush().await.unwrap();
    }
}

struct Running {
    link: Link,
    log: mpsc::Receiver<Incoming>,
    shutdown: Shutdown,
    task: JoinHandle<()>,
}

impl Running {
    fn start(pki: &Pki, broker: &Broker) -> Self {
        let mut setup = LinkSetup::new(Service::Logs, &broker.url(), &pki.tls("svc-logs")).unwrap();
        let log = setup.subscribe(ChannelKind::Log, 1 << 20);
        let _crash = setup.subscribe(ChannelKind::Crash, 1 << 20);
        let shutdown = Shutdown::new();
        let (link, run) = setup.start(shutdown.clone());
        Self { link, log, shutdown, task: tokio::spawn(run) }
    }

    async fn until_connected(&self, wanted: bool) {
        let mut connected = self.link.connected();
        timeout(PATIENCE, connected.wait_for(|is| *is == wanted)).await.unwrap().unwrap();
    }

    async fn stop(self) {
        self.shutdown.begin();
        timeout(PATIENCE, self.task).await.unwrap().unwrap();
    }
}

fn ack_topic() -> Topic {
    Topic::down(DEVICE, Channel::Log)
}

#[tokio::test]
async fn the_link_subscribes_its_shared_filters_and_hands_out_what_comes() {
    let (pki, broker);
    pki = Pki::new();
    broker = Broker::bind(&pki).await;
    let mut running = Running::start(&pki, &broker);
    let (mut session, filters) = broker.client(2).await;
    assert!(session.client_id.starts_with("svc-logs-"), "{}", session.client_id);
    let paths: Vec<_> = filters.iter().map(|filter| (filter.path.as_str(), filter.qos)).collect();
    assert_eq!(
        paths,
        [
            ("$share/logs-log/hf/1/+/up/log", QoS::AtMostOnce),
            ("$share/logs-crash/hf/1/+/up/crash", QoS::AtMostOnce)
        ]
    );
    running.until_connected(true).await;
    let topic = Topic::up(DEVICE, Channel::Log);
    session.send(Packet::Publish(Publish::new(topic.to_string(), QoS::AtMostOnce, "batch", None))).await;
    let incoming = timeout(PATIENCE, running.log.recv()).await.unwrap().unwrap();
    assert_eq!((incoming.topic, &incoming.payload[..]), (topic, &b"batch"[..]));
    running.link.publish(&ack_topic(), "ack").unwrap();
    assert_eq!(session.publish().await.topic, ack_topic().to_string());
    running.stop().await;
}

#[tokio::test]
async fn after_a_cut_the_link_subscribes_anew_and_sends_only_what_it_is_given_anew() {
    let pki = Pki::new();
    let broker = Broker::bind(&pki).await;
    let running = Running::start(&pki, &broker);
    let (session, _) = broker.client(2).await;
    running.until_connected(true).await;
    drop(session);
    running.until_connected(false).await;
    assert_eq!(running.link.publish(&ack_topic(), "lost"), Err(PublishError::Disconnected));

    let (mut session, filters) = broker.client(2).await;
    assert_eq!(filters.len(), 2);
    running.until_connected(true).await;
    running.link.publish(&ack_topic(), "new").unwrap();
    assert_eq!(&session.publish().await.payload[..], b"new");
    running.stop().await;
}

#[tokio::test]
async fn a_broker_that_refuses_is_asked_again_but_not_in_a_storm() {
    let pki = Pki::new();
    let broker = Broker::bind(&pki).await;
    let started = Instant::now();
    let running = Running::start(&pki, &broker);
    for _ in 0..4 {
        drop(broker.accept(ConnectReturnCode::NotAuthorized).await);
    }
    // Four refusals: at least half of 200, 400 and 800 ms between them.
    assert!(started.elapsed() >= Duration::from_millis(700), "{:?}", started.elapsed());
    let (_session, _) = broker.client(2).await;
    running.until_connected(true).await;
    running.stop().await;
}

#[tokio::test]
async fn a_refused_subscription_is_not_taken_for_connected() {
    let pki = Pki::new();
    let broker = Broker::bind(&pki).await;
    let running = Running::start(&pki, &broker);
    let mut session = broker.accept(ConnectReturnCode::Success).await;
    let Packet::Subscribe(subscribe) = session.packet().await.unwrap() else { panic!("no SUBSCRIBE") };
    let refused = vec![SubscribeReasonCode::NotAuthorized];
    session
        .send(Packet::SubAck(SubAck { pkid: subscribe.pkid, return_codes: refused, properties: None }))
        .await;
    // It leaves and comes again.
    while session.packet().await.is_some() {}
    let (_session, _) = broker.client(2).await;
    running.until_connected(true).await;
    running.stop().await;
}

#[tokio::test]
async fn control_overtakes_the_bulk_a_slow_broker_has_not_taken_yet() {
    let pki = Pki::new();
    let broker = Broker::bind(&pki).await;
    let running = Running::start(&pki, &broker);
    let (mut session, _) = broker.client(2).await;
    running.until_connected(true).await;
    // The broker reads nothing: bulk fills the sockets, then the queue.
    let chunk = vec![0u8; 16 * 1024];
    while running.link.publish(&Topic::down(DEVICE, Channel::Layer), chunk.clone()).is_ok() {}
    assert_eq!(running.link.publish(&Topic::down(DEVICE, Channel::Layer), chunk), Err(PublishError::Full));
    running.link.publish(&Topic::down(DEVICE, Channel::Update), "directive").unwrap();
    let mut before = 0;
    while session.publish().await.qos != QoS::AtLeastOnce {
        before += 1;
    }
    let queued = kit::mqtt::BULK_BYTES_MAX / (16 * 1024 + 100);
    assert!(before < queued, "{before} chunks went first");
    running.stop().await;
}

/// Not a gate: prints what one link carries, for whoever changes it.
#[tokio::test(flavor = "multi_thread")]
async fn bulk_throughput_of_one_link() {
    const CHUNKS: usize = 4096;
    let pki = Pki::new();
    let broker = Broker::bind(&pki).await;
    let running = Running::start(&pki, &broker);
    let (mut session, _) = broker.client(2).await;
    running.until_connected(true).await;
    let chunk = bytes::Bytes::from(vec![0u8; 16 * 1024]);
    let started = Instant::now();
    let reader = tokio::spawn(async move {
        for _ in 0..CHUNKS {
            session.publish().await;
        }
        session
    });
    let topic = Arc::new(Topic::down(DEVICE, Channel::Layer));
    for _ in 0..CHUNKS {
        running.link.send(&topic, chunk.clone()).await.unwrap();
    }
    let _session = timeout(PATIENCE, reader).await.unwrap().unwrap();
    let mib = (CHUNKS * 16 * 1024) as f64 / f64::from(1 << 20);
    println!("{:.0} MiB/s", mib / started.elapsed().as_secs_f64());
    running.stop().await;
}
