//! Domain types and pure decisions of svc-logs: no async, no IO, no clock.

pub(crate) mod batch;
pub(crate) mod crash;
pub(crate) mod crash_memory;
pub(crate) mod prefix;
pub(crate) mod progress;
pub(crate) mod rate;
pub(crate) mod record;
pub(crate) mod telemetry;
mod text;

pub(crate) use batch::Batch;
pub(crate) use crash::{Crash, CrashRange, StoredCrash};
pub(crate) use crash_memory::{MemoryChunk, StoredMemory};
pub(crate) use record::{Boot, Level, Range, Record, Source, StoredRecord};
pub(crate) use telemetry::{StoredTelemetry, Telemetry, TelemetryRange};
