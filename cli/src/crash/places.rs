//! Addresses looked up one at a time, in a program that is read once.
//!
//! As for a backtrace the work is done in a thread of its own: a file that takes too long, or ends a parser, tells nothing from then on.

use std::sync::mpsc;

use anyhow::Result;

use super::backtrace::{THREAD_STACK_BYTES, TIME_MAX, places};
use super::elf::Program;
use super::lines::{Lines, Place};
use crate::failure::input;

/// A program's functions and lines.
#[derive(Debug)]
pub(crate) struct Places {
    ask: mpsc::SyncSender<u32>,
    told: mpsc::Receiver<Result<Vec<Place>>>,
    is_silent: bool,
}

impl Places {
    pub(crate) fn open(elf: Vec<u8>) -> Result<Places> {
        let (ask, asked) = mpsc::sync_channel(1);
        let (tell, told) = mpsc::sync_channel(1);
        std::thread::Builder::new().name("places".into()).stack_size(THREAD_STACK_BYTES).spawn(
            move || {
                let program = match Program::open(&elf) {
                    Ok(program) => program,
                    Err(error) => return drop(tell.send(Err(error))),
                };
                let lines = Lines::open(&program);
                let mut answer = Ok(Vec::new());
                while tell.send(answer).is_ok() {
                    let Ok(address) = asked.recv() else { return };
                    answer = Ok(places(&program, lines.as_ref(), address));
                }
            },
        )?;
        match told.recv_timeout(TIME_MAX) {
            Ok(begun) => begun.map(|_| Places { ask, told, is_silent: false }),
            Err(mpsc::RecvTimeoutError::Timeout) => Err(input("the ELF file takes too long to read")),
            Err(mpsc::RecvTimeoutError::Disconnected) => Err(input("the ELF file cannot be read")),
        }
    }

    /// The innermost first; more than one where calls were inlined; none for what is not of the program.
    pub(crate) fn at(&mut self, address: u32) -> Vec<Place> {
        if self.is_silent || self.ask.try_send(address).is_err() {
            return Vec::new();
        }
        let told = self.told.recv_timeout(TIME_MAX);
        self.is_silent = told.is_err();
        told.ok().and_then(Result::ok).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ELF: &[u8] = include_bytes!("../../fixtures/crash/crash.elf");

    #[test]
    fn an_address_is_told_as_in_a_backtrace_and_what_is_no_program_tells_nothing() {
        let mut places = Places::open(ELF.to_vec()).unwrap();
        let program = Program::open(ELF).unwrap();
        let main = (0x1000_0000..0x1000_1000)
            .step_by(2)
            .find(|at| program.function(*at).is_some_and(|(name, _)| name == "main"));
        let told = places.at(main.unwrap());
        assert_eq!(told.last().unwrap().function, "main");
        assert!(told[0].line.is_some());
        assert_eq!(places.at(0xffff_fff0), Vec::new());
        assert!(!places.at(main.unwrap()).is_empty(), "it goes on");
        assert!(Places::open(b"no program".to_vec()).is_err());
    }
}
