//! A stand-in, until the agent is here: writes memory, lets the application run, and says when it is held.

use wire::msg::{DebugAnswer, DebugCall, DebugGo, DebugState, EnumValue, Message as _};

use crate::ports::Probe;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    Write,
    Read,
}

#[derive(Debug, Clone, Copy)]
pub struct Scene<'a> {
    pub board: &'a str,
}

#[derive(Debug, Default)]
pub struct Agent {
    call: u32,
    runs: bool,
}

impl Agent {
    pub const fn new() -> Self {
        Self { call: 0, runs: false }
    }

    pub fn begin(&mut self, probe: &mut impl Probe) {
        *self = Self::new();
        probe.attach();
    }

    pub fn end(&mut self, probe: &mut impl Probe) {
        probe.detach();
    }

    pub fn take(
        &mut self,
        call: &[u8],
        _: Access,
        _: &Scene<'_>,
        probe: &mut impl Probe,
        out: &mut [u8],
    ) -> Option<usize> {
        let call = DebugCall::decode(call).ok()?;
        self.call = call.number;
        for write in call.writes.iter().flatten() {
            let _ = probe.write(write.address, write.data);
        }
        if call.go == EnumValue::Known(DebugGo::Continue) {
            probe.resume(false);
            self.runs = true;
            return None;
        }
        self.answer(DebugState::Halted, out)
    }

    pub fn poll(&mut self, _: &Scene<'_>, probe: &mut impl Probe, out: &mut [u8]) -> Option<usize> {
        if !self.runs || probe.held().is_none() {
            return None;
        }
        self.runs = false;
        self.answer(DebugState::Halted, out)
    }

    fn answer(&self, state: DebugState, out: &mut [u8]) -> Option<usize> {
        let answer = DebugAnswer { call: self.call, state: EnumValue::Known(state), ..Default::default() };
        let length = answer.encoded_len();
        answer.encode(&mut &mut out[..length]).ok()?;
        Some(length)
    }
}
