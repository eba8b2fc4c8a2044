//! The emulated board in scenarios: made by the real CLI and factory, run by the harness's QEMU, its Ethernet in our hands.
//!
//! What a board says over its consoles is for people and for figures; that something happened, scenarios ask the API or the flash.

pub mod board;
pub mod flash;
mod frame;
pub mod hostile;
pub mod log;
pub mod microvisor;
pub mod patient;
pub mod power;
pub mod wire;
