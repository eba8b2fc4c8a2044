//! The way to the broker for boards that have an Ethernet device and nothing else: DHCP, DNS, TCP and TLS 1.3.
//!
//! A board lends a device and two buffers to one [`Network`], and has one [`Connection`] at a time, which goes from a name to
//! bytes. Both are state machines: polled with the time, never blocking, each call bounded in work and memory. What a board
//! does by itself (drivers, keys, entropy) is handed in.
//!
//! Never: a register, a clock, an operating system, a panic on what a network sends, a private key. How often to try again is
//! the core's decision, not this crate's.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod address;
mod connection;
mod network;
pub mod random;
pub mod tls;

pub use address::Host;
pub use connection::{
    CONNECT_TIMEOUT_US, Connection, DIAL_TIMEOUT_US, IDLE_PROBE_US, Progress, SILENCE_TIMEOUT_US,
};
pub use network::{
    Buffers, DHCP_PAUSE_US, FRAMES_PER_POLL_MAX, LEASE_MAX_US, LEASE_MIN_US, Network, Storage,
    TCP_RECEIVE_BYTES_MAX,
};
/// What a driver implements.
pub use smoltcp::{phy, time};
