//! The network half: enrolment and the MQTT session, bytes in and bytes out, with time as a parameter.
//!
//! The board opens a TLS connection where it is told to, moves bytes between it and the two lent buffers, and reports
//! its end; it never sees a topic. Everything is level-triggered: what is due is computed from state, so a lost,
//! repeated or reordered message costs time and nothing else. Every buffer is lent and bounded.

pub mod backoff;
mod buffer;
pub mod clock;
pub mod csr;
pub mod demand;
pub mod der;
pub mod enroll;
pub mod fetch;
pub mod identity;
pub mod link;
pub mod mqtt;
pub mod session;
pub mod x509;
