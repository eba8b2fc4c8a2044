//! `up/telemetry` to a checked message, stored. The sender is not believed.
//!
//! A device is not told what became of a message, and does not send it again: a turn that fails for a while is tried again before it is given up.

use std::time::{Duration, SystemTime};

use kit::Shutdown;
use prost::Message;
use proto::device::v1::TelemetryUp;
use wire::DeviceId;

use crate::app::App;
use crate::app::count::{TELEMETRY, refused};
use crate::model::telemetry::TelemetryError;
use crate::model::{Boot, Telemetry};

/// How often a turn is tried.
const TRIES_MAX: u32 = 8;
/// Before the second try; twice as long before each further one: about half a minute in all.
const RETRY: Duration = Duration::from_millis(250);

#[derive(Debug, thiserror::Error)]
pub(super) enum DecodeError {
    #[error("not a TelemetryUp")]
    Protobuf(#[from] prost::DecodeError),
    #[error("no boot id")]
    NoBoot,
    #[error(transparent)]
    Telemetry(#[from] TelemetryError),
}

/// The message as it was published.
pub(super) fn message(payload: &[u8]) -> Result<Telemetry, DecodeError> {
    let message = TelemetryUp::decode(payload)?;
    let boot = message.boot.ok_or(DecodeError::NoBoot)?;
    let telemetry = Telemetry {
        boot: Boot { counter: boot.counter, random: boot.random },
        sequence: message.sequence,
        uptime_us: message.uptime_us,
        content_type: message.content_type,
        data: message.data,
        dropped: message.dropped,
    };
    Ok(telemetry.checked()?)
}

/// Stores a turn together; if something in it cannot be stored, each message by itself.
pub(super) async fn store(app: &App, messages: Vec<(DeviceId, Telemetry)>, shutdown: &Shutdown) {
    if messages.is_empty() {
        return;
    }
    let mut pause = RETRY;
    for attempt in 1..=TRIES_MAX {
        let Err(error) = app.ingest_telemetry(messages.clone(), SystemTime::now()).await else { return };
        tracing::warn!(error = kit::status::chain(&error), messages = messages.len(), "telemetry not stored");
        if !error.is_transient() {
            return one_by_one(app, messages).await;
        }
        if attempt == TRIES_MAX || shutdown.or(tokio::time::sleep(pause)).await.is_none() {
            break;
        }
        pause *= 2;
    }
    refused(TELEMETRY, "not_stored", messages.len());
}

async fn one_by_one(app: &App, messages: Vec<(DeviceId, Telemetry)>) {
    for message in messages {
        if app.ingest_telemetry(vec![message], SystemTime::now()).await.is_err() {
            refused(TELEMETRY, "not_stored", 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use proto::device::v1::BootId;
    use wire::limits::TELEMETRY_BYTES_MAX;

    fn up() -> TelemetryUp {
        TelemetryUp {
            boot: Some(BootId { counter: 3, random: 9 }),
            sequence: 4,
            uptime_us: 5,
            content_type: "text/plain".into(),
            data: b"21.5".to_vec(),
            dropped: 1,
        }
    }

    #[test]
    fn a_message_decodes_to_what_was_published() {
        let message = message(&up().encode_to_vec()).unwrap();
        assert_eq!((message.boot, message.sequence), (Boot { counter: 3, random: 9 }, 4));
        assert_eq!((message.content_type.as_str(), message.data.as_slice()), ("text/plain", &b"21.5"[..]));
        assert_eq!((message.uptime_us, message.dropped), (5, 1));
    }

    #[test]
    fn a_message_without_what_names_it_or_beyond_its_bounds_is_malformed() {
        for malformed in [
            TelemetryUp { boot: None, ..up() },
            TelemetryUp { sequence: 0, ..up() },
            TelemetryUp { content_type: "a\nb".into(), ..up() },
            TelemetryUp { data: vec![0; TELEMETRY_BYTES_MAX + 1], ..up() },
            TelemetryUp { data: Vec::new(), ..up() },
        ] {
            assert!(message(&malformed.encode_to_vec()).is_err(), "{malformed:?}");
        }
        assert!(matches!(message(b"\xff\xff\xff"), Err(DecodeError::Protobuf(_))));
    }

    proptest! {
        #[test]
        fn decoding_any_bytes_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = message(&bytes);
        }
    }
}
