//! The time a device knows: a lower bound, the later of the signed build time and the last director-signed time.
//!
//! A lower bound can prove that something has expired, and never that something is not valid yet. So a handshake is
//! judged at the bound, moved forward to where every certificate shown has begun (DESIGN: "Freshness without a
//! clock"). No operating system clock is read anywhere.

use super::x509::Certificate;

/// The Unix time at which a certificate chain is to be judged: unreadable certificates are left to the verifier.
pub fn verification_time_s<'a>(bound_s: u64, chain: impl IntoIterator<Item = &'a [u8]>) -> u64 {
    chain
        .into_iter()
        .filter_map(Certificate::parse)
        .fold(bound_s, |time_s, certificate| time_s.max(certificate.not_before_s))
}
