//! The link against servers and networks that behave, and against those that do not.
//!
//! `pki` makes certificates, `server` is rustls with another provider at the other end of the bytes, `cable` is an Ethernet with
//! weather, `peer` the host at its other end, `world` both with a board, and
//! `corpus` what has been, or could be, trouble.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails here")]

mod cable;
mod corpus;
mod garbage;
mod lease;
mod names;
mod peer;
mod pki;
mod refusal;
mod secrets;
mod server;
mod session;
mod weather;
mod world;
