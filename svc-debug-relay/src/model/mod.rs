//! What a debug session is and how its frames move: pure, without clock or I/O.
//!
//! Time is a [`Moment`]: how long the process has run. Frames are opaque; nothing here prints more of one than its size.

pub(crate) mod ban;
pub(crate) mod end;
pub(crate) mod lane;
pub(crate) mod seat;
pub(crate) mod session;
pub(crate) mod timeouts;

use std::fmt;
use std::time::Duration;

use bytes::Bytes;

pub(crate) use ban::Ban;
pub(crate) use end::EndReason;
pub(crate) use session::Session;

/// Time since the process started.
pub(crate) type Moment = Duration;

/// Highest number a frame may have: what the API's signed numbers hold.
pub(crate) const NUMBER_MAX: u64 = i64::MAX as u64;

/// What a session's creator is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Writer,
    /// Only reads: the device sees to it.
    Watcher,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    /// From the device.
    Up,
    /// To the device.
    Down,
}

/// Some bytes between the two ends, and their place in the order.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) number: u64,
    pub(crate) data: Bytes,
}

/// Where somebody was when the last attachment ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Position {
    /// The device's frames it has.
    pub(crate) received_up_to: u64,
    /// Its own frames that it knows to be acknowledged.
    pub(crate) delivered_up_to: u64,
}

/// One start of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Boot {
    pub(crate) counter: u32,
    pub(crate) random: u64,
}

/// How much went through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Traffic {
    pub(crate) frames_up: u64,
    pub(crate) bytes_up: u64,
    pub(crate) frames_down: u64,
    pub(crate) bytes_down: u64,
}

impl Role {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Role::Writer => "writer",
            Role::Watcher => "watcher",
        }
    }

    pub(crate) fn from_name(name: &str) -> Option<Self> {
        [Role::Writer, Role::Watcher].into_iter().find(|role| role.name() == name)
    }
}

impl Traffic {
    pub(crate) fn count(&mut self, direction: Direction, bytes: usize) {
        let bytes = bytes as u64;
        match direction {
            Direction::Up => {
                self.frames_up += 1;
                self.bytes_up += bytes;
            }
            Direction::Down => {
                self.frames_down += 1;
                self.bytes_down += bytes;
            }
        }
    }
}

// A frame is between the two ends: not even ciphertext may reach a log.
impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Frame({}, {} bytes)", self.number, self.data.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_prints_its_size_and_nothing_of_what_it_holds() {
        let frame = Frame { number: 7, data: Bytes::from_static(b"secret") };
        assert_eq!(format!("{frame:?}"), "Frame(7, 6 bytes)");
    }

    #[test]
    fn roles_read_back_and_traffic_is_counted_each_way() {
        for role in [Role::Writer, Role::Watcher] {
            assert_eq!(Role::from_name(role.name()), Some(role));
        }
        assert_eq!(Role::from_name(""), None);
        let mut traffic = Traffic::default();
        traffic.count(Direction::Up, 3);
        traffic.count(Direction::Down, 5);
        traffic.count(Direction::Down, 1);
        assert_eq!(traffic, Traffic { frames_up: 1, bytes_up: 3, frames_down: 2, bytes_down: 6 });
    }
}
