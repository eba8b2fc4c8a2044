//! The link against servers and networks that behave, and against those that do not.
//!
//! `pki` makes certificates, `server` is rustls with another provider at the other end of the bytes.

mod pki;
mod refusal;
mod server;
mod session;
