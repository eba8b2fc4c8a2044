//! The microvisor: walls around the application, processor time for both, and the supervisor that holds the link.
//!
//! Invariants: nothing of the secure world's is readable, writable or executable by the application, but at the gateway
//! page's veneers; a pointer of the application's is used only after it was judged over its whole range, and once; the
//! application loses the core for no longer than a slice of the supervisor's; whatever the application does ends the
//! application at most; a fault of ours is noted and resets the machine.
//!
//! It decides nothing about updates or the network: the supervisor turns `gateway-core`, which does.
#![no_std]

extern crate alloc;

pub mod application;
mod events;
mod exceptions;
pub mod fault;
pub mod gateway;
mod net;
mod ports;
pub mod probe;
pub mod schedule;
mod shared;
pub mod stacks;
pub mod supervisor;
pub mod world;
