//! Domain to proto and back: records and times.

use std::time::SystemTime;

use kit::status;
use prost_types::Timestamp;
use proto::logs::v1::LogRecord;
use proto::name::DeviceName;
use tonic::Status;

use crate::model::StoredRecord;

pub(super) fn record(device: &DeviceName, stored: StoredRecord) -> LogRecord {
    LogRecord {
        device: device.to_string(),
        boot: stored.boot.to_string(),
        boot_count: stored.boot.counter.into(),
        sequence: signed(stored.record.sequence),
        uptime_us: signed(stored.record.uptime_us),
        receive_time: Some(stored.receive_time.into()),
        level: stored.record.level.name().to_owned(),
        source: stored.record.source.name().to_owned(),
        text: stored.record.text,
        gap_before: signed(stored.gap_before),
    }
}

/// Numbers the model keeps within the range.
pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A time the caller gave, if it is one the database can hold.
pub(super) fn time(field: &str, given: Option<Timestamp>) -> Result<Option<SystemTime>, Status> {
    // Years 0001 to 9999, as google.protobuf.Timestamp says.
    const FIRST_S: i64 = -62_135_596_800;
    const LAST_S: i64 = 253_402_300_799;
    let Some(given) = given else { return Ok(None) };
    let valid = (FIRST_S..=LAST_S).contains(&given.seconds) && (0..1_000_000_000).contains(&given.nanos);
    let time = if valid { SystemTime::try_from(given).ok() } else { None };
    time.map(Some).ok_or_else(|| status::invalid(field, "is not a time between the years 1 and 9999"))
}

/// For the page token: the request's time, exactly.
pub(super) fn time_text(given: &Option<Timestamp>) -> String {
    given.as_ref().map_or_else(String::new, |t| format!("{}.{}", t.seconds, t.nanos))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_taken_within_the_range_of_a_timestamp_only() {
        let at = |seconds, nanos| time("start_time", Some(Timestamp { seconds, nanos }));
        assert!(at(0, 0).unwrap().is_some());
        assert!(at(-62_135_596_800, 0).is_ok() && at(253_402_300_799, 999_999_999).is_ok());
        for (seconds, nanos) in [
            (-62_135_596_801, 0),
            (253_402_300_800, 0),
            (i64::MIN, 0),
            (i64::MAX, 0),
            (0, -1),
            (0, 1_000_000_000),
        ] {
            assert_eq!(at(seconds, nanos).unwrap_err().code(), tonic::Code::InvalidArgument);
        }
        assert_eq!(time("start_time", None).unwrap(), None);
    }
}
