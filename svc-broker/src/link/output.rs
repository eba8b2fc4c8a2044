//! Packets to a client as bytes. Ours, since rumqttd's encoder keeps packet id and QoS of a PUBLISH to itself, copies
//! payloads, and miscounts a DISCONNECT with a reason.
//!
//! Holds: what is announced in CONNACK is what `input` enforces.

use bytes::{BufMut as _, BytesMut};

use super::input::Version;
use crate::model::limits::RECEIVE_MAX;

/// What CONNACK tells a client (MQTT 5 §3.2.2.3).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Welcome {
    pub(crate) keep_alive_s: u16,
    pub(crate) packet_bytes_max: usize,
    pub(crate) shared: bool,
}

/// DISCONNECT reasons we send (MQTT 5 §3.14.2.1), besides those of violations.
pub(crate) mod reason {
    pub(crate) const NOT_AUTHORIZED: u8 = 0x87;
    pub(crate) const SHUTTING_DOWN: u8 = 0x8b;
    pub(crate) const KEEP_ALIVE: u8 = 0x8d;
    pub(crate) const TAKEN_OVER: u8 = 0x8e;
    pub(crate) const ADMINISTRATIVE: u8 = 0x98;
}

/// PUBACK, SUBACK and UNSUBACK reasons we send.
pub(crate) mod ack {
    pub(crate) const SUCCESS: u8 = 0x00;
    pub(crate) const NO_SUBSCRIBER: u8 = 0x10;
    pub(crate) const NO_SUBSCRIPTION: u8 = 0x11;
    /// MQTT 3.1.1's only failure code.
    pub(crate) const FAILURE: u8 = 0x80;
    pub(crate) const NOT_AUTHORIZED: u8 = 0x87;
    pub(crate) const QUOTA: u8 = 0x97;
}

/// Variable byte integer (MQTT 5 §1.5.5); `length` is below 2^28: no packet of ours is larger.
pub(crate) fn put_length(out: &mut BytesMut, mut length: usize) {
    while length >= 0x80 {
        out.put_u8(length as u8 | 0x80);
        length >>= 7;
    }
    out.put_u8(length as u8);
}

pub(crate) fn welcome(out: &mut BytesMut, version: Version, welcome: Welcome) {
    if version == Version::V4 {
        return out.put_slice(&[0x20, 2, 0, 0]);
    }
    let mut properties = BytesMut::with_capacity(32);
    properties.put_slice(&[0x11, 0, 0, 0, 0]); // session expiry: with the connection
    properties.put_u8(0x21);
    properties.put_u16(RECEIVE_MAX);
    properties.put_slice(&[0x24, 1]); // maximum QoS
    properties.put_slice(&[0x25, 0]); // retain available
    properties.put_u8(0x27);
    properties.put_u32(u32::try_from(welcome.packet_bytes_max).unwrap_or(u32::MAX));
    properties.put_slice(&[0x22, 0, 0]); // topic alias maximum
    properties.put_slice(&[0x28, 1]); // wildcard subscriptions: dn/# and hf/1/+/…
    properties.put_slice(&[0x29, 0]); // subscription identifiers
    properties.put_slice(&[0x2a, u8::from(welcome.shared)]);
    properties.put_u8(0x13);
    properties.put_u16(welcome.keep_alive_s);
    out.put_u8(0x20);
    put_length(out, 2 + 1 + properties.len());
    out.put_slice(&[0, 0]);
    put_length(out, properties.len());
    out.put_slice(&properties);
}

/// CONNACK with a code of each version.
pub(crate) fn refusal(out: &mut BytesMut, version: Version, (v5, v4): (u8, u8)) {
    match version {
        Version::V4 => out.put_slice(&[0x20, 2, 0, v4]),
        Version::V5 => out.put_slice(&[0x20, 3, 0, v5, 0]),
    }
}

/// Everything of a PUBLISH before its payload. `properties` are encoded with their length; empty: none.
pub(crate) fn publish_head(
    out: &mut BytesMut,
    version: Version,
    topic: &[u8],
    properties: &[u8],
    id: Option<u16>,
    payload_bytes: usize,
) {
    out.put_u8(if id.is_some() { 0x32 } else { 0x30 });
    put_length(out, publish_body_bytes(version, topic, properties, id.is_some(), payload_bytes));
    out.put_u16(topic.len() as u16);
    out.put_slice(topic);
    if let Some(id) = id {
        out.put_u16(id);
    }
    match version {
        Version::V5 if properties.is_empty() => out.put_u8(0),
        Version::V5 => out.put_slice(properties),
        Version::V4 => {}
    }
}

fn publish_body_bytes(
    version: Version,
    topic: &[u8],
    properties: &[u8],
    has_id: bool,
    payload_bytes: usize,
) -> usize {
    let properties_bytes = match version {
        Version::V5 => properties.len().max(1),
        Version::V4 => 0,
    };
    2 + topic.len() + if has_id { 2 } else { 0 } + properties_bytes + payload_bytes
}

/// The most a PUBLISH takes on the wire, whichever version reads it.
pub(crate) fn publish_bytes_max(topic: &[u8], properties: &[u8], payload_bytes: usize) -> usize {
    5 + publish_body_bytes(Version::V5, topic, properties, true, payload_bytes)
}

pub(crate) fn puback(out: &mut BytesMut, version: Version, id: u16, code: u8) {
    let [high, low] = id.to_be_bytes();
    match (version, code) {
        (Version::V4, _) | (_, ack::SUCCESS) => out.put_slice(&[0x40, 2, high, low]),
        (Version::V5, code) => out.put_slice(&[0x40, 3, high, low, code]),
    }
}

pub(crate) fn suback(out: &mut BytesMut, version: Version, id: u16, codes: &[u8]) {
    codes_packet(out, version, 0x90, id, codes);
}

/// MQTT 3.1.1 acknowledges without codes (§3.11).
pub(crate) fn unsuback(out: &mut BytesMut, version: Version, id: u16, codes: &[u8]) {
    codes_packet(out, version, 0xb0, id, if version == Version::V4 { &[] } else { codes });
}

fn codes_packet(out: &mut BytesMut, version: Version, first: u8, id: u16, codes: &[u8]) {
    let properties: &[u8] = if version == Version::V5 { &[0] } else { &[] };
    out.put_u8(first);
    put_length(out, 2 + properties.len() + codes.len());
    out.put_u16(id);
    out.put_slice(properties);
    out.put_slice(codes);
}

pub(crate) fn pong(out: &mut BytesMut) {
    out.put_slice(&[0xd0, 0]);
}

/// MQTT 3.1.1 servers cannot say why they close.
pub(crate) fn disconnect(out: &mut BytesMut, version: Version, code: u8) {
    if version == Version::V5 {
        out.put_slice(&[0xe0, 1, code]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(write: impl FnOnce(&mut BytesMut)) -> Vec<u8> {
        let mut out = BytesMut::new();
        write(&mut out);
        out.to_vec()
    }

    #[test]
    fn packets_have_the_bytes_of_the_specification() {
        use Version::{V4, V5};
        assert_eq!(bytes(|out| puback(out, V4, 7, ack::NOT_AUTHORIZED)), [0x40, 2, 0, 7]);
        assert_eq!(bytes(|out| puback(out, V5, 7, ack::SUCCESS)), [0x40, 2, 0, 7]);
        assert_eq!(bytes(|out| puback(out, V5, 7, ack::NOT_AUTHORIZED)), [0x40, 3, 0, 7, 0x87]);
        assert_eq!(bytes(|out| suback(out, V4, 1, &[1, 0x80])), [0x90, 4, 0, 1, 1, 0x80]);
        assert_eq!(bytes(|out| suback(out, V5, 1, &[1, 0x87])), [0x90, 5, 0, 1, 0, 1, 0x87]);
        assert_eq!(bytes(|out| unsuback(out, V4, 1, &[0])), [0xb0, 2, 0, 1]);
        assert_eq!(bytes(|out| unsuback(out, V5, 1, &[0x11])), [0xb0, 4, 0, 1, 0, 0x11]);
        assert_eq!(bytes(|out| disconnect(out, V4, 0x8e)), [0u8; 0]);
        assert_eq!(bytes(|out| disconnect(out, V5, reason::TAKEN_OVER)), [0xe0, 1, 0x8e]);
        assert_eq!(bytes(|out| refusal(out, V4, (0x88, 3))), [0x20, 2, 0, 3]);
        assert_eq!(bytes(|out| refusal(out, V5, (0x88, 3))), [0x20, 3, 0, 0x88, 0]);
        assert_eq!(
            bytes(|out| publish_head(out, V5, b"a/b", &[], Some(7), 2)),
            [0x32, 10, 0, 3, b'a', b'/', b'b', 0, 7, 0]
        );
        assert_eq!(
            bytes(|out| publish_head(out, V4, b"a/b", &[2, 1, 1], None, 200)),
            [0x30, 0xcd, 1, 0, 3, b'a', b'/', b'b']
        );
    }

    #[test]
    fn a_connack_tells_the_truth() {
        let welcome = bytes(|out| {
            super::welcome(
                out,
                Version::V5,
                Welcome { keep_alive_s: 300, packet_bytes_max: 32_768, shared: false },
            );
        });
        assert_eq!(welcome[..2], [0x20, welcome.len() as u8 - 2]);
        assert_eq!(welcome[2..4], [0, 0], "no session is ever present");
        for property in [
            &[0x24, 1][..],
            &[0x25, 0],
            &[0x22, 0, 0],
            &[0x27, 0, 0, 0x80, 0],
            &[0x2a, 0],
            &[0x13, 1, 44],
            &[0x21, 1, 0],
        ] {
            assert!(welcome.windows(property.len()).any(|window| window == property), "{property:?}");
        }
    }

    #[test]
    fn the_codec_reads_what_we_write() {
        use rumqttd::protocol::{Packet, Protocol as _, v5::V5};
        let mut out = BytesMut::new();
        publish_head(&mut out, Version::V5, b"a/b", &[], Some(9), 3);
        out.put_slice(b"abc");
        suback(&mut out, Version::V5, 3, &[1]);
        let Ok(Packet::Publish(publish, None)) = V5.read_mut(&mut out, 1000) else { panic!() };
        assert_eq!((&publish.topic[..], &publish.payload[..]), (&b"a/b"[..], &b"abc"[..]));
        assert!(matches!(V5.read_mut(&mut out, 1000), Ok(Packet::SubAck(..))));
        assert!(out.is_empty());
    }
}
