//! The store: a small journal of records.

use crate::ports::FlashError;

/// Why the store could not do it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreError {
    Flash(FlashError),
    /// Longer than the key allows.
    TooLong,
}

/// Longest identity record, net's own bytes.
pub const IDENTITY_BYTES_MAX: usize = 4096;
