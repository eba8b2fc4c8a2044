//! One file a command of `cargo dev`, and the cargo calls they share.

pub(crate) mod bench;
pub(crate) mod board;
pub(crate) mod cargo;
pub(crate) mod ci;
pub(crate) mod cli;
pub(crate) mod demo;
pub(crate) mod env;
pub(crate) mod firmware;
pub(crate) mod proto;
pub(crate) mod reset;
pub(crate) mod setup;
pub(crate) mod soak;
pub(crate) mod test;
pub(crate) mod up;
