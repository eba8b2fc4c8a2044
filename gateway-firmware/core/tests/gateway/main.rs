//! The network half of the core, as a broker sees it: bytes in, bytes out, over connections that fail in every way. The
//! board, its flash and its people are those of the update tests.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails here")]

mod commission;
mod crash;
mod crash_memory;
mod debug;
mod demand;
mod enrolment;
mod garbage;
mod logs;
mod mutations;
mod probe;
mod relay;
mod session;
#[path = "../update/sim/mod.rs"]
#[expect(dead_code, unused_imports, reason = "shared with the update tests, which use the rest")]
mod sim;
mod update;
mod watch;
mod world;
