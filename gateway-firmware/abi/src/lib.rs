//! The application interface as numbers: slots, statuses, structures, and which memory may be handed over.
//!
//! Owns the one table of calls ([`CALLS`]): the gateway page, the checks on the way in and the isolation test are all made
//! from it. Slots, parameters and statuses below 128 are those of the last published Microvisor interface (0.7.0), so that
//! an application built for it runs; our own calls start at [`OWN_SLOTS`]. A slot never moves and is never used again.
//!
//! Everything here is pure: numbers in, a verdict out. It reads no memory and knows no register.
#![no_std]

pub mod call;
pub mod handle;
pub mod lent;
pub mod listener;
pub mod memory;
pub mod notification;
pub mod status;
pub mod structures;
mod table;
pub mod telemetry;
pub mod turn;

pub use call::{Call, Inner, Kind, Length, Parameter};
pub use memory::{Access, Region};
pub use status::Status;
pub use table::{CALLS, RING, call_at};

/// Bytes of a veneer: a call's address is the page's plus this times its slot.
pub const SLOT_BYTES: u32 = 8;
/// Slots of the page.
pub const SLOTS: u32 = 256;
/// The first slot of calls that the ancestor does not have.
pub const OWN_SLOTS: u8 = 128;

/// Characters of a device id, without a terminator.
pub const DEVICE_ID_BYTES: usize = 34;
/// Bytes of one log message, at most: `wire::limits::LOG_TEXT_BYTES_MAX`.
pub const LOG_MESSAGE_BYTES_MAX: usize = 512;
/// A log buffer starts at and is a multiple of this, as the ancestor asks.
pub const LOG_BUFFER_UNIT_BYTES: u32 = 512;
/// Bytes of a log buffer, at most: every 32 of them may have to be asked for, and a call has to end within 100 us.
pub const LOG_BUFFER_BYTES_MAX: u32 = 8 * 1024;
