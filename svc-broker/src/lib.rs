//! svc-broker: the MQTT broker devices connect to.
//!
//! Owns: mutual TLS on three listeners (devices, enrolment, services), who is connected now, and the way of a message
//! from one connection to another. rumqttd reads the packets; everything around its codec is here (docs/brokers.md).
//!
//! Promises: no connection without svc-registry's yes; no message without `wire::rule`'s; one connection a client id,
//! the old one gone before the new one is live; a revoked device gone within a second, wherever it is in its life;
//! every buffer bounded, every drop counted; a panic ends one connection.
//!
//! Never: keeps a message, session, retained message or subscription beyond its connection; decides who exists; tells
//! anyone that it delivered what it dropped.

mod app;
mod build;
mod config;
mod error;
mod grpc;
mod link;
mod model;
mod roots;

pub use build::{App, Ready};
pub use config::Config;
pub use error::Error;
