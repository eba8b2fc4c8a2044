//! A debugger's hand on an application that is only a name: a piece of memory, and what holds it.

use std::cell::RefCell;
use std::rc::Rc;

use gateway_core::crash::FaultStatus;
use gateway_core::ports::{Forbidden, Held, Probe, Region, Registers};
use wire::msg::DebugMemory;

use super::board::AppWorld;

/// Where the application's code is.
const CODE: u32 = 0x0020_0000;
/// What it is: one instruction that does nothing, all over.
pub(crate) const PROGRAM: [u8; 16] =
    [0x00, 0xbf, 0x00, 0xbf, 0x00, 0xbf, 0x00, 0xbf, 0x00, 0xbf, 0x00, 0xbf, 0x00, 0xbf, 0x00, 0xbf];

/// Its RAM.
pub(crate) const RAM: Region = Region { at: 0x2820_0000, bytes: 128 * 1024, memory: DebugMemory::Ram };
const REGIONS: [Region; 2] = [Region { at: CODE, bytes: 16, memory: DebugMemory::Code }, RAM];

/// What its RAM holds at this address after so many starts: each writes other bytes.
pub(crate) fn ram(at: u32, starts: usize) -> u8 {
    (at.wrapping_mul(0x9e37_79b1) >> 24) as u8 ^ starts as u8
}

/// What a debugger does, as the bench sees it.
#[derive(Debug, Default)]
pub(crate) struct Debugged {
    pub code: [u8; 16],
    pub held: Option<Held>,
    pub holds_start: bool,
    pub attached: bool,
}

impl Debugged {
    /// The application was started.
    pub(crate) fn start(&mut self) {
        assert!(self.code == [0; 16] || self.code == PROGRAM, "something is planted");
        (self.code, self.held) = (PROGRAM, self.holds_start.then_some(Held::Start));
    }

    /// It is gone.
    pub(crate) fn stop(&mut self) {
        assert!(self.code == [0; 16] || self.code == PROGRAM, "something is planted");
        self.held = None;
    }
}

#[derive(Debug)]
pub(crate) struct SimDebugger(pub(super) Rc<RefCell<AppWorld>>);

impl Probe for SimDebugger {
    fn regions(&self) -> &'static [Region] {
        &REGIONS
    }

    fn attach(&mut self) {
        self.0.borrow_mut().debugged.attached = true;
    }

    fn detach(&mut self) {
        let debugged = &mut self.0.borrow_mut().debugged;
        (debugged.attached, debugged.held) = (false, None);
    }

    fn catch_faults(&mut self, _: bool) {}

    fn hold_start(&mut self, on: bool) {
        self.0.borrow_mut().debugged.holds_start = on;
    }

    fn halt(&mut self) {
        self.0.borrow_mut().debugged.held = Some(Held::Asked);
    }

    fn resume(&mut self, _: bool) {
        self.0.borrow_mut().debugged.held = None;
    }

    fn held(&mut self) -> Option<Held> {
        self.0.borrow().debugged.held
    }

    fn registers(&mut self) -> Option<Registers> {
        let mut registers = [0; 20];
        registers[15] = CODE;
        self.held().map(|_| registers)
    }

    fn set_register(&mut self, _: usize, _: u32) -> Result<(), Forbidden> {
        Err(Forbidden)
    }

    fn fault(&mut self) -> Option<FaultStatus> {
        None
    }

    fn read(&mut self, at: u32, into: &mut [u8]) -> Result<(), Forbidden> {
        if at >= RAM.at {
            let starts = self.0.borrow().started.len();
            assert!(at - RAM.at + into.len() as u32 <= RAM.bytes, "beyond its RAM");
            (at..).zip(into).for_each(|(at, byte)| *byte = ram(at, starts));
            return Ok(());
        }
        let from = at.checked_sub(CODE).ok_or(Forbidden)? as usize;
        let debugged = &self.0.borrow().debugged;
        into.copy_from_slice(debugged.code.get(from..from + into.len()).ok_or(Forbidden)?);
        Ok(())
    }

    fn write(&mut self, at: u32, bytes: &[u8]) -> Result<(), Forbidden> {
        let from = at.checked_sub(CODE).ok_or(Forbidden)? as usize;
        let debugged = &mut self.0.borrow_mut().debugged;
        debugged.code.get_mut(from..from + bytes.len()).ok_or(Forbidden)?.copy_from_slice(bytes);
        Ok(())
    }
}
