//! The update engine: from a directive to a confirmed version or back.

pub mod machine;

pub use machine::{Event, IllegalMove, State};

use wire::DeploymentId;
use wire::key::Digest;
use wire::msg::UpdateReason;

use crate::device::BootId;

/// How a deployment ended on this device; kept in the journal until acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UpdateResult {
    /// With `sequence`, its name.
    pub boot: BootId,
    pub sequence: u32,
    pub deployment: DeploymentId,
    pub manifest: Digest,
    pub outcome: Outcome,
    pub reason: UpdateReason,
    pub attempts: u8,
}

/// The three ends of a deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Confirmed,
    Reverted,
    Refused,
}
