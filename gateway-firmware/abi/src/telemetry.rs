//! What a telemetry message may be, beyond lengths, which the table has.

/// Bytes of one message's data, at most: `wire::limits::TELEMETRY_BYTES_MAX`.
pub const TELEMETRY_BYTES_MAX: usize = 1024;
/// Bytes of its content type, at most: `wire::limits::CONTENT_TYPE_BYTES_MAX`.
pub const CONTENT_TYPE_BYTES_MAX: usize = 64;

/// The content type as text, if it is visible ASCII: no blank, no control character.
pub fn content_type(bytes: &[u8]) -> Option<&str> {
    bytes.iter().all(u8::is_ascii_graphic).then(|| core::str::from_utf8(bytes).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_content_type_is_visible_ascii() {
        assert_eq!(content_type(b"application/cbor"), Some("application/cbor"));
        assert_eq!(content_type(b""), Some(""));
        for wrong in [&b"text/plain "[..], b"a\0", b"\x7f", b"a\nb", "caf\u{e9}".as_bytes(), &[0xff]] {
            assert_eq!(content_type(wrong), None, "{wrong:?}");
        }
    }
}
