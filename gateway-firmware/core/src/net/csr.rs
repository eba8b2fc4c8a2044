//! The certification request of a device (PKCS#10, RFC 2986): an empty subject and the public key, nothing else.
//!
//! Subject and extensions are the registry's to choose, so there is nothing here for it to disbelieve.

use super::der::{BIT_STRING, ECDSA_DER_MAX, INTEGER, SEQUENCE, ecdsa_der};

/// Bytes of a request, at most.
pub const CSR_BYTES_MAX: usize = 3 + INFO_BYTES + ECDSA_WITH_SHA256.len() + 3 + ECDSA_DER_MAX;

/// A P-256 SubjectPublicKeyInfo.
const SPKI_BYTES: usize = 91;
const INFO_BYTES: usize = 2 + 3 + 2 + SPKI_BYTES + 2;
/// AlgorithmIdentifier of ecdsa-with-SHA256 (RFC 5758 §3.2).
const ECDSA_WITH_SHA256: [u8; 12] = [0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];

/// Writes the request for a key (SubjectPublicKeyInfo DER); `sign` makes the raw ECDSA signature (`r ++ s`) over SHA-256 of what it is given.
pub fn write<E>(
    spki: &[u8; SPKI_BYTES],
    out: &mut [u8; CSR_BYTES_MAX],
    sign: impl FnOnce(&[u8]) -> Result<[u8; 64], E>,
) -> Result<usize, E> {
    let mut info = [0; INFO_BYTES];
    info[..7].copy_from_slice(&[SEQUENCE, (INFO_BYTES - 2) as u8, INTEGER, 1, 0, SEQUENCE, 0]);
    info[7..7 + SPKI_BYTES].copy_from_slice(spki);
    info[7 + SPKI_BYTES..].copy_from_slice(&[0xa0, 0]);
    let mut signature = [0; ECDSA_DER_MAX];
    let signature_bytes = ecdsa_der(&sign(&info)?, &mut signature);

    let content = INFO_BYTES + ECDSA_WITH_SHA256.len() + 3 + signature_bytes;
    let mut at = 0;
    for piece in [
        &[SEQUENCE, 0x81, content as u8][..],
        &info,
        &ECDSA_WITH_SHA256,
        &[BIT_STRING, signature_bytes as u8 + 1, 0],
        &signature[..signature_bytes],
    ] {
        out[at..at + piece.len()].copy_from_slice(piece);
        at += piece.len();
    }
    Ok(at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::der::Walk;

    #[test]
    fn the_request_is_one_der_sequence_that_carries_the_key() {
        let mut key = [7; SPKI_BYTES];
        key[..2].copy_from_slice(&[SEQUENCE, (SPKI_BYTES - 2) as u8]);
        for signature in [[0xff; 64], [1; 64]] {
            let mut out = [0; CSR_BYTES_MAX];
            let length = write::<()>(&key, &mut out, |_| Ok(signature)).unwrap();
            let mut outer = Walk(&out[..length]);
            let mut request = Walk(outer.expect(SEQUENCE).unwrap().content);
            assert!(outer.0.is_empty());
            let mut info = Walk(request.expect(SEQUENCE).unwrap().content);
            assert_eq!(info.expect(INTEGER).unwrap().content, [0]);
            assert!(info.expect(SEQUENCE).unwrap().content.is_empty());
            assert_eq!(info.expect(SEQUENCE).unwrap().whole, key);
            request.expect(SEQUENCE).unwrap();
            request.expect(BIT_STRING).unwrap();
            assert!(request.0.is_empty());
        }
    }
}
