//! The breakpoints there are to be: planted in the application's memory, or compared by the board's hardware.

use std::collections::BTreeSet;

use proto::device::v1::{DebugCall, DebugProblem};

use super::{Machine, PC, Stop, Trouble};

/// Both kinds, by address.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Breakpoints {
    planted: BTreeSet<u32>,
    hardware: BTreeSet<u32>,
}

/// Of which kind one is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Planted,
    Hardware,
}

impl Breakpoints {
    /// One of either kind is there.
    pub(super) fn contains(&self, at: u32) -> bool {
        self.planted.contains(&at) || self.hardware.contains(&at)
    }

    /// Another is planted, too; false: there was one of either kind.
    pub(super) fn insert(&mut self, at: u32) -> bool {
        let is_new = !self.contains(at);
        self.planted.insert(at);
        is_new
    }

    fn of(&mut self, kind: Kind) -> &mut BTreeSet<u32> {
        match kind {
            Kind::Planted => &mut self.planted,
            Kind::Hardware => &mut self.hardware,
        }
    }

    fn count(&self, kind: Kind) -> usize {
        match kind {
            Kind::Planted => self.planted.len(),
            Kind::Hardware => self.hardware.len(),
        }
    }
}

impl Machine {
    /// There is to be a breakpoint, from the next `go` on.
    pub(crate) fn add_breakpoint(&mut self, kind: Kind, at: u32) -> Result<(), Trouble> {
        let code = self.about.region(at).filter(|region| !region.is_peripheral() && at & 1 == 0);
        code.ok_or(Trouble::Problem(DebugProblem::Forbidden, at))?;
        self.may_change(at)?;
        let (_, most) = self.count_breakpoints(kind);
        let breakpoints = self.breakpoints.of(kind);
        if breakpoints.len() >= most && !breakpoints.contains(&at) {
            return Err(Trouble::Problem(DebugProblem::TooMuch, at));
        }
        breakpoints.insert(at);
        self.plant_now()
    }

    /// Whether there was one.
    pub(crate) fn remove_breakpoint(&mut self, kind: Kind, at: u32) -> Result<bool, Trouble> {
        let was = self.breakpoints.of(kind).remove(&at);
        self.plant_now()?;
        Ok(was)
    }

    /// Of which kind the breakpoint is that it halted at: a planted one, unless there is only one of the hardware's.
    pub(crate) fn kind_at(&self, stop: &Stop) -> Kind {
        let Some(at) = stop.registers.map(|registers| registers[PC]) else { return Kind::Planted };
        let Breakpoints { planted, hardware } = &self.breakpoints;
        if hardware.contains(&at) && !planted.contains(&at) { Kind::Hardware } else { Kind::Planted }
    }

    /// How many there are to be, and at most.
    pub(crate) fn count_breakpoints(&self, kind: Kind) -> (usize, usize) {
        let most = match kind {
            Kind::Planted => self.about.breakpoints_max,
            Kind::Hardware => self.about.hardware_breakpoints_max,
        };
        (self.breakpoints.count(kind), most)
    }

    pub(super) fn is_planted(&self) -> bool {
        self.planted.as_ref() == Some(&self.breakpoints)
    }

    /// A call that says which there are, unless the device knows.
    pub(super) fn plant(&mut self, call: DebugCall) -> DebugCall {
        if self.is_planted() {
            return call;
        }
        self.planted = Some(self.breakpoints.clone());
        DebugCall {
            plant: true,
            breakpoints: self.breakpoints.planted.iter().copied().collect(),
            hardware_breakpoints: self.breakpoints.hardware.iter().copied().collect(),
            ..call
        }
    }

    fn plant_now(&mut self) -> Result<(), Trouble> {
        if !self.plain || self.is_planted() {
            return Ok(());
        }
        let call = self.plant(DebugCall::default());
        let asked = self.ask(vec![(call, Vec::new())]);
        if asked.is_err() {
            self.planted = None;
        }
        asked.map(drop)
    }
}
