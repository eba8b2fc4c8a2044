//! Debug sessions end to end: a developer's gRPC streams, one or two relay processes, the broker, and a scripted device end
//! with a real identity. What the machine itself decides is tested beside it; here processes, connections and people go.

#![expect(clippy::unwrap_used, reason = "a test ends where something is not as it should be")]

#[path = "../registry/board.rs"]
#[expect(dead_code, reason = "written for the registry's own tests, which use all of it")]
mod board;
mod developer;
mod device;
mod ends;
#[path = "../registry/fleet.rs"]
#[expect(dead_code, reason = "written for the registry's own tests, which use all of it")]
mod fleet;
mod replicas;
mod streams;
mod world;
