//! Just enough DER: elements are walked in place, and the few structures a device makes are written into its buffers.
//!
//! Only definite lengths up to 64 KiB are read, which is all that fits a packet anyway.

pub(crate) const INTEGER: u8 = 0x02;
pub(crate) const BIT_STRING: u8 = 0x03;
pub(crate) const OID: u8 = 0x06;
pub(crate) const UTC_TIME: u8 = 0x17;
pub(crate) const GENERALIZED_TIME: u8 = 0x18;
pub(crate) const SEQUENCE: u8 = 0x30;
pub(crate) const SET: u8 = 0x31;
pub(crate) const CONTEXT_0: u8 = 0xa0;

/// An ECDSA signature in DER, at most.
pub const ECDSA_DER_MAX: usize = 72;

/// Walks the elements of one level.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Walk<'a>(pub(crate) &'a [u8]);

#[derive(Debug, Clone, Copy)]
pub(crate) struct Element<'a> {
    pub(crate) tag: u8,
    pub(crate) content: &'a [u8],
    /// Tag and length included.
    pub(crate) whole: &'a [u8],
}

impl<'a> Walk<'a> {
    pub(crate) fn next(&mut self) -> Option<Element<'a>> {
        let (&tag, rest) = self.0.split_first()?;
        let (&first, rest) = rest.split_first()?;
        let (length, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            0x81 => (usize::from(*rest.first()?), &rest[1..]),
            0x82 => (usize::from(u16::from_be_bytes([*rest.first()?, *rest.get(1)?])), &rest[2..]),
            _ => return None,
        };
        let (content, after) = rest.split_at_checked(length)?;
        let whole = &self.0[..self.0.len() - after.len()];
        self.0 = after;
        Some(Element { tag, content, whole })
    }

    /// The next element, which must have this tag.
    pub(crate) fn expect(&mut self, tag: u8) -> Option<Element<'a>> {
        self.next().filter(|element| element.tag == tag)
    }
}

/// `r ++ s` as `ECDSA-Sig-Value` (RFC 3279 §2.2.3).
pub fn ecdsa_der(raw: &[u8; 64], out: &mut [u8; ECDSA_DER_MAX]) -> usize {
    let (r, s) = raw.split_at(32);
    let mut at = 2;
    for number in [r, s] {
        let skipped = number.iter().take(31).take_while(|byte| **byte == 0).count();
        let number = &number[skipped..];
        let pad = usize::from(number[0] >= 0x80);
        out[at] = INTEGER;
        out[at + 1] = (number.len() + pad) as u8;
        out[at + 2] = 0;
        out[at + 2 + pad..at + 2 + pad + number.len()].copy_from_slice(number);
        at += 2 + pad + number.len();
    }
    out[0] = SEQUENCE;
    out[1] = (at - 2) as u8;
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signature_numbers_are_minimal_and_positive() {
        let mut raw = [0; 64];
        raw[31] = 0x80;
        raw[32] = 0x7f;
        let mut out = [0; ECDSA_DER_MAX];
        let length = ecdsa_der(&raw, &mut out);
        assert_eq!(&out[..8], &[SEQUENCE, 38, INTEGER, 2, 0, 0x80, INTEGER, 32]);
        assert_eq!(length, 40);
        let length = ecdsa_der(&[0xff; 64], &mut out);
        assert_eq!((length, out[1]), (ECDSA_DER_MAX, 70));
    }

    #[test]
    fn lengths_that_lie_are_refused() {
        for bytes in [
            &[0x30][..],
            &[0x30, 5, 1],
            &[0x30, 0x81],
            &[0x30, 0x82, 1],
            &[0x30, 0x80, 0, 0],
            &[0x30, 0x83, 0, 0, 1, 9],
        ] {
            assert!(Walk(bytes).next().is_none(), "{bytes:?}");
        }
    }
}
