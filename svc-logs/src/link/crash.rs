//! `up/crash` to a checked report, or to some memory of one, stored and acknowledged. The sender is not believed.

use std::time::SystemTime;

use kit::mqtt::{Link, PublishError};
use prost::Message;
use proto::device::v1::{BootId, CrashDown, CrashMemoryDown, CrashMemoryUp, CrashUp};
use wire::{Channel, DeviceId, Topic};

use crate::app::App;
use crate::app::count::{CRASH_MEMORY, CRASHES, refused};
use crate::app::crash_memory::MemoryAck;
use crate::app::crashes::CrashAck;
use crate::model::crash::{CrashError, Kind, manifest, registers};
use crate::model::crash_memory::{MemoryError, pieces};
use crate::model::rate::CRASH_WEIGHT;
use crate::model::{Boot, Crash, MemoryChunk};

#[derive(Debug, thiserror::Error)]
pub(super) enum DecodeError {
    #[error("not a CrashUp")]
    Protobuf(#[from] prost::DecodeError),
    #[error("no boot id")]
    NoBoot,
    #[error(transparent)]
    Crash(#[from] CrashError),
    #[error(transparent)]
    Memory(#[from] MemoryError),
}

/// What a message holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Said {
    Report(Crash),
    Memory(MemoryChunk),
}

impl Said {
    /// What it costs of its device's rate.
    pub(super) fn weight(&self) -> usize {
        match self {
            Self::Report(_) => CRASH_WEIGHT,
            Self::Memory(_) => 1,
        }
    }
}

/// A report, or some memory of one.
pub(super) fn said(payload: &[u8]) -> Result<Said, DecodeError> {
    let mut message = CrashUp::decode(payload)?;
    match message.memory.take() {
        Some(memory) => chunk(memory).map(Said::Memory),
        None => report(message).map(Said::Report),
    }
}

fn chunk(message: CrashMemoryUp) -> Result<MemoryChunk, DecodeError> {
    let boot = message.boot.ok_or(DecodeError::NoBoot)?;
    let chunk = MemoryChunk {
        boot: Boot { counter: boot.counter, random: boot.random },
        sequence: message.sequence,
        total: message.total,
        pieces: pieces(&message.pieces)?,
        offset: message.offset,
        data: message.data,
    };
    Ok(chunk.checked()?)
}

fn report(message: CrashUp) -> Result<Crash, DecodeError> {
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
        memory_bytes: message.memory_bytes,
        memory_missed: message.memory_missed,
    };
    Ok(crash.checked()?)
}

/// Stores a turn: reports first, then memory.
pub(super) async fn store(app: &App, link: &Link, turn: Vec<(DeviceId, Said)>) {
    let (mut reports, mut chunks) = (Vec::new(), Vec::new());
    for (device, said) in turn {
        match said {
            Said::Report(crash) => reports.push((device, crash)),
            Said::Memory(chunk) => chunks.push((device, chunk)),
        }
    }
    store_reports(app, link, reports).await;
    store_memory(app, link, chunks).await;
}

/// Stores memory together; if something of it cannot be stored, each by itself. What is dropped the device sends again.
async fn store_memory(app: &App, link: &Link, chunks: Vec<(DeviceId, MemoryChunk)>) {
    if chunks.is_empty() {
        return;
    }
    match app.ingest_crash_memory(chunks.clone(), SystemTime::now()).await {
        Ok(acks) => acks.iter().for_each(|ack| answer(link, ack)),
        Err(error) if error.is_transient() || chunks.len() == 1 => {
            let error = kit::status::chain(&error);
            tracing::warn!(error, chunks = chunks.len(), "memory of crashes not stored");
            refused(CRASH_MEMORY, "not_stored", chunks.len());
        }
        Err(error) => {
            tracing::warn!(error = kit::status::chain(&error), "storing memory of crashes one by one");
            for chunk in chunks {
                match app.ingest_crash_memory(vec![chunk], SystemTime::now()).await {
                    Ok(acks) => acks.iter().for_each(|ack| answer(link, ack)),
                    Err(_) => refused(CRASH_MEMORY, "not_stored", 1),
                }
            }
        }
    }
}

fn answer(link: &Link, ack: &MemoryAck) {
    let memory = CrashMemoryDown {
        boot: Some(BootId { counter: ack.boot.counter, random: ack.boot.random }),
        sequence: ack.sequence,
        stored_up_to: ack.stored_up_to,
    };
    tell(link, ack.device, &CrashDown { memory: Some(memory), ..CrashDown::default() });
}

/// Stores reports together; if something among them cannot be stored, each by itself.
async fn store_reports(app: &App, link: &Link, reports: Vec<(DeviceId, Crash)>) {
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
        tell(link, ack.device, &CrashDown { boot: Some(boot), sequence: ack.sequence, memory: None });
    }
}

fn tell(link: &Link, device: DeviceId, message: &CrashDown) {
    match link.publish(&Topic::down(device, Channel::Crash), message.encode_to_vec()) {
        Ok(()) => {}
        // Not told, the device sends it again and is told then.
        Err(PublishError::Disconnected | PublishError::Full | PublishError::TooLong) => {
            metrics::counter!("crashes_acks_dropped_total").increment(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use proto::device::v1::CrashKind;
    use wire::limits::{CRASH_MEMORY_CHUNK_BYTES_MAX, CRASH_STACK_BYTES_MAX};

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
            memory_bytes: 4096,
            memory_missed: 3,
            memory: None,
        }
    }

    fn memory() -> CrashMemoryUp {
        CrashMemoryUp {
            boot: Some(BootId { counter: 3, random: 9 }),
            sequence: 1,
            total: 4096,
            pieces: [0x2000_0000u32, 4096].map(u32::to_le_bytes).concat(),
            offset: 1024,
            data: vec![7; CRASH_MEMORY_CHUNK_BYTES_MAX],
        }
    }

    fn report(payload: &[u8]) -> Result<Crash, DecodeError> {
        match said(payload)? {
            Said::Report(crash) => Ok(crash),
            Said::Memory(_) => panic!("memory"),
        }
    }

    fn carried(memory: CrashMemoryUp) -> Vec<u8> {
        CrashUp { memory: Some(memory), ..CrashUp::default() }.encode_to_vec()
    }

    #[test]
    fn memory_of_a_crash_is_told_from_a_report_and_costs_less() {
        let Ok(Said::Memory(chunk)) = said(&carried(memory())) else { panic!("no memory") };
        assert_eq!((chunk.boot, chunk.sequence), (Boot { counter: 3, random: 9 }, 1));
        assert_eq!((chunk.total, chunk.offset, chunk.data.len()), (4096, 1024, CRASH_MEMORY_CHUNK_BYTES_MAX));
        assert_eq!(chunk.pieces, [(0x2000_0000, 4096)]);
        let report = said(&message().encode_to_vec()).unwrap();
        assert_eq!((Said::Memory(chunk).weight(), report.weight()), (1, CRASH_WEIGHT));
    }

    #[test]
    fn memory_without_what_names_it_or_beyond_its_bounds_is_malformed() {
        for malformed in [
            CrashMemoryUp { boot: None, ..memory() },
            CrashMemoryUp { sequence: 0, ..memory() },
            CrashMemoryUp { total: 0, ..memory() },
            CrashMemoryUp { pieces: vec![0; 7], ..memory() },
            CrashMemoryUp { offset: 4096, ..memory() },
            CrashMemoryUp { data: vec![0; CRASH_MEMORY_CHUNK_BYTES_MAX + 1], ..memory() },
        ] {
            assert!(said(&carried(malformed.clone())).is_err(), "{malformed:?}");
        }
    }

    #[test]
    fn a_report_decodes_to_what_was_sent() {
        let crash = report(&message().encode_to_vec()).unwrap();
        assert_eq!((crash.boot, crash.sequence), (Boot { counter: 3, random: 9 }, 1));
        assert_eq!((crash.kind.name(), crash.status), ("stack_overflow", [1, 2, 3, 4, 5, 6, 7]));
        assert_eq!(crash.known_registers().last(), Some(("xpsr", 16)));
        assert_eq!((crash.stack.len(), crash.dropped), (CRASH_STACK_BYTES_MAX, 2));
        assert_eq!((crash.memory_bytes, crash.memory_missed), (4096, 3));
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
            let _ = said(&bytes);
        }

        #[test]
        fn decoding_damaged_memory_never_panics(at in 0usize..1100, to in any::<u8>(), cut in 0usize..1100) {
            let mut bytes = carried(memory());
            let at = at % bytes.len();
            bytes[at] = to;
            bytes.truncate(bytes.len() - cut % bytes.len());
            let _ = said(&bytes);
        }

        #[test]
        fn decoding_a_damaged_report_never_panics(at in 0usize..1300, to in any::<u8>(), cut in 0usize..1300) {
            let mut bytes = message().encode_to_vec();
            let at = at % bytes.len();
            bytes[at] = to;
            bytes.truncate(bytes.len() - cut % bytes.len());
            let _ = said(&bytes);
        }
    }
}
