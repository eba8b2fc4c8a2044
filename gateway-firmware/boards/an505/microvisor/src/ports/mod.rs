//! What the core needs of this board: `gateway_core::ports` over the machine.
//!
//! The supervisor alone uses them, in thread mode; handlers and the application's gateway have nothing to do here, but for
//! the clock. Nothing in here knows the scheduler.

pub(crate) mod boot_record;
mod keys;
pub(crate) mod provision;
mod random;
mod simple;
mod single;

pub(crate) use keys::{BoardKeys, Signer, zeroise};
pub(crate) use random::Random;
pub(crate) use simple::{BoardClock, BoardReset, Feed, feed_if_alive, store};

/// The monotonic counter: two erase units of flash.
pub(crate) type BoardCounter = gateway_core::counter::FlashCounter<chip::flash::Window>;

/// The counter.
pub(crate) fn counter() -> BoardCounter {
    BoardCounter::new(chip::flash::Window::counter())
}
