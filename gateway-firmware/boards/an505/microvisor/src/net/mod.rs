//! What the link needs of this board: its Ethernet controller, and the heap that TLS lives in.
//!
//! Everything that decides is in `gateway-link`; here are registers and memory.

pub(crate) mod heap;
pub(crate) mod lan9118;
