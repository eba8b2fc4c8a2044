//! The shell over real sockets: who gets in through TLS and the gate, and how the link lives through a broker's faults.
#![expect(clippy::unwrap_used, reason = "a test's own sockets and files")]

mod abuse;
mod database;
mod emqx;
mod link;
mod pki;
mod serve;
