//! What holds a handle and may want to be told: requests for the network, and system notifications.
//!
//! Each names a notification centre by its handle. A centre that is closed first is simply not found any more.

use crate::status::Status;

/// Requests for the network that are held at once. The interface has no status for one more: it is a `ParameterFault`.
pub const NETWORK_REQUESTS_MAX: usize = 32;
/// System notifications that are open at once.
pub const SYSTEM_NOTIFICATIONS_MAX: usize = 8;
/// The version of `MvRequestNetworkParams` there is.
pub const REQUEST_NETWORK_VERSION: u32 = 1;

/// `MvSystemNotificationSource`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Source {
    Network = 0,
    Update = 1,
}

impl TryFrom<u32> for Source {
    type Error = Status;

    fn try_from(number: u32) -> Result<Self, Status> {
        match number {
            0 => Ok(Source::Network),
            1 => Ok(Source::Update),
            _ => Err(Status::ParameterFault),
        }
    }
}

/// Somebody who holds a handle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listener {
    pub handle: u32,
    /// The notification centre's handle. Zero: it does not want to be told.
    pub centre: u32,
    pub tag: u32,
    pub source: Source,
}

const NOBODY: Listener = Listener { handle: 0, centre: 0, tag: 0, source: Source::Network };

/// At most so many of them.
#[derive(Debug)]
pub struct Listeners<const MAX: usize>([Listener; MAX]);

impl<const MAX: usize> Default for Listeners<MAX> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const MAX: usize> Listeners<MAX> {
    pub const fn new() -> Self {
        Self([NOBODY; MAX])
    }

    /// False: there is no room.
    pub fn open(&mut self, listener: Listener) -> bool {
        let free = self.0.iter_mut().find(|held| held.handle == 0);
        free.map(|held| *held = listener).is_some()
    }

    pub fn close(&mut self, handle: u32) -> Result<(), Status> {
        let held = self.0.iter_mut().find(|held| held.handle == handle && handle != 0);
        *held.ok_or(Status::InvalidHandle)? = NOBODY;
        Ok(())
    }

    pub fn holds(&self, handle: u32) -> bool {
        self.iter().any(|held| held.handle == handle)
    }

    /// The one in a place, of `MAX`.
    pub fn place(&self, index: usize) -> Option<Listener> {
        self.0.get(index).copied().filter(|held| held.handle != 0)
    }

    /// All that are open.
    pub fn iter(&self) -> impl Iterator<Item = &Listener> {
        self.0.iter().filter(|held| held.handle != 0)
    }

    pub fn count(&self) -> u32 {
        self.iter().count() as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listener(handle: u32) -> Listener {
        Listener { handle, centre: 7, tag: 1, source: Source::Update }
    }

    #[test]
    fn listeners_are_found_closed_once_and_bounded() {
        let mut held = Listeners::<3>::new();
        assert_eq!(held.close(0), Err(Status::InvalidHandle));
        for handle in 1..=3 {
            assert!(held.open(listener(handle)));
        }
        assert!(!held.open(listener(4)) && held.count() == 3);
        assert_eq!((held.close(2), held.close(2)), (Ok(()), Err(Status::InvalidHandle)));
        assert!(held.holds(1) && !held.holds(2) && !held.holds(0));
        assert!(held.open(listener(4)));
        assert_eq!((held.place(1), held.place(3)), (Some(listener(4)), None));
        assert!(held.iter().map(|held| held.handle).eq([1, 4, 3]));
    }

    #[test]
    fn there_are_two_sources() {
        let sources = [0, 1, 2, u32::MAX].map(Source::try_from);
        let none = Err(Status::ParameterFault);
        assert_eq!(sources, [Ok(Source::Network), Ok(Source::Update), none, none]);
    }
}
