//! The device's messages, against bytes that protoc made.

use proptest::prelude::*;
use wire::limits::{DEBUG_FRAME_BYTES_MAX, PACKET_BYTES_MAX, TOPIC_BYTES_MAX};
use wire::msg::{
    BootId, BootReason, Counters, DebugDown, DebugEnd, DebugUp, EnrollDown, EnrollReason, EnrollStatus,
    EnrollUp, EnumValue, HelloDown, HelloUp, LayerDown, LayerError, LayerUp, LogDown, LogLevel, LogRecord,
    LogSource, LogUp, Message, Repeated, ResultAck, Slot, SlotStatus, UpdateDown, UpdateReason, UpdateState,
    UpdateUp, to_vec,
};

#[path = "../frozen/messages.rs"]
mod frozen;

const NONCE: &[u8] = &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];
const DIGEST: &[u8] = &[
    0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14,
    15,
];
const DEBUG_SESSION: &str = "dsd3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3";
const DEPLOYMENT: &str = "dpd2d2d2d2d2d2d2d2d2d2d2d2d2d2d2d2";

/// The message encodes to these bytes, and these bytes decode to a message that does.
macro_rules! assert_frozen {
    ($message:expr, $bytes:expr, $type:ident) => {{
        assert_eq!(to_vec(&$message), $bytes);
        let decoded = $type::decode($bytes).expect("decodes");
        assert_eq!(to_vec(&decoded), $bytes);
        decoded
    }};
}

fn boot() -> Option<BootId<'static>> {
    Some(BootId { counter: 7, random: 0x0123_4567_89ab_cdef, ..Default::default() })
}

fn known<E: wire::msg::Enumeration>(value: E) -> EnumValue<E> {
    EnumValue::Known(value)
}

#[test]
fn hello_up_is_frozen() {
    let slot =
        |component, index, status| Slot { component, index, status: known(status), ..Default::default() };
    let slots = [
        Slot {
            manifest_digest: DIGEST,
            version: "1.0.0",
            security_counter: 4,
            ..slot("app", 0, SlotStatus::Previous)
        },
        Slot {
            manifest_digest: DIGEST,
            version: "1.1.0",
            security_counter: 300,
            running: true,
            ..slot("app", 1, SlotStatus::Trial)
        },
        slot("microvisor", 0, SlotStatus::Empty),
    ];
    let message = HelloUp {
        protocol: 0,
        nonce: NONCE,
        boot: boot(),
        connection: 2,
        sequence: 3,
        boot_reason: known(BootReason::Update),
        hardware_id: "board-0001",
        board: "host",
        microvisor_version: "0.1.0",
        slots: Repeated::from_slice(&slots),
        app_floor: 4,
        keyset_version: 2,
        time_bound_s: 1_790_000_000,
        counters: Some(Counters {
            uptime_ms: 123_456_789_012,
            app_crashes: 1,
            app_starts: 2,
            log_dropped: 3,
            directives_refused: 4,
            blocks_refused: 5,
            ..Default::default()
        }),
        last_result: Some(UpdateUp {
            boot: boot(),
            sequence: 9,
            deployment: DEPLOYMENT,
            manifest_digest: DIGEST,
            state: known(UpdateState::Reverted),
            reason: known(UpdateReason::NeverHealthy),
            bytes_done: 262_144,
            bytes_total: 262_144,
            attempts: 3,
            ..Default::default()
        }),
        ..Default::default()
    };
    let decoded = assert_frozen!(message, frozen::HELLO_UP, HelloUp);
    let versions: Vec<&str> = decoded.slots.iter().map(|slot| slot.expect("a slot").version).collect();
    assert_eq!(versions, ["1.0.0", "1.1.0", ""]);
    assert_eq!(decoded.boot_reason, known(BootReason::Update));
}

#[test]
fn hello_down_is_frozen() {
    let message = HelloDown { signed_time: &[0xd2, 0x84], keyset: &[0xd8, 0x62, 0x84], ..Default::default() };
    assert_frozen!(message, frozen::HELLO_DOWN, HelloDown);
}

#[test]
fn update_up_is_frozen() {
    let message = UpdateUp {
        boot: boot(),
        sequence: 128,
        deployment: DEPLOYMENT,
        manifest_digest: DIGEST,
        state: known(UpdateState::Fetching),
        bytes_done: 16_384,
        bytes_total: 4_294_967_296,
        ..Default::default()
    };
    assert_frozen!(message, frozen::UPDATE_UP, UpdateUp);
}

#[test]
fn update_down_is_frozen() {
    let message = UpdateDown {
        directive: &[0xd2, 0x84],
        envelope: &[0xd8, 0x6b],
        result_ack: Some(ResultAck { boot: boot(), sequence: 128, ..Default::default() }),
        ..Default::default()
    };
    assert_frozen!(message, frozen::UPDATE_DOWN, UpdateDown);
}

#[test]
fn layer_up_is_frozen() {
    let message = LayerUp { digest: DIGEST, offset: 16_384, length: 131_072, ..Default::default() };
    assert_frozen!(message, frozen::LAYER_UP, LayerUp);
}

#[test]
fn layer_down_is_frozen() {
    let message = LayerDown {
        digest: DIGEST,
        offset: 16_384,
        data: b"chunk",
        error: known(LayerError::Unavailable),
        retry_after_ms: 250,
        ..Default::default()
    };
    assert_frozen!(message, frozen::LAYER_DOWN, LayerDown);
}

#[test]
fn log_up_is_frozen() {
    let records = [
        LogRecord {
            sequence: 1,
            uptime_us: 1_000_001,
            level: known(LogLevel::Warn),
            source: known(LogSource::App),
            text: "gr\u{fc}n",
            ..Default::default()
        },
        LogRecord {
            sequence: u64::MAX,
            uptime_us: 2,
            level: known(LogLevel::Debug),
            source: known(LogSource::Microvisor),
            ..Default::default()
        },
    ];
    let records = Repeated::from_slice(&records);
    let message = LogUp { boot: boot(), records, lost_up_to: 5, dropped: 6, ..Default::default() };
    let decoded = assert_frozen!(message, frozen::LOG_UP, LogUp);
    let texts: Vec<&str> = decoded.records.iter().map(|record| record.expect("a record").text).collect();
    assert_eq!(texts, ["gr\u{fc}n", ""]);
}

#[test]
fn log_down_is_frozen() {
    let message =
        LogDown { boot: boot(), stored_up_to: 300, level: known(LogLevel::Info), ..Default::default() };
    assert_frozen!(message, frozen::LOG_DOWN, LogDown);
}

#[test]
fn debug_down_is_frozen() {
    let message = DebugDown {
        session: DEBUG_SESSION,
        epoch: 2,
        boot: boot(),
        open: true,
        answer: true,
        number: 300,
        data: b"frame",
        received_up_to: 301,
        delivered_up_to: 299,
        credit_up_to: 333,
        end: known(DebugEnd::Closed),
        ..Default::default()
    };
    assert_frozen!(message, frozen::DEBUG_DOWN, DebugDown);
}

#[test]
fn debug_up_is_frozen() {
    let message = DebugUp {
        session: DEBUG_SESSION,
        epoch: 2,
        boot: boot(),
        number: u64::MAX,
        data: &[0, 0xff],
        received_up_to: 300,
        credit_up_to: 332,
        forgotten_up_to: 299,
        end: known(DebugEnd::Done),
        ..Default::default()
    };
    let decoded = assert_frozen!(message, frozen::DEBUG_UP, DebugUp);
    assert_eq!((decoded.number, decoded.data), (u64::MAX, &[0, 0xff][..]));
}

#[test]
fn the_longest_debug_frame_fits_a_packet() {
    let data = [0; DEBUG_FRAME_BYTES_MAX];
    let message = DebugDown {
        session: DEBUG_SESSION,
        epoch: u32::MAX,
        boot: boot(),
        open: true,
        answer: true,
        number: u64::MAX,
        data: &data,
        received_up_to: u64::MAX,
        delivered_up_to: u64::MAX,
        credit_up_to: u64::MAX,
        end: known(DebugEnd::Done),
        ..Default::default()
    };
    // Fixed header, topic length, packet id and property length are 10 bytes at most.
    assert!(to_vec(&message).len() + TOPIC_BYTES_MAX + 10 <= PACKET_BYTES_MAX);
}

#[test]
fn enroll_up_is_frozen() {
    let message = EnrollUp {
        csr: &[0x30, 0x82],
        hardware_id: "board-0001",
        board: "host",
        old_key_signature: &[0x30, 0x45],
        vouching_certificate: &[0x30, 0x04],
        vouching_signature: &[0x30, 0x46],
        ..Default::default()
    };
    assert_frozen!(message, frozen::ENROLL_UP, EnrollUp);
}

#[test]
fn enroll_down_is_frozen() {
    let message = EnrollDown {
        status: known(EnrollStatus::Refused),
        reason: known(EnrollReason::NotVouched),
        retry_after_s: 30,
        device_id: "dvd1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1",
        tenant_id: "tn71717171717171717171717171717171",
        leaf: &[0x30, 1],
        intermediate: &[0x30, 2],
        birth: &[0x30, 3],
        broker: "localhost:8883",
        keyset: &[0xd8, 0x62],
        ..Default::default()
    };
    assert_frozen!(message, frozen::ENROLL_DOWN, EnrollDown);
}

#[test]
fn a_newer_senders_fields_and_values_do_not_hide_what_is_known() {
    let bytes = [frozen::LOG_DOWN, &[0xf8, 0x07, 0x2a]].concat();
    assert_eq!(LogDown::decode(&bytes).expect("decodes").stored_up_to, 300);
    let unknown_level = LogDown::decode(&[0x18, 0x63]).expect("decodes");
    assert_eq!(unknown_level.level, EnumValue::Unknown(99));
}

#[test]
fn a_message_that_does_not_fit_is_an_error_and_leaves_no_half() {
    let message = LayerUp { digest: DIGEST, offset: 1, length: 2, ..Default::default() };
    let length = to_vec(&message).len();
    let mut buffer = [0; 64];
    assert!(wire::msg::encode(&message, &mut buffer[..length - 1]).is_err());
    assert_eq!(wire::msg::encode(&message, &mut buffer).map(<[u8]>::to_vec), Ok(to_vec(&message)));
}

/// Decodes as every message and walks what is repeated.
fn decode_all(bytes: &[u8]) {
    if let Ok(message) = HelloUp::decode(bytes) {
        let _ = message.slots.iter().count();
        let _ = to_vec(&message);
    }
    if let Ok(message) = LogUp::decode(bytes) {
        let _ = message.records.iter().count();
        let _ = to_vec(&message);
    }
    let _ = HelloDown::decode(bytes);
    let _ = UpdateUp::decode(bytes);
    let _ = UpdateDown::decode(bytes);
    let _ = LayerUp::decode(bytes);
    let _ = LayerDown::decode(bytes);
    let _ = LogDown::decode(bytes);
    let _ = DebugUp::decode(bytes);
    let _ = DebugDown::decode(bytes);
    let _ = EnrollUp::decode(bytes);
    let _ = EnrollDown::decode(bytes);
}

proptest! {
    #[test]
    fn no_bytes_make_a_message_decoder_panic(bytes: Vec<u8>) {
        decode_all(&bytes);
    }

    #[test]
    fn a_damaged_message_never_makes_a_decoder_panic(
        which in 0_usize..12, at: prop::sample::Index, value: u8, length: prop::sample::Index,
    ) {
        let mut bytes = [
            frozen::HELLO_UP, frozen::HELLO_DOWN, frozen::UPDATE_UP, frozen::UPDATE_DOWN, frozen::LAYER_UP,
            frozen::LAYER_DOWN, frozen::LOG_UP, frozen::LOG_DOWN, frozen::ENROLL_UP, frozen::ENROLL_DOWN,
            frozen::DEBUG_UP, frozen::DEBUG_DOWN,
        ][which].to_vec();
        let at = at.index(bytes.len());
        bytes[at] = value;
        decode_all(&bytes);
        bytes.truncate(length.index(bytes.len() + 1));
        decode_all(&bytes);
    }
}
