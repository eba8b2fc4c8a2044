//! Whether to be connected, and why.

/// How the network is, in the numbers applications know.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(u32)]
pub enum NetworkStatus {
    /// Nobody needs a connection now.
    DeliberatelyOffline = 0,
    /// The services are there.
    Connected = 1,
    /// A connection is being made.
    #[default]
    Connecting = 2,
    /// The next attempt waits for its time.
    DisconnectedWithLinkUp = 3,
}

/// Why the device is connected or wants to be: bits, in the numbers applications know.
pub mod reason {
    /// The application holds a request.
    pub const USING_NETWORK: u32 = 0x1;
    /// The application never said what it wants.
    pub const NEVER_USED_NETWORK_API: u32 = 0x2;
    /// The device must be heard of again.
    pub const MINIMUM_CHECK_IN_EXPIRED: u32 = 0x4;
    /// No signed time was heard in this boot.
    pub const RTC_NOT_SET: u32 = 0x8;
    /// A crash report or a result waits to be acknowledged.
    pub const APPLICATION_ERROR: u32 = 0x20;
    /// No hello was answered in this boot.
    pub const COLD_BOOT_CONNECTION: u32 = 0x40;
    /// An update is fetched or tried.
    pub const FETCHING_UPDATE: u32 = 0x80;
    /// There is no application.
    pub const NO_APPLICATION_CODE: u32 = 0x200;
    /// The next attempt waits: those before it failed.
    pub const ENHANCE_CALM: u32 = 0x800;
}

/// What an application may know of the network.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Network {
    pub status: NetworkStatus,
    /// Bits of [`reason`].
    pub reasons: u32,
    /// Requests the application holds.
    pub requests: u32,
}
