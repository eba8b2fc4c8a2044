//! What was not taken, by reason.

/// Log messages, or records of them.
pub(crate) const LOGS: &str = "logs_refused_total";
/// Crash reports.
pub(crate) const CRASHES: &str = "crashes_refused_total";
/// Messages with memory of a crash.
pub(crate) const CRASH_MEMORY: &str = "crash_memory_refused_total";
/// Telemetry messages.
pub(crate) const TELEMETRY: &str = "telemetry_refused_total";

/// Adds to one of the counters above.
pub(crate) fn refused(counter: &'static str, why: &'static str, count: usize) {
    if count > 0 {
        metrics::counter!(counter, "why" => why).increment(count as u64);
    }
}
