//! A debugger's hand on the application of the tests' board, and what it did.

use gateway_core::crash::FaultStatus;
use gateway_core::ports::{Forbidden, Held, Probe, REGISTERS, Region, Registers};
use wire::msg::DebugMemory;

/// Where the application's memory is.
pub(crate) const RAM_AT: u32 = 0x2000_0000;
const REGIONS: &[Region] = &[Region { at: RAM_AT, bytes: 4096, memory: DebugMemory::Ram }];

/// What lies there.
pub(crate) fn ram(at: u32) -> u8 {
    (at.wrapping_mul(0x9e37_79b1) >> 24) as u8
}

#[derive(Debug, Default)]
pub(crate) struct SimProbe {
    /// No debugger can be attached to this board's application.
    pub(crate) none: bool,
    pub(crate) attached: bool,
    pub(crate) held: Option<Held>,
    /// Every write, in order.
    pub(crate) written: Vec<(u32, Vec<u8>)>,
}

impl Probe for SimProbe {
    fn regions(&self) -> &'static [Region] {
        if self.none { &[] } else { REGIONS }
    }

    fn attach(&mut self) {
        self.attached = true;
    }

    fn detach(&mut self) {
        (self.attached, self.held) = (false, None);
    }

    fn catch_faults(&mut self, _: bool) {}

    fn hold_start(&mut self, on: bool) {
        // The device says so right before a start.
        self.held = on.then_some(Held::Start);
    }

    fn halt(&mut self) {
        self.held = Some(Held::Asked);
    }

    fn resume(&mut self, _: bool) {
        self.held = None;
    }

    fn held(&mut self) -> Option<Held> {
        self.held
    }

    fn registers(&mut self) -> Option<Registers> {
        self.held.map(|_| [RAM_AT; REGISTERS])
    }

    fn set_register(&mut self, _: usize, _: u32) -> Result<(), Forbidden> {
        Ok(())
    }

    fn fault(&mut self) -> Option<FaultStatus> {
        None
    }

    fn read(&mut self, at: u32, into: &mut [u8]) -> Result<(), Forbidden> {
        within(at, into.len())?;
        (at..).zip(into).for_each(|(at, byte)| *byte = ram(at));
        Ok(())
    }

    fn write(&mut self, at: u32, bytes: &[u8]) -> Result<(), Forbidden> {
        within(at, bytes.len())?;
        self.written.push((at, bytes.to_vec()));
        Ok(())
    }
}

fn within(at: u32, length: usize) -> Result<(), Forbidden> {
    let fits = at >= RAM_AT && at as usize + length <= RAM_AT as usize + 4096;
    fits.then_some(()).ok_or(Forbidden)
}
