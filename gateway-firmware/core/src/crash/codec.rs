//! A report's bytes in the store, version 1: little-endian fields, the stack last and cut to what is kept.
//!
//! Decoding never panics; bytes that do not fit are no report.

use heapless::{String, Vec};
use wire::Digest;
use wire::limits::{CRASH_REGISTERS, VERSION_BYTES_MAX};
use wire::msg::{CrashKind, EnumValue, Enumeration as _};

use super::reports::{CRASH_KEPT_STACK_BYTES, Name, Report};
use super::{Crash, FaultStatus};
use crate::device::BootId;

const VERSION: u8 = 1;
const FIXED_BYTES: usize = 1 + 4 + 8 + 4 + 32 + 4 + 1 + 8 + 4 * CRASH_REGISTERS + 4 + 7 * 4 + 4;
/// Longest encoded report.
pub(crate) const BYTES_MAX: usize = FIXED_BYTES + 1 + VERSION_BYTES_MAX + 2 + CRASH_KEPT_STACK_BYTES;

/// The report's bytes; `BYTES_MAX` is why they always fit.
pub(super) fn encode(report: &Report) -> Vec<u8, BYTES_MAX> {
    let mut out = Vec::new();
    let mut put = |bytes: &[u8]| {
        // Cannot fail: see above.
        let _ = out.extend_from_slice(bytes);
    };
    let Report { name, manifest, version, dropped, crash } = report;
    put(&[VERSION]);
    put(&name.boot.counter.to_le_bytes());
    put(&name.boot.random.to_le_bytes());
    put(&name.sequence.to_le_bytes());
    put(&manifest.0);
    put(&dropped.to_le_bytes());
    put(&[crash.kind as u8]);
    put(&crash.uptime_us.to_le_bytes());
    crash.registers.iter().for_each(|word| put(&word.to_le_bytes()));
    put(&crash.registers_known.to_le_bytes());
    words(&crash.status).iter().for_each(|word| put(&word.to_le_bytes()));
    put(&crash.stack_at.to_le_bytes());
    put(&[version.len() as u8]);
    put(version.as_bytes());
    let stack = &crash.stack[..crash.stack.len().min(CRASH_KEPT_STACK_BYTES)];
    put(&(stack.len() as u16).to_le_bytes());
    put(stack);
    out
}

/// Reads what `encode` wrote.
pub(super) fn decode(bytes: &[u8]) -> Option<Report> {
    let mut input = Reader(bytes);
    if input.array()? != [VERSION] {
        return None;
    }
    let boot = BootId { counter: input.word()?, random: u64::from_le_bytes(input.array()?) };
    let name = Name { boot, sequence: input.word()? };
    let (manifest, dropped) = (Digest(input.array()?), input.word()?);
    let [kind] = input.array()?;
    let EnumValue::Known(kind) = CrashKind::decode(i32::from(kind)) else { return None };
    let mut crash = Crash::new(kind, u64::from_le_bytes(input.array()?));
    for register in &mut crash.registers {
        *register = input.word()?;
    }
    crash.registers_known = input.word()?;
    let status = &mut crash.status;
    for word in [
        &mut status.cfsr,
        &mut status.hfsr,
        &mut status.sfsr,
        &mut status.mmfar,
        &mut status.bfar,
        &mut status.sfar,
        &mut status.exc_return,
    ] {
        *word = input.word()?;
    }
    crash.stack_at = input.word()?;
    let [length] = input.array()?;
    let version = core::str::from_utf8(input.take(length.into())?).ok()?;
    let version = String::try_from(version).ok()?;
    let length = u16::from_le_bytes(input.array()?);
    crash.stack.extend_from_slice(input.take(length.into())?).ok()?;
    input.0.is_empty().then_some(Report { name, manifest, version, dropped, crash })
}

fn words(status: &FaultStatus) -> [u32; 7] {
    let FaultStatus { cfsr, hfsr, sfsr, mmfar, bfar, sfar, exc_return } = *status;
    [cfsr, hfsr, sfsr, mmfar, bfar, sfar, exc_return]
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn word(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use proptest::prelude::*;

    fn longest() -> Report {
        let mut crash = Crash::new(CrashKind::Unyielding, u64::MAX);
        crash.registers = core::array::from_fn(|index| index as u32);
        crash.registers_known = 0x1_ffff;
        crash.status = FaultStatus { cfsr: 1, hfsr: 2, sfsr: 3, mmfar: 4, bfar: 5, sfar: 6, exc_return: 7 };
        crash.stack_at = 0x2800_0000;
        crash.stack.resize(CRASH_KEPT_STACK_BYTES, 0xee).expect("there is room");
        Report {
            name: Name { boot: BootId { counter: u32::MAX, random: 2 }, sequence: 3 },
            manifest: Digest([4; 32]),
            version: String::try_from("12345678901234567890123456789012").expect("there is room"),
            dropped: 5,
            crash,
        }
    }

    #[test]
    fn the_longest_report_fits_and_comes_back() {
        let bytes = encode(&longest());
        assert_eq!(bytes.len(), BYTES_MAX);
        assert_eq!(decode(&bytes), Some(longest()));
    }

    #[test]
    fn a_longer_stack_is_cut() {
        let mut report = longest();
        report.crash.stack.extend_from_slice(&[1; 100]).expect("there is room");
        assert_eq!(decode(&encode(&report)), Some(longest()));
    }

    #[test]
    fn truncated_or_prolonged_bytes_are_no_report() {
        let mut bytes = std::vec::Vec::from(&encode(&longest())[..]);
        for length in 0..bytes.len() {
            assert_eq!(decode(&bytes[..length]), None);
        }
        bytes.push(0);
        assert_eq!(decode(&bytes), None);
    }

    proptest! {
        #[test]
        fn decoding_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..2 * BYTES_MAX)) {
            let _ = decode(&bytes);
        }
    }
}
