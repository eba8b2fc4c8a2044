//! svc-ota: what should run.
//!
//! Owns: bundles and their layers, uploads, deployments, the tenants' director keys.
//!
//! Promises: a bundle was verified against the tenant's keyset and its bytes against the manifest; a directive names one
//! device, answers one hello, and is signed; `go` is given in the transaction that reads the deployment's state; a
//! result is acknowledged after it is stored; a device gets only layers it is directed to; every step that is cut off
//! is taken up by the next hello or the sweep.
//!
//! Never: writes devices (svc-registry does); believes a device about anything it was not told; keeps truth in memory.

mod app;
mod config;
mod error;
mod grpc;
mod link;
mod model;
mod service;
mod store;

pub use config::Config;
pub use service::{Service, StartError, migrate};
