//! `up/log` to a checked batch, stored and acknowledged. The sender is not believed.

use std::time::SystemTime;

use kit::mqtt::{Link, PublishError};
use prost::Message;
use proto::device::v1::{self as device, BootId, LogDown, LogUp};
use wire::{Channel, DeviceId, Topic};

use crate::app::App;
use crate::app::count::{LOGS, refused};
use crate::app::ingest::Ack;
use crate::model::batch::BatchError;
use crate::model::{Batch, Boot, Level, Record, Source};

#[derive(Debug, thiserror::Error)]
pub(super) enum DecodeError {
    #[error("not a LogUp")]
    Protobuf(#[from] prost::DecodeError),
    #[error("no boot id")]
    NoBoot,
    #[error(transparent)]
    Batch(#[from] BatchError),
}

/// The batch a message holds.
pub(super) fn batch(payload: &[u8]) -> Result<Batch, DecodeError> {
    let message = LogUp::decode(payload)?;
    let boot = message.boot.ok_or(DecodeError::NoBoot)?;
    let boot = Boot { counter: boot.counter, random: boot.random };
    let records = message.records.into_iter().map(record).collect();
    Ok(Batch::new(boot, records, message.lost_up_to, message.dropped)?)
}

fn record(record: device::LogRecord) -> Record {
    Record {
        sequence: record.sequence,
        uptime_us: record.uptime_us,
        level: level(record.level()),
        source: source(record.source()),
        text: record.text,
    }
}

/// A level newer than this service reads as `info`: shown by default, and no alarm.
fn level(level: device::LogLevel) -> Level {
    match level {
        device::LogLevel::Error => Level::Error,
        device::LogLevel::Warn => Level::Warn,
        device::LogLevel::Info | device::LogLevel::Unspecified => Level::Info,
        device::LogLevel::Debug => Level::Debug,
    }
}

/// An unknown source is the application's: the microvisor knows itself.
fn source(source: device::LogSource) -> Source {
    match source {
        device::LogSource::Microvisor => Source::Microvisor,
        device::LogSource::App | device::LogSource::Unspecified => Source::App,
    }
}

/// Stores a turn together; if something in it cannot be stored, each message by itself.
pub(super) async fn store(app: &App, link: &Link, batches: Vec<(DeviceId, Batch)>) {
    if batches.is_empty() {
        return;
    }
    match app.ingest(batches.clone(), SystemTime::now()).await {
        Ok(acks) => acknowledge(link, &acks),
        Err(error) if error.is_transient() || batches.len() == 1 => {
            tracing::warn!(
                error = kit::status::chain(&error),
                messages = batches.len(),
                "log messages not stored"
            );
            refused(LOGS, "not_stored", batches.len());
        }
        Err(error) => {
            tracing::warn!(error = kit::status::chain(&error), "storing log messages one by one");
            for batch in batches {
                match app.ingest(vec![batch], SystemTime::now()).await {
                    Ok(acks) => acknowledge(link, &acks),
                    Err(_) => refused(LOGS, "not_stored", 1),
                }
            }
        }
    }
}

fn acknowledge(link: &Link, acks: &[Ack]) {
    for ack in acks {
        let message = LogDown {
            boot: Some(BootId { counter: ack.boot.counter, random: ack.boot.random }),
            stored_up_to: ack.stored_up_to,
            ..LogDown::default()
        };
        let sent = link.publish(&Topic::down(ack.device, Channel::Log), message.encode_to_vec());
        match sent {
            Ok(()) => {}
            // Not told, the device sends the batch again and is told then.
            Err(PublishError::Disconnected | PublishError::Full | PublishError::TooLong) => {
                metrics::counter!("logs_acks_dropped_total").increment(1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use wire::limits::LOG_BATCH_RECORDS_MAX;

    fn message(records: usize) -> LogUp {
        LogUp {
            boot: Some(device::BootId { counter: 3, random: 9 }),
            records: (1..=records as u64)
                .map(|sequence| device::LogRecord {
                    sequence,
                    uptime_us: 5,
                    level: device::LogLevel::Warn as i32,
                    source: device::LogSource::Microvisor as i32,
                    text: "hello".into(),
                })
                .collect(),
            lost_up_to: 0,
            dropped: 0,
        }
    }

    #[test]
    fn a_message_decodes_to_what_was_sent() {
        let batch = batch(&message(2).encode_to_vec()).unwrap();
        assert_eq!(batch.boot, Boot { counter: 3, random: 9 });
        assert_eq!(batch.records.len(), 2);
        assert_eq!((batch.records[0].level, batch.records[0].source), (Level::Warn, Source::Microvisor));
    }

    #[test]
    fn messages_without_a_boot_or_with_too_many_records_are_malformed() {
        let no_boot = LogUp { boot: None, ..message(1) };
        assert!(matches!(batch(&no_boot.encode_to_vec()), Err(DecodeError::NoBoot)));
        let many = message(LOG_BATCH_RECORDS_MAX + 1);
        assert!(matches!(batch(&many.encode_to_vec()), Err(DecodeError::Batch(BatchError::TooManyRecords))));
        assert!(matches!(batch(b"\xff\xff\xff"), Err(DecodeError::Protobuf(_))));
        let mut invalid_utf8 = message(1).encode_to_vec();
        let at = invalid_utf8.windows(5).position(|w| w == b"hello").unwrap();
        invalid_utf8[at] = 0xff;
        assert!(matches!(batch(&invalid_utf8), Err(DecodeError::Protobuf(_))));
    }

    #[test]
    fn unknown_levels_and_sources_are_read_as_something_harmless() {
        let mut strange = message(1);
        strange.records[0].level = 99;
        strange.records[0].source = -1;
        let batch = batch(&strange.encode_to_vec()).unwrap();
        assert_eq!((batch.records[0].level, batch.records[0].source), (Level::Info, Source::App));
    }

    proptest! {
        #[test]
        fn decoding_any_bytes_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = batch(&bytes);
        }

        #[test]
        fn decoding_a_damaged_message_never_panics(at in 0usize..200, to in any::<u8>(), cut in 0usize..200) {
            let mut bytes = message(5).encode_to_vec();
            let at = at % bytes.len();
            bytes[at] = to;
            bytes.truncate(bytes.len() - cut % bytes.len());
            let _ = batch(&bytes);
        }
    }
}
