//! `up/crash` to a checked report, stored and acknowledged. The sender is not believed.

use std::time::SystemTime;

use kit::mqtt::{Link, PublishError};
use prost::Message;
use proto::device::v1::{BootId, CrashDown, CrashUp};
use wire::{Channel, DeviceId, Topic};

use crate::app::App;
use crate::app::count::{CRASHES, refused};
use crate::app::crashes::CrashAck;
use crate::model::crash::{CrashError, Kind, manifest, registers};
use crate::model::{Boot, Crash};

#[derive(Debug, thiserror::Error)]
pub(super) enum DecodeError {
    #[error("not a CrashUp")]
    Protobuf(#[from] prost::DecodeError),
    #[error("no boot id")]
    NoBoot,
    #[error(transparent)]
    Crash(#[from] CrashError),
}

/// The report a message holds.
pub(super) fn report(payload: &[u8]) -> Result<Crash, DecodeError> {
    let message = CrashUp::decode(payload)?;
    let boot = message.boot.ok_or(DecodeError::NoBoot)?;
    let crash = Crash {
        boot: Boot { counter: boot.counter, random: boot.random },
        sequence: message.sequence,
        uptime_us: message.uptime_us,
        manifest: manifest(&message.manifest_digest)?,
        version: message.version,
        kind: Kind::from_number(message.kind.into()),
        registers: registers(&message.registers)?,
        registers_known: message.registers_known,
        status: [
            message.cfsr,
            message.hfsr,
            message.sfsr,
            message.mmfar,
            message.bfar,
            message.sfar,
            message.exc_return,
        ],
        stack_at: message.stack_at,
        stack: message.stack,
        dropped: message.dropped,
    };
    Ok(crash.checked()?)
}

/// Stores a turn together; if something in it cannot be stored, each report by itself.
pub(super) async fn store(app: &App, link: &Link, reports: Vec<(DeviceId, Crash)>) {
    if reports.is_empty() {
        return;
    }
    match app.ingest_crashes(reports.clone(), SystemTime::now()).await {
        Ok(acks) => acknowledge(link, &acks),
        Err(error) if error.is_transient() || reports.len() == 1 => {
            let error = kit::status::chain(&error);
            tracing::warn!(error, reports = reports.len(), "crash reports not stored");
            refused(CRASHES, "not_stored", reports.len());
        }
        Err(error) => {
            tracing::warn!(error = kit::status::chain(&error), "storing crash reports one by one");
            for report in reports {
                match app.ingest_crashes(vec![report], SystemTime::now()).await {
                    Ok(acks) => acknowledge(link, &acks),
                    Err(_) => refused(CRASHES, "not_stored", 1),
                }
            }
        }
    }
}

fn acknowledge(link: &Link, acks: &[CrashAck]) {
    for ack in acks {
        let boot = BootId { counter: ack.boot.counter, random: ack.boot.random };
        let message = CrashDown { boot: Some(boot), sequence: ack.sequence };
        match link.publish(&Topic::down(ack.device, Channel::Crash), message.encode_to_vec()) {
            Ok(()) => {}
            // Not told, the device sends the report again and is told then.
            Err(PublishError::Disconnected | PublishError::Full | PublishError::TooLong) => {
                metrics::counter!("crashes_acks_dropped_total").increment(1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use proto::device::v1::CrashKind;
    use wire::limits::CRASH_STACK_BYTES_MAX;

    fn message() -> CrashUp {
        CrashUp {
            boot: Some(BootId { counter: 3, random: 9 }),
            sequence: 1,
            uptime_us: 5,
            manifest_digest: vec![7; 32],
            version: "1.0.0".into(),
            kind: CrashKind::StackOverflow.into(),
            registers: (0..17u32).flat_map(u32::to_le_bytes).collect(),
            registers_known: 0x1_ffff,
            cfsr: 1,
            hfsr: 2,
            sfsr: 3,
            mmfar: 4,
            bfar: 5,
            sfar: 6,
            exc_return: 7,
            stack_at: 0x2000_0000,
            stack: vec![1; CRASH_STACK_BYTES_MAX],
            dropped: 2,
        }
    }

    #[test]
    fn a_report_decodes_to_what_was_sent() {
        let crash = report(&message().encode_to_vec()).unwrap();
        assert_eq!((crash.boot, crash.sequence), (Boot { counter: 3, random: 9 }, 1));
        assert_eq!((crash.kind.name(), crash.status), ("stack_overflow", [1, 2, 3, 4, 5, 6, 7]));
        assert_eq!(crash.known_registers().last(), Some(("xpsr", 16)));
        assert_eq!((crash.stack.len(), crash.dropped), (CRASH_STACK_BYTES_MAX, 2));
    }

    #[test]
    fn a_report_without_what_names_it_or_beyond_its_bounds_is_malformed() {
        for malformed in [
            CrashUp { boot: None, ..message() },
            CrashUp { sequence: 0, ..message() },
            CrashUp { manifest_digest: vec![7; 31], ..message() },
            CrashUp { registers: vec![0; 67], ..message() },
            CrashUp { stack: vec![0; CRASH_STACK_BYTES_MAX + 1], ..message() },
        ] {
            assert!(report(&malformed.encode_to_vec()).is_err(), "{malformed:?}");
        }
        assert!(matches!(report(b"\xff\xff\xff"), Err(DecodeError::Protobuf(_))));
    }

    #[test]
    fn a_board_without_registers_and_a_device_without_a_manifest_are_heard() {
        let bare = CrashUp { boot: message().boot, sequence: 1, ..CrashUp::default() };
        let crash = report(&bare.encode_to_vec()).unwrap();
        assert_eq!((crash.registers, crash.manifest, crash.kind.name()), (None, None, "other"));
    }

    #[test]
    fn kinds_are_named_as_the_protocol_names_them() {
        for number in 1..=11 {
            let kind = CrashKind::try_from(number).unwrap();
            let name = kind.as_str_name().trim_start_matches("CRASH_KIND_").to_lowercase();
            assert_eq!(Kind::from_number(number.into()).name(), name);
        }
        assert!(CrashKind::try_from(12).is_err(), "a kind without a name here");
    }

    proptest! {
        #[test]
        fn decoding_any_bytes_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = report(&bytes);
        }

        #[test]
        fn decoding_a_damaged_report_never_panics(at in 0usize..1300, to in any::<u8>(), cut in 0usize..1300) {
            let mut bytes = message().encode_to_vec();
            let at = at % bytes.len();
            bytes[at] = to;
            bytes.truncate(bytes.len() - cut % bytes.len());
            let _ = report(&bytes);
        }
    }
}
