//! The one telemetry message on its way from the application to the supervisor.
//!
//! While it is there nobody writes it, and while it is not nobody reads it: so the supervisor may take its time. What has
//! no room is refused at once and counted.

use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use abi::Status;
use abi::call::Arguments;
use abi::telemetry::{CONTENT_TYPE_BYTES_MAX, TELEMETRY_BYTES_MAX, is_content_type};
use chip::special::undisturbed;

use super::memory;
use crate::schedule;

const _: () = assert!(TELEMETRY_BYTES_MAX == wire::limits::TELEMETRY_BYTES_MAX);
const _: () = assert!(CONTENT_TYPE_BYTES_MAX == wire::limits::CONTENT_TYPE_BYTES_MAX);

struct Message {
    content_type: [u8; CONTENT_TYPE_BYTES_MAX],
    content_type_bytes: usize,
    data: [u8; TELEMETRY_BYTES_MAX],
    data_bytes: usize,
}

struct Slot(UnsafeCell<Message>);

// SAFETY: `FULL` says who uses it: calls while it is false, undisturbed; the supervisor while it is true.
unsafe impl Sync for Slot {}

static SLOT: Slot = Slot(UnsafeCell::new(Message {
    content_type: [0; CONTENT_TYPE_BYTES_MAX],
    content_type_bytes: 0,
    data: [0; TELEMETRY_BYTES_MAX],
    data_bytes: 0,
}));
static FULL: AtomicBool = AtomicBool::new(false);
/// Bytes that the core has room for.
static ROOM: AtomicU32 = AtomicU32::new(0);
static REFUSED: AtomicU32 = AtomicU32::new(0);

/// `hfTelemetryPublish`, its pointers judged.
pub(super) fn publish([type_at, type_bytes, data_at, data_bytes]: Arguments) -> Status {
    let status = undisturbed(|| {
        if FULL.load(Ordering::Relaxed) || type_bytes + data_bytes > ROOM.load(Ordering::Relaxed) {
            return Status::RateLimited;
        }
        // SAFETY: it is not full and nothing disturbs: this is the only reference.
        let message = unsafe { &mut *SLOT.0.get() };
        // The table's lengths are those of the arrays.
        let kind = message.content_type.get_mut(..type_bytes as usize).unwrap_or_default();
        // SAFETY: judged; of no bytes nothing is read.
        unsafe { memory::fetch_bytes(type_at, kind) };
        if !is_content_type(kind) {
            return Status::ParameterFault;
        }
        let data = message.data.get_mut(..data_bytes as usize).unwrap_or_default();
        // SAFETY: judged.
        unsafe { memory::fetch_bytes(data_at, data) };
        (message.content_type_bytes, message.data_bytes) = (kind.len(), data.len());
        FULL.store(true, Ordering::Release);
        Status::Okay
    });
    match status {
        Status::Okay => schedule::wake(),
        Status::RateLimited => _ = REFUSED.fetch_add(1, Ordering::Relaxed),
        _ => {}
    }
    status
}

/// Hands the message that waits to `keep`, which says what room there is then. By the supervisor only.
pub fn take(keep: impl FnOnce(&str, &[u8]) -> usize) -> bool {
    if !FULL.load(Ordering::Acquire) {
        return false;
    }
    // SAFETY: it is full: no call writes it until it is not.
    let message = unsafe { &*SLOT.0.get() };
    let kind = message.content_type.get(..message.content_type_bytes).unwrap_or_default();
    let data = message.data.get(..message.data_bytes).unwrap_or_default();
    let room = keep(core::str::from_utf8(kind).unwrap_or_default(), data);
    has_room(room);
    FULL.store(false, Ordering::Release);
    true
}

/// From now on so many bytes are taken.
pub fn has_room(bytes: usize) {
    ROOM.store(u32::try_from(bytes).unwrap_or(u32::MAX), Ordering::Relaxed);
}

/// How many were refused since this was last asked.
pub fn take_refused() -> u32 {
    REFUSED.swap(0, Ordering::Relaxed)
}
