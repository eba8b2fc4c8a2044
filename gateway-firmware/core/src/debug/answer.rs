//! A `DebugAnswer`, written field by field: how long it gets is known only when memory was read into it.
//!
//! Fields may come in any order, so the problem comes last. What has no room is left out and told as a problem of its own.

use heapless::Vec;
use wire::limits::{DEBUG_BREAKPOINTS_MAX, DEBUG_READ_BYTES_MAX, DEBUG_WRITE_BYTES_MAX};
use wire::msg::{
    DebugAnswer, DebugProblem, DebugRegion, DebugState, DebugStop, DebugTarget, EnumValue, Message, Repeated,
};

use super::agent::{Scene, WATCH_READ_BYTES_MAX};
use super::breakpoints::{Breakpoints, hardware_max};
use crate::ports::{Probe, REGISTERS, Registers};

/// Regions of an application that are told.
pub const REGIONS_MAX: usize = 8;
/// Of a `DebugTarget`: two digests, three texts as long as they may be, so many regions, and numbers.
const TARGET_BYTES_MAX: usize = 2 * 34 + 3 * 66 + REGIONS_MAX * 16 + 8 * 6 + 8;
/// Room kept for the problem: two fields.
const PROBLEM_BYTES: usize = 8;

/// Fields of `DebugAnswer`.
const STOP: u32 = 4;
const DATA: u32 = 5;
/// Of `DebugStop`.
const STACK: u32 = 4;
/// Of `DebugData`.
const BYTES: u32 = 1;

/// What could not be done, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) what: DebugProblem,
    pub(crate) at: u32,
}

impl Problem {
    pub(crate) const fn new(what: DebugProblem, at: u32) -> Self {
        Self { what, at }
    }
}

/// An answer being written.
#[derive(Debug)]
pub(crate) struct Answer<'o> {
    out: &'o mut [u8],
    at: usize,
    full: Option<u32>,
}

impl<'o> Answer<'o> {
    pub(crate) fn new(out: &'o mut [u8], call: u32, state: DebugState, starts: u32) -> Self {
        let mut answer = Self { out, at: 0, full: None };
        let head = DebugAnswer { call, state: EnumValue::Known(state), starts, ..Default::default() };
        answer.message(&head);
        answer
    }

    /// Where it halted, with so much of its stack.
    pub(crate) fn stop(
        &mut self,
        stop: &DebugStop<'_>,
        registers: Option<&Registers>,
        stack_at: u32,
        stack_bytes: u32,
        breakpoints: &Breakpoints,
        probe: &mut impl Probe,
    ) {
        let mut words = [0; 4 * REGISTERS];
        if let Some(registers) = registers {
            for (bytes, word) in words.chunks_exact_mut(4).zip(registers) {
                bytes.copy_from_slice(&word.to_le_bytes());
            }
        }
        let registers: &[u8] = if registers.is_some() { &words } else { &[] };
        let head = DebugStop { registers, ..*stop };
        let mut stack_bytes = stack_bytes as usize;
        let stack_field = |bytes: usize| if bytes == 0 { 0 } else { field_bytes(STACK, bytes) };
        let room = self.room();
        let fits = |bytes| field_bytes(STOP, head.encoded_len() + stack_field(bytes)) <= room;
        if !fits(stack_bytes) {
            self.full.get_or_insert(stack_at);
            stack_bytes = 0;
        }
        if !fits(0) {
            return;
        }
        let start = self.at;
        let length = head.encoded_len() + stack_field(stack_bytes);
        if !self.header(STOP, length) || !self.message(&head) || stack_bytes == 0 {
            return;
        }
        self.header(STACK, stack_bytes);
        let (from, to) = (self.at, self.at + stack_bytes);
        let read = self.out.get_mut(from..to).map(|into| breakpoints.read(stack_at, into, probe));
        match read {
            Some(Ok(())) => self.at = to,
            _ => {
                // It cannot be read after all: the same without it.
                self.at = start;
                self.header(STOP, head.encoded_len());
                self.message(&head);
            }
        }
    }

    /// What is at an address; empty where it may not be read.
    pub(crate) fn data(&mut self, at: u32, bytes: u32, breakpoints: &Breakpoints, probe: &mut impl Probe) {
        let (start, bytes) = (self.at, bytes as usize);
        let inner = field_bytes(BYTES, bytes);
        if field_bytes(DATA, inner) > self.room() {
            self.full.get_or_insert(at);
            return;
        }
        self.header(DATA, inner);
        self.header(BYTES, bytes);
        let (from, to) = (self.at, self.at + bytes);
        let read = self.out.get_mut(from..to).map(|into| breakpoints.read(at, into, probe));
        match read {
            Some(Ok(())) => self.at = to,
            _ => {
                self.at = start;
                self.header(DATA, 0);
            }
        }
    }

    /// Whatever there is to debug, it fits: who did not ask for it need not be told that it did not.
    pub(crate) fn has_room_for_target(&self) -> bool {
        self.room() >= TARGET_BYTES_MAX
    }

    /// What there is to debug.
    #[inline(never)]
    pub(crate) fn target(&mut self, scene: &Scene<'_>, read_only: bool, probe: &impl Probe) {
        let regions: Vec<DebugRegion<'_>, REGIONS_MAX> = probe
            .regions()
            .iter()
            .take(REGIONS_MAX)
            .map(|region| DebugRegion {
                address: region.at,
                length: region.bytes,
                memory: EnumValue::Known(region.memory),
                ..Default::default()
            })
            .collect();
        let mut microvisor = heapless::String::<32>::new();
        let _ = core::fmt::write(&mut microvisor, format_args!("{}", scene.microvisor));
        let target = DebugTarget {
            manifest_digest: scene.manifest.as_ref().map_or(&[], |digest| &digest.0),
            version: scene.version,
            image_digest: scene.image.as_ref().map_or(&[], |digest| &digest.0),
            image_bytes: scene.image_bytes,
            regions: Repeated::from_slice(&regions),
            breakpoints_max: DEBUG_BREAKPOINTS_MAX as u32,
            hardware_breakpoints_max: hardware_max(probe) as u32,
            read_bytes_max: if read_only { WATCH_READ_BYTES_MAX } else { DEBUG_READ_BYTES_MAX } as u32,
            write_bytes_max: DEBUG_WRITE_BYTES_MAX as u32,
            read_only,
            hold_s: scene.hold_s,
            microvisor: &microvisor,
            board: scene.board,
            ..Default::default()
        };
        let answer = DebugAnswer { target: Some(target), ..Default::default() };
        self.message(&answer);
    }

    /// Ends it; its length.
    pub(crate) fn end(mut self, problem: Option<Problem>) -> usize {
        let full = self.full.map(|at| Problem::new(DebugProblem::TooMuch, at));
        if let Some(Problem { what, at }) = problem.or(full) {
            let tail = DebugAnswer { problem: EnumValue::Known(what), problem_at: at, ..Default::default() };
            if let Some(mut rest) = self.out.get_mut(self.at..)
                && tail.encode(&mut rest).is_ok()
            {
                self.at += tail.encoded_len();
            }
        }
        self.at
    }

    fn room(&self) -> usize {
        self.out.len().saturating_sub(self.at + PROBLEM_BYTES)
    }

    /// Adds a message's fields; whether they had room.
    fn message<'m>(&mut self, message: &impl Message<'m>) -> bool {
        let length = message.encoded_len();
        let room = self.room();
        let encoded = match self.out.get_mut(self.at..) {
            Some(mut rest) if length <= room => message.encode(&mut rest).is_ok(),
            _ => false,
        };
        if encoded {
            self.at += length;
        } else {
            self.full.get_or_insert(0);
        }
        encoded
    }

    /// The key and the length of a field that is bytes or a message; whether they had room.
    fn header(&mut self, field: u32, bytes: usize) -> bool {
        let mut left = self.room();
        let mut put = |mut value: u32| {
            loop {
                let Some(place) = self.out.get_mut(self.at).filter(|_| left > 0) else { return false };
                *place = (value & 0x7f) as u8 | if value > 0x7f { 0x80 } else { 0 };
                (self.at, left, value) = (self.at + 1, left - 1, value >> 7);
                if value == 0 {
                    return true;
                }
            }
        };
        // 2: length-delimited.
        put(field << 3 | 2) && put(bytes as u32)
    }
}

/// Bytes of a field with so many bytes in it.
fn field_bytes(field: u32, bytes: usize) -> usize {
    varint_bytes(field << 3) + varint_bytes(bytes as u32) + bytes
}

fn varint_bytes(value: u32) -> usize {
    (32 - (value | 1).leading_zeros()).div_ceil(7) as usize
}
