//! The link against servers and networks that behave, and against those that do not.
//!
//! `pki` makes certificates, `server` is rustls with another provider at the other end of the bytes.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails here")]

mod pki;
mod refusal;
mod server;
mod session;
