//! An upload under way, and how far each of its layers is.

use std::time::SystemTime;

use wire::{BundleId, Digest, TenantId, UploadId};

#[derive(Clone, Debug)]
pub(crate) struct Upload {
    pub(crate) tenant: TenantId,
    pub(crate) id: UploadId,
    pub(crate) manifest: Digest,
    pub(crate) envelope: Vec<u8>,
    pub(crate) bundle: Option<BundleId>,
    pub(crate) expires_at: SystemTime,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct UploadLayer {
    pub(crate) digest: Digest,
    pub(crate) bytes: u64,
    pub(crate) committed: u64,
    /// The tenant had it already.
    pub(crate) held: bool,
}
