//! One MQTT 5 connection as a machine without a socket: bytes in, bytes out, `poll(now)`.
//!
//! Owns the packets (codec: `mountain-mqtt`, no allocation, packets are read where they lie), packet ids, keep-alive
//! and the bounds of both buffers. A connection always starts clean and subscribes to exactly one filter.
//!
//! It never retransmits: whoever needs a message to arrive sends it again until the service answers (DESIGN: laws 1
//! and 2), so a PUBACK only returns the broker's quota. It never queues what has no room: `publish` refuses.

use mountain_mqtt::codec::mqtt_reader::MqttBufReader;
use mountain_mqtt::codec::mqtt_writer::MqttBufWriter;
use mountain_mqtt::codec::read::Read as _;
use mountain_mqtt::data::packet_identifier::{PacketIdentifier, PublishPacketIdentifier};
use mountain_mqtt::data::packet_type::PacketType;
use mountain_mqtt::data::property::{ConnackProperty, ConnectProperty, Property as _};
use mountain_mqtt::data::quality_of_service::QualityOfService;
use mountain_mqtt::data::reason_code::{ConnectReasonCode, DisconnectReasonCode, PublishReasonCode};
use mountain_mqtt::data::subscription_options::{RetainHandling, SubscriptionOptions};
use mountain_mqtt::packets::connack::Connack;
use mountain_mqtt::packets::connect::{Connect, Will};
use mountain_mqtt::packets::disconnect::Disconnect;
use mountain_mqtt::packets::pingreq::Pingreq;
use mountain_mqtt::packets::puback::Puback;
use mountain_mqtt::packets::publish::Publish;
use mountain_mqtt::packets::suback::Suback;
use mountain_mqtt::packets::subscribe::{Subscribe, SubscriptionRequest};
use wire::limits::PACKET_BYTES_MAX;
use wire::msg::Message;

use super::buffer::{Rx, Tx};

/// From CONNECT to SUBACK.
pub const CONNECT_TIMEOUT_MS: u64 = 20_000;
/// From PINGREQ to anything at all.
pub const PING_TIMEOUT_MS: u64 = 15_000;
/// From a QoS 1 publish to its PUBACK: a broker that never gives its quota back is of no use.
pub const PUBACK_TIMEOUT_MS: u64 = 60_000;
/// From DISCONNECT until its bytes were sent.
pub const LEAVE_TIMEOUT_MS: u64 = 2_000;
/// Silence on our side after which we ping, unless the broker asks for less.
pub const KEEP_ALIVE_S: u16 = 60;
/// QoS 1 publishes without PUBACK at one time.
pub const INFLIGHT_MAX: usize = 8;
/// What the broker may have unacknowledged towards us: we answer each at once.
const RECEIVE_MAXIMUM: u16 = 32;
/// Bytes of `Tx` that publishes leave free for PUBACK and PINGREQ.
const CONTROL_RESERVE: usize = 64;
/// Properties the codec reads of one packet.
const PROPERTIES_MAX: usize = 16;
/// First byte of a PUBLISH without flags (MQTT 5 §3.3.1); QoS 1 is 2, which is also the length of its packet id.
const PUBLISH: u8 = 0x30;
/// The length of none.
const NO_PROPERTIES: [u8; 1] = [0];
const SUBSCRIBE_ID: u16 = 1;

/// Why a connection must be closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// CONNACK or SUBACK said no; the reason code.
    Refused(u8),
    /// The broker sent DISCONNECT; the reason code.
    Disconnected(u8),
    /// A packet above `PACKET_BYTES_MAX` or the buffer's size.
    TooLarge,
    /// Bytes that are not MQTT, or a packet that has no business here.
    Protocol,
    /// No answer in time.
    Silent,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Closed,
    Connecting,
    Subscribing,
    Online,
    /// DISCONNECT is on its way.
    Leaving,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Qos {
    /// At most once: bulk under our own credit.
    AtMostOnce,
    AtLeastOnce,
}

/// What the connection is opened with.
#[derive(Debug, Clone, Copy)]
pub struct Opening<'a> {
    pub client_id: &'a str,
    pub filter: &'a str,
    /// Topic and payload the broker publishes when this connection ends.
    pub will: Option<(&'a str, &'a [u8])>,
}

/// What `next` found.
#[derive(Debug, PartialEq, Eq)]
pub enum Incoming<'p> {
    /// CONNACK and SUBACK came: publishing may begin.
    Online,
    Publish {
        topic: &'p str,
        payload: &'p [u8],
    },
    /// The broker refused one of our publishes.
    PublishRefused(u8),
}

/// No room in the send buffer or the broker's quota; try again when bytes were sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

/// The connection.
#[derive(Debug)]
pub struct Mqtt<'b> {
    rx: Rx<'b>,
    tx: Tx<'b>,
    phase: Phase,
    filter: heapless::String<64>,
    inflight: heapless::Vec<u16, INFLIGHT_MAX>,
    inflight_max: usize,
    next_id: u16,
    keep_alive_ms: u64,
    opened_ms: u64,
    sent_ms: u64,
    pinged_ms: Option<u64>,
    /// Since when a PUBACK is waited for.
    quota_ms: Option<u64>,
}

impl<'b> Mqtt<'b> {
    /// `rx` should hold `PACKET_BYTES_MAX`; a smaller one narrows what is accepted, and the broker is told.
    pub fn new(rx: &'b mut [u8], tx: &'b mut [u8]) -> Self {
        Self {
            rx: Rx::new(rx),
            tx: Tx::new(tx),
            phase: Phase::Closed,
            filter: heapless::String::new(),
            inflight: heapless::Vec::new(),
            inflight_max: INFLIGHT_MAX,
            next_id: SUBSCRIBE_ID,
            keep_alive_ms: 0,
            opened_ms: 0,
            sent_ms: 0,
            pinged_ms: None,
            quota_ms: None,
        }
    }

    /// Starts a connection over a fresh byte stream.
    pub fn open(&mut self, now_ms: u64, opening: Opening<'_>) -> Result<(), Fault> {
        self.close();
        self.filter = heapless::String::try_from(opening.filter).map_err(|_| Fault::TooLarge)?;
        self.keep_alive_ms = u64::from(KEEP_ALIVE_S) * 1000;
        (self.opened_ms, self.sent_ms, self.pinged_ms) = (now_ms, now_ms, None);
        let will = opening.will.map(|(topic, payload)| {
            Will::<0>::new(QualityOfService::Qos1, false, topic, payload, Default::default())
        });
        let mut connect: Connect<'_, 2, 0> =
            Connect::new(KEEP_ALIVE_S, None, None, opening.client_id, true, will, Default::default());
        let largest = self.rx.capacity().min(PACKET_BYTES_MAX) as u32;
        // Cannot fail: room for two.
        let _ = connect.properties.push(ConnectProperty::MaximumPacketSize(largest.into()));
        let _ = connect.properties.push(ConnectProperty::ReceiveMaximum(RECEIVE_MAXIMUM.into()));
        self.phase = Phase::Connecting;
        self.put(&connect).map_err(|_| Fault::TooLarge)
    }

    pub fn close(&mut self) {
        self.rx.clear();
        self.tx.clear();
        self.inflight.clear();
        self.quota_ms = None;
        self.inflight_max = INFLIGHT_MAX;
        self.phase = Phase::Closed;
    }

    pub fn is_online(&self) -> bool {
        self.phase == Phase::Online
    }

    /// Says good-bye; false when there is no room for that yet. The will is to be published: it is how services learn that
    /// the device is offline (MQTT 5 §3.14.2.1).
    pub fn leave(&mut self, now_ms: u64) -> bool {
        let disconnect: Disconnect<'_, 0> =
            Disconnect::new(DisconnectReasonCode::DisconnectWithWillMessage, Default::default());
        if self.phase != Phase::Online || self.put(&disconnect).is_err() {
            return false;
        }
        self.phase = Phase::Leaving;
        self.opened_ms = now_ms;
        self.rx.clear();
        true
    }

    pub fn is_leaving(&self) -> bool {
        self.phase == Phase::Leaving
    }

    /// Good-bye was said, or cannot be said: the byte stream may go.
    pub fn has_left(&self, now_ms: u64) -> bool {
        self.is_leaving() && (self.tx.is_empty() || now_ms >= self.deadline_ms())
    }

    /// The id of the newest QoS 1 publish.
    pub fn packet_id(&self) -> u16 {
        self.next_id
    }

    /// The broker has not acknowledged this publish.
    pub fn is_in_flight(&self, packet_id: u16) -> bool {
        self.inflight.contains(&packet_id)
    }

    /// Where the board puts received bytes; then it calls `received`.
    pub fn spare(&mut self) -> &mut [u8] {
        self.rx.release();
        self.rx.spare()
    }

    pub fn received(&mut self, count: usize) {
        if self.is_leaving() {
            return;
        }
        self.rx.filled(count);
    }

    /// Bytes for the board to send; then it calls `sent`.
    pub fn pending(&self) -> &[u8] {
        self.tx.pending()
    }

    pub fn sent(&mut self, now_ms: u64, count: usize) {
        self.tx.sent(count);
        self.sent_ms = now_ms;
    }

    /// Nothing waits to be sent: bulk may go.
    pub fn is_drained(&self) -> bool {
        self.tx.is_empty()
    }

    /// The next thing received, or nothing until more bytes come (or bytes are sent: a full send buffer stops us
    /// from reading on, since an answer could be needed).
    pub fn next(&mut self, now_ms: u64) -> Result<Option<Incoming<'_>>, Fault> {
        loop {
            self.rx.release();
            if matches!(self.phase, Phase::Closed | Phase::Leaving) || self.tx.free() < CONTROL_RESERVE {
                return Ok(None);
            }
            let Some(length) = packet_length(self.rx.unread(), self.rx.capacity())? else { return Ok(None) };
            self.rx.hold(length);
            self.pinged_ms = None;
            if PacketType::try_from(self.rx.held()[0]) == Ok(PacketType::Publish) {
                break;
            }
            if let Some(incoming) = self.control(now_ms)? {
                return Ok(Some(incoming));
            }
        }
        if self.phase != Phase::Online {
            return Err(Fault::Protocol);
        }
        let publish = Publish::<PROPERTIES_MAX>::read(&mut MqttBufReader::new(self.rx.held()))
            .map_err(|_| Fault::Protocol)?;
        // MQTT 5 §3.3.4: QoS 2 was not asked for, so it cannot come. (The codec reads it as QoS 1.)
        if self.rx.held()[0] & 0b0100 != 0 {
            return Err(Fault::Protocol);
        }
        if let PublishPacketIdentifier::Qos1(id) = publish.publish_packet_identifier() {
            let ack: Puback<'_, 0> = Puback::new(*id, PublishReasonCode::Success, Default::default());
            // Cannot fail: the reserve was checked above.
            let _ = put(&mut self.tx, &ack);
        }
        Ok(Some(Incoming::Publish { topic: publish.topic_name(), payload: publish.payload() }))
    }

    /// Publishes one protobuf message.
    pub fn publish<'m, M: Message<'m>>(&mut self, topic: &str, qos: Qos, message: &M) -> Result<(), Full> {
        let length = message.encoded_len();
        self.publish_with(topic, qos, length, |mut bytes| message.encode(&mut bytes).map_err(|_| Full))
    }

    /// Publishes `length` bytes that `write` fills in.
    pub fn publish_with(
        &mut self,
        topic: &str,
        qos: Qos,
        length: usize,
        write: impl FnOnce(&mut [u8]) -> Result<(), Full>,
    ) -> Result<(), Full> {
        if self.phase != Phase::Online
            || (qos == Qos::AtLeastOnce && self.inflight.len() >= self.inflight_max)
        {
            return Err(Full);
        }
        // MQTT 5 §3.3: everything before the payload has a length that is known before it, so the payload is made where it
        // is sent from.
        let id_bytes = if qos == Qos::AtLeastOnce { 2 } else { 0 };
        let remaining = 2 + topic.len() + id_bytes + NO_PROPERTIES.len() + length;
        let (remaining_length, remaining_bytes) = variable_length(remaining);
        let head_bytes = 1 + remaining_bytes + remaining - length;
        let spare = self.tx.spare();
        if remaining > PACKET_BYTES_MAX || spare.len() < head_bytes + length + CONTROL_RESERVE {
            return Err(Full);
        }
        let (mut head, payload) = spare[..head_bytes + length].split_at_mut(head_bytes);
        write(payload)?;
        let mut id = [0; 2];
        if qos == Qos::AtLeastOnce {
            self.next_id = self.next_id.wrapping_add(1).max(SUBSCRIBE_ID + 1);
            // Cannot fail: checked above.
            let _ = self.inflight.push(self.next_id);
            id = self.next_id.to_be_bytes();
        }
        let first = [PUBLISH | (id_bytes as u8)];
        let topic_bytes = (topic.len() as u16).to_be_bytes();
        for part in [
            &first[..],
            &remaining_length[..remaining_bytes],
            &topic_bytes,
            topic.as_bytes(),
            &id[..id_bytes],
            &NO_PROPERTIES,
        ] {
            let (place, rest) = core::mem::take(&mut head).split_at_mut(part.len());
            place.copy_from_slice(part);
            head = rest;
        }
        self.tx.filled(head_bytes + length);
        Ok(())
    }

    /// Keep-alive and time-outs.
    pub fn poll(&mut self, now_ms: u64) -> Result<(), Fault> {
        if self.inflight.is_empty() {
            self.quota_ms = None;
        } else if self.quota_ms.is_none() {
            self.quota_ms = Some(now_ms);
        }
        if matches!(self.phase, Phase::Closed | Phase::Leaving) || now_ms < self.deadline_ms() {
            return Ok(());
        }
        let is_idle = self.pinged_ms.is_none() && now_ms >= self.sent_ms + self.keep_alive_ms;
        if self.phase != Phase::Online || !is_idle {
            return Err(Fault::Silent);
        }
        // A buffer still full after a whole keep-alive is a dead connection.
        self.put(&Pingreq::default()).map_err(|_| Fault::Silent)?;
        self.pinged_ms = Some(now_ms);
        Ok(())
    }

    /// When `poll` has something to do at the latest.
    pub fn deadline_ms(&self) -> u64 {
        let quota_ms = self.quota_ms.map_or(u64::MAX, |since_ms| since_ms + PUBACK_TIMEOUT_MS);
        match (self.phase, self.pinged_ms) {
            (Phase::Closed, _) => u64::MAX,
            (Phase::Leaving, _) => self.opened_ms + LEAVE_TIMEOUT_MS,
            (Phase::Connecting | Phase::Subscribing, _) => self.opened_ms + CONNECT_TIMEOUT_MS,
            (Phase::Online, Some(pinged_ms)) => quota_ms.min(pinged_ms + PING_TIMEOUT_MS),
            (Phase::Online, None) => quota_ms.min(self.sent_ms + self.keep_alive_ms),
        }
    }

    /// Handles the held packet, which is not a PUBLISH.
    fn control(&mut self, now_ms: u64) -> Result<Option<Incoming<'static>>, Fault> {
        let held = self.rx.held();
        let mut reader = MqttBufReader::new(held);
        match (PacketType::try_from(held[0]).map_err(|_| Fault::Protocol)?, self.phase) {
            (PacketType::Connack, Phase::Connecting) => {
                let (mut keep_alive_ms, mut inflight_max) = (self.keep_alive_ms, INFLIGHT_MAX);
                let connack = Connack::<PROPERTIES_MAX>::read(&mut reader).map_err(|_| Fault::Protocol)?;
                if *connack.reason_code() != ConnectReasonCode::Success {
                    return Err(Fault::Refused(*connack.reason_code() as u8));
                }
                for property in connack.properties() {
                    match property {
                        // MQTT 5 §3.2.2.3.14: the server's value replaces ours.
                        ConnackProperty::ServerKeepAlive(value) if value.value() > 0 => {
                            keep_alive_ms = keep_alive_ms.min(u64::from(value.value()) * 1000);
                        }
                        ConnackProperty::ReceiveMaximum(value) => {
                            inflight_max = inflight_max.min(usize::from(value.value()));
                        }
                        _ => {}
                    }
                }
                drop(connack);
                (self.keep_alive_ms, self.inflight_max) = (keep_alive_ms, inflight_max);
                self.phase = Phase::Subscribing;
                self.subscribe()?;
                Ok(None)
            }
            (PacketType::Suback, Phase::Subscribing) => {
                let suback = Suback::<PROPERTIES_MAX, 0>::read(&mut reader).map_err(|_| Fault::Protocol)?;
                let code = *suback.first_reason_code() as u8;
                if code >= 0x80 || suback.packet_identifier().0 != SUBSCRIBE_ID {
                    return Err(Fault::Refused(code));
                }
                self.phase = Phase::Online;
                self.sent_ms = self.sent_ms.max(now_ms);
                Ok(Some(Incoming::Online))
            }
            (PacketType::Puback, Phase::Online) => {
                let puback = Puback::<PROPERTIES_MAX>::read(&mut reader).map_err(|_| Fault::Protocol)?;
                let (id, code) = (puback.packet_identifier().0, *puback.reason_code() as u8);
                self.inflight.retain(|held| *held != id);
                self.quota_ms = None;
                Ok((code >= 0x80).then_some(Incoming::PublishRefused(code)))
            }
            (PacketType::Pingresp, Phase::Online) => Ok(None),
            (PacketType::Disconnect, _) => {
                let reason = Disconnect::<PROPERTIES_MAX>::read(&mut reader)
                    .map_or(DisconnectReasonCode::UnspecifiedError, |packet| *packet.reason_code());
                Err(Fault::Disconnected(reason as u8))
            }
            _ => Err(Fault::Protocol),
        }
    }

    fn subscribe(&mut self) -> Result<(), Fault> {
        let filter = self.filter.clone();
        let options = SubscriptionOptions {
            maximum_qos: QualityOfService::Qos1,
            no_local: false,
            retain_as_published: false,
            retain_handling: RetainHandling::DoNotSend,
        };
        let request = SubscriptionRequest { topic_name: &filter, options };
        let subscribe: Subscribe<'_, 0, 0> =
            Subscribe::new(PacketIdentifier(SUBSCRIBE_ID), request, Default::default(), Default::default());
        self.put(&subscribe).map_err(|_| Fault::TooLarge)
    }

    fn put(&mut self, packet: &impl mountain_mqtt::codec::write::Write) -> Result<(), Full> {
        put(&mut self.tx, packet)
    }
}

fn put(tx: &mut Tx<'_>, packet: &impl mountain_mqtt::codec::write::Write) -> Result<(), Full> {
    let mut writer = MqttBufWriter::new(tx.spare());
    packet.write(&mut writer).map_err(|_| Full)?;
    let count = writer.position();
    tx.filled(count);
    Ok(())
}

/// A length of at most `PACKET_BYTES_MAX` as it is written, and in how many bytes (MQTT 5 §1.5.5).
fn variable_length(value: usize) -> ([u8; 3], usize) {
    let low = |shift: u32| (value >> shift) as u8 & 0x7f;
    match value {
        0..0x80 => ([low(0), 0, 0], 1),
        0x80..0x4000 => ([low(0) | 0x80, low(7), 0], 2),
        _ => ([low(0) | 0x80, low(7) | 0x80, low(14)], 3),
    }
}

/// Bytes of the packet at the front, once all of it is there (MQTT 5 §2.1.4).
fn packet_length(bytes: &[u8], capacity: usize) -> Result<Option<usize>, Fault> {
    let (mut value, mut shift) = (0_usize, 0);
    for (index, byte) in bytes.iter().skip(1).take(4).enumerate() {
        value |= usize::from(byte & 0x7f) << shift;
        shift += 7;
        if byte & 0x80 == 0 {
            let length = 2 + index + value;
            if length > capacity.min(PACKET_BYTES_MAX) {
                return Err(Fault::TooLarge);
            }
            return Ok((bytes.len() >= length).then_some(length));
        }
    }
    if bytes.len() > 4 { Err(Fault::Protocol) } else { Ok(None) }
}
