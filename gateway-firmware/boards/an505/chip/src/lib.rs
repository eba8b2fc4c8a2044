//! The machine: QEMU's `mps2-an505` as the first stage and the microvisor both see it.
//!
//! Owns addresses (`map`) and the thinnest layer over registers. It decides nothing, remembers how often a timer wrapped and never
//! touches what the other world owns. The facts are of TRUSTZONE.md and of Arm's AN505 and SSE-200 manuals.
//! Tools on the host use `map`; everything else is there on the machine only.
#![no_std]

pub mod map;

#[cfg(target_os = "none")]
mod mmio;

#[cfg(target_os = "none")]
pub mod clock;
#[cfg(target_os = "none")]
pub mod entropy;
#[cfg(target_os = "none")]
pub mod flash;
#[cfg(target_os = "none")]
pub mod kept;
#[cfg(target_os = "none")]
pub mod mpc;
#[cfg(target_os = "none")]
pub mod nvic;
#[cfg(target_os = "none")]
pub mod peripherals;
#[cfg(target_os = "none")]
pub mod ppc;
#[cfg(target_os = "none")]
pub mod reset;
#[cfg(target_os = "none")]
pub mod sau;
#[cfg(target_os = "none")]
pub mod scb;
#[cfg(target_os = "none")]
pub mod special;
#[cfg(target_os = "none")]
pub mod systick;
#[cfg(target_os = "none")]
pub mod tt;
#[cfg(target_os = "none")]
pub mod uart;
#[cfg(target_os = "none")]
pub mod watchdog;
