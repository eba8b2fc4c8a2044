//! The application's telemetry: a bounded queue of whole messages, oldest first.
//!
//! A message leaves it when the broker has acknowledged it, so a connection that ends loses none. What has no room is
//! refused, counted, and takes a number, so that what is missing is seen. Never in the store.

use heapless::Vec;
use wire::limits::{CONTENT_TYPE_BYTES_MAX, TELEMETRY_BYTES_MAX};

/// Bytes of the queue.
pub const TELEMETRY_QUEUE_BYTES: usize = 2048;
/// Messages sent and not yet acknowledged: the rest of the broker's quota is for what matters more.
pub const TELEMETRY_WINDOW_MAX: usize = 4;

/// Before each message: number, time, length of the content type, length of the data.
const HEAD_BYTES: usize = 8 + 8 + 1 + 2;
const _: () = assert!(HEAD_BYTES + CONTENT_TYPE_BYTES_MAX + TELEMETRY_BYTES_MAX <= TELEMETRY_QUEUE_BYTES);

/// One message, where it lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message<'q> {
    /// Of this boot, from 1.
    pub sequence: u64,
    pub uptime_us: u64,
    pub content_type: &'q str,
    pub data: &'q [u8],
}

/// The queue.
#[derive(Debug, Default)]
pub struct Telemetry {
    bytes: Vec<u8, TELEMETRY_QUEUE_BYTES>,
    sequence: u64,
    dropped: u64,
    /// Packet ids of the oldest messages, which were sent.
    sent: Vec<u16, TELEMETRY_WINDOW_MAX>,
}

impl Telemetry {
    pub const fn new() -> Self {
        Self { bytes: Vec::new(), sequence: 0, dropped: 0, sent: Vec::new() }
    }

    /// As new.
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.sent.clear();
        (self.sequence, self.dropped) = (0, 0);
    }

    /// Takes a message; false when it has no room, or is longer than a message may be.
    pub fn push(&mut self, uptime_us: u64, content_type: &str, data: &[u8]) -> bool {
        self.sequence += 1;
        let fits = content_type.len() <= CONTENT_TYPE_BYTES_MAX && data.len() <= TELEMETRY_BYTES_MAX;
        let needed = HEAD_BYTES + content_type.len() + data.len();
        if !fits || self.bytes.len() + needed > TELEMETRY_QUEUE_BYTES {
            self.dropped += 1;
            return false;
        }
        let (type_bytes, data_bytes) = ([content_type.len() as u8], (data.len() as u16).to_le_bytes());
        let (sequence, uptime) = (self.sequence.to_le_bytes(), uptime_us.to_le_bytes());
        for part in [&sequence[..], &uptime, &type_bytes, &data_bytes, content_type.as_bytes(), data] {
            // Cannot fail: there is room.
            let _ = self.bytes.extend_from_slice(part);
        }
        true
    }

    /// Bytes of content type and data that one more message may have.
    pub fn room(&self) -> usize {
        (TELEMETRY_QUEUE_BYTES - self.bytes.len()).saturating_sub(HEAD_BYTES)
    }

    /// So many messages were refused before they came here.
    pub fn refused(&mut self, count: u32) {
        self.sequence += u64::from(count);
        self.dropped += u64::from(count);
    }

    /// The oldest message not sent on this connection; nothing while the window is full.
    pub fn next(&self) -> Option<Message<'_>> {
        if self.sent.is_full() {
            return None;
        }
        let mut rest = &self.bytes[..];
        for _ in &self.sent {
            rest = read(rest)?.1;
        }
        read(rest).map(|(message, _)| message)
    }

    /// `next` was sent with this packet id.
    pub fn sent(&mut self, packet: u16) {
        // Cannot fail: a full window has no next message.
        let _ = self.sent.push(packet);
    }

    /// Forgets the messages at the front whose packet is not in flight any more.
    pub fn settle(&mut self, is_in_flight: impl Fn(u16) -> bool) {
        while let Some(packet) = self.sent.first() {
            if is_in_flight(*packet) {
                return;
            }
            self.sent.remove(0);
            let left = read(&self.bytes).map_or(0, |(_, rest)| rest.len());
            let gone = self.bytes.len() - left;
            self.bytes.copy_within(gone.., 0);
            self.bytes.truncate(left);
        }
    }

    /// A new connection: what was not acknowledged is sent again.
    pub fn restart(&mut self) {
        self.sent.clear();
    }

    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Messages of this boot so far that had no room.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }
}

/// The message at the front, and what follows it.
fn read(bytes: &[u8]) -> Option<(Message<'_>, &[u8])> {
    let (sequence, rest) = bytes.split_first_chunk()?;
    let (uptime_us, rest) = rest.split_first_chunk()?;
    let (&[type_bytes], rest) = rest.split_first_chunk()?;
    let (data_bytes, rest) = rest.split_first_chunk()?;
    let (content_type, rest) = rest.split_at_checked(type_bytes.into())?;
    let (data, rest) = rest.split_at_checked(u16::from_le_bytes(*data_bytes).into())?;
    let message = Message {
        sequence: u64::from_le_bytes(*sequence),
        uptime_us: u64::from_le_bytes(*uptime_us),
        content_type: core::str::from_utf8(content_type).ok()?,
        data,
    };
    Some((message, rest))
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn messages_leave_in_order_when_they_are_acknowledged() {
        let mut queue = Telemetry::new();
        for index in 0..6 {
            assert!(queue.push(index, "text/plain", &[index as u8; 3]));
        }
        for packet in 0..TELEMETRY_WINDOW_MAX as u16 {
            assert_eq!(queue.next().map(|message| message.uptime_us), Some(packet.into()));
            queue.sent(packet);
        }
        assert_eq!(queue.next(), None, "the window is full");
        queue.settle(|packet| packet != 1);
        assert_eq!(queue.next(), None, "the first is still in flight");
        queue.settle(|packet| packet >= 2);
        let next = queue.next().expect("there is room in the window");
        assert_eq!((next.sequence, next.content_type, next.data), (5, "text/plain", &[4; 3][..]));
        queue.restart();
        assert_eq!(queue.next().map(|message| message.sequence), Some(3));
    }

    #[test]
    fn what_has_no_room_is_counted_and_takes_a_number() {
        let mut queue = Telemetry::new();
        assert!(queue.push(0, "", &[1; TELEMETRY_BYTES_MAX]));
        assert!(!queue.push(0, "", &[2; TELEMETRY_BYTES_MAX]));
        assert!(!queue.push(0, "", &[3; TELEMETRY_BYTES_MAX + 1]));
        let room = queue.room();
        assert!(queue.push(0, "", b"small"));
        assert_eq!(queue.room(), room - b"small".len() - HEAD_BYTES);
        assert_eq!(queue.dropped(), 2);
        queue.refused(3);
        assert_eq!(queue.dropped(), 5);
        queue.sent(9);
        queue.settle(|_| false);
        assert_eq!(queue.next().map(|message| message.sequence), Some(4));
    }

    proptest! {
        #[test]
        fn every_message_is_delivered_held_or_counted(
            steps in proptest::collection::vec((0_usize..TELEMETRY_BYTES_MAX + 2, any::<bool>()), 1..100),
        ) {
            let mut queue = Telemetry::new();
            let (mut packet, mut last, mut delivered) = (0, 0, 0);
            for (length, drain) in steps {
                queue.push(0, "a/b", &std::vec![7; length]);
                while drain && let Some(message) = queue.next() {
                    prop_assert!(message.sequence > last);
                    (last, packet, delivered) = (message.sequence, packet + 1, delivered + 1);
                    queue.sent(packet);
                    queue.settle(|_| false);
                }
            }
            let mut held = 0;
            while queue.next().is_some() {
                queue.sent(0);
                queue.settle(|_| false);
                held += 1;
            }
            prop_assert_eq!(delivered + held + queue.dropped(), queue.sequence);
            prop_assert!(queue.is_empty());
        }
    }
}
