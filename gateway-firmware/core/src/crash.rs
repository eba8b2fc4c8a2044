//! How an application ended, as its board saw it, and what is kept of it until the service has it.

pub(crate) mod codec;
mod memory;
mod pieces;
mod reports;
mod upload;

use heapless::Vec;
use wire::limits::{CRASH_REGISTERS, CRASH_STACK_BYTES_MAX};
use wire::msg::CrashKind;

pub use memory::{CRASH_MEMORIES_MAX, CRASH_MEMORY_STEP_BYTES, CrashMemory, Kept, region_bytes};
pub use pieces::{CRASH_MEMORY_STACK_BYTES, Piece};
pub use reports::{CRASH_KEEP_MS, CRASH_KEPT_STACK_BYTES, CRASH_REPORTS_MAX, Name, Report, Reports};
pub use upload::{
    CRASH_MEMORY_RETRY_MAX_MS, CRASH_MEMORY_RETRY_MIN_MS, CRASH_MEMORY_WINDOW_BYTES, Chunk, Upload,
};

/// Fault status and addresses as the processor names them (Armv8-M ARM D1.2); 0 where there are none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FaultStatus {
    pub cfsr: u32,
    pub hfsr: u32,
    pub sfsr: u32,
    pub mmfar: u32,
    pub bfar: u32,
    pub sfar: u32,
    pub exc_return: u32,
}

/// One end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Crash {
    pub kind: CrashKind,
    /// Since boot.
    pub uptime_us: u64,
    /// r0 to r12, sp, lr, pc, xPSR.
    pub registers: [u32; CRASH_REGISTERS],
    /// Bit n: the n-th of them is known.
    pub registers_known: u32,
    pub status: FaultStatus,
    /// Where `stack` was.
    pub stack_at: u32,
    pub stack: Vec<u8, CRASH_STACK_BYTES_MAX>,
}

/// Its place in the registers.
const SP: usize = 13;

impl Crash {
    /// Where its stack pointer was, if that is known.
    pub fn sp(&self) -> Option<u32> {
        (self.registers_known >> SP & 1 == 1).then_some(self.registers[SP])
    }

    /// One of which nothing else is known.
    pub fn new(kind: CrashKind, uptime_us: u64) -> Self {
        Self {
            kind,
            uptime_us,
            registers: [0; CRASH_REGISTERS],
            registers_known: 0,
            status: FaultStatus::default(),
            stack_at: 0,
            stack: Vec::new(),
        }
    }
}
