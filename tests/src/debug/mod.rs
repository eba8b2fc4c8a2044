//! The two ends of a debug session, played: a developer's gRPC streams, and a device that can also lose, repeat and lie.

pub mod developer;
pub mod device;
