//! MQTT 5 as bytes: the few packets a load generator sends, and frames found in what comes back.

/// First bytes of packets.
pub(crate) const CONNACK: u8 = 0x20;
pub(crate) const PUBACK: u8 = 0x40;
pub(crate) const SUBACK: u8 = 0x90;
pub(crate) const DISCONNECT: &[u8] = &[0xe0, 0];
const CONNECT: u8 = 0x10;
const PUBLISH: u8 = 0x30;
const PUBLISH_QOS1: u8 = 0x32;
const SUBSCRIBE: u8 = 0x82;

/// Seconds: longer than any measurement, so that nobody pings.
const KEEP_ALIVE_S: u16 = 300;

pub(crate) fn connect(client_id: &str) -> Vec<u8> {
    let mut body = b"\x00\x04MQTT\x05\x02".to_vec();
    body.extend(KEEP_ALIVE_S.to_be_bytes());
    body.push(0);
    string(&mut body, client_id);
    frame(CONNECT, &body)
}

/// One filter with QoS 1.
pub(crate) fn subscribe(filter: &str) -> Vec<u8> {
    let mut body = vec![0, 1, 0];
    string(&mut body, filter);
    body.push(1);
    frame(SUBSCRIBE, &body)
}

/// QoS 1 with a packet id, QoS 0 without.
pub(crate) fn publish(topic: &str, id: Option<u16>, payload: &[u8]) -> Vec<u8> {
    let mut body = Vec::with_capacity(topic.len() + payload.len() + 5);
    string(&mut body, topic);
    if let Some(id) = id {
        body.extend(id.to_be_bytes());
    }
    body.push(0);
    body.extend_from_slice(payload);
    frame(if id.is_some() { PUBLISH_QOS1 } else { PUBLISH }, &body)
}

/// A packet as it came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Packet<'a> {
    pub(crate) first: u8,
    pub(crate) body: &'a [u8],
}

impl<'a> Packet<'a> {
    pub(crate) fn is_publish(&self) -> bool {
        self.first & 0xf0 == PUBLISH
    }

    /// Of a PUBLISH.
    pub(crate) fn topic(&self) -> Option<&'a str> {
        std::str::from_utf8(self.body.get(2..2 + self.topic_bytes()?)?).ok()
    }

    /// The PUBACK of a QoS 1 PUBLISH.
    pub(crate) fn acknowledgement(&self) -> Option<[u8; 4]> {
        let at = 2 + self.topic_bytes()?;
        let id = self.body.get(at..at + 2)?;
        (self.first & 0x06 == 0x02).then(|| [PUBACK, 2, id[0], id[1]])
    }

    /// Whether a PUBACK or CONNACK is a yes.
    pub(crate) fn is_success(&self) -> bool {
        let at = if self.first == CONNACK { 1 } else { 2 };
        self.body.get(at).is_none_or(|code| *code == 0)
    }

    fn topic_bytes(&self) -> Option<usize> {
        Some(usize::from(u16::from_be_bytes([*self.body.first()?, *self.body.get(1)?])))
    }
}

/// The packet at the start of `buffer` and its length; `None` while it has not wholly come.
pub(crate) fn first(buffer: &[u8]) -> Option<(Packet<'_>, usize)> {
    let (mut length, mut at) = (0, 1);
    loop {
        let byte = *buffer.get(at)?;
        length |= usize::from(byte & 0x7f) << (7 * (at - 1));
        at += 1;
        if byte & 0x80 == 0 {
            break;
        }
    }
    let body = buffer.get(at..at + length)?;
    Some((Packet { first: buffer[0], body }, at + length))
}

fn frame(first: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    let mut length = body.len();
    while length >= 0x80 {
        bytes.push(length as u8 | 0x80);
        length >>= 7;
    }
    bytes.push(length as u8);
    bytes.extend_from_slice(body);
    bytes
}

fn string(body: &mut Vec<u8>, text: &str) {
    body.extend((text.len() as u16).to_be_bytes());
    body.extend_from_slice(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_found_whole_or_not_at_all() {
        let bytes = publish("a/b", Some(7), &[1; 200]);
        let (packet, length) = first(&bytes).expect("a packet");
        assert_eq!(length, bytes.len());
        assert_eq!((packet.topic(), packet.acknowledgement()), (Some("a/b"), Some([PUBACK, 2, 0, 7])));
        assert!((0..bytes.len()).all(|cut| first(&bytes[..cut]).is_none()));
        let bytes = publish("a/b", None, b"x");
        let (packet, _) = first(&bytes).expect("a packet");
        assert!(packet.is_publish() && packet.acknowledgement().is_none());
    }

    #[test]
    fn codes_are_read_where_they_are() {
        for (bytes, success) in [
            (&[PUBACK, 2, 0, 7][..], true),
            (&[PUBACK, 3, 0, 7, 0x97], false),
            (&[CONNACK, 3, 0, 0, 0], true),
            (&[CONNACK, 3, 0, 0x87, 0], false),
        ] {
            assert_eq!(first(bytes).expect("a packet").0.is_success(), success, "{bytes:?}");
        }
    }
}
