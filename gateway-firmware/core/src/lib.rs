//! The gateway's core: everything a Holdfast device does that is not hardware.
//!
//! Invariants:
//! - The last confirmed version is never erased before a newer one is confirmed; power may fail at any flash operation
//!   and the next boot runs the old version or the new one, completely, or none, and the link comes up in every case.
//! - Nothing is installed that a release key of the keyset and the director did not both sign; no block is written
//!   before its digest is verified; nothing below the floor is started.
//! - The application cannot hurt the link: its crash, hang or silence changes nothing but its own life.
//! - Nothing grows, nothing panics, nothing blocks: memory is the struct's own, work is done in bounded steps.
//!
//! Never: an operating system, a register, a clock or randomness that was not handed in; an allocation, but for the handshake of a debug session
//! and its keys (crate `noise`), of which there is one.
#![no_std]

pub mod boot;
pub mod commission;
pub mod counter;
pub mod crash;
mod crc;
pub mod debug;
pub mod device;
pub mod drbg;
pub mod gateway;
pub mod logs;
#[cfg(not(feature = "mutate"))]
mod mutation;
#[cfg(feature = "mutate")]
pub mod mutation;
pub mod net;
pub mod pair;
pub mod ports;
pub mod provision;
pub mod secret;
pub mod store;
pub mod supervise;
pub mod telemetry;
pub mod update;

pub use device::{Device, Facts, Memory};
pub use gateway::Gateway;
