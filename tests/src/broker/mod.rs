//! svc-broker over its sockets, for `tests/tests/broker` and `cargo dev soak broker`: the real binary, certificates of
//! every kind, a registry that answers as told, a client that sends what it is told to, and the fuzzer.
//!
//! The registry is scripted so that a test can hold an answer back, or give none; that the real one and the broker
//! agree is shown by the whole-system scenarios.

#![expect(clippy::unwrap_used, reason = "a test ends where its rig cannot be set up")]

pub mod client;
pub mod fuzz;
pub mod pki;
pub mod random;
pub mod registry;
pub mod rig;
