//! svc-registry: who exists.
//!
//! Owns tenants, the keys their people sign in with, certificate authorities, claims, devices and what they last
//! reported, and keysets. It alone issues device certificates and access tokens, and answers brokers who may connect.
//!
//! Always: a row carries its tenant, and every store function runs in a transaction that carries its scope; authority
//! keys are encrypted at rest; a change commits before anybody hears of it. Presence is a lease in Redis, never truth.
//!
//! Never: a private key made or kept for a caller; an answer that tells a foreign tenant's id from one that does not
//! exist.

mod app;
mod ca;
mod config;
mod error;
mod grpc;
mod link;
mod model;
mod service;
mod store;

pub use config::Config;
pub use service::{Service, StartError, bootstrap_code, migrate, write_trust};
