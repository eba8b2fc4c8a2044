//! `--drop-every N`: a broker that forgets every n-th message, either way, and acknowledges it all the same.
//!
//! Sits between the core and the TLS stream and looks at MQTT packets: a PUBLISH whose turn it is vanishes; when it
//! asked for an acknowledgement its sender gets one, as from a broker that took it and lost it. For tests.

/// First byte's high nibble of a PUBLISH and the bits of its quality (MQTT 5 §3.3.1).
const PUBLISH: u8 = 0x30;
const QOS: u8 = 0x06;

/// What is on its way.
#[derive(Debug)]
pub(crate) struct Lossy {
    every: u32,
    seen: u32,
    /// To the broker.
    pub(crate) out: Vec<u8>,
    /// From the broker, not yet whole.
    partial: Vec<u8>,
    /// For the core.
    pub(crate) ready: Vec<u8>,
}

impl Lossy {
    pub(crate) fn new(every: u32) -> Self {
        Self { every, seen: 0, out: Vec::new(), partial: Vec::new(), ready: Vec::new() }
    }

    /// Takes whole packets from the core.
    pub(crate) fn send(&mut self, mut bytes: &[u8]) {
        while let Some((packet, rest)) = split(bytes) {
            match self.is_lost(packet) {
                true => self.ready.extend(acknowledgement(packet)),
                false => self.out.extend_from_slice(packet),
            }
            bytes = rest;
        }
    }

    /// Takes whatever came from the broker.
    pub(crate) fn receive(&mut self, bytes: &[u8]) {
        self.partial.extend_from_slice(bytes);
        let partial = std::mem::take(&mut self.partial);
        let mut bytes = &partial[..];
        while let Some((packet, rest)) = split(bytes) {
            match self.is_lost(packet) {
                true => self.out.extend(acknowledgement(packet)),
                false => self.ready.extend_from_slice(packet),
            }
            bytes = rest;
        }
        self.partial = bytes.to_vec();
    }

    fn is_lost(&mut self, packet: &[u8]) -> bool {
        if packet[0] & 0xf0 != PUBLISH {
            return false;
        }
        self.seen += 1;
        self.seen.is_multiple_of(self.every)
    }
}

/// The PUBACK for a PUBLISH, when it wants one.
fn acknowledgement(publish: &[u8]) -> Vec<u8> {
    if publish[0] & QOS == 0 {
        return Vec::new();
    }
    let topic = 1 + publish.iter().skip(1).take_while(|byte| **byte & 0x80 != 0).count() + 1;
    let length = usize::from(u16::from_be_bytes([publish[topic], publish[topic + 1]]));
    let id = topic + 2 + length;
    vec![0x40, 2, publish[id], publish[id + 1]]
}

/// The first whole packet and what follows it.
fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut length = 0;
    for (index, byte) in bytes.iter().skip(1).take(4).enumerate() {
        length |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return bytes.split_at_checked(2 + index + length);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const BULK: [u8; 6] = [0x30, 4, 0, 1, b'x', 0];
    const SURE: [u8; 8] = [0x32, 6, 0, 1, b'x', 7, 9, 0];
    const PING: [u8; 2] = [0xc0, 0];

    #[test]
    fn every_nth_publish_vanishes_and_other_packets_never() {
        let mut lossy = Lossy::new(2);
        lossy.send(&[&BULK[..], &PING, &BULK, &PING, &BULK].concat());
        assert_eq!(lossy.out, [&BULK[..], &PING, &PING, &BULK].concat());
        assert!(lossy.ready.is_empty());
    }

    #[test]
    fn who_wants_an_acknowledgement_of_a_lost_message_gets_it() {
        let mut lossy = Lossy::new(1);
        lossy.send(&SURE);
        assert_eq!((lossy.ready, lossy.out), (vec![0x40, 2, 7, 9], vec![]));
        let mut lossy = Lossy::new(1);
        lossy.receive(&SURE[..3]);
        lossy.receive(&SURE[3..]);
        assert_eq!((lossy.ready, lossy.out), (vec![], vec![0x40, 2, 7, 9]));
    }
}
