//! Several devices named in one request (AIP-231, 234, 235): how many there may be, and what is told of the one that is in
//! the way.
//!
//! Whose parent is the caller's own may still name another tenant's device in the list: it looks like one that does not exist.

use std::collections::BTreeSet;

use kit::status;
use tonic::Status;
use wire::{DeviceId, TenantId};

use super::name;
use crate::error::Error;
use crate::model::device::BATCH_MAX;

/// Type of what a batch names, for `google.rpc.ResourceInfo`.
const DEVICE: &str = "holdfast.registry.v1.Device";

/// The names of a batch, as they came.
pub(super) struct Batch {
    /// Where they stand: `names`, or `requests`.
    field: &'static str,
    names: Vec<String>,
}

impl Batch {
    /// 1 to [`BATCH_MAX`].
    pub(super) fn of(field: &'static str, names: Vec<String>) -> Result<Self, Status> {
        if names.is_empty() || names.len() > BATCH_MAX {
            return Err(status::invalid(field, format!("has {} of them, not 1 to {BATCH_MAX}", names.len())));
        }
        Ok(Self { field, names })
    }

    /// All of them, if all are this tenant's.
    pub(super) fn ids(&self, tenant: TenantId) -> Result<Vec<DeviceId>, Status> {
        let id = |(at, text): (usize, &String)| {
            let named = name::<DeviceId>(&self.name_field(at), text)?;
            let own = if named.tenant == tenant { Ok(named.id) } else { Err(status::not_found()) };
            self.one(at, own)
        };
        self.names.iter().enumerate().map(id).collect()
    }

    /// The same for what changes them: none twice.
    pub(super) fn ids_once(&self, tenant: TenantId) -> Result<Vec<DeviceId>, Status> {
        let ids = self.ids(tenant)?;
        let mut seen = BTreeSet::new();
        match ids.iter().position(|id| !seen.insert(*id)) {
            Some(at) => Err(status::invalid(&self.name_field(at), "is named twice")),
            None => Ok(ids),
        }
    }

    /// What went wrong with one is told as of this one.
    pub(super) fn one<T>(&self, at: usize, result: Result<T, Status>) -> Result<T, Status> {
        result.map_err(|status| status::of_one(&status, &self.place(at), DEVICE, &self.names[at]))
    }

    /// The same of what a use case found in the way.
    pub(super) fn told(&self, error: Error) -> Status {
        match error {
            Error::One { at, error } => {
                status::of_one(&Status::from(*error), &self.place(at), DEVICE, &self.names[at])
            }
            whole => whole.into(),
        }
    }

    /// `requests[3]`
    fn place(&self, at: usize) -> String {
        format!("{}[{at}]", self.field)
    }

    /// Where the name itself stands: `names[3]`, `requests[3].device.name`.
    fn name_field(&self, at: usize) -> String {
        match self.field {
            "requests" => format!("{}.device.name", self.place(at)),
            _ => self.place(at),
        }
    }
}
