//! What a factory does to a board: the flash of an an505 as a file, made and read.
//!
//! Owns the making of flash images (provisioning, a first microvisor, the store with the first keyset and applications) and the
//! reading of one, without secrets. It writes only what the board would take: every input is checked by the board's own code,
//! the first stage's and the core's, before there is a file. It never talks to a server. What a factory may be trusted with is in
//! docs/manufacturing.md.

pub mod error;
pub mod image;
pub mod inspect;
pub mod memory;
pub mod names;
pub mod provision;

/// Where everything lies in the file: offset 0 is [`map::AT`].
pub use chip::map::flash as map;
/// Where everything lies in the memory of the secure world.
pub use chip::map::secure;
pub use error::{Error, Result};
