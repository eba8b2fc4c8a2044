//! Domain types and pure decisions: what a bundle may be, how a deployment moves, what a device's word is worth.
//!
//! No async, no IO, no clock: `now` is a parameter. Sees `wire` only.

pub(crate) mod bundle;
pub(crate) mod deployment;
pub(crate) mod device;
pub(crate) mod directed;
pub(crate) mod director;
pub(crate) mod life;
pub(crate) mod precedence;
pub(crate) mod report;
pub(crate) mod staging;
pub(crate) mod state;
pub(crate) mod symbols;
pub(crate) mod upload;
