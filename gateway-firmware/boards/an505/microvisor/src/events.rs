//! What the application said, until the supervisor takes it: bounded, and copied once.

use heapless::String;

use abi::LOG_MESSAGE_BYTES_MAX;

use crate::shared::Shared;

/// Bytes of log messages that wait, at most, two of each message included that say its length. What does not fit is
/// refused, and the application is told.
const LOG_QUEUE_BYTES_MAX: usize = 2048;
const LENGTH_BYTES: usize = 2;

const _: () = assert!(LOG_MESSAGE_BYTES_MAX == wire::limits::LOG_TEXT_BYTES_MAX);

/// Text of one message.
pub type Text = String<LOG_MESSAGE_BYTES_MAX>;

static LOGS: Shared<Queue> = Shared::new(Queue { bytes: [0; LOG_QUEUE_BYTES_MAX], first: 0, used: 0 });

#[derive(Debug)]
struct Queue {
    bytes: [u8; LOG_QUEUE_BYTES_MAX],
    first: usize,
    used: usize,
}

impl Queue {
    /// False when there is no room.
    fn push(&mut self, message: &[u8]) -> bool {
        let bytes = LENGTH_BYTES + message.len();
        let Ok(length) = u16::try_from(message.len()) else { return false };
        if bytes > LOG_QUEUE_BYTES_MAX - self.used {
            return false;
        }
        self.put(&length.to_le_bytes());
        self.put(message);
        true
    }

    fn put(&mut self, piece: &[u8]) {
        let at = (self.first + self.used) % LOG_QUEUE_BYTES_MAX;
        let (head, tail) = piece.split_at(piece.len().min(LOG_QUEUE_BYTES_MAX - at));
        self.bytes[at..at + head.len()].copy_from_slice(head);
        self.bytes[..tail.len()].copy_from_slice(tail);
        self.used += piece.len();
    }

    fn get(&mut self, piece: &mut [u8]) {
        let (at, bytes) = (self.first, piece.len());
        let (head, tail) = piece.split_at_mut(bytes.min(LOG_QUEUE_BYTES_MAX - at));
        head.copy_from_slice(&self.bytes[at..at + head.len()]);
        tail.copy_from_slice(&self.bytes[..tail.len()]);
        self.first = (at + bytes) % LOG_QUEUE_BYTES_MAX;
        self.used -= bytes;
    }

    fn pop(&mut self, into: &mut [u8; LOG_MESSAGE_BYTES_MAX]) -> Option<usize> {
        if self.used == 0 {
            return None;
        }
        let mut length = [0; LENGTH_BYTES];
        self.get(&mut length);
        let length = usize::from(u16::from_le_bytes(length)).min(LOG_MESSAGE_BYTES_MAX);
        self.get(&mut into[..length]);
        Some(length)
    }
}

/// Keeps a message; false when there is no room.
pub(crate) fn log(message: &[u8]) -> bool {
    LOGS.with(|logs| logs.push(message))
}

/// The oldest message. What is not UTF-8 in it, or is a control character, is a question mark.
pub(crate) fn take_log() -> Option<Text> {
    let mut bytes = [0; LOG_MESSAGE_BYTES_MAX];
    let length = LOGS.with(|logs| logs.pop(&mut bytes))?;
    let mut text = Text::new();
    for chunk in bytes[..length].utf8_chunks() {
        // It fits: a character is never replaced by a longer one, nor an invalid sequence by more than it is.
        let readable = |c: char| if c.is_control() && c != '\t' { '?' } else { c };
        let _ = chunk.valid().chars().map(readable).try_for_each(|c| text.push(c));
        if !chunk.invalid().is_empty() {
            let _ = text.push('?');
        }
    }
    Some(text)
}
