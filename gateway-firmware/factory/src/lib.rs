//! What a factory does to a board: the flash of an an505 as a file, made and read.
//!
//! Owns the making of a flash image (provisioning, a first microvisor) and the reading of one, without secrets. It writes
//! only what the first stage would take: keyset and manifest are checked as it checks them. It never talks to a server.

pub mod image;
pub mod inspect;
pub mod memory;
pub mod provision;

/// Where everything lies in the file: offset 0 is [`map::AT`].
pub use chip::map::flash as map;
/// Where everything lies in the memory of the secure world.
pub use chip::map::secure;
