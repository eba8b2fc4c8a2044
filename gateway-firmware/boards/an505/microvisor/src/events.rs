//! What the application logged, as text.

use heapless::String;

use abi::LOG_MESSAGE_BYTES_MAX;

use crate::gateway;

const _: () = assert!(LOG_MESSAGE_BYTES_MAX == wire::limits::LOG_TEXT_BYTES_MAX);

/// Text of one message.
pub type Text = String<LOG_MESSAGE_BYTES_MAX>;

/// The oldest message, and when it was logged. What is not UTF-8 in it, or is a control character, is a question mark.
pub(crate) fn take_log() -> Option<(u64, Text)> {
    let mut bytes = [0; LOG_MESSAGE_BYTES_MAX];
    let (at_ms, length) = gateway::take_log(&mut bytes)?;
    let mut text = Text::new();
    for chunk in bytes.get(..length).unwrap_or_default().utf8_chunks() {
        // It fits: a character is never replaced by a longer one, nor an invalid sequence by more than it is.
        let readable = |c: char| if c.is_control() && c != '\t' { '?' } else { c };
        let _ = chunk.valid().chars().map(readable).try_for_each(|c| text.push(c));
        if !chunk.invalid().is_empty() {
            let _ = text.push('?');
        }
    }
    Some((at_ms, text))
}
