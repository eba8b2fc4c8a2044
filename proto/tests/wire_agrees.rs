//! The device's messages exist twice: borrowed in `wire`, owned here. Whatever one encodes the other reads as the same,
//! byte for byte, for every message and any values.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use prost::Message as _;
use proto::device::v1 as owned;
use wire::msg::{self as borrowed, Message as _};

/// What `wire` makes of bytes: decoded, and encoded again.
macro_rules! assert_agrees {
    ($message:expr, $type:ident) => {{
        let message: owned::$type = $message;
        let bytes = message.encode_to_vec();
        let read = borrowed::$type::decode(&bytes).expect("wire reads what prost wrote");
        let mut again = vec![0; read.encoded_len()];
        read.encode(&mut again.as_mut_slice()).expect("it fits");
        prop_assert_eq!(&again, &bytes);
        prop_assert_eq!(owned::$type::decode(&again[..]).expect("prost reads what wire wrote"), message);
    }};
}

prop_compose! {
    fn boot()(counter: u32, random: u64) -> owned::BootId {
        owned::BootId { counter, random }
    }
}

prop_compose! {
    fn slot()(
        component in "app|microvisor|", index: u32, status in 0..8, manifest_digest in vec(any::<u8>(), 0..40),
        version in "\\PC{0,8}", security_counter: u64, running: bool,
    ) -> owned::Slot {
        owned::Slot { component, index, status, manifest_digest, version, security_counter, running }
    }
}

prop_compose! {
    fn counters()(
        uptime_ms: u64, app_crashes: u32, app_starts: u32, log_dropped: u32, directives_refused: u32,
        blocks_refused: u32,
    ) -> owned::Counters {
        owned::Counters { uptime_ms, app_crashes, app_starts, log_dropped, directives_refused, blocks_refused }
    }
}

prop_compose! {
    fn update_up()(
        boot in option::of(boot()), sequence: u32, deployment in "\\PC{0,8}",
        manifest_digest in vec(any::<u8>(), 0..40), state in 0..12, reason in 0..20, bytes_done: u64,
        bytes_total: u64, attempts: u32,
    ) -> owned::UpdateUp {
        owned::UpdateUp {
            boot, sequence, deployment, manifest_digest, state, reason, bytes_done, bytes_total, attempts,
        }
    }
}

prop_compose! {
    fn hello_up()(
        (protocol, connection, sequence, keyset_version) in any::<(u32, u32, u32, u32)>(), nonce in vec(any::<u8>(), 0..20),
        boot in option::of(boot()), boot_reason in 0..8,
        (hardware_id, board, microvisor_version) in ("\\PC{0,8}", "\\PC{0,8}", "\\PC{0,8}"),
        slots in vec(slot(), 0..4), (app_floor, time_bound_s, microvisor_floor) in any::<(u64, u64, u64)>(), counters in option::of(counters()),
        last_result in option::of(update_up()), challenge in vec(any::<u8>(), 0..20),
    ) -> owned::HelloUp {
        owned::HelloUp {
            protocol, nonce, boot, connection, sequence, boot_reason, hardware_id, board, microvisor_version,
            slots, app_floor, keyset_version, time_bound_s, counters, last_result,
            microvisor_floor, challenge,
        }
    }
}

prop_compose! {
    fn log_record()(
        sequence: u64, uptime_us: u64, level in 0..6, source in 0..4, text in "\\PC{0,20}",
    ) -> owned::LogRecord {
        owned::LogRecord { sequence, uptime_us, level, source, text }
    }
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..40)
}

proptest! {
    #[test]
    fn hello_agrees(
        up in hello_up(), signed_time in bytes(), keyset in bytes(), challenge in bytes(), renew: bool,
    ) {
        assert_agrees!(up, HelloUp);
        assert_agrees!(owned::HelloDown { signed_time, keyset, challenge, renew }, HelloDown);
    }

    #[test]
    fn update_agrees(
        up in update_up(), directive in bytes(), envelope in bytes(), boot in option::of(boot()), sequence: u32,
        is_acknowledged: bool,
    ) {
        assert_agrees!(up, UpdateUp);
        let result_ack = is_acknowledged.then_some(owned::ResultAck { boot, sequence });
        assert_agrees!(owned::UpdateDown { directive, envelope, result_ack }, UpdateDown);
    }

    #[test]
    fn layer_agrees(
        digest in bytes(), data in bytes(), (offset, length, retry_after_ms) in any::<(u32, u32, u32)>(), error in 0..5,
    ) {
        assert_agrees!(owned::LayerUp { digest: digest.clone(), offset, length }, LayerUp);
        assert_agrees!(owned::LayerDown { digest, offset, data: data.into(), error, retry_after_ms }, LayerDown);
    }

    #[test]
    fn log_agrees(
        boot in option::of(boot()), records in vec(log_record(), 0..5),
        (lost_up_to, dropped, stored_up_to) in any::<(u64, u64, u64)>(), level in 0..6,
    ) {
        assert_agrees!(owned::LogUp { boot, records, lost_up_to, dropped }, LogUp);
        assert_agrees!(owned::LogDown { boot, stored_up_to, level }, LogDown);
    }

    #[test]
    fn crash_agrees(
        boot in option::of(boot()), (sequence, uptime_us, registers_known, dropped) in any::<(u32, u64, u32, u32)>(),
        version in "\\PC{0,8}", kind in 0..14, (manifest_digest, registers, stack) in (bytes(), bytes(), bytes()),
        (cfsr, hfsr, sfsr, mmfar, bfar, sfar, exc_return, stack_at) in any::<(u32, u32, u32, u32, u32, u32, u32, u32)>(),
        (memory_bytes, memory_missed, total, offset, stored_up_to) in any::<(u32, u32, u32, u32, u32)>(),
        (pieces, data, has_memory) in (bytes(), bytes(), any::<bool>()),
    ) {
        let memory = owned::CrashMemoryUp { boot, sequence, total, pieces, offset, data };
        let told = owned::CrashMemoryDown { boot, sequence, stored_up_to };
        assert_agrees!(
            owned::CrashUp {
                boot, sequence, uptime_us, manifest_digest, version, kind, registers, registers_known, cfsr, hfsr, sfsr,
                mmfar, bfar, sfar, exc_return, stack_at, stack, dropped,
                memory_bytes, memory_missed, memory: has_memory.then_some(memory),
            },
            CrashUp
        );
        assert_agrees!(owned::CrashDown { boot, sequence, memory: has_memory.then_some(told) }, CrashDown);
    }

    #[test]
    fn telemetry_agrees(
        boot in option::of(boot()), (sequence, uptime_us, dropped) in any::<(u64, u64, u64)>(),
        content_type in "\\PC{0,40}", data in bytes(),
    ) {
        assert_agrees!(
            owned::TelemetryUp { boot, sequence, uptime_us, content_type, data, dropped },
            TelemetryUp
        );
    }

    #[test]
    fn debug_agrees(
        session in "\\PC{0,40}", epoch: u32, boot in option::of(boot()), (open, answer, watch) in any::<(bool, bool, bool)>(),
        data in bytes(), (number, received_up_to, delivered_up_to, credit_up_to) in any::<(u64, u64, u64, u64)>(), end in 0..8,
    ) {
        assert_agrees!(
            owned::DebugDown {
                session: session.clone(), epoch, boot, open, answer, number, data: data.clone().into(),
                received_up_to, delivered_up_to, credit_up_to, end, watch,
            },
            DebugDown
        );
        assert_agrees!(
            owned::DebugUp {
                session, epoch, boot, number, data: data.into(), received_up_to, credit_up_to,
                forgotten_up_to: delivered_up_to, end,
            },
            DebugUp
        );
    }

    #[test]
    fn enroll_agrees(
        (csr, old_key_signature, vouching_certificate, vouching_signature) in (bytes(), bytes(), bytes(), bytes()),
        (hardware_id, board) in ("\\PC{0,8}", "\\PC{0,8}"),
        (status, reason) in (0..5, 0..10), retry_after_s: u32, (device_id, tenant_id) in ("\\PC{0,8}", "\\PC{0,8}"),
        (leaf, intermediate, birth, keyset) in (bytes(), bytes(), bytes(), bytes()), broker in "\\PC{0,8}",
    ) {
        assert_agrees!(
            owned::EnrollUp { csr, hardware_id, board, old_key_signature, vouching_certificate, vouching_signature },
            EnrollUp
        );
        assert_agrees!(
            owned::EnrollDown {
                status, reason, retry_after_s, device_id, tenant_id, leaf, intermediate, birth, broker, keyset,
            },
            EnrollDown
        );
    }
}
