//! The calls, as functions.
//!
//! Each says what else than success it answers. Besides, every call that is not "allowed in handlers" answers `Unavailable` in
//! one; every call that is given memory or a place for its result answers `ParameterFault` where that is not whole in the
//! application's own memory, or its own MPU forbids it; and a status that this crate does not know is `InternalError`.

use core::cell::UnsafeCell;

use abi::{DEVICE_ID_BYTES, LOG_BUFFER_UNIT_BYTES, Status};

use crate::raw;

/// The slots of what is here.
mod slot {
    pub(super) const GET_MICROSECONDS: u8 = 2;
    pub(super) const GET_SYS_CLK: u8 = 3;
    pub(super) const GET_DEVICE_ID: u8 = 5;
    pub(super) const GET_WALL_TIME: u8 = 7;
    pub(super) const NO_OP: u8 = 27;
    pub(super) const SERVER_LOGGING_INIT: u8 = 36;
    pub(super) const SERVER_LOG: u8 = 37;
    pub(super) const TESTING_COMPLETE: u8 = 55;
    pub(super) const TEST_LOG: u8 = 56;
    pub(super) const TEST_LOGGING_INIT: u8 = 57;
    pub(super) const SYSTEM_LED_ENABLE: u8 = 59;
    pub(super) const GET_WAKE_REASON: u8 = 63;
    pub(super) const RESTART: u8 = 64;
    pub(super) const HEALTHY: u8 = 128;
    pub(super) const TELEMETRY_PUBLISH: u8 = 129;
}

/// Memory that logging is given, a static of the application's: as the ancestor wants it aligned. Nothing of the
/// application's can look into it.
#[derive(Debug)]
#[repr(C, align(512))]
pub struct LogBuffer<const BYTES: usize>(UnsafeCell<[u8; BYTES]>);
const _: () = assert!(align_of::<LogBuffer<512>>() as u32 == LOG_BUFFER_UNIT_BYTES);

// SAFETY: it has no way to its bytes but the microvisor's.
unsafe impl<const BYTES: usize> Sync for LogBuffer<BYTES> {}

impl<const BYTES: usize> LogBuffer<BYTES> {
    /// Empty.
    pub const fn new() -> Self {
        Self(UnsafeCell::new([0; BYTES]))
    }
}

impl<const BYTES: usize> Default for LogBuffer<BYTES> {
    fn default() -> Self {
        Self::new()
    }
}

/// Does nothing. Allowed in handlers. It has no other answer than success.
pub fn no_op() -> Result<(), Status> {
    // SAFETY: the call writes nothing.
    answered(unsafe { raw::call(slot::NO_OP, [0; 4]) })
}

/// Microseconds since the first stage started the clock: since the last reset. Allowed in handlers. Nothing else can be wrong.
pub fn microseconds() -> Result<u64, Status> {
    read(slot::GET_MICROSECONDS)
}

/// Microseconds since 1970. Allowed in handlers. `TimeNotSet`: nobody told the board yet.
pub fn wall_time_us() -> Result<u64, Status> {
    read(slot::GET_WALL_TIME)
}

/// Cycles of the core's clock a second. Nothing else can be wrong.
pub fn clock_hz() -> Result<u32, Status> {
    read(slot::GET_SYS_CLK)
}

/// Why the application runs: a number of the ancestor's `MvWakeReason`, about its last start, and about the board's reset when it
/// is the first start after one. Nothing else can be wrong.
pub fn wake_reason() -> Result<u32, Status> {
    read(slot::GET_WAKE_REASON)
}

/// The device's id, in characters. `Unavailable`: the board has not enrolled yet.
pub fn device_id() -> Result<[u8; DEVICE_ID_BYTES], Status> {
    let mut id = [0; DEVICE_ID_BYTES];
    let arguments = [(&raw mut id) as u32, DEVICE_ID_BYTES as u32, 0, 0];
    // SAFETY: writes `id`, whole.
    answered(unsafe { raw::call(slot::GET_DEVICE_ID, arguments) }).map(|()| id)
}

/// Lends memory to the log; the same again changes nothing. `InvalidBufferSize`: nothing, not a multiple of 512 bytes, or more than
/// 8 KiB. `ParameterFault`: messages still wait in other memory that was lent before.
pub fn start_logging<const BYTES: usize>(buffer: &'static LogBuffer<BYTES>) -> Result<(), Status> {
    let arguments = [buffer.0.get() as u32, BYTES as u32, 0, 0];
    // SAFETY: the buffer is the microvisor's from now on.
    answered(unsafe { raw::call(slot::SERVER_LOGGING_INIT, arguments) })
}

/// Logs a message. `Unavailable`: no memory was lent. `LogMessageTooLong`: over `LOG_MESSAGE_BYTES_MAX`.
/// `InvalidBufferSize`: it is empty, or there is no room for it; this one is lost. `LoggingDisabledByServer`: the service asked not
/// to be told.
pub fn log(message: &str) -> Result<(), Status> {
    let Ok(bytes) = u16::try_from(message.len()) else { return Err(Status::LogMessageTooLong) };
    // SAFETY: only read.
    answered(unsafe { raw::call(slot::SERVER_LOG, [message.as_ptr() as u32, bytes.into(), 0, 0]) })
}

/// Publishes a sample to the tenant's telemetry; `content_type` says what the bytes are (`application/json`), or is empty.
/// `InvalidBufferSize`: no data, more than 1,024 bytes, or a type of more than 64. `ParameterFault`: the type is not visible ASCII.
/// `RateLimited`: no room now; the sample is dropped, and counted.
pub fn publish(content_type: &str, data: &[u8]) -> Result<(), Status> {
    let arguments =
        [content_type.as_ptr() as u32, content_type.len() as u32, data.as_ptr() as u32, data.len() as u32];
    // SAFETY: only read.
    answered(unsafe { raw::call(slot::TELEMETRY_PUBLISH, arguments) })
}

/// For the application that tests a board in the factory: as [`start_logging`], for messages to the factory's console.
/// `Unavailable`: this board is not being tested.
pub fn start_test_logging<const BYTES: usize>(buffer: &'static LogBuffer<BYTES>) -> Result<(), Status> {
    let arguments = [buffer.0.get() as u32, BYTES as u32, 0, 0];
    // SAFETY: the buffer is the microvisor's from now on.
    answered(unsafe { raw::call(slot::TEST_LOGGING_INIT, arguments) })
}

/// The same: says something on the factory's console. `Unavailable`: this board is not being tested, or no memory was lent, or the
/// test is over. `LogMessageTooLong` and `InvalidBufferSize` as for [`log`].
pub fn test_log(message: &str) -> Result<(), Status> {
    let Ok(bytes) = u16::try_from(message.len()) else { return Err(Status::LogMessageTooLong) };
    // SAFETY: only read.
    answered(unsafe { raw::call(slot::TEST_LOG, [message.as_ptr() as u32, bytes.into(), 0, 0]) })
}

/// The same: ends the test. 0 makes the board a product, for good: this application is ended, and the first one of production starts.
/// Anything else is shown and locks the board. It returns; the end comes soon after. `Unavailable`: this board is not being tested, or
/// the verdict was given already.
pub fn testing_complete(status: u32) -> Result<(), Status> {
    // SAFETY: the call writes nothing.
    answered(unsafe { raw::call(slot::TESTING_COMPLETE, [status, 0, 0, 0]) })
}

/// Says that this version works: what an update on trial is confirmed by. Saying it again changes nothing. Nothing else can be wrong.
pub fn healthy() -> Result<(), Status> {
    // SAFETY: the call writes nothing.
    answered(unsafe { raw::call(slot::HEALTHY, [0; 4]) })
}

/// Ends this run: with an update that waits for it, the update is applied; with none this version starts again, with the
/// manifest's back-off when that happens too often. It returns; the end comes soon after. `MicrovisorBusy`: an update is being
/// installed.
pub fn restart() -> Result<(), Status> {
    // SAFETY: the call writes nothing.
    answered(unsafe { raw::call(slot::RESTART, [0; 4]) })
}

/// Lets the system's LED show the system's state, or not. The emulated board has none to show. Nothing else can be wrong.
pub fn enable_system_led(enable: bool) -> Result<(), Status> {
    // SAFETY: the call writes nothing.
    answered(unsafe { raw::call(slot::SYSTEM_LED_ENABLE, [enable.into(), 0, 0, 0]) })
}

/// A call whose one parameter is where its result goes.
pub(crate) fn read<T: Default>(slot: u8) -> Result<T, Status> {
    let mut value = T::default();
    // SAFETY: writes `value`, whole: the slots above give what their functions return.
    answered(unsafe { raw::call(slot, [(&raw mut value) as u32, 0, 0, 0]) }).map(|()| value)
}

pub(crate) fn answered(code: u32) -> Result<(), Status> {
    match Status::from_code(code) {
        Some(Status::Okay) => Ok(()),
        Some(status) => Err(status),
        None => Err(Status::InternalError),
    }
}
