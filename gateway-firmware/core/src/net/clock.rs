//! The time a device knows: a lower bound, the later of the signed build time and the last director-signed time.
//!
//! A lower bound can prove that something has expired, and never that something is not valid yet. So a handshake is
//! judged at the bound, moved forward to where every certificate shown has begun (DESIGN: "Freshness without a
//! clock"). No operating system clock is read anywhere.

use super::x509::Certificate;

/// A signed time is looked at only when it would move the bound this far: each move is a flash write and a signature
/// check, and certificates live for months.
pub const TIME_STEP_S: u64 = 24 * 60 * 60;

/// Whether a signed time of `issued_at_s` is worth verifying and keeping.
pub fn moves_bound(bound_s: u64, synced: bool, issued_at_s: u64) -> bool {
    !synced && issued_at_s > bound_s || issued_at_s >= bound_s.saturating_add(TIME_STEP_S)
}

/// The Unix time at which a certificate chain is to be judged: unreadable certificates are left to the verifier.
pub fn verification_time_s<'a>(bound_s: u64, chain: impl IntoIterator<Item = &'a [u8]>) -> u64 {
    chain
        .into_iter()
        .filter_map(Certificate::parse)
        .fold(bound_s, |time_s, certificate| time_s.max(certificate.not_before_s))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signed_time_is_kept_once_a_day_and_at_first() {
        assert!(moves_bound(100, false, 101));
        assert!(!moves_bound(100, false, 100));
        assert!(!moves_bound(100, true, 100 + TIME_STEP_S - 1));
        assert!(moves_bound(100, true, 100 + TIME_STEP_S));
        assert!(!moves_bound(u64::MAX, true, 5));
    }
}
