//! What a device reads of an X.509 certificate: validity, public key and common name (RFC 5280 §4.1).
//!
//! Chains are verified by the board's TLS stack; this is for what the core itself decides: when to renew, which time a
//! handshake is judged at, and whether an issued certificate is for this device's own key.

use super::der::{
    BIT_STRING, CONTEXT_0, Element, GENERALIZED_TIME, INTEGER, OID, SEQUENCE, SET, UTC_TIME, Walk,
};

const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];

/// The fields that matter here, borrowed from the DER.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Certificate<'a> {
    /// Unix seconds; 0 for anything before 1970.
    pub not_before_s: u64,
    pub not_after_s: u64,
    /// SubjectPublicKeyInfo DER.
    pub public_key: &'a [u8],
    pub common_name: Option<&'a str>,
}

impl<'a> Certificate<'a> {
    /// Nothing for bytes that are not one certificate.
    pub fn parse(der: &'a [u8]) -> Option<Self> {
        let mut outer = Walk(der);
        let mut certificate = Walk(outer.expect(SEQUENCE)?.content);
        if !outer.0.is_empty() {
            return None;
        }
        let mut body = Walk(certificate.expect(SEQUENCE)?.content);
        certificate.expect(SEQUENCE)?;
        certificate.expect(BIT_STRING)?;
        let mut peek = body;
        if peek.next()?.tag == CONTEXT_0 {
            body = peek;
        }
        body.expect(INTEGER)?;
        body.expect(SEQUENCE)?;
        body.expect(SEQUENCE)?;
        let mut validity = Walk(body.expect(SEQUENCE)?.content);
        let subject = body.expect(SEQUENCE)?;
        let public_key = body.expect(SEQUENCE)?.whole;
        Some(Self {
            not_before_s: time_s(validity.next()?)?,
            not_after_s: time_s(validity.next()?)?,
            public_key,
            common_name: common_name(subject.content),
        })
    }

    /// Less than a third of its life remains at `now_s`, or nothing.
    pub fn is_due_for_renewal(&self, now_s: u64) -> bool {
        let life_s = self.not_after_s.saturating_sub(self.not_before_s);
        now_s >= self.not_after_s.saturating_sub(life_s / 3)
    }
}

fn common_name(subject: &[u8]) -> Option<&str> {
    let mut names = Walk(subject);
    while let Some(set) = names.expect(SET) {
        let mut attribute = Walk(Walk(set.content).expect(SEQUENCE)?.content);
        if attribute.expect(OID)?.content == COMMON_NAME {
            return core::str::from_utf8(attribute.next()?.content).ok();
        }
    }
    None
}

/// UTCTime or GeneralizedTime, both with seconds and `Z` (RFC 5280 §4.1.2.5).
fn time_s(element: Element<'_>) -> Option<u64> {
    let (century, digits) = match (element.tag, element.content) {
        (UTC_TIME, [digits @ .., b'Z']) if digits.len() == 12 => (None, digits),
        (GENERALIZED_TIME, [high, low, digits @ .., b'Z']) if digits.len() == 12 => {
            (Some(pair(*high, *low)?), digits)
        }
        _ => return None,
    };
    let mut fields = [0; 6];
    for (field, digits) in fields.iter_mut().zip(digits.chunks_exact(2)) {
        *field = pair(digits[0], digits[1])?;
    }
    let [year, month, day, hour, minute, second] = fields;
    let year = match century {
        Some(century) => century * 100 + year,
        None if year < 50 => 2000 + year,
        None => 1900 + year,
    };
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    Some((days_since_1970(year, month, day) * 86_400).saturating_add(hour * 3600 + minute * 60 + second))
}

fn pair(high: u8, low: u8) -> Option<u64> {
    (high.is_ascii_digit() && low.is_ascii_digit())
        .then(|| u64::from(high - b'0') * 10 + u64::from(low - b'0'))
}

/// Days of the proleptic Gregorian calendar; 0 before 1970. Years count from March, so that leap days come last.
fn days_since_1970(year: u64, month: u64, day: u64) -> u64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year.saturating_sub(1), month + 9) };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day - 1;
    days.saturating_sub(719_468)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn time(tag: u8, text: &str) -> Option<u64> {
        time_s(Element { tag, content: text.as_bytes(), whole: &[] })
    }

    #[test]
    fn times_are_unix_seconds() {
        assert_eq!(time(UTC_TIME, "700101000000Z"), Some(0));
        assert_eq!(time(UTC_TIME, "240229120000Z"), Some(1_709_208_000));
        assert_eq!(time(GENERALIZED_TIME, "20500101000000Z"), Some(2_524_608_000));
        assert_eq!(time(GENERALIZED_TIME, "99991231235959Z"), Some(253_402_300_799));
        for bad in ["", "Z", "7001010000Z", "701301000000Z", "70010100000aZ", "700101000000+"] {
            assert_eq!(time(UTC_TIME, bad), None, "{bad}");
        }
    }

    #[test]
    fn a_leaf_is_due_in_the_last_third_of_its_life() {
        let leaf = Certificate { not_before_s: 1000, not_after_s: 4000, public_key: &[], common_name: None };
        assert!(!leaf.is_due_for_renewal(2999));
        assert!(leaf.is_due_for_renewal(3000));
        assert!(leaf.is_due_for_renewal(u64::MAX));
    }

    proptest! {
        #[test]
        fn parsing_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = Certificate::parse(&bytes);
        }
    }
}
