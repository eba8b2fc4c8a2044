//! The link to a broker: MQTT 5 over mutual TLS, as one of our services.
//!
//! Nothing relies on it to remember. While the broker is away, and when a queue is full, a publish is refused and the
//! caller sends again when it next compares desired with reported; what was queued when a connection breaks is
//! dropped and counted. Every connection starts from nothing (rumqttc would lose or reorder what it kept), and
//! subscribes anew. Incoming QoS 1 messages are acknowledged when they arrive, not when they are handled, for the same
//! reason.
//!
//! QoS, filters and priorities follow from the channel (DESIGN.md "Topics"): bulk (`layer log crash debug telemetry`)
//! is QoS 0 and yields to control (QoS 1) in the outgoing queue. Every queue is bounded by bytes.

mod connection;
mod queue;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rand::Rng;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use wire::topic::ChannelKind;
use wire::{RelayId, Service, Topic};

use crate::run::Shutdown;
use crate::tls::Tls;
use crate::trace::Trace;

use queue::Outgoing;

/// Bytes of bulk that may wait to be sent.
pub const BULK_BYTES_MAX: usize = 8 << 20;
/// Bytes of control messages that may wait to be sent.
pub const CONTROL_BYTES_MAX: usize = 4 << 20;
/// What a message weighs in a queue at least: bounds their number.
pub const MESSAGE_WEIGHT_MIN: usize = 1024;
/// Longest wait between attempts to connect.
pub const RECONNECT_DELAY_MAX: Duration = Duration::from_secs(5);

const RECONNECT_DELAY_MIN: Duration = Duration::from_millis(100);

/// One incoming message. Its place in the queue is free again when it is dropped.
#[derive(Debug)]
pub struct Incoming {
    pub topic: Topic,
    pub payload: Bytes,
    _room: OwnedSemaphorePermit,
    _measured: Measured,
}

/// Measures how long a message was ours, from its arrival to its drop.
#[derive(Debug)]
struct Measured {
    channel: &'static str,
    came: Instant,
}

impl Drop for Measured {
    fn drop(&mut self) {
        metrics::histogram!("mqtt_message_seconds", "channel" => self.channel)
            .record(self.came.elapsed().as_secs_f64());
    }
}

/// Why a publish was refused. Send again later, from what is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    #[error("broker is not connected")]
    Disconnected,
    #[error("outgoing queue is full")]
    Full,
    #[error("message is longer than a packet")]
    TooLong,
}

#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    #[error("BROKER_URL is not mqtts://host:port")]
    Url,
}

/// Publishes; cheap to clone.
#[derive(Clone, Debug)]
pub struct Link {
    outgoing: Arc<Outgoing>,
    connected: watch::Receiver<bool>,
}

/// A link that is not yet running: subscriptions are added, then [`LinkSetup::start`].
#[derive(Debug)]
pub struct LinkSetup {
    options: connection::Options,
    subscriptions: Vec<Subscription>,
}

/// One filter, and where its messages go.
#[derive(Debug)]
struct Subscription {
    kind: ChannelKind,
    filter: String,
    room: Arc<Semaphore>,
    sender: mpsc::Sender<Incoming>,
}

/// Whether a channel is bulk: QoS 0, and second in every queue.
pub fn is_bulk(kind: ChannelKind) -> bool {
    match kind {
        ChannelKind::Layer
        | ChannelKind::Log
        | ChannelKind::Crash
        | ChannelKind::Debug
        | ChannelKind::Telemetry => true,
        ChannelKind::Hello | ChannelKind::Update | ChannelKind::Config | ChannelKind::Enroll => false,
    }
}

impl LinkSetup {
    /// `url`: `mqtts://host:port` of a broker's service listener.
    pub fn new(service: Service, url: &str, tls: &Tls) -> Result<Self, LinkError> {
        let (host, port) = host_port(url).ok_or(LinkError::Url)?;
        let unique = uuid::Uuid::now_v7().simple();
        let options = connection::Options {
            service,
            client_id: format!("{}-{unique}", service.common_name()),
            host,
            port,
            tls: tls.client_config(),
        };
        Ok(Self { options, subscriptions: Vec::new() })
    }

    /// Takes part in the service's group for one channel: each message reaches one replica. At most `bytes_max` bytes
    /// wait; more are dropped and counted, and the device sends them again.
    pub fn subscribe(&mut self, kind: ChannelKind, bytes_max: usize) -> mpsc::Receiver<Incoming> {
        let service = self.options.service.name();
        let name = kind.name();
        self.add(kind, format!("$share/{service}-{name}/hf/1/+/up/{name}"), bytes_max)
    }

    /// The debug frames addressed to one relay process.
    pub fn subscribe_debug(&mut self, relay: RelayId, bytes_max: usize) -> mpsc::Receiver<Incoming> {
        self.add(ChannelKind::Debug, format!("hf/1/+/up/debug/{relay}"), bytes_max)
    }

    fn add(&mut self, kind: ChannelKind, filter: String, bytes_max: usize) -> mpsc::Receiver<Incoming> {
        let (sender, receiver) = mpsc::channel((bytes_max / MESSAGE_WEIGHT_MIN).max(1));
        let room = Arc::new(Semaphore::new(bytes_max));
        self.subscriptions.push(Subscription { kind, filter, room, sender });
        receiver
    }

    /// The link, and the future that keeps it connected until shutdown.
    pub fn start(self, shutdown: Shutdown) -> (Link, impl Future<Output = ()> + Send + 'static) {
        let outgoing = Arc::new(Outgoing::default());
        let (state, connected) = watch::channel(false);
        let link = Link { outgoing: outgoing.clone(), connected };
        (link, keep_connected(self, outgoing, state, shutdown))
    }
}

impl Link {
    /// Queues a message, or refuses at once.
    pub fn publish(&self, topic: &Topic, payload: impl Into<Bytes>) -> Result<(), PublishError> {
        self.publish_in(None, topic, payload)
    }

    /// The same as a part of a trace: whoever carries the message can tell of it (user property `traceparent`).
    pub fn publish_in(
        &self,
        trace: Option<Trace>,
        topic: &Topic,
        payload: impl Into<Bytes>,
    ) -> Result<(), PublishError> {
        self.outgoing.push(topic, payload.into(), trace)
    }

    /// Queues a message as soon as there is room: for bulk, whose sender is to be slowed down.
    pub async fn send(&self, topic: &Topic, payload: impl Into<Bytes>) -> Result<(), PublishError> {
        self.outgoing.push_when_room(topic, payload.into()).await
    }

    /// Whether the broker is connected and every subscription confirmed; changes can be awaited.
    pub fn connected(&self) -> watch::Receiver<bool> {
        self.connected.clone()
    }
}

async fn keep_connected(
    setup: LinkSetup,
    outgoing: Arc<Outgoing>,
    state: watch::Sender<bool>,
    shutdown: Shutdown,
) {
    let mut delay = RECONNECT_DELAY_MIN;
    loop {
        let ended = connection::run(&setup.options, &setup.subscriptions, &outgoing, &state);
        let Some(ended) = shutdown.or(ended).await else {
            break;
        };
        outgoing.close();
        let was_connected = state.send_replace(false);
        tracing::warn!(error = crate::status::chain(&ended), was_connected, "broker link is down");
        metrics::counter!("mqtt_disconnects_total").increment(1);
        metrics::gauge!("mqtt_connected").set(0.0);
        delay = if was_connected { RECONNECT_DELAY_MIN } else { (delay * 2).min(RECONNECT_DELAY_MAX) };
        let jittered = rand::rng().random_range(delay / 2..=delay);
        if shutdown.or(tokio::time::sleep(jittered)).await.is_none() {
            break;
        }
    }
    outgoing.close();
    state.send_replace(false);
}

/// The parts of `mqtts://host:port`.
pub(crate) fn host_port(url: &str) -> Option<(String, u16)> {
    let (host, port) = url.strip_prefix("mqtts://")?.trim_end_matches('/').rsplit_once(':')?;
    let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    if host.is_empty() || host.contains('/') {
        return None;
    }
    Some((host.to_owned(), port.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_address_is_mqtts_host_and_port() {
        assert_eq!(host_port("mqtts://localhost:8883"), Some(("localhost".into(), 8883)));
        assert_eq!(host_port("mqtts://[::1]:8883/"), Some(("::1".into(), 8883)));
        for bad in
            ["", "mqtt://localhost:1883", "mqtts://localhost", "mqtts://:1", "mqtts://h:x", "mqtts://a/b:1"]
        {
            assert_eq!(host_port(bad), None, "{bad}");
        }
    }

    #[test]
    fn bulk_is_what_the_design_calls_bulk() {
        let control: Vec<_> = ChannelKind::ALL.into_iter().filter(|k| !is_bulk(*k)).collect();
        assert_eq!(
            control,
            [ChannelKind::Hello, ChannelKind::Update, ChannelKind::Config, ChannelKind::Enroll]
        );
    }
}
