//! One deployment as it is known: what a device should run, how far it is, and when the device was told.

use std::time::SystemTime;

use wire::manifest::Component;
use wire::{BundleId, DeploymentId, DeviceId, Digest, TenantId};

use super::report::{Known, Moment};
use super::state::{Done, Order, State};

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Deployment {
    pub(crate) tenant: TenantId,
    pub(crate) id: DeploymentId,
    pub(crate) device: DeviceId,
    pub(crate) bundle: BundleId,
    pub(crate) manifest: Digest,
    pub(crate) component: Component,
    pub(crate) version: String,
    pub(crate) security_counter: i64,
    pub(crate) bytes_total: u64,
    pub(crate) state: State,
    pub(crate) reason: String,
    pub(crate) bytes_done: u64,
    pub(crate) attempts: u32,
    pub(crate) committed: bool,
    pub(crate) stopped: bool,
    /// Of the newest report taken.
    pub(crate) latest: Moment,
    pub(crate) sent_at: Option<SystemTime>,
    /// Since the device was last heard of.
    pub(crate) sends: u32,
    pub(crate) next_send_at: Option<SystemTime>,
    pub(crate) created_at: SystemTime,
    pub(crate) updated_at: SystemTime,
    /// Where it is in the trace of who asked for it, for spans to come; empty when nobody said.
    pub(crate) trace: String,
    /// How often what is shown of it had changed when it was read; the store counts.
    pub(crate) revision: i64,
}

impl Deployment {
    /// Another one after every change that is shown.
    pub(crate) fn etag(&self) -> String {
        let shown = match self.state {
            // Granted, and not heard of since: it is shown as ready.
            State::Granted => State::Ready,
            state => state,
        };
        format!("{shown}-{}-{}-{}", self.attempts, self.bytes_done, u8::from(self.committed))
    }

    /// Whether it still is what `etag` was read from; empty: any.
    pub(crate) fn is_still(&self, etag: &str) -> bool {
        etag.is_empty() || self.etag() == etag
    }

    /// What its device is to be told.
    pub(crate) fn order(&self) -> Option<Order> {
        let order = self.state.order(Done { committed: self.committed, stopped: self.stopped })?;
        // Who was told nothing need not be told to stop.
        (order != Order::Cancel || self.sent_at.is_some()).then_some(order)
    }

    /// Its device may have to be told something about it; the store selects the same.
    pub(crate) fn is_open(&self) -> bool {
        match self.state {
            State::Confirmed => !self.committed,
            State::Cancelled => !self.stopped && self.sent_at.is_some(),
            state => !state.is_final(),
        }
    }

    pub(crate) fn known(&self) -> Known {
        Known {
            state: self.state,
            manifest: self.manifest,
            directed: self.sent_at.is_some(),
            latest: self.latest,
            bytes_done: self.bytes_done,
            bytes_total: self.bytes_total,
        }
    }
}
