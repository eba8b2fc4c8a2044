//! The table of calls.
//!
//! It is in the order of slots; where a slot is missing, the ancestor never had a call there, and the gateway page has
//! nothing that could be entered. What is `LATER` exists and answers `Unavailable`; what is `TESTS` does so for a product.

use core::mem::offset_of;

use crate::call::{By, Call, Inner, Kind, Length, Parameter, Pointer};
use crate::memory::Access::{self, Read, Write};
use crate::notification::{RECORD_BYTES, RING_BYTES_MAX, RING_BYTES_MIN};
use crate::status::Status;
use crate::structures::*;
use crate::telemetry::{CONTENT_TYPE_BYTES_MAX, TELEMETRY_BYTES_MAX};
use crate::{DEVICE_ID_BYTES, LOG_BUFFER_BYTES_MAX, LOG_BUFFER_UNIT_BYTES, LOG_MESSAGE_BYTES_MAX};

use Standing::{
    Later as LATER, Product as PRODUCT, Tests as TESTS, Works as WORKS, WorksAnywhere as WORKS_ANYWHERE,
};

/// The call of a slot, if it has one.
pub fn call_at(slot: u8) -> Option<&'static Call> {
    CALLS.get(usize::from(INDEX[usize::from(slot)]))
}

/// Every call there is.
#[rustfmt::skip]
pub const CALLS: &[Call] = &[
    call(0, "mvEnableFastInterrupt", LATER, &[value("irqn")]),
    call(1, "mvWriteChannelStream", LATER, &[value("handle"), bytes("data", Read, any(2)), value("len"), writes::<u32>("written")]),
    call(2, "mvGetMicroseconds", WORKS_ANYWHERE, &[writes::<u64>("ms")]),
    call(3, "mvGetSysClk", WORKS, &[writes::<u32>("hz")]),
    call(4, "mvDisableAllFastInterrupts", LATER, &[]),
    call(5, "mvGetDeviceId", WORKS, &[bytes("buf", Write, DEVICE_ID), value("len")]),
    call(6, "mvWriteChannel", LATER, &[value("handle"), bytes("data", Read, any(2)), value("len"), writes::<u32>("available")]),
    call(7, "mvGetWallTime", WORKS_ANYWHERE, &[writes::<u64>("usec")]),
    call(8, "mvRequestNetwork", WORKS, &[reads::<RequestNetworkParams>("params"), writes::<u32>("handle")]),
    call(9, "mvGetChannelClosureReason", LATER, &[value("handle"), writes::<u32>("reason_out")]),
    call(10, "mvCloseNotifications", WORKS, &[writes::<u32>("handle_in_out")]),
    call(11, "mvSetFastInterrupt", LATER, &[value("irqn")]),
    call(12, "mvTemporaryStructTest", LATER, &[]),
    call(13, "mvDisableFastInterrupt", LATER, &[value("irqn")]),
    call(14, "mvReadChannelComplete", LATER, &[value("handle"), value("consumed")]),
    call(15, "mvClearFastInterrupt", LATER, &[value("irqn")]),
    call(16, "mvSetupNotifications", WORKS, &[reads_with::<NotificationSetup>("notifications", RING), writes::<u32>("handle_out")]),
    call(17, "mvGetPClk1", WORKS, &[writes::<u32>("hz")]),
    call(18, "mvGetPClk2", WORKS, &[writes::<u32>("hz")]),
    call(19, "mvEnableAllFastInterrupts", LATER, &[]),
    call(21, "mvPeriphPoke32", LATER, &[value("reg"), value("mask"), value("xorvalue")]),
    call(22, "mvReadChannel", LATER, &[value("handle"), writes::<u32>("read_pointer_out"), writes::<u32>("length_out")]),
    call(23, "mvGetHClk", WORKS, &[writes::<u32>("hz")]),
    call(24, "mvOpenChannel", LATER, &[reads::<OpenChannelParams>("params"), writes::<u32>("handle")]),
    call(25, "mvGetNetworkReasons", WORKS, &[writes::<u32>("reasons"), writes::<u32>("request_ref_count")]),
    call(26, "mvReleaseNetwork", WORKS, &[writes::<u32>("handle")]),
    call(27, "mvNoOp", WORKS_ANYWHERE, &[]),
    call(28, "mvTempTriggerNotification", WORKS, &[value("handle"), value("type"), value("tag")]),
    call(29, "mvGetNetworkStatus", WORKS, &[value("handle"), writes::<u32>("status")]),
    call(30, "mvPeriphPeek32", LATER, &[value("reg"), writes::<u32>("output")]),
    call(31, "mvCloseChannel", LATER, &[writes::<u32>("handle")]),
    call(32, "mvSendHttpRequest", LATER, &[value("handle"), reads::<HttpRequest>("request")]),
    call(33, "mvReadHttpResponseBody", LATER, &[value("handle"), value("offset"), bytes("buf", Write, any(3)), value("size")]),
    call(34, "mvReadHttpResponseHeader", LATER, &[value("handle"), value("header_index"), bytes("buf", Write, any(3)), value("size")]),
    call(35, "mvReadHttpResponseData", LATER, &[value("handle"), writes::<HttpResponseData>("response_data")]),
    call(36, "mvServerLoggingInit", PRODUCT, &[lent("buffer", LOG_BUFFER), value("length_bytes")]),
    call(37, "mvServerLog", PRODUCT, &[bytes("message", Read, LOG_MESSAGE), narrow16("length_bytes")]),
    call(38, "mvSendConfigFetchRequest", LATER, &[value("handle"), reads::<ConfigKeyFetchParams>("request")]),
    call(39, "mvReadConfigFetchResponseData", LATER, &[value("handle"), writes::<ConfigResponseData>("response_data")]),
    call(40, "mvReadConfigResponseItem", LATER, &[value("handle"), reads::<ConfigResponseReadItemParams>("params")]),
    call(41, "mvMqttReadUnsubscribeResponse", LATER, &[value("handle"), reads::<MqttUnsubscribeResponse>("response_data")]),
    call(42, "mvMqttAcknowledgeMessage", LATER, &[value("handle"), value("correlation_id")]),
    call(43, "mvMqttReadDisconnectResponse", LATER, &[value("handle"), writes::<MqttDisconnectResponse>("response_data")]),
    call(44, "mvMqttRequestDisconnect", LATER, &[value("handle")]),
    call(45, "mvMqttReadConnectResponse", LATER, &[value("handle"), writes::<MqttConnectResponse>("response_data")]),
    call(46, "mvMqttRequestPublish", LATER, &[value("handle"), reads::<MqttPublishRequest>("request")]),
    call(47, "mvMqttRequestSubscribe", LATER, &[value("handle"), reads::<MqttSubscribeRequest>("request")]),
    call(48, "mvMqttReadPublishResponse", LATER, &[value("handle"), writes::<MqttPublishResponse>("response_data")]),
    call(49, "mvMqttReceiveLostMessageInfo", LATER, &[value("handle"), reads::<MqttLostMessageInfo>("lost_message_info")]),
    call(50, "mvMqttReceiveMessage", LATER, &[value("handle"), reads::<MqttMessage>("message_data")]),
    call(51, "mvMqttGetNextReadableDataType", LATER, &[value("handle"), writes::<u32>("data_type")]),
    call(52, "mvMqttRequestUnsubscribe", LATER, &[value("handle"), reads::<MqttUnsubscribeRequest>("request")]),
    call(53, "mvMqttRequestConnect", LATER, &[value("handle"), reads::<MqttConnectRequest>("request")]),
    call(54, "mvMqttReadSubscribeResponse", LATER, &[value("handle"), reads::<MqttSubscribeResponse>("response_data")]),
    call(55, "mvTestingComplete", TESTS, &[value("status")]),
    call(56, "mvTestLog", TESTS, &[bytes("message", Read, LOG_MESSAGE), narrow16("length_bytes")]),
    call(57, "mvTestLoggingInit", TESTS, &[lent("buffer", LOG_BUFFER), value("length_bytes")]),
    call(58, "mvPowerSave", LATER, &[value("mode")]),
    call(59, "mvSystemLedEnable", WORKS, &[value("enable")]),
    call(60, "mvOpenSystemNotification", WORKS, &[reads::<OpenSystemNotificationParams>("params"), writes::<u32>("handle")]),
    call(61, "mvCloseSystemNotification", WORKS, &[writes::<u32>("handle")]),
    call(62, "mvDeepSleep", LATER, &[value("mode")]),
    call(63, "mvGetWakeReason", WORKS, &[writes::<u32>("mode")]),
    call(64, "mvRestart", WORKS, &[value("mode")]),
    call(65, "mvExternalFlashClose", LATER, &[writes::<u32>("handle")]),
    call(66, "mvExternalFlashGetInfo", LATER, &[value("handle"), writes::<ExternalFlashInfo>("info")]),
    call(67, "mvExternalFlashWriteBlocking", LATER, &[value("handle"), value("address"), value("length"), bytes("buffer", Read, any(2))]),
    call(68, "mvExternalFlashOpen", LATER, &[writes::<u32>("handle")]),
    call(69, "mvExternalFlashEraseBlocking", LATER, &[value("handle"), value("address"), value("length")]),
    call(70, "mvExternalFlashReadBlocking", LATER, &[value("handle"), value("address"), value("length"), bytes("buffer", Write, any(2))]),
    call(72, "mvSetWifiConfig", LATER, &[reads::<WifiConfig>("params")]),
    call(73, "mvGetWifiConfig", LATER, &[reads::<WifiConfigOut>("params")]),
    call(128, "hfHealthy", WORKS, &[]),
    call(129, "hfTelemetryPublish", PRODUCT, &[bytes("content_type", Read, CONTENT_TYPE), value("content_type_length"), bytes("data", Read, TELEMETRY), value("length")]),
];

/// Where in `CALLS` a slot is: a lookup a call, and calls are frequent.
static INDEX: [u8; 256] = {
    let mut index = [u8::MAX; 256];
    let mut at = 0;
    while at < CALLS.len() {
        index[CALLS[at].slot as usize] = at as u8;
        at += 1;
    }
    index
};
const _: () = assert!(CALLS.len() < u8::MAX as usize);

enum Standing {
    Later,
    /// It works, but not in an exception handler.
    Works,
    /// It works in an exception handler too: it is over in a moment and changes nothing.
    WorksAnywhere,
    /// It works, but not for what tests the hardware: there is no server in a factory.
    Product,
    /// It works for what tests the hardware, and for nothing else.
    Tests,
}

const DEVICE_ID: By = By {
    parameter: 1,
    min: DEVICE_ID_BYTES as u32,
    max: 512,
    multiple: 1,
    too_long: Status::InvalidBufferSize,
};
const LOG_MESSAGE: By = By {
    parameter: 1,
    min: 1,
    max: LOG_MESSAGE_BYTES_MAX as u32,
    multiple: 1,
    too_long: Status::LogMessageTooLong,
};
const LOG_BUFFER: By = By {
    parameter: 1,
    min: LOG_BUFFER_UNIT_BYTES,
    max: LOG_BUFFER_BYTES_MAX,
    multiple: LOG_BUFFER_UNIT_BYTES,
    too_long: Status::InvalidBufferSize,
};

const CONTENT_TYPE: By = By {
    parameter: 1,
    min: 0,
    max: CONTENT_TYPE_BYTES_MAX as u32,
    multiple: 1,
    too_long: Status::InvalidBufferSize,
};
const TELEMETRY: By = By {
    parameter: 3,
    min: 1,
    max: TELEMETRY_BYTES_MAX as u32,
    multiple: 1,
    too_long: Status::InvalidBufferSize,
};
/// A notification centre's ring.
pub const RING: Inner = Inner {
    offset: offset_of!(NotificationSetup, buffer) as u32,
    length_offset: offset_of!(NotificationSetup, buffer_size) as u32,
    access: Write,
    align: align_of::<Notification>() as u32,
    by: By {
        parameter: 0,
        min: RING_BYTES_MIN,
        max: RING_BYTES_MAX,
        multiple: RECORD_BYTES,
        too_long: Status::InvalidBufferSize,
    },
};

/// Any length; a call that starts to work says what it takes.
const fn any(parameter: usize) -> By {
    By { parameter, min: 1, max: u32::MAX, multiple: 1, too_long: Status::InvalidBufferSize }
}

const fn call(slot: u8, name: &'static str, standing: Standing, parameters: &'static [Parameter]) -> Call {
    let from_handler = matches!(standing, Standing::WorksAnywhere);
    let works = !matches!(standing, Standing::Later | Standing::Tests);
    let tests = !matches!(standing, Standing::Later | Standing::Product);
    Call { slot, name, parameters, from_handler, works, tests }
}

const fn value(name: &'static str) -> Parameter {
    Parameter { name, kind: Kind::Value }
}

const fn narrow16(name: &'static str) -> Parameter {
    Parameter { name, kind: Kind::Narrow16 }
}

const fn reads<T>(name: &'static str) -> Parameter {
    one::<T>(name, Read)
}

const fn writes<T>(name: &'static str) -> Parameter {
    one::<T>(name, Write)
}

const fn one<T>(name: &'static str, access: Access) -> Parameter {
    let (length, align) = (Length::Fixed(size_of::<T>() as u32), align_of::<T>() as u32);
    pointer(name, Pointer { access, length, align, unaligned: Status::ParameterFault, inner: None })
}

/// A structure with a pointer in it.
const fn reads_with<T>(name: &'static str, inner: Inner) -> Parameter {
    let (length, align) = (Length::Fixed(size_of::<T>() as u32), align_of::<T>() as u32);
    let unaligned = Status::ParameterFault;
    pointer(name, Pointer { access: Read, length, align, unaligned, inner: Some(inner) })
}

const fn pointer(name: &'static str, pointer: Pointer) -> Parameter {
    Parameter { name, kind: Kind::Pointer(pointer) }
}

const fn bytes(name: &'static str, access: Access, by: By) -> Parameter {
    let (length, unaligned) = (Length::By(by), Status::ParameterFault);
    pointer(name, Pointer { access, length, align: 1, unaligned, inner: None })
}

/// Memory that the application leaves to the microvisor.
const fn lent(name: &'static str, by: By) -> Parameter {
    let (length, unaligned) = (Length::By(by), Status::InvalidBufferAlignment);
    pointer(name, Pointer { access: Write, length, align: LOG_BUFFER_UNIT_BYTES, unaligned, inner: None })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::ARGUMENTS;

    #[test]
    fn the_slots_are_the_ancestors_in_order_and_ours_begin_at_128() {
        assert!(CALLS.is_sorted_by(|one, next| one.slot < next.slot));
        let ancestors = CALLS.iter().filter(|call| call.slot < crate::OWN_SLOTS);
        let slots = (0u8..=73).filter(|slot| ![20, 71].contains(slot));
        assert!(ancestors.clone().map(|call| call.slot).eq(slots));
        assert!(ancestors.clone().all(|call| call.name.starts_with("mv")));
        let ours = CALLS.iter().filter(|call| call.slot >= crate::OWN_SLOTS);
        assert!(ours.clone().all(|call| call.name.starts_with("hf")));
        assert!(ours.map(|call| call.slot).eq([128, 129]));
    }

    #[test]
    fn every_parameter_has_a_register_and_every_length_a_parameter() {
        for call in CALLS {
            assert!(call.parameters.len() <= ARGUMENTS, "{}", call.name);
            for parameter in call.parameters {
                let Kind::Pointer(pointer) = parameter.kind else { continue };
                assert!(pointer.align.is_power_of_two(), "{}", call.name);
                if let Length::By(by) = pointer.length {
                    let length = call.parameters[by.parameter].kind;
                    assert!(
                        !matches!(length, Kind::Pointer(_)) && by.multiple.is_power_of_two(),
                        "{}",
                        call.name
                    );
                }
            }
        }
    }

    #[test]
    fn a_slot_finds_its_call() {
        assert_eq!(call_at(37).map(|call| call.name), Some("mvServerLog"));
        assert_eq!(call_at(128).map(|call| call.name), Some("hfHealthy"));
        assert_eq!((call_at(20), call_at(71), call_at(74), call_at(255)), (None, None, None, None));
    }
}
