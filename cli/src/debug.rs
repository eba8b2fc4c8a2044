//! The developer's end of a debug session (docs/debugging.md): gdb on one side, the device on the other.
//!
//! ```text
//! gdb  <- RSP ->  server, target  ->  machine (cache, program)  ->  link  ->  session (pipe, noise)  <- gRPC ->  relay
//!                 a thread of their own, that may wait                      the runtime, which never does
//! ```
//!
//! What a device says reaches gdb only as the answer to what gdb asked. Keys are made here and stay here.

mod about;

mod cache;
pub(crate) mod exec;
pub(crate) mod gdbs;
pub(crate) mod keys;
pub(crate) mod link;
pub(crate) mod machine;
#[cfg(test)]
mod model;
mod monitor;
pub(crate) mod pins;
mod pipe;
pub(crate) mod program;
pub(crate) mod quiet;
mod registers;
pub(crate) mod server;
pub(crate) mod session;
pub(crate) mod target;
#[cfg(test)]
mod tests;
