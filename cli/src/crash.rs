//! Crash reports made readable: what the fault bits say, and which lines of the program the device was at.
//!
//! Always holds, whatever the ELF file and the report say: an end, within named bounds of time and frames, and no panic. What was found by
//! rule (the program's own frame information) and what was guessed (words of the stack that look like return addresses) are told apart.
//! Pure: bytes in, frames out.

mod backtrace;
mod core_file;
mod elf;
mod fault;
mod lines;
mod places;
mod unwind;

pub(crate) use backtrace::{Backtrace, Frame, of, without_symbols};
pub(crate) use core_file::core_file;
pub(crate) use fault::words as fault_words;
pub(crate) use lines::Place;
pub(crate) use places::Places;
