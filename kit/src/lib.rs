//! The service shell: what every service needs and none should write twice.
//!
//! Owns: configuration, logs, metrics and traces, TLS, who is calling, the gRPC server, Postgres, Redis, the MQTT link, the
//! broker's control, keys at rest, page tokens, repeated calls, reads done together, places for who stays, errors as gRPC statuses, and the life of tasks until drain.
//! Holds: every queue is bounded and named; every network call has a deadline; secrets do not print.
//! Never: a business word. What a device or a bundle is, kit does not know.

pub mod auth;
pub mod broker;
pub mod command_line;
pub mod config;
pub mod mqtt;
pub mod once;
pub mod page;
pub mod pg;
pub mod places;
pub mod redis;
pub mod run;
pub mod seal;
pub mod serve;
pub mod status;
pub mod telemetry;
pub mod tls;
pub mod together;
pub mod trace;

pub use run::{Shutdown, Tasks};
pub use seal::Secret;

/// First call of every main: the TLS provider, then JSON logs on stderr.
pub fn start(service: &'static str) {
    tls::install_provider();
    telemetry::logs(service);
}

/// 16 bytes of a new UUIDv7, for any id type of `wire`: `DeviceId::new(kit::fresh_id())`.
pub fn fresh_id() -> [u8; 16] {
    uuid::Uuid::now_v7().into_bytes()
}
