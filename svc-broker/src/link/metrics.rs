//! What is counted, with the handles made once: counting a message costs an atomic addition.
//!
//! Names start with `holdfast_broker_`; docs/brokers.md lists them. Labels are closed lists, never a device.

use std::fmt;
use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};
use wire::topic::{ChannelKind, Direction};

use super::mailbox::Message;
use crate::model::peer::Listener;

/// Why a message went nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Loss {
    NotConnected,
    NotSubscribed,
    NoSubscriber,
    MailboxFull,
    TooLarge,
    Denied,
}

impl Loss {
    const ALL: [Loss; 6] = [
        Loss::NotConnected,
        Loss::NotSubscribed,
        Loss::NoSubscriber,
        Loss::MailboxFull,
        Loss::TooLarge,
        Loss::Denied,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Loss::NotConnected => "not_connected",
            Loss::NotSubscribed => "not_subscribed",
            Loss::NoSubscriber => "no_subscriber",
            Loss::MailboxFull => "mailbox_full",
            Loss::TooLarge => "too_large_for_client",
            Loss::Denied => "denied",
        }
    }
}

#[derive(Clone)]
pub(crate) struct Metrics {
    /// By direction, then channel: messages and bytes.
    delivered: [[(Counter, Counter); ChannelKind::ALL.len()]; 2],
    dropped: [Counter; Loss::ALL.len()],
    connections: [Gauge; 3],
    handshake_seconds: Histogram,
    connect_seconds: Histogram,
    wait_seconds: Histogram,
    /// By direction: messages and bytes that wait in mailboxes.
    waiting: [(Gauge, Gauge); 2],
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let channels = |direction: Direction| {
            ChannelKind::ALL.map(|channel| {
                let labels = [("direction", direction.name()), ("channel", channel.name())];
                (
                    counter!("holdfast_broker_messages_total", &labels),
                    counter!("holdfast_broker_payload_bytes_total", &labels),
                )
            })
        };
        Self {
            delivered: [channels(Direction::Up), channels(Direction::Down)],
            dropped: Loss::ALL.map(|why| counter!("holdfast_broker_dropped_total", "reason" => why.name())),
            connections: [Listener::Device, Listener::Enroll, Listener::Service]
                .map(|listener| gauge!("holdfast_broker_connections", "listener" => listener.name())),
            handshake_seconds: histogram!("holdfast_broker_handshake_seconds"),
            connect_seconds: histogram!("holdfast_broker_connect_seconds"),
            wait_seconds: histogram!("holdfast_broker_wait_seconds"),
            waiting: [Direction::Up, Direction::Down].map(|direction| {
                let labels = [("direction", direction.name())];
                (
                    gauge!("holdfast_broker_waiting_messages", &labels),
                    gauge!("holdfast_broker_waiting_bytes", &labels),
                )
            }),
        }
    }

    pub(crate) fn delivered(&self, message: &Message) {
        let kind = message.name.channel.kind();
        let channel = ChannelKind::ALL.iter().position(|channel| *channel == kind).unwrap_or(0);
        let (messages, bytes) = &self.delivered[message.name.direction as usize][channel];
        messages.increment(1);
        bytes.increment(message.payload.len() as u64);
    }

    pub(crate) fn dropped(&self, why: Loss) {
        self.dropped[why as usize].increment(1);
    }

    pub(crate) fn connected(&self, listener: Listener) {
        self.connections[listener as usize].increment(1.0);
    }

    pub(crate) fn disconnected(&self, listener: Listener) {
        self.connections[listener as usize].decrement(1.0);
    }

    pub(crate) fn handshake(&self, listener: Listener, result: &'static str) {
        counter!("holdfast_broker_handshakes_total", "listener" => listener.name(), "result" => result)
            .increment(1);
    }

    /// `result`: `ok` or why not.
    pub(crate) fn connect(&self, listener: Listener, result: &'static str) {
        counter!("holdfast_broker_connects_total", "listener" => listener.name(), "result" => result)
            .increment(1);
    }

    pub(crate) fn closed(&self, listener: Listener, reason: &'static str) {
        counter!("holdfast_broker_closed_total", "listener" => listener.name(), "reason" => reason)
            .increment(1);
    }

    /// A client or a listener was slowed down to a bound.
    pub(crate) fn paced(&self, bound: &'static str) {
        counter!("holdfast_broker_paced_total", "bound" => bound).increment(1);
    }

    /// From accept to the end of a handshake that went well.
    pub(crate) fn shaken(&self, took: Duration) {
        self.handshake_seconds.record(took);
    }

    /// From a CONNECT to its CONNACK.
    pub(crate) fn decided(&self, took: Duration) {
        self.connect_seconds.record(took);
    }

    /// How long a mailbox's first message had waited when it was taken.
    pub(crate) fn waited(&self, took: Duration) {
        self.wait_seconds.record(took);
    }

    pub(crate) fn waiting(&self, direction: Direction, messages: usize, bytes: usize) {
        let (all, size) = &self.waiting[direction as usize];
        all.set(messages as f64);
        size.set(bytes as f64);
    }

    pub(crate) fn panicked(&self) {
        counter!("holdfast_broker_panics_total").increment(1);
    }
}
