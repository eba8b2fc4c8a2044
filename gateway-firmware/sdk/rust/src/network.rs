//! The network: asked for by a request that lasts as long as its value lives.

use abi::Status;
use abi::structures::RequestNetworkParams;

use crate::calls::answered;
use crate::notifications::{Centre, close};
use crate::raw;

mod slot {
    pub(super) const REQUEST_NETWORK: u8 = 8;
    pub(super) const GET_NETWORK_REASONS: u8 = 25;
    pub(super) const RELEASE_NETWORK: u8 = 26;
    pub(super) const GET_NETWORK_STATUS: u8 = 29;
}

/// The only version of the call's parameters.
const VERSION: u32 = 1;

/// Whether there is a connection: `MvNetworkStatus`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NetworkStatus {
    /// Nobody asks for the network.
    DeliberatelyOffline,
    /// There is a connection to the service.
    Connected,
    /// It is being made.
    Connecting,
    /// There is a network, and no connection to the service.
    DisconnectedWithLinkUp,
}

/// Why there is a connection, or one is tried for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NetworkReasons {
    /// Bits of the ancestor's `MvNetworkReason`.
    pub bits: u32,
    /// Requests that the application holds.
    pub requests: u32,
}

/// A request for the network. Dropped, it is released: the connection ends after the manifest's grace, unless there is another
/// reason for it.
#[derive(Debug)]
pub struct NetworkRequest {
    handle: u32,
}

impl NetworkRequest {
    /// Asks for the network, and lets a centre be told with this tag when its status changes.
    ///
    /// `ParameterFault`: the centre was closed, or the application holds as many requests as it may (32).
    pub fn open(told: Option<(Centre, u32)>) -> Result<Self, Status> {
        let (centre, tag) = told.map_or((0, 0), |(centre, tag)| (centre.0, tag));
        let params =
            RequestNetworkParams { version: VERSION, notification_handle: centre, notification_tag: tag };
        let mut handle = 0u32;
        let arguments = [(&raw const params) as u32, (&raw mut handle) as u32, 0, 0];
        // SAFETY: writes `handle`.
        answered(unsafe { raw::call(slot::REQUEST_NETWORK, arguments) })?;
        Ok(Self { handle })
    }

    /// Whether there is a connection. `InternalError`: a status that this crate does not know.
    pub fn status(&self) -> Result<NetworkStatus, Status> {
        let mut status = 0u32;
        // SAFETY: writes `status`.
        let code =
            unsafe { raw::call(slot::GET_NETWORK_STATUS, [self.handle, (&raw mut status) as u32, 0, 0]) };
        answered(code)?;
        match status {
            0 => Ok(NetworkStatus::DeliberatelyOffline),
            1 => Ok(NetworkStatus::Connected),
            2 => Ok(NetworkStatus::Connecting),
            3 => Ok(NetworkStatus::DisconnectedWithLinkUp),
            _ => Err(Status::InternalError),
        }
    }
}

impl Drop for NetworkRequest {
    fn drop(&mut self) {
        close(slot::RELEASE_NETWORK, &mut self.handle);
    }
}

/// Why there is a connection, or one is tried for. Nothing else can be wrong.
pub fn network_reasons() -> Result<NetworkReasons, Status> {
    let mut reasons = NetworkReasons { bits: 0, requests: 0 };
    let arguments = [(&raw mut reasons.bits) as u32, (&raw mut reasons.requests) as u32, 0, 0];
    // SAFETY: writes both.
    answered(unsafe { raw::call(slot::GET_NETWORK_REASONS, arguments) }).map(|()| reasons)
}
