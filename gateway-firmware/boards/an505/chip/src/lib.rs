//! The machine: QEMU's `mps2-an505` as the first stage and the microvisor both see it.
//!
//! Owns addresses (`map`) and the thinnest layer over registers. It decides nothing, keeps no state of its own and never
//! touches what the other world owns. The facts are of TRUSTZONE.md and of Arm's AN505 and SSE-200 manuals.
#![no_std]

pub mod map;
