//! One connection, from connect to its end: subscribes, sends what is queued, hands out what comes in.
//!
//! rumqttc's client and event loop are made anew for every connection and given a few messages at a time, so that
//! order and priority stay ours. Its `poll` is never dropped half-way: it is not cancel-safe while it writes.

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{Filter, Packet, Publish, PublishProperties, SubscribeReasonCode};
use rumqttc::v5::{AsyncClient, ConnectionError, Event, MqttOptions};
use rumqttc::{NetworkOptions, TlsConfiguration, Transport};
use tokio::sync::watch;
use wire::limits::PACKET_BYTES_MAX;
use wire::topic::ChannelKind;
use wire::{Direction, Service, Topic};

use crate::trace::{TRACEPARENT, Trace};

use super::queue::Outgoing;
use super::{Incoming, MESSAGE_WEIGHT_MIN, Measured, Subscription, is_bulk};

/// Messages handed to rumqttc and not yet written.
const HANDED_MAX: usize = 16;
/// QoS 1 messages the broker has not acknowledged; all sending pauses at this many.
const INFLIGHT_MAX: u16 = 4096;
/// How long connecting, TLS and CONNACK may take together.
const CONNECT_MAX_S: u64 = 5;
const KEEP_ALIVE: Duration = Duration::from_secs(15);

#[derive(Debug)]
pub(super) struct Options {
    pub(super) service: Service,
    pub(super) client_id: String,
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) tls: Arc<rustls::ClientConfig>,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum Ended {
    #[error("connection failed")]
    Connection(#[from] ConnectionError),
    #[error("broker refused a subscription")]
    Refused,
    #[error("client could not be used")]
    Client,
}

/// Runs one connection; always ends with why it ended.
pub(super) async fn run(
    options: &Options,
    subscriptions: &[Subscription],
    outgoing: &Outgoing,
    state: &watch::Sender<bool>,
) -> Ended {
    // Room for every message handed over, and for the SUBSCRIBE packets.
    let (client, mut events) =
        AsyncClient::new(mqtt_options(options), HANDED_MAX + subscriptions.len().max(1));
    let mut connected = false;
    let mut handed = 0usize;
    let mut unconfirmed = subscriptions.len();
    loop {
        let event = {
            let mut poll = pin!(events.poll());
            loop {
                while connected && handed < HANDED_MAX {
                    let Some(message) = outgoing.pop() else { break };
                    let (qos, properties) = (qos(message.kind), properties(message.trace));
                    let (topic, payload) = (message.topic, message.payload);
                    if client.try_publish_with_properties(topic, qos, false, payload, properties).is_err() {
                        return Ended::Client;
                    }
                    metrics::counter!("mqtt_published_total", "channel" => message.kind.name()).increment(1);
                    handed += 1;
                }
                tokio::select! {
                    event = &mut poll => break event,
                    () = outgoing.pushed.notified(), if connected && handed < HANDED_MAX => {}
                }
            }
        };
        match event {
            Err(error) => return error.into(),
            Ok(Event::Incoming(Packet::ConnAck(_))) => {
                for subscription in subscriptions {
                    let filter = Filter::new(&subscription.filter, qos(subscription.kind));
                    if client.try_subscribe_many([filter]).is_err() {
                        return Ended::Client;
                    }
                }
                connected = true;
                outgoing.open();
                announce(state, unconfirmed);
            }
            Ok(Event::Incoming(Packet::SubAck(ack))) => {
                if ack.return_codes.iter().any(|code| !matches!(code, SubscribeReasonCode::Success(_))) {
                    return Ended::Refused;
                }
                unconfirmed = unconfirmed.saturating_sub(1);
                announce(state, unconfirmed);
            }
            Ok(Event::Incoming(Packet::Publish(publish))) => deliver(subscriptions, publish),
            Ok(Event::Outgoing(rumqttc::Outgoing::Publish(_))) => handed = handed.saturating_sub(1),
            Ok(_) => {}
        }
    }
}

fn announce(state: &watch::Sender<bool>, unconfirmed: usize) {
    if unconfirmed == 0 && !state.send_replace(true) {
        tracing::info!("broker link is up");
        metrics::gauge!("mqtt_connected").set(1.0);
    }
}

fn mqtt_options(options: &Options) -> MqttOptions {
    let mut mqtt = MqttOptions::new(&options.client_id, &options.host, options.port);
    mqtt.set_transport(Transport::Tls(TlsConfiguration::Rustls(options.tls.clone())))
        .set_clean_start(true)
        .set_keep_alive(KEEP_ALIVE)
        .set_connection_timeout(CONNECT_MAX_S)
        .set_max_packet_size(Some(u32::try_from(PACKET_BYTES_MAX).expect("a small constant")))
        .set_outgoing_inflight_upper_limit(INFLIGHT_MAX);
    let mut network = NetworkOptions::new();
    network.set_tcp_nodelay(true);
    mqtt.set_network_options(network);
    mqtt
}

fn properties(trace: Option<Trace>) -> PublishProperties {
    let user_properties = trace.map(|trace| (TRACEPARENT.to_owned(), trace.to_string()));
    PublishProperties {
        user_properties: user_properties.into_iter().collect(),
        ..PublishProperties::default()
    }
}

fn qos(kind: ChannelKind) -> QoS {
    if is_bulk(kind) { QoS::AtMostOnce } else { QoS::AtLeastOnce }
}

fn deliver(subscriptions: &[Subscription], publish: Publish) {
    let topic = std::str::from_utf8(&publish.topic).ok().and_then(|text| Topic::parse(text).ok());
    let Some(topic) = topic.filter(|topic| topic.direction == Direction::Up) else {
        return dropped("none", "topic");
    };
    let kind = topic.channel.kind();
    let Some(subscription) = subscriptions.iter().find(|s| s.kind == kind) else {
        return dropped(kind.name(), "unasked");
    };
    match offer(subscription, topic, publish.payload) {
        true => metrics::counter!("mqtt_received_total", "channel" => kind.name()).increment(1),
        false => dropped(kind.name(), "full"),
    }
}

/// Puts a message into its subscription's queue if there is room.
fn offer(subscription: &Subscription, topic: Topic, payload: Bytes) -> bool {
    let weight = u32::try_from(payload.len().max(MESSAGE_WEIGHT_MIN)).unwrap_or(u32::MAX);
    let Ok(room) = subscription.room.clone().try_acquire_many_owned(weight) else {
        return false;
    };
    let measured = Measured { channel: subscription.kind.name(), came: Instant::now() };
    subscription.sender.try_send(Incoming { topic, payload, _room: room, _measured: measured }).is_ok()
}

fn dropped(channel: &'static str, why: &'static str) {
    metrics::counter!("mqtt_incoming_dropped_total", "channel" => channel, "why" => why).increment(1);
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::{Semaphore, mpsc};
    use wire::{Channel, DeviceId};

    fn subscription(bytes_max: usize) -> (Subscription, mpsc::Receiver<Incoming>) {
        let (sender, receiver) = mpsc::channel((bytes_max / MESSAGE_WEIGHT_MIN).max(1));
        let room = Arc::new(Semaphore::new(bytes_max));
        (Subscription { kind: ChannelKind::Log, filter: String::new(), room, sender }, receiver)
    }

    fn publish(topic: &str, bytes: usize) -> Publish {
        Publish::new(topic, QoS::AtMostOnce, vec![0; bytes], None)
    }

    #[test]
    fn only_up_topics_of_subscribed_channels_come_in() {
        let (subscription, mut receiver) = subscription(1 << 20);
        let subscriptions = [subscription];
        let id = DeviceId::new([1; 16]);
        for topic in [
            Topic::down(id, Channel::Log).to_string(),
            Topic::up(id, Channel::Hello).to_string(),
            "anything/else".to_string(),
            "hf/1/é/up/log".to_string(),
        ] {
            deliver(&subscriptions, publish(&topic, 10));
        }
        assert!(receiver.try_recv().is_err());
        deliver(&subscriptions, publish(&Topic::up(id, Channel::Log).to_string(), 10));
        assert_eq!(receiver.try_recv().unwrap().topic, Topic::up(id, Channel::Log));
    }

    #[test]
    fn a_queue_is_bounded_by_bytes_and_free_again_when_messages_are_done() {
        let (subscription, mut receiver) = subscription(4 * 32 * 1024);
        let topic = Topic::up(DeviceId::new([1; 16]), Channel::Log);
        let big = Bytes::from(vec![0; 32 * 1024]);
        let taken = (0..).take_while(|_| offer(&subscription, topic, big.clone())).count();
        assert_eq!(taken, 4);
        drop(receiver.try_recv().unwrap());
        assert!(offer(&subscription, topic, big));
    }
}
