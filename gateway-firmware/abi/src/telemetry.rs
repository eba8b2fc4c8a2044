//! What a telemetry message may be, beyond lengths, which the table has.

/// Bytes of one message's data, at most: `wire::limits::TELEMETRY_BYTES_MAX`.
pub const TELEMETRY_BYTES_MAX: usize = 1024;
/// Bytes of its content type, at most: `wire::limits::CONTENT_TYPE_BYTES_MAX`.
pub const CONTENT_TYPE_BYTES_MAX: usize = 64;

/// A content type is visible ASCII: no blank, no control character.
pub fn is_content_type(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| (b'!'..=b'~').contains(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_content_type_is_visible_ascii() {
        assert!(is_content_type(b"application/cbor") && is_content_type(b"!~") && is_content_type(b""));
        for wrong in [&b"text/plain "[..], b"a\0", b"\x7f", b"a\nb", "caf\u{e9}".as_bytes(), &[0xff]] {
            assert!(!is_content_type(wrong), "{wrong:?}");
        }
    }
}
