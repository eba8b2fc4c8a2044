//! A keyset as its tenant signed it; what it says is read and checked by `wire`.

use std::time::SystemTime;

#[derive(Debug, Clone)]
pub(crate) struct SignedKeyset {
    pub version: i32,
    /// COSE_Sign, exactly as signed.
    pub signed: Vec<u8>,
    pub created_at: SystemTime,
}
