//! How deployments ended on this device: kept in the ledger until the service says that it has stored them.

use wire::msg::{UpdateReason, UpdateState};
use wire::{DeploymentId, Digest};

use crate::device::BootId;

/// One ended deployment.
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
#[repr(u8)]
pub enum Outcome {
    Confirmed = 1,
    /// It was started and taken back.
    Reverted = 2,
    /// It was never started.
    Refused = 3,
}

impl Outcome {
    pub(super) fn parse(byte: u8) -> Option<Outcome> {
        [Outcome::Confirmed, Outcome::Reverted, Outcome::Refused]
            .into_iter()
            .find(|outcome| *outcome as u8 == byte)
    }
}

impl From<Outcome> for UpdateState {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Confirmed => UpdateState::Confirmed,
            Outcome::Reverted => UpdateState::Reverted,
            Outcome::Refused => UpdateState::Refused,
        }
    }
}
