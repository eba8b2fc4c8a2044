//! A board that exists only in memory, and the people around it.

mod board;
mod bundle;
mod debugger;
mod director;
pub(crate) mod firmware;
mod flash;

pub(crate) use board::{Behaviour, Bench, SimBoard};
pub(crate) use bundle::{Bundle, DEBUG_KEY, Maker, image};
pub(crate) use debugger::{PROGRAM, RAM, ram};
pub(crate) use director::{Director, Goal};
pub(crate) use firmware::{Firmware, Nature, SimFirmware};
pub(crate) use flash::{Cut, FIRMWARE_AT, GEOMETRIES, Mode, SMALL, SimFlash, WRITE_ONCE};

pub(crate) type Device = gateway_core::Device<'static, SimBoard>;
