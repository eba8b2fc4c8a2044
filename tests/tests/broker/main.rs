//! svc-broker over its sockets: the real binary, certificates of every kind, and a registry that answers as told.
//!
//! The registry is scripted so that a test can hold an answer back, or give none; that the real one and the broker
//! agree is shown by the whole-system scenarios.

#![expect(clippy::unwrap_used, reason = "a test ends where something is not as it should be")]

mod client;
mod differential;
mod hostile;
mod identity;
mod life;
mod limits;
mod messages;
mod mosquitto;
mod pki;
mod registry;
mod rig;
