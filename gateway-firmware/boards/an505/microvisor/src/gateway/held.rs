//! What the application set up: notification centres, who is to be told, its requests for the network, its log.
//!
//! All of it is gone when the application is. The arithmetic is `abi`'s; here are the one place it is kept and the memory
//! it is about.

use abi::handle::Handles;
use abi::lent::LentLog;
use abi::listener::{
    Listener, Listeners, NETWORK_REQUESTS_MAX, REQUEST_NETWORK_VERSION, SYSTEM_NOTIFICATIONS_MAX, Source,
};
use abi::notification::{Centres, EventType};
use abi::structures::{Notification, NotificationSetup, OpenSystemNotificationParams, RequestNetworkParams};
use abi::{LOG_MESSAGE_BYTES_MAX, Status};
use chip::map::irq;
use chip::{clock, nvic};
use gateway_core::ports::NetworkDemand;

use super::{memory, reachable};
use crate::shared::Shared;
use crate::world::REGIONS;

/// It.
pub(super) struct Held {
    centres: Centres,
    requests: Listeners<NETWORK_REQUESTS_MAX>,
    system: Listeners<SYSTEM_NOTIFICATIONS_MAX>,
    log: LentLog,
    handles: Handles,
    /// It asked for the network since it was started.
    asked: bool,
    update_waits: bool,
    /// The supervisor was told that messages wait, and has not found none since.
    log_told: bool,
    /// How the test of the board's hardware went, by the application that is the test.
    tested: Option<u32>,
}

pub(super) static HELD: Shared<Held> = Shared::new(Held::new(0));

impl Held {
    const fn new(seed: u32) -> Self {
        Self {
            centres: Centres::new(),
            requests: Listeners::new(),
            system: Listeners::new(),
            log: LentLog::new(),
            handles: Handles::new(seed),
            asked: false,
            update_waits: false,
            log_told: false,
            tested: None,
        }
    }

    pub(super) fn forget(&mut self, seed: u32) {
        *self = Self::new(seed);
    }

    pub(super) fn demand(&self) -> NetworkDemand {
        if self.asked { NetworkDemand::Requests(self.requests.count()) } else { NetworkDemand::NeverAsked }
    }

    pub(super) fn requests(&self) -> u32 {
        self.requests.count()
    }

    pub(super) fn has_request(&self, handle: u32) -> bool {
        self.requests.holds(handle)
    }

    pub(super) fn setup_notifications(&mut self, setup: NotificationSetup) -> Result<u32, Status> {
        abi::RING.judge(setup.buffer, setup.buffer_size, &REGIONS, reachable)?;
        let handle = self.handles.draw();
        let log = &self.log;
        let usable = |irq: u32| irq::APP.contains(&irq);
        self.centres.open(setup, handle, usable, |at, bytes| log.overlaps(at, bytes))?;
        Ok(handle)
    }

    pub(super) fn close_notifications(&mut self, handle: u32) -> Result<(), Status> {
        self.centres.close(handle)
    }

    pub(super) fn trigger(&mut self, centre: u32, event_type: u32, tag: u32) -> Status {
        if self.post(centre, event_type, tag) { Status::Okay } else { Status::InvalidHandle }
    }

    pub(super) fn request_network(&mut self, params: RequestNetworkParams) -> Result<u32, Status> {
        let RequestNetworkParams { version, notification_handle: centre, notification_tag: tag } = params;
        if version != REQUEST_NETWORK_VERSION {
            return Err(Status::UnsupportedStructureVersion);
        }
        if centre != 0 && !self.centres.holds(centre) {
            return Err(Status::ParameterFault);
        }
        let handle = self.handles.draw();
        if !self.requests.open(Listener { handle, centre, tag, source: Source::Network }) {
            return Err(Status::ParameterFault);
        }
        self.asked = true;
        Ok(handle)
    }

    pub(super) fn release_network(&mut self, handle: u32) -> Result<(), Status> {
        self.requests.close(handle)
    }

    pub(super) fn open_system(&mut self, params: OpenSystemNotificationParams) -> Result<u32, Status> {
        let OpenSystemNotificationParams { notification_handle: centre, notification_tag: tag, .. } = params;
        let source = Source::try_from(params.notification_source)?;
        if !self.centres.holds(centre) {
            return Err(Status::InvalidHandle);
        }
        let handle = self.handles.draw();
        if !self.system.open(Listener { handle, centre, tag, source }) {
            return Err(Status::Unavailable);
        }
        // A level: who begins to listen while an update waits has missed nothing.
        if source == Source::Update && self.update_waits {
            self.post(centre, EventType::UpdateDownloaded as u32, tag);
        }
        Ok(handle)
    }

    pub(super) fn close_system(&mut self, handle: u32) -> Result<(), Status> {
        self.system.close(handle)
    }

    /// Tells everyone who listens to the network.
    pub(super) fn network_changed(&mut self) {
        for index in 0..NETWORK_REQUESTS_MAX {
            if let Some(Listener { centre, tag, .. }) = self.requests.place(index) {
                self.post(centre, EventType::NetworkStatusChanged as u32, tag);
            }
        }
        self.tell(Source::Network, EventType::NetworkStatusChanged);
    }

    /// Tells everyone who listens to updates that one waits.
    pub(super) fn update_waits(&mut self) {
        self.update_waits = true;
        self.tell(Source::Update, EventType::UpdateDownloaded);
    }

    fn tell(&mut self, about: Source, event_type: EventType) {
        for index in 0..SYSTEM_NOTIFICATIONS_MAX {
            let listener = self.system.place(index).filter(|held| held.source == about);
            if let Some(Listener { centre, tag, .. }) = listener {
                self.post(centre, event_type as u32, tag);
            }
        }
    }

    /// Writes a record and pends its interrupt; false if there is no such centre.
    fn post(&mut self, centre: u32, event_type: u32, tag: u32) -> bool {
        let Some(post) = self.centres.post(centre) else { return false };
        let record = Notification { microseconds: clock::now_us(), event_type, tag };
        // SAFETY: the ring was judged whole when it was lent, and a post lies in it, aligned. What the application's own MPU
        // says since then is between it and itself: this is its memory all the same.
        unsafe { memory::put(post.at, record) };
        chip::special::barrier();
        nvic::pend_app(post.irq);
        true
    }

    pub(super) fn lend_log(&mut self, at: u32, bytes: u32) -> Status {
        if self.centres.overlaps(at, bytes) {
            return Status::ParameterFault;
        }
        self.log.lend(at, bytes).map_or_else(|status| status, |()| Status::Okay)
    }

    /// Keeps a message; whether the supervisor is to be told.
    pub(super) fn log(&mut self, at: u32, bytes: u32, enabled: bool) -> Result<bool, Status> {
        // After its verdict a test has nothing to add.
        if !self.log.is_lent() || self.tested.is_some() {
            return Err(Status::Unavailable);
        }
        if !enabled {
            return Err(Status::LoggingDisabledByServer);
        }
        let pieces = self.log.push(bytes, clock::now_us() / 1000).ok_or(Status::InvalidBufferSize)?;
        // SAFETY: the message was judged, and the pieces lie in what was judged when it was lent.
        unsafe { memory::lay(at, pieces) };
        Ok(!core::mem::replace(&mut self.log_told, true))
    }

    /// The first verdict counts.
    pub(super) fn testing_complete(&mut self, status: u32) -> Status {
        if self.tested.is_some() {
            return Status::Unavailable;
        }
        self.tested = Some(status);
        Status::Okay
    }

    /// The verdict, when there is nothing before it that still has to be told.
    pub(super) fn tested(&self) -> Option<u32> {
        self.tested.filter(|_| self.log.is_empty())
    }

    /// Copies the oldest message; when it was logged, and its bytes.
    pub(super) fn take_log(&mut self, into: &mut [u8; LOG_MESSAGE_BYTES_MAX]) -> Option<(u64, usize)> {
        let Some(waiting) = self.log.pop(clock::now_us() / 1000) else {
            self.log_told = false;
            return None;
        };
        let mut used = 0;
        for piece in waiting.pieces {
            let into = into.get_mut(used..used + piece.bytes as usize).unwrap_or_default();
            // SAFETY: in what was judged when it was lent. The application writes there what it likes: text of its own.
            unsafe { memory::fetch_bytes(piece.at, into) };
            used += into.len();
        }
        Some((waiting.at_ms, used))
    }
}
