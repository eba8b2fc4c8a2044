//! One message that an application published. Nobody but its makers knows what it means: it is kept as it came, or not at all.

use std::time::SystemTime;

use wire::DeviceId;
use wire::limits::{CONTENT_TYPE_BYTES_MAX, TELEMETRY_BYTES_MAX};

use super::Boot;
use super::batch::SEQUENCE_MAX;

/// A message, within its bounds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Telemetry {
    pub(crate) boot: Boot,
    pub(crate) sequence: u64,
    pub(crate) uptime_us: u64,
    pub(crate) content_type: String,
    pub(crate) data: Vec<u8>,
    pub(crate) dropped: u64,
}

/// A message as it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StoredTelemetry {
    /// Among the messages of its device, from 1, in the order in which they were stored.
    pub(crate) position: u64,
    pub(crate) receive_time: SystemTime,
    pub(crate) message: Telemetry,
}

/// Which messages of a device to read, oldest first.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TelemetryRange {
    pub(crate) device: DeviceId,
    /// Only after this position.
    pub(crate) after: u64,
    pub(crate) start: Option<SystemTime>,
    pub(crate) end: Option<SystemTime>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TelemetryError {
    #[error("a sequence number is 0 or beyond any boot's")]
    Sequence,
    #[error("a content type that is not at most {CONTENT_TYPE_BYTES_MAX} bytes of printable ASCII")]
    ContentType,
    #[error("no data, or more than {TELEMETRY_BYTES_MAX} bytes")]
    Data,
}

impl Telemetry {
    /// The same within its bounds.
    pub(crate) fn checked(mut self) -> Result<Self, TelemetryError> {
        if !(1..=SEQUENCE_MAX).contains(&self.sequence) {
            return Err(TelemetryError::Sequence);
        }
        let printable = self.content_type.bytes().all(|byte| matches!(byte, b' '..=b'~'));
        if self.content_type.len() > CONTENT_TYPE_BYTES_MAX || !printable {
            return Err(TelemetryError::ContentType);
        }
        if !(1..=TELEMETRY_BYTES_MAX).contains(&self.data.len()) {
            return Err(TelemetryError::Data);
        }
        self.uptime_us = self.uptime_us.min(i64::MAX as u64);
        self.dropped = self.dropped.min(i64::MAX as u64);
        Ok(self)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn message(boot: Boot, sequence: u64) -> Telemetry {
        Telemetry {
            boot,
            sequence,
            uptime_us: sequence,
            content_type: "application/cbor".into(),
            data: sequence.to_be_bytes().to_vec(),
            dropped: 0,
        }
    }

    const BOOT: Boot = Boot { counter: 1, random: 2 };

    #[test]
    fn a_message_is_taken_up_to_its_bounds_and_no_further() {
        let one = message(BOOT, 1);
        let sized = |bytes: usize| Telemetry { data: vec![0; bytes], ..one.clone() }.checked().map(drop);
        assert_eq!((sized(1), sized(TELEMETRY_BYTES_MAX)), (Ok(()), Ok(())));
        assert_eq!(
            (sized(0), sized(TELEMETRY_BYTES_MAX + 1)),
            (Err(TelemetryError::Data), Err(TelemetryError::Data))
        );
        let typed = |text: String| Telemetry { content_type: text, ..one.clone() }.checked().map(drop);
        assert_eq!((typed(String::new()), typed("x".repeat(CONTENT_TYPE_BYTES_MAX))), (Ok(()), Ok(())));
        for wrong in
            ["x".repeat(CONTENT_TYPE_BYTES_MAX + 1), "é".into(), "a\0".into(), "a\n".into(), "\u{7f}".into()]
        {
            assert_eq!(typed(wrong), Err(TelemetryError::ContentType));
        }
        for (sequence, good) in
            [(0, false), (SEQUENCE_MAX, true), (SEQUENCE_MAX + 1, false), (u64::MAX, false)]
        {
            assert_eq!(message(BOOT, sequence).checked().is_ok(), good, "{sequence}");
        }
    }

    #[test]
    fn absurd_uptimes_and_counts_fit_the_database() {
        let odd = Telemetry { uptime_us: u64::MAX, dropped: u64::MAX, ..message(BOOT, 1) }.checked().unwrap();
        assert_eq!((odd.uptime_us, odd.dropped), (i64::MAX as u64, i64::MAX as u64));
    }
}
