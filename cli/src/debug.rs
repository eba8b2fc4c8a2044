//! The developer's end of a debug session (docs/debugging.md): gdb on one side, the device on the other.
//!
//! ```text
//! gdb  <- RSP ->  server, target  ->  machine (cache, program)  ->  link  ->  session (pipe, noise)  <- gRPC ->  relay
//!                 a thread of their own, that may wait                      the runtime, which never does
//! ```
//!
//! With `--record` what passes at the link and at gdb's end is written down first (record, transcript), and read again by timeline.
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
mod packets;
pub(crate) mod pins;
mod pipe;
pub(crate) mod program;
pub(crate) mod quiet;
pub(crate) mod record;
mod registers;
pub(crate) mod rows;
pub(crate) mod server;
pub(crate) mod session;
pub(crate) mod target;
#[cfg(test)]
mod tests;
pub(crate) mod timeline;
pub(crate) mod transcript;
