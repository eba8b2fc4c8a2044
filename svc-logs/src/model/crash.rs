//! How an application ended, as its device reported it.
//!
//! Numbers and lengths beyond the bounds make a report malformed: no device of ours sends them. A version that is too long or holds what the
//! database cannot is changed, never refused, and a kind newer than this service is `other`: a report that is never acknowledged would be
//! sent for ever.

use std::time::SystemTime;

use wire::limits::{CRASH_MEMORY_BYTES_MAX, CRASH_REGISTERS, CRASH_STACK_BYTES_MAX};
use wire::{DeviceId, Digest};

use super::Boot;
use super::text;

/// Longest version that is kept whole.
pub(crate) const VERSION_BYTES_MAX: usize = 64;
/// The registers' names, in the order of their words.
pub(crate) const REGISTERS: [&str; CRASH_REGISTERS] = [
    "r0", "r1", "r2", "r3", "r4", "r5", "r6", "r7", "r8", "r9", "r10", "r11", "r12", "sp", "lr", "pc", "xpsr",
];
const WORD: usize = size_of::<u32>();

/// Names by the numbers of device.proto's CrashKind, from 1; the last is for all that has none.
const KINDS: [&str; 11] = [
    "memory",
    "bus",
    "usage",
    "secure",
    "hard",
    "stack_overflow",
    "hung",
    "interrupt_flood",
    "forged_return",
    "unyielding",
    "other",
];

/// What kind of end it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kind(u8);

/// CFSR, HFSR, SFSR, MMFAR, BFAR, SFAR, EXC_RETURN.
pub(crate) type FaultStatus = [u32; 7];

/// A report, within its bounds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Crash {
    pub(crate) boot: Boot,
    pub(crate) sequence: u32,
    pub(crate) uptime_us: u64,
    pub(crate) manifest: Option<Digest>,
    pub(crate) version: String,
    pub(crate) kind: Kind,
    /// None: a board without them.
    pub(crate) registers: Option<[u32; CRASH_REGISTERS]>,
    /// Bit n: the n-th of them is known.
    pub(crate) registers_known: u32,
    pub(crate) status: FaultStatus,
    pub(crate) stack_at: u32,
    pub(crate) stack: Vec<u8>,
    pub(crate) dropped: u32,
    /// Bytes of memory that the device keeps of it.
    pub(crate) memory_bytes: u32,
    pub(crate) memory_missed: u32,
}

/// A report as it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StoredCrash {
    /// Rises with every report stored.
    pub(crate) key: i64,
    pub(crate) device: DeviceId,
    pub(crate) receive_time: SystemTime,
    /// Bytes of its memory that are stored.
    pub(crate) memory_stored: u32,
    pub(crate) crash: Crash,
}

/// Which reports to read, newest first.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CrashRange {
    /// None: of all devices of the tenant.
    pub(crate) device: Option<DeviceId>,
    /// Only those stored before this one.
    pub(crate) before: Option<i64>,
    pub(crate) manifest: Option<Digest>,
    pub(crate) start: Option<SystemTime>,
    pub(crate) end: Option<SystemTime>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CrashError {
    #[error("sequence number 0")]
    Sequence,
    #[error("a manifest digest that is none")]
    Manifest,
    #[error("registers that are not {CRASH_REGISTERS} words")]
    Registers,
    #[error("more than {CRASH_STACK_BYTES_MAX} bytes of stack")]
    Stack,
}

impl Crash {
    /// The same within its bounds.
    pub(crate) fn checked(mut self) -> Result<Self, CrashError> {
        if self.sequence == 0 {
            return Err(CrashError::Sequence);
        }
        if self.stack.len() > CRASH_STACK_BYTES_MAX {
            return Err(CrashError::Stack);
        }
        self.uptime_us = self.uptime_us.min(i64::MAX as u64);
        text::clean(&mut self.version, VERSION_BYTES_MAX);
        self.memory_bytes = self.memory_bytes.min(CRASH_MEMORY_BYTES_MAX);
        Ok(self)
    }

    /// Those that are known, by name.
    pub(crate) fn known_registers(&self) -> impl Iterator<Item = (&'static str, u32)> {
        let known = |n: &usize| self.registers_known >> n & 1 == 1;
        let words = self.registers.iter().flatten();
        REGISTERS
            .into_iter()
            .zip(words)
            .enumerate()
            .filter(move |(n, _)| known(n))
            .map(|(_, (name, word))| (name, *word))
    }
}

impl Kind {
    /// A number that is none of ours, or unspecified, is `other`.
    pub(crate) fn from_number(number: i64) -> Self {
        let last = KINDS.len() as u8;
        Self(u8::try_from(number).ok().filter(|number| (1..=last).contains(number)).unwrap_or(last))
    }

    pub(crate) fn number(self) -> i16 {
        self.0.into()
    }

    pub(crate) fn name(self) -> &'static str {
        KINDS.get(usize::from(self.0).wrapping_sub(1)).copied().unwrap_or("other")
    }
}

/// A digest of 32 bytes, or none where there are none.
pub(crate) fn manifest(bytes: &[u8]) -> Result<Option<Digest>, CrashError> {
    match bytes {
        [] => Ok(None),
        bytes => bytes.try_into().map(|bytes| Some(Digest(bytes))).map_err(|_| CrashError::Manifest),
    }
}

/// Words from their little-endian bytes, or none where there are none.
pub(crate) fn registers(bytes: &[u8]) -> Result<Option<[u32; CRASH_REGISTERS]>, CrashError> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let (words, rest) = bytes.as_chunks::<WORD>();
    let words: &[[u8; WORD]; CRASH_REGISTERS] =
        words.try_into().ok().filter(|_| rest.is_empty()).ok_or(CrashError::Registers)?;
    Ok(Some(words.map(u32::from_le_bytes)))
}

/// The bytes again.
pub(crate) fn register_bytes(registers: Option<&[u32; CRASH_REGISTERS]>) -> Vec<u8> {
    registers.into_iter().flatten().flat_map(|word| word.to_le_bytes()).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn crash(boot: Boot, sequence: u32) -> Crash {
        Crash {
            boot,
            sequence,
            uptime_us: 5_000_000,
            manifest: Some(Digest([7; 32])),
            version: "1.2.3".into(),
            kind: Kind::from_number(1),
            registers: Some(std::array::from_fn(|n| n as u32)),
            registers_known: u32::MAX,
            status: [1, 2, 3, 4, 5, 6, u32::MAX],
            stack_at: 0x2001_0000,
            stack: vec![0xaa; CRASH_STACK_BYTES_MAX],
            dropped: 0,
            memory_bytes: 10_000,
            memory_missed: 1,
        }
    }

    const BOOT: Boot = Boot { counter: 1, random: 2 };

    #[test]
    fn a_report_is_taken_up_to_its_bounds_and_no_further() {
        assert_eq!(crash(BOOT, 1).checked(), Ok(crash(BOOT, 1)));
        assert_eq!(crash(BOOT, 0).checked(), Err(CrashError::Sequence));
        let long = Crash { stack: vec![0; CRASH_STACK_BYTES_MAX + 1], ..crash(BOOT, 1) };
        assert_eq!(long.checked(), Err(CrashError::Stack));
    }

    #[test]
    fn what_the_database_cannot_hold_is_changed_and_not_refused() {
        let odd = Crash { uptime_us: u64::MAX, version: "\0".repeat(VERSION_BYTES_MAX), ..crash(BOOT, 1) };
        let odd = odd.checked().unwrap();
        assert_eq!(odd.uptime_us, i64::MAX as u64);
        assert!(odd.version.len() <= VERSION_BYTES_MAX && !odd.version.contains('\0'));
    }

    #[test]
    fn registers_are_all_or_none_and_read_back() {
        let words: [u32; CRASH_REGISTERS] = std::array::from_fn(|n| 0x0102_0304 + n as u32);
        let bytes = register_bytes(Some(&words));
        assert_eq!((bytes.len(), &bytes[..4]), (68, &[4, 3, 2, 1][..]));
        assert_eq!(registers(&bytes), Ok(Some(words)));
        assert_eq!((registers(&[]), register_bytes(None).len()), (Ok(None), 0));
        for wrong in [&bytes[..67], &bytes[..64], &[0; 72][..], &[0]] {
            assert_eq!(registers(wrong), Err(CrashError::Registers), "{}", wrong.len());
        }
    }

    #[test]
    fn only_known_registers_are_named() {
        let some = Crash { registers_known: 1 << 15 | 1 << 13 | 1 << 31, ..crash(BOOT, 1) };
        assert_eq!(some.known_registers().collect::<Vec<_>>(), [("sp", 13), ("pc", 15)]);
        let none = Crash { registers: None, ..some };
        assert_eq!(none.known_registers().count(), 0);
    }

    #[test]
    fn a_manifest_digest_has_32_bytes_or_none() {
        assert_eq!((manifest(&[]), manifest(&[7; 32])), (Ok(None), Ok(Some(Digest([7; 32])))));
        for length in [1, 31, 33] {
            assert_eq!(manifest(&vec![0; length]), Err(CrashError::Manifest));
        }
    }

    #[test]
    fn an_unknown_kind_is_other() {
        assert_eq!(Kind::from_number(6).name(), "stack_overflow");
        for number in [0, -1, 12, 256, i64::MAX] {
            assert_eq!(Kind::from_number(number).name(), "other");
        }
    }
}
