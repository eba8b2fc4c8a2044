//! A debugger's hand on the application: `gateway_core::ports::Probe` for this board.
//!
//! Held means not scheduled; nothing else stops. `schedule` says when it is held and why, `registers` shows and changes what it is held
//! with, `memory` what it has, and `trap` stops it at the end of a call. Everything here is the application's: no
//! secure address is read or written, whatever is asked for.
//!
//! The processor's own debug events are not used: they are not modelled on this machine, and on others a secure world may be
//! without them. A breakpoint is an instruction, which faults.

mod memory;
mod registers;
pub(crate) mod trap;

use core::sync::atomic::{AtomicBool, Ordering};

use gateway_core::crash::FaultStatus;
use gateway_core::ports::{Forbidden, Held, Probe, Region, Registers};

use crate::fault;
use crate::schedule;

/// Breakpoint instructions hold the application.
static ATTACHED: AtomicBool = AtomicBool::new(false);
/// Faults do.
static CATCHES: AtomicBool = AtomicBool::new(false);
/// Its start does.
static HOLDS_START: AtomicBool = AtomicBool::new(false);

pub(crate) fn attached() -> bool {
    ATTACHED.load(Ordering::Relaxed)
}

pub(crate) fn catches_faults() -> bool {
    CATCHES.load(Ordering::Relaxed)
}

pub(crate) fn holds_start() -> bool {
    HOLDS_START.load(Ordering::Relaxed)
}

/// A breakpoint instruction lies there, in memory of the application's.
pub(crate) fn is_breakpoint(at: u32) -> bool {
    trap::instruction(at).is_some_and(|instruction| instruction & 0xff00 == trap::BREAKPOINT)
}

/// The probe of this board. There is one application: whoever makes another probe has the same hand on it.
#[derive(Debug, Default)]
pub struct BoardProbe {
    _one: (),
}

impl Probe for BoardProbe {
    fn regions(&self) -> &'static [Region] {
        &memory::REGIONS
    }

    fn attach(&mut self) {
        ATTACHED.store(true, Ordering::Relaxed);
    }

    fn detach(&mut self) {
        for wish in [&ATTACHED, &CATCHES, &HOLDS_START] {
            wish.store(false, Ordering::Relaxed);
        }
        schedule::resume_app(false);
    }

    fn catch_faults(&mut self, on: bool) {
        CATCHES.store(on, Ordering::Relaxed);
    }

    fn hold_start(&mut self, on: bool) {
        HOLDS_START.store(on, Ordering::Relaxed);
    }

    fn halt(&mut self) {
        schedule::halt_app();
    }

    fn resume(&mut self, masked: bool) {
        schedule::resume_app(masked);
    }

    fn held(&mut self) -> Option<Held> {
        schedule::app_held()
    }

    fn registers(&mut self) -> Option<Registers> {
        schedule::with_held(|thread, beginning, aside| match (beginning, fault::held()) {
            (Some(beginning), _) => Some(registers::at_beginning(beginning)),
            // What lies on its stack is a frame only if it could be written.
            (None, Some(fault)) => fault.frame.map(|frame| registers::seen(thread, frame)),
            (None, None) => registers::frame(thread, aside).map(|frame| registers::seen(thread, frame)),
        })?
    }

    /// Nothing of one that is at its beginning or at its end can be changed.
    fn set_register(&mut self, number: usize, value: u32) -> Result<(), Forbidden> {
        let shown = self.registers().ok_or(Forbidden)?;
        if *shown.get(number).ok_or(Forbidden)? == value {
            return Ok(());
        }
        schedule::with_held(|thread, beginning, aside| {
            if beginning.is_some() || fault::held().is_some() {
                return Err(Forbidden);
            }
            let frame = registers::frame(thread, aside).ok_or(Forbidden)?;
            *aside = Some(registers::set(thread, frame, number, value)?);
            Ok(())
        })
        .unwrap_or(Err(Forbidden))
    }

    fn fault(&mut self) -> Option<FaultStatus> {
        fault::held().map(|fault| fault::status(&fault.faults, fault.exc_return))
    }

    fn read(&mut self, at: u32, into: &mut [u8]) -> Result<(), Forbidden> {
        memory::read(at, into)
    }

    fn write(&mut self, at: u32, bytes: &[u8]) -> Result<(), Forbidden> {
        // The frame lies below what a debugger sees of the stack: it may be written over.
        schedule::with_held(|thread, beginning, aside| {
            if beginning.is_none() && fault::held().is_none() {
                *aside = registers::frame(thread, aside);
            }
        });
        memory::write(at, bytes)
    }
}
