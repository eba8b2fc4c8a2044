//! The SUIT class identifier of a board, made from its name.

use crate::key::Digest;

/// RFC 9562 §6.6, the DNS namespace.
const NAMESPACE_DNS: [u8; 16] =
    [0x6b, 0xa7, 0xb8, 0x10, 0x9d, 0xad, 0x11, 0xd1, 0x80, 0xb4, 0x00, 0xc0, 0x4f, 0xd4, 0x30, 0xc8];

/// The class identifier of a board: UUIDv8 of its name, in the namespace UUIDv8(DNS, "holdfast").
pub fn class_identifier(board: &str) -> [u8; 16] {
    name_based(&name_based(&NAMESPACE_DNS, b"holdfast"), board.as_bytes())
}

/// RFC 9562 §5.8 and B.2: the first half of SHA-256(namespace ++ name), version 8. (Version 5 would put SHA-1 into
/// every device.)
fn name_based(namespace: &[u8; 16], name: &[u8]) -> [u8; 16] {
    let Digest(hash) = Digest::of_parts(&[namespace, name]);
    let mut uuid = [0; 16];
    uuid.copy_from_slice(&hash[..16]);
    uuid[6] = uuid[6] & 0x0f | 0x80;
    uuid[8] = uuid[8] & 0x3f | 0x80;
    uuid
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 9562 B.2.
    #[test]
    fn a_name_based_uuid_is_the_rfcs() {
        let expected =
            [0x5c, 0x14, 0x6b, 0x14, 0x3c, 0x52, 0x8a, 0xfd, 0x93, 0x8a, 0x37, 0x5d, 0x0d, 0xf1, 0xfb, 0xf6];
        assert_eq!(name_based(&NAMESPACE_DNS, b"www.example.com"), expected);
    }
}
