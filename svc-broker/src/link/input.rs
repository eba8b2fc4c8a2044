//! Bytes from a client to packets: our framing and checks around rumqttd's codec.
//!
//! Holds: the codec sees only whole frames of the six types a client may send after CONNECT, within the size limit
//! and with the flags MQTT fixes; whatever it then finds missing is a malformed packet, never a wait for more. No
//! QoS 2, retained message, topic alias or subscription identifier passes. Nothing here panics on any input.

use bytes::{BufMut as _, Bytes, BytesMut};
use kit::trace::{TRACEPARENT, Trace};
use rumqttd::protocol::v4::V4;
use rumqttd::protocol::v5::V5;
use rumqttd::protocol::{
    self, ConnectProperties, DisconnectReasonCode, LastWill, Packet, Protocol as _, PublishProperties, QoS,
};

/// MQTT 5 §2.1.1: type, flags and up to four bytes of length.
const HEADER_BYTES_MAX: usize = 5;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    V4,
    V5,
}

/// Why a client's bytes end its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Violation {
    #[error("malformed packet")]
    Malformed,
    #[error("packet is too large")]
    TooLarge,
    #[error("packet type is not allowed here")]
    Type,
    #[error("QoS 2 is not supported")]
    Qos,
    #[error("retained messages are not supported")]
    Retained,
    #[error("topic aliases are not supported")]
    Alias,
    #[error("subscription identifiers are not supported")]
    Identifier,
    #[error("protocol name or level is not supported")]
    Version,
}

impl Violation {
    /// DISCONNECT reason (MQTT 5 §3.14.2.1).
    pub(crate) const fn code(self) -> u8 {
        match self {
            Violation::Malformed => 0x81,
            Violation::Type | Violation::Version => 0x82,
            Violation::Alias => 0x94,
            Violation::TooLarge => 0x95,
            Violation::Retained => 0x9a,
            Violation::Qos => 0x9b,
            Violation::Identifier => 0xa1,
        }
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Violation::Malformed => "malformed",
            Violation::TooLarge => "packet_too_large",
            Violation::Type => "packet_type",
            Violation::Qos => "qos2",
            Violation::Retained => "retained",
            Violation::Alias => "topic_alias",
            Violation::Identifier => "subscription_identifier",
            Violation::Version => "protocol_version",
        }
    }
}

/// A message as it came in; `topic` is not yet known to be one of ours.
#[derive(Debug)]
pub(crate) struct Publish {
    pub(crate) topic: Bytes,
    pub(crate) payload: Bytes,
    /// MQTT 5 properties, encoded with their length; empty: none.
    pub(crate) properties: Bytes,
    /// Packet id, with QoS 1 only.
    pub(crate) id: Option<u16>,
    /// Of the user property `traceparent`.
    pub(crate) trace: Option<Trace>,
}

#[derive(Debug)]
pub(crate) enum Input {
    Publish(Publish),
    PubAck(u16),
    Subscribe { id: u16, filters: Vec<(String, u8)> },
    Unsubscribe { id: u16, filters: Vec<String> },
    Ping,
    Disconnect { with_will: bool },
}

#[derive(Debug)]
pub(crate) struct Connect {
    pub(crate) version: Version,
    pub(crate) client_id: String,
    pub(crate) keep_alive_s: u16,
    pub(crate) will: Option<Will>,
    pub(crate) authentication: bool,
    pub(crate) receive_maximum: Option<u16>,
    pub(crate) packet_bytes_max: Option<u32>,
}

#[derive(Debug, Clone)]
pub(crate) struct Will {
    pub(crate) topic: Bytes,
    pub(crate) payload: Bytes,
    pub(crate) qos: u8,
    pub(crate) retain: bool,
}

/// Length of the frame at the start of `buffer`, header included; `None` while too little has come to tell.
pub(crate) fn frame_bytes(buffer: &[u8], max: usize) -> Result<Option<usize>, Violation> {
    let mut length = 0;
    for (index, byte) in buffer.iter().skip(1).take(HEADER_BYTES_MAX - 1).enumerate() {
        length |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            let frame = 2 + index + length;
            return if frame > max { Err(Violation::TooLarge) } else { Ok(Some(frame)) };
        }
    }
    if buffer.len() >= HEADER_BYTES_MAX { Err(Violation::Malformed) } else { Ok(None) }
}

/// One whole CONNECT frame.
pub(crate) fn connect(frame: BytesMut) -> Result<Connect, Violation> {
    let version = connect_version(&frame)?;
    let (packet, properties, will, ..) = match decode(version, frame)? {
        Packet::Connect(connect, properties, will, will_properties, login) => {
            (connect, properties.unwrap_or_else(no_properties), will, will_properties, login)
        }
        _ => return Err(Violation::Type),
    };
    if properties.receive_maximum == Some(0) || properties.max_packet_size == Some(0) {
        return Err(Violation::Malformed);
    }
    Ok(Connect {
        version,
        client_id: packet.client_id,
        keep_alive_s: packet.keep_alive,
        will: will.map(Will::from),
        authentication: properties.authentication_method.is_some(),
        receive_maximum: properties.receive_maximum,
        packet_bytes_max: properties.max_packet_size,
    })
}

/// The level byte after the name `MQTT`; the reserved flag must be zero (MQTT 5 §3.1.2.3).
fn connect_version(frame: &[u8]) -> Result<Version, Violation> {
    if frame.first() != Some(&0x10) {
        return Err(Violation::Type);
    }
    let header =
        1 + frame.iter().skip(1).take(HEADER_BYTES_MAX - 1).take_while(|byte| *byte & 0x80 != 0).count() + 1;
    let Some([0, 4, b'M', b'Q', b'T', b'T', level, flags]) = frame.get(header..header + 8) else {
        return Err(Violation::Version);
    };
    match (level, flags & 1) {
        (4, 0) => Ok(Version::V4),
        (5, 0) => Ok(Version::V5),
        (4 | 5, _) => Err(Violation::Malformed),
        _ => Err(Violation::Version),
    }
}

/// One whole frame after CONNECT.
pub(crate) fn packet(version: Version, frame: BytesMut) -> Result<Input, Violation> {
    let first = *frame.first().ok_or(Violation::Malformed)?;
    // MQTT 5 §2.1.3: flags of every type but PUBLISH are fixed.
    match (first >> 4, first & 0x0f) {
        (3, flags) => return publish(version, flags, frame).map(Input::Publish),
        (4 | 12 | 14, 0) | (8 | 10, 2) => {}
        (4 | 8 | 10 | 12 | 14, _) => return Err(Violation::Malformed),
        _ => return Err(Violation::Type),
    }
    if let [0xe0, 1, code] = frame[..] {
        // MQTT 5 §3.14.2.2.1 allows a reason without properties; the codec does not.
        return Ok(Input::Disconnect { with_will: code == 0x04 });
    }
    // MQTT 5 §1.5.4: no text has a NUL.
    let whole = |text: &str| !text.contains('\0');
    match decode(version, frame)? {
        Packet::PubAck(ack, _) => Ok(Input::PubAck(ack.pkid)),
        Packet::PingReq(_) => Ok(Input::Ping),
        Packet::Disconnect(disconnect, _) => Ok(Input::Disconnect {
            with_will: disconnect.reason_code == DisconnectReasonCode::DisconnectWithWillMessage,
        }),
        Packet::Subscribe(_, Some(properties)) if properties.id.is_some() => Err(Violation::Identifier),
        Packet::Subscribe(subscribe, _)
            if subscribe.pkid != 0 && subscribe.filters.iter().all(|filter| whole(&filter.path)) =>
        {
            Ok(Input::Subscribe {
                id: subscribe.pkid,
                filters: subscribe
                    .filters
                    .into_iter()
                    .map(|filter| (filter.path, filter.qos as u8))
                    .collect(),
            })
        }
        Packet::Unsubscribe(unsubscribe, _)
            if unsubscribe.pkid != 0
                && !unsubscribe.filters.is_empty()
                && unsubscribe.filters.iter().all(|filter| whole(filter)) =>
        {
            Ok(Input::Unsubscribe { id: unsubscribe.pkid, filters: unsubscribe.filters })
        }
        _ => Err(Violation::Malformed),
    }
}

fn publish(version: Version, flags: u8, frame: BytesMut) -> Result<Publish, Violation> {
    let (qos, retain) = ((flags >> 1) & 3, flags & 1 == 1);
    match qos {
        0 | 1 => {}
        2 => return Err(Violation::Qos),
        _ => return Err(Violation::Malformed),
    }
    if retain {
        return Err(Violation::Retained);
    }
    let id = if qos == 1 { Some(packet_id(&frame).ok_or(Violation::Malformed)?) } else { None };
    let Packet::Publish(publish, properties) = decode(version, frame)? else {
        return Err(Violation::Malformed);
    };
    if !is_name(&publish.topic) {
        return Err(Violation::Malformed);
    }
    let trace = properties.as_ref().and_then(traceparent);
    let properties = properties.as_ref().map_or(Ok(Bytes::new()), encode_properties)?;
    Ok(Publish { topic: publish.topic, payload: publish.payload, properties, id, trace })
}

fn traceparent(properties: &PublishProperties) -> Option<Trace> {
    let (_, value) = properties.user_properties.iter().find(|(key, _)| key == TRACEPARENT)?;
    value.parse().ok()
}

/// A text that may be a topic's name: some characters, none of them a control character (MQTT 5 §1.5.4) or a wildcard
/// (§3.3.2.1, §4.7.3).
fn is_name(topic: &[u8]) -> bool {
    let fits = |char: char| !char.is_control() && char != '+' && char != '#';
    !topic.is_empty() && std::str::from_utf8(topic).is_ok_and(|text| text.chars().all(fits))
}

/// The packet id behind the topic of a QoS 1 PUBLISH, which the codec keeps to itself.
fn packet_id(frame: &[u8]) -> Option<u16> {
    let header = 2 + frame.iter().skip(1).take_while(|byte| *byte & 0x80 != 0).count();
    let topic = usize::from(u16::from_be_bytes(frame.get(header..header + 2)?.try_into().ok()?));
    let at = header + 2 + topic;
    let id = u16::from_be_bytes(frame.get(at..at + 2)?.try_into().ok()?);
    (id != 0).then_some(id)
}

fn decode(version: Version, mut frame: BytesMut) -> Result<Packet, Violation> {
    let max = frame.len();
    let packet = match version {
        Version::V4 => V4.read_mut(&mut frame, max),
        Version::V5 => V5.read_mut(&mut frame, max),
    };
    packet.map_err(|error| match error {
        protocol::Error::InvalidQoS(_) => Violation::Qos,
        _ => Violation::Malformed,
    })
}

fn no_properties() -> ConnectProperties {
    ConnectProperties {
        session_expiry_interval: None,
        receive_maximum: None,
        max_packet_size: None,
        topic_alias_max: None,
        request_response_info: None,
        request_problem_info: None,
        user_properties: Vec::new(),
        authentication_method: None,
        authentication_data: None,
    }
}

/// The properties of a PUBLISH again, as they go to every MQTT 5 receiver (MQTT 5 §3.3.2.3).
fn encode_properties(properties: &PublishProperties) -> Result<Bytes, Violation> {
    if properties.topic_alias.is_some() {
        return Err(Violation::Alias);
    }
    if !properties.subscription_identifiers.is_empty() {
        // MQTT 5 §3.3.4: not from a client to a server.
        return Err(Violation::Type);
    }
    let mut body = BytesMut::new();
    let string = |id: u8, value: &[u8], body: &mut BytesMut| {
        body.put_u8(id);
        put_bytes(body, value);
    };
    if let Some(indicator) = properties.payload_format_indicator {
        body.put_slice(&[1, indicator]);
    }
    if let Some(expiry) = properties.message_expiry_interval {
        body.put_u8(2);
        body.put_u32(expiry);
    }
    if let Some(content_type) = &properties.content_type {
        string(3, content_type.as_bytes(), &mut body);
    }
    if let Some(topic) = &properties.response_topic {
        string(8, topic.as_bytes(), &mut body);
    }
    if let Some(data) = &properties.correlation_data {
        string(9, data, &mut body);
    }
    for (key, value) in &properties.user_properties {
        string(38, key.as_bytes(), &mut body);
        put_bytes(&mut body, value.as_bytes());
    }
    let mut encoded = BytesMut::with_capacity(body.len() + 4);
    super::output::put_length(&mut encoded, body.len());
    encoded.put_slice(&body);
    Ok(encoded.freeze())
}

/// Each was at most 65,535 bytes in the frame it came from.
fn put_bytes(buffer: &mut BytesMut, value: &[u8]) {
    buffer.put_u16(value.len() as u16);
    buffer.put_slice(value);
}

impl From<LastWill> for Will {
    fn from(will: LastWill) -> Self {
        let qos = match will.qos {
            QoS::AtMostOnce => 0,
            QoS::AtLeastOnce => 1,
            QoS::ExactlyOnce => 2,
        };
        Self { topic: will.topic, payload: will.message, qos, retain: will.retain }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(version: Version, bytes: &[u8]) -> Result<Input, Violation> {
        packet(version, BytesMut::from(bytes))
    }

    #[test]
    fn a_frames_length_is_known_from_its_header_and_bounded() {
        assert_eq!(frame_bytes(&[], 10), Ok(None));
        assert_eq!(frame_bytes(&[0x30], 10), Ok(None));
        assert_eq!(frame_bytes(&[0x30, 8], 10), Ok(Some(10)));
        assert_eq!(frame_bytes(&[0x30, 9], 10), Err(Violation::TooLarge));
        assert_eq!(frame_bytes(&[0x30, 0x80], 1000), Ok(None));
        assert_eq!(frame_bytes(&[0x30, 0x80, 0x01], 1000), Ok(Some(131)));
        assert_eq!(frame_bytes(&[0x30, 0xff, 0xff, 0xff, 0x7f], usize::MAX), Ok(Some(268_435_460)));
        assert_eq!(frame_bytes(&[0x30, 0xff, 0xff, 0xff, 0xff], usize::MAX), Err(Violation::Malformed));
    }

    #[test]
    fn both_versions_are_told_apart_and_others_refused() {
        let v4 = b"\x10\x0e\x00\x04MQTT\x04\x02\x00\x3c\x00\x02dv";
        let v5 = b"\x10\x0f\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x02dv";
        assert_eq!(connect(BytesMut::from(&v4[..])).unwrap().version, Version::V4);
        let connect5 = connect(BytesMut::from(&v5[..])).unwrap();
        assert_eq!(
            (connect5.version, connect5.keep_alive_s, connect5.client_id.as_str()),
            (Version::V5, 60, "dv")
        );
        for (other, violation) in [
            (&b"\x10\x0e\x00\x04MQTT\x03\x02\x00\x3c\x00\x02dv"[..], Violation::Version),
            (b"\x10\x10\x00\x06MQIsdp\x03\x02\x00\x3c\x00\x02dv", Violation::Version),
            (b"\x10\x0e\x00\x04MQTT\x04\x03\x00\x3c\x00\x02dv", Violation::Malformed),
            (b"\x20\x02\x00\x00", Violation::Type),
            (b"\x10\x00", Violation::Version),
            (b"", Violation::Type),
        ] {
            assert_eq!(connect(BytesMut::from(other)).err(), Some(violation), "{other:?}");
        }
    }

    #[test]
    fn a_publish_is_taken_apart_with_its_packet_id() {
        let Ok(Input::Publish(publish)) = read(Version::V4, b"\x32\x09\x00\x03a/b\x00\x07hi") else {
            panic!()
        };
        assert_eq!(
            (&publish.topic[..], &publish.payload[..], publish.id),
            (&b"a/b"[..], &b"hi"[..], Some(7))
        );
        let Ok(Input::Publish(publish)) = read(Version::V5, b"\x30\x08\x00\x03a/b\x00hi") else { panic!() };
        assert_eq!((publish.id, publish.properties.len()), (None, 0));
    }

    #[test]
    fn what_the_connack_denies_is_a_violation() {
        for (bytes, violation) in [
            (&b"\x34\x09\x00\x03a/b\x00\x07hi"[..], Violation::Qos),
            (b"\x36\x09\x00\x03a/b\x00\x07hi", Violation::Malformed),
            (b"\x31\x07\x00\x03a/bhi", Violation::Retained),
            (b"\x32\x09\x00\x03a/b\x00\x00hi", Violation::Malformed),
            (b"\x32\x04\x00\x03a/", Violation::Malformed),
        ] {
            assert_eq!(read(Version::V4, bytes).err(), Some(violation), "{bytes:?}");
        }
        let alias = b"\x30\x0b\x00\x03a/b\x03\x23\x00\x01hi";
        assert_eq!(read(Version::V5, alias).err(), Some(Violation::Alias));
        let identifier = b"\x82\x0b\x00\x01\x02\x0b\x07\x00\x03a/b\x00";
        assert_eq!(read(Version::V5, identifier).err(), Some(Violation::Identifier));
    }

    #[test]
    fn only_six_packet_types_are_allowed_after_connect() {
        for kind in 0..16u8 {
            let flags = if matches!(kind, 8 | 10) { 2 } else { 0 };
            let answer = read(Version::V5, &[kind << 4 | flags, 0]);
            let is_type = matches!(answer, Err(Violation::Type));
            assert_eq!(is_type, !matches!(kind, 3 | 4 | 8 | 10 | 12 | 14), "{kind}: {answer:?}");
        }
        assert_eq!(read(Version::V5, &[0xc1, 0]).err(), Some(Violation::Malformed), "flags are fixed");
        assert_eq!(
            read(Version::V5, b"\x80\x08\x00\x01\x00\x00\x02ab\x00").err(),
            Some(Violation::Malformed)
        );
    }

    #[test]
    fn a_disconnect_says_whether_the_will_is_wanted() {
        for (bytes, with_will) in [
            (&b"\xe0\x00"[..], false),
            (b"\xe0\x01\x00", false),
            (b"\xe0\x01\x04", true),
            (b"\xe0\x02\x04\x00", true),
        ] {
            let Ok(Input::Disconnect { with_will: got }) = read(Version::V5, bytes) else {
                panic!("{bytes:?}")
            };
            assert_eq!(got, with_will);
        }
    }

    #[test]
    fn properties_reach_the_receiver_as_they_came() {
        let properties =
            b"\x01\x01\x02\x00\x00\x00\x09\x03\x00\x01t\x08\x00\x01r\x09\x00\x01c\x26\x00\x01k\x00\x01v";
        let mut frame = vec![0x30, 0, 0, 3, b'a', b'/', b'b', properties.len() as u8];
        frame.extend_from_slice(properties);
        frame.extend_from_slice(b"hi");
        frame[1] = frame.len() as u8 - 2;
        let Ok(Input::Publish(publish)) = read(Version::V5, &frame) else { panic!() };
        assert_eq!(publish.properties[0] as usize, properties.len());
        assert_eq!(&publish.properties[1..], properties);
        assert_eq!(&publish.payload[..], b"hi");
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(first in any::<u8>(), body in proptest::collection::vec(any::<u8>(), 0..127), v5 in any::<bool>()) {
            let mut frame = vec![first, body.len() as u8];
            frame.extend_from_slice(&body);
            let version = if v5 { Version::V5 } else { Version::V4 };
            let _ = packet(version, BytesMut::from(&frame[..]));
            let _ = connect(BytesMut::from(&frame[..]));
            let _ = frame_bytes(&body, 64);
        }

        #[test]
        fn no_damage_to_a_connect_makes_it_panic(
            at in 0usize..64, with in any::<u8>(), cut in 0usize..64, v5 in any::<bool>()
        ) {
            let mut body = b"\x00\x04MQTT\x04\xce\x00\x3c".to_vec();
            if v5 { body[6] = 5; body.extend_from_slice(b"\x06\x11\x00\x00\x00\x00\x21"); body[10] = 0; body.truncate(11); }
            body.extend_from_slice(b"\x00\x02dv");
            if v5 { body.push(0); }
            body.extend_from_slice(b"\x00\x03w/t\x00\x02hi\x00\x01u\x00\x01p");
            let index = at % body.len();
            body[index] = with;
            body.truncate(body.len() - cut % body.len());
            let mut frame = vec![0x10, body.len() as u8];
            frame.extend_from_slice(&body);
            let _ = connect(BytesMut::from(&frame[..]));
        }
    }
}
