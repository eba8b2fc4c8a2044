//! What scenarios share. The scenarios themselves are in `tests/`, the programs in `src/bin/`.

pub mod an505;
pub mod bench;
#[expect(missing_debug_implementations, reason = "an MQTT session has nothing to print")]
pub mod board;
pub mod broker;
pub mod client;
#[expect(missing_debug_implementations, reason = "an MQTT session has nothing to print")]
pub mod debug;
#[expect(missing_debug_implementations, reason = "a stack and its keys have nothing to print")]
pub mod fleet;
pub mod gdb;
pub mod lossy;
pub mod raw;
pub mod replica;
pub mod tap;
pub mod world;
