//! What an application in Rust links against: the microvisor's calls, a start, and the board's two timers and UART.
//!
//! An application is an ordinary image for a Cortex-M33 without security extensions: vectors first, any RTOS or none. It
//! calls the microvisor at fixed addresses. Every call answers at once; those that may be made from an exception handler
//! say so, all others answer [`Status::Unavailable`] there.
//!
//! A thread is in one call at a time. An RTOS that switches threads by interrupt does not do so in the middle of a call,
//! except in the first instruction of it; it keeps its threads from calling at the same time, as with any shared device.
//!
//! ```ignore
//! #![no_std]
//! #![no_main]
//! holdfast::entry!(main);
//!
//! fn main() -> ! {
//!     holdfast::start_logging(&BUFFER)?;
//!     holdfast::healthy()?;
//! }
//! ```
#![no_std]
#![warn(missing_docs)]

pub mod board;
mod calls;
mod network;
mod notifications;
pub mod raw;
mod ring;
mod start;

pub use abi::{DEVICE_ID_BYTES, LOG_MESSAGE_BYTES_MAX, Status};
pub use calls::*;
pub use network::*;
pub use notifications::*;
pub use ring::{Event, Record};
