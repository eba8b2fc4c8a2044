//! What scenarios share. The scenarios themselves are in `tests/`, the programs in `src/bin/`.

pub mod bench;
pub mod broker;
pub mod client;
pub mod lossy;
pub mod world;
