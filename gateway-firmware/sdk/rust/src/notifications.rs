//! Notification centres: where the microvisor tells an application what happened, by a record and an interrupt.

use abi::Status;
use abi::structures::{NotificationSetup, OpenSystemNotificationParams};

use crate::calls::answered;
use crate::raw;
pub use crate::ring::Ring;
use crate::ring::{Event, Reader, Record};

mod slot {
    pub(super) const CLOSE_NOTIFICATIONS: u8 = 10;
    pub(super) const SETUP_NOTIFICATIONS: u8 = 16;
    pub(super) const TRIGGER_NOTIFICATION: u8 = 28;
    pub(super) const OPEN_SYSTEM_NOTIFICATION: u8 = 60;
    pub(super) const CLOSE_SYSTEM_NOTIFICATION: u8 = 61;
}

/// `MvEventType`: the network's status changed.
pub const EVENT_NETWORK_STATUS_CHANGED: u32 = 1;
/// `MvEventType`: an update waits, to be applied by [`restart`](crate::restart).
pub const EVENT_UPDATE_DOWNLOADED: u32 = 5;

/// An open centre. Dropped, it is closed: what told it tells nobody.
#[derive(Debug)]
pub struct Notifications {
    handle: u32,
    reader: Reader,
}

/// What names a centre to other calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Centre(pub(crate) u32);

impl Notifications {
    /// Opens a centre; its interrupt is pended once a record ([`board::IRQ_NOTIFICATION`](crate::board::IRQ_NOTIFICATION) and the
    /// seven after it have no other use), and is the application's to enable.
    ///
    /// `InvalidInterrupt`: not the application's, or another centre's. `BufferAlreadyInUse`: another centre has this ring.
    /// `TooManyNotificationBuffers`: 32 are open.
    pub fn open<const RECORDS: usize>(irq: u32, ring: &'static Ring<RECORDS>) -> Result<Self, Status> {
        let setup = NotificationSetup {
            irq,
            buffer: ring.at() as u32,
            buffer_size: (RECORDS * size_of::<Record>()) as u32,
        };
        let mut handle = 0u32;
        let arguments = [(&raw const setup) as u32, (&raw mut handle) as u32, 0, 0];
        // SAFETY: writes `handle`; the ring is the microvisor's to write until the centre is closed.
        answered(unsafe { raw::call(slot::SETUP_NOTIFICATIONS, arguments) })?;
        // Cleared only now: a ring that is another centre's is refused with its records untouched, and nothing tells this one yet.
        Ok(Self { handle, reader: Reader::new(ring) })
    }

    /// What came next, each once: to be asked until there is nothing, whenever the interrupt came.
    pub fn take(&mut self) -> Option<Event> {
        self.reader.take()
    }

    /// Its name for other calls.
    pub fn centre(&self) -> Centre {
        Centre(self.handle)
    }
}

impl Drop for Notifications {
    fn drop(&mut self) {
        close(slot::CLOSE_NOTIFICATIONS, &mut self.handle);
    }
}

impl Centre {
    /// Puts a record into the centre: for tests of an application's own handlers. `InvalidHandle`: it was closed.
    pub fn trigger(self, event: u32, tag: u32) -> Result<(), Status> {
        // SAFETY: writes no memory but the ring, which is lent.
        answered(unsafe { raw::call(slot::TRIGGER_NOTIFICATION, [self.0, event, tag, 0]) })
    }
}

/// What a [`Subscription`] is about: `MvSystemNotificationSource`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Source {
    /// [`EVENT_NETWORK_STATUS_CHANGED`].
    Network = 0,
    /// [`EVENT_UPDATE_DOWNLOADED`].
    Update = 1,
}

/// A centre is told what happens to the system until this is dropped.
#[derive(Debug)]
pub struct Subscription {
    handle: u32,
}

impl Subscription {
    /// Subscribes; an update that waits already is told at once. `InvalidHandle`: the centre was closed. `Unavailable`: eight are open.
    pub fn open(source: Source, centre: Centre, tag: u32) -> Result<Self, Status> {
        let params = OpenSystemNotificationParams {
            notification_handle: centre.0,
            notification_tag: tag,
            notification_source: source as u32,
        };
        let mut handle = 0u32;
        let arguments = [(&raw const params) as u32, (&raw mut handle) as u32, 0, 0];
        // SAFETY: writes `handle`.
        answered(unsafe { raw::call(slot::OPEN_SYSTEM_NOTIFICATION, arguments) })?;
        Ok(Self { handle })
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        close(slot::CLOSE_SYSTEM_NOTIFICATION, &mut self.handle);
    }
}

/// Gives a handle back; it is ours, and what else could be wrong nobody could mend.
pub(crate) fn close(slot: u8, handle: &mut u32) {
    // SAFETY: writes `handle`.
    let _ = answered(unsafe { raw::call(slot, [(&raw mut *handle) as u32, 0, 0, 0]) });
}
