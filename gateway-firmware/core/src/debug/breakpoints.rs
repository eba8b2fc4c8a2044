//! Breakpoint instructions in the application's memory: those the session set, and those a step needs for a moment; and the breakpoints of the
//! board's hardware.
//!
//! What is wanted is a set; [`Breakpoints::settle`] makes memory and hardware be so. The halfword that was there is kept while one is planted, and shown
//! and changed in its place. One that the application itself has overwritten meanwhile is never put back: what it wrote stands.

use heapless::Vec;
use wire::limits::{DEBUG_BREAKPOINTS_MAX, DEBUG_HARDWARE_BREAKPOINTS_MAX};
use wire::msg::DebugMemory;

use crate::mutation::mutated;
use crate::ports::{Forbidden, Probe, Region};

/// BKPT 0. Never 0xBEAB, which an emulator takes for a call of its own.
pub const BREAKPOINT: u16 = 0xbe00;
/// Places a step may come out at.
pub const STEP_TARGETS_MAX: usize = 8;

const PLACES_MAX: usize = DEBUG_BREAKPOINTS_MAX + DEBUG_HARDWARE_BREAKPOINTS_MAX + STEP_TARGETS_MAX;

#[derive(Debug, Clone, Copy)]
struct Place {
    at: u32,
    /// The session wants it planted.
    set: bool,
    /// The session wants it of the hardware.
    hardware: bool,
    /// A step wants it.
    step: bool,
    /// What was there, while it is planted.
    kept: Option<u16>,
}

/// Those there are.
#[derive(Debug)]
pub(crate) struct Breakpoints {
    places: Vec<Place, PLACES_MAX>,
    /// The one that is being stepped over.
    lifted: Option<u32>,
    /// None is to be in memory now.
    out: bool,
}

impl Breakpoints {
    pub(crate) const fn new() -> Self {
        Self { places: Vec::new(), lifted: None, out: false }
    }

    /// The session wants one here.
    pub(crate) fn is_set(&self, at: u32) -> bool {
        self.places.iter().any(|place| place.is_set() && place.at == at)
    }

    pub(crate) fn any_set(&self) -> bool {
        self.places.iter().any(Place::is_set)
    }

    /// A step that was begun may come out here.
    pub(crate) fn is_target(&self, at: u32) -> bool {
        self.places.iter().any(|place| place.step && place.at == at)
    }

    /// These are the session's from now on, and no others. At most [`DEBUG_BREAKPOINTS_MAX`] and [`hardware_max`], each checked before.
    pub(crate) fn set(
        &mut self,
        wanted: &[u32],
        hardware: &[u32],
        probe: &mut impl Probe,
    ) -> Result<(), u32> {
        for place in &mut self.places {
            place.set &= wanted.contains(&place.at);
            place.hardware &= hardware.contains(&place.at);
        }
        // First those go that are wanted no more, so that there is room.
        let _ = self.settle(probe);
        for at in wanted {
            self.place(*at).map(|place| place.set = true).ok_or(*at)?;
        }
        for at in hardware {
            self.place(*at).map(|place| place.hardware = true).ok_or(*at)?;
        }
        self.settle(probe)
    }

    /// A step from `from` comes out at one of these: they are planted, and none at `from`.
    pub(crate) fn begin_step(&mut self, from: u32, targets: &[u32], probe: &mut impl Probe) {
        self.lifted = Some(from);
        for at in targets {
            if let Some(place) = self.place(*at) {
                place.step = true;
            }
        }
        // One that cannot be planted is not where the step comes out.
        let _ = self.settle(probe);
    }

    /// The step is over, wherever it came out.
    pub(crate) fn end_step(&mut self, probe: &mut impl Probe) {
        self.lifted = None;
        for place in &mut self.places {
            place.step = false;
        }
        let _ = self.settle(probe);
    }

    /// Takes all out until [`Breakpoints::put_back`]: memory is about to be measured, copied or left. The set stays.
    pub(crate) fn take_out(&mut self, probe: &mut impl Probe) {
        if mutated!(DebugOut) {
            return;
        }
        self.out = true;
        let _ = self.settle(probe);
    }

    pub(crate) fn is_out(&self) -> bool {
        self.out
    }

    /// Plants what is set again.
    pub(crate) fn put_back(&mut self, probe: &mut impl Probe) {
        self.out = false;
        let _ = self.settle(probe);
    }

    /// Nothing is planted or set any more.
    pub(crate) fn clear(&mut self, probe: &mut impl Probe) {
        for place in &mut self.places {
            (place.set, place.hardware) = (false, false);
        }
        self.end_step(probe);
        self.out = false;
    }

    /// Memory as it is without any breakpoint of ours.
    pub(crate) fn read(&self, at: u32, into: &mut [u8], probe: &mut impl Probe) -> Result<(), Forbidden> {
        check(probe.regions(), at, into.len(), |_| true)?;
        probe.read(at, into)?;
        for place in &self.places {
            let Some(kept) = place.kept.filter(|_| overlaps(place.at, at, into.len())) else { continue };
            if halfword(place.at, probe) != Some(BREAKPOINT) {
                continue;
            }
            for (address, byte) in (place.at..).zip(kept.to_le_bytes()) {
                let index = address.checked_sub(at).map(|index| index as usize);
                if let Some(shown) = index.and_then(|index| into.get_mut(index)) {
                    *shown = byte;
                }
            }
        }
        Ok(())
    }

    /// Changes memory, and below a planted breakpoint what is kept.
    pub(crate) fn write(&mut self, at: u32, bytes: &[u8], probe: &mut impl Probe) -> Result<(), Forbidden> {
        check(probe.regions(), at, bytes.len(), |_| true)?;
        for place in &mut self.places {
            if overlaps(place.at, at, bytes.len()) {
                place.unplant(probe);
            }
        }
        let written = probe.write(at, bytes);
        let _ = self.settle(probe);
        written
    }

    /// Makes memory and hardware be as wanted; the first address where memory cannot be.
    fn settle(&mut self, probe: &mut impl Probe) -> Result<(), u32> {
        let mut settled = Ok(());
        let mut hardware: Vec<u32, DEBUG_HARDWARE_BREAKPOINTS_MAX> = Vec::new();
        for place in &mut self.places {
            let lifted = self.lifted == Some(place.at);
            let wanted = !self.out && (place.step || place.set && !lifted);
            if wanted {
                settled = settled.and(place.plant(probe).map_err(|_| place.at));
            } else {
                place.unplant(probe);
            }
            if place.hardware && !lifted && !self.out {
                // Cannot fail: no more were set.
                let _ = hardware.push(place.at);
            }
        }
        probe.set_hardware_breakpoints(&hardware);
        self.places.retain(|place| place.is_set() || place.step);
        settled
    }

    fn place(&mut self, at: u32) -> Option<&mut Place> {
        let index = match self.places.iter().position(|place| place.at == at) {
            Some(index) => index,
            None => {
                self.places.push(Place { at, set: false, hardware: false, step: false, kept: None }).ok()?;
                self.places.len() - 1
            }
        };
        self.places.get_mut(index)
    }
}

impl Place {
    fn is_set(&self) -> bool {
        self.set || self.hardware
    }

    fn plant(&mut self, probe: &mut impl Probe) -> Result<(), Forbidden> {
        if self.kept.is_none() {
            let there = halfword(self.at, probe).ok_or(Forbidden)?;
            probe.write(self.at, &BREAKPOINT.to_le_bytes())?;
            self.kept = Some(there);
        }
        Ok(())
    }

    fn unplant(&mut self, probe: &mut impl Probe) {
        let Some(kept) = self.kept.take() else { return };
        if halfword(self.at, probe) == Some(BREAKPOINT) || mutated!(DebugRestore) {
            // Cannot fail: it was planted there.
            let _ = probe.write(self.at, &kept.to_le_bytes());
        }
    }
}

/// Breakpoints of the hardware that a session may set.
pub(crate) fn hardware_max(probe: &impl Probe) -> usize {
    probe.hardware_breakpoints().min(DEBUG_HARDWARE_BREAKPOINTS_MAX)
}

/// Where instructions may be.
pub(crate) fn is_code(regions: &[Region], at: u32) -> bool {
    at.is_multiple_of(2)
        && check(regions, at, 2, |memory| matches!(memory, DebugMemory::Code | DebugMemory::Ram)).is_ok()
}

/// The whole range is the application's memory, of a kind that will do.
fn check(
    regions: &[Region],
    at: u32,
    bytes: usize,
    will_do: impl Fn(DebugMemory) -> bool,
) -> Result<(), Forbidden> {
    if mutated!(DebugRegion) {
        return Ok(());
    }
    let mut at = u64::from(at);
    let end = at.saturating_add(bytes as u64);
    loop {
        let holds = |region: &&Region| {
            let from = u64::from(region.at);
            (from..from + u64::from(region.bytes)).contains(&at) && will_do(region.memory)
        };
        let region = regions.iter().find(holds).ok_or(Forbidden)?;
        at = u64::from(region.at) + u64::from(region.bytes);
        if end <= at {
            return Ok(());
        }
    }
}

/// Bytes from here to the end of the region that this is in.
pub(crate) fn bytes_left(regions: &[Region], at: u32) -> u32 {
    let left = |region: &Region| region.bytes.checked_sub(at.checked_sub(region.at)?);
    regions.iter().find_map(left).unwrap_or(0)
}

fn halfword(at: u32, probe: &mut impl Probe) -> Option<u16> {
    let mut bytes = [0; 2];
    probe.read(at, &mut bytes).ok()?;
    Some(u16::from_le_bytes(bytes))
}

/// A halfword at `place` and a range have a byte in common.
fn overlaps(place: u32, at: u32, bytes: usize) -> bool {
    let (place, at) = (u64::from(place), u64::from(at));
    place < at + bytes as u64 && at < place + 2
}
