//! Domain types and pure decisions of svc-logs: no async, no IO, no clock.

pub(crate) mod batch;
pub(crate) mod prefix;
pub(crate) mod progress;
pub(crate) mod rate;
pub(crate) mod record;

pub(crate) use batch::Batch;
pub(crate) use record::{Boot, Level, Range, Record, Source, StoredRecord};
