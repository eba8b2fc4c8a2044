//! The ledger's bytes in the store, version 1: little-endian fields, lists with a count, empty slots one byte.
//!
//! A microvisor and the one it is taken back to read each other's: fields are only ever added at the end, what is missing there is its
//! default, what follows is left unread, and a reason that is not known here is none. Decoding never panics; bytes that do not fit are no
//! ledger, and the caller starts with an empty one.

use heapless::{String, Vec};
use wire::msg::{EnumValue, Enumeration as _, UpdateReason};
use wire::{DeploymentId, Digest};

use super::ledger::{
    APP_SLOTS, ENTRIES, LEDGER_BYTES_MAX, Ledger, MICROVISOR, REJECTIONS_MAX, RESULTS_MAX, Rejection, Slot,
    Status,
};
use super::result::{Outcome, UpdateResult};
use crate::device::BootId;

const VERSION: u8 = 1;

/// An encoded ledger.
pub(crate) type Bytes = Vec<u8, LEDGER_BYTES_MAX>;

const SLOT_BYTES_MAX: usize = 1 + 32 + 16 + 1 + 32 + 8 + 2;
const RESULT_BYTES: usize = 4 + 8 + 4 + 16 + 32 + 1 + 1 + 1;
const REJECTION_BYTES: usize = 32 + 16;
const _: () = assert!(
    1 + ENTRIES * SLOT_BYTES_MAX
        + 16
        + 1
        + 8
        + 1
        + RESULTS_MAX * RESULT_BYTES
        + 1
        + REJECTIONS_MAX * REJECTION_BYTES
        <= LEDGER_BYTES_MAX
);

/// The ledger's bytes; the assertion above is why they always fit.
pub(crate) fn encode(ledger: &Ledger) -> Bytes {
    let mut out = Writer(Bytes::new());
    out.put(&[VERSION]);
    ledger.slots.iter().take(APP_SLOTS).for_each(|slot| out.slot(slot));
    out.put(&[ledger.attempts]);
    out.put(&ledger.confirmed_at_s.to_le_bytes());
    out.put(&[ledger.results.len() as u8]);
    ledger.results.iter().for_each(|result| out.result(result));
    out.put(&[ledger.rejections.len() as u8]);
    for rejection in &ledger.rejections {
        out.put(&rejection.manifest.0);
        out.put(rejection.deployment.bytes());
    }
    out.slot(&ledger.slots[MICROVISOR]);
    out.put(&ledger.microvisor_confirmed_at_s.to_le_bytes());
    out.put(&ledger.microvisor_floor.to_le_bytes());
    out.0
}

/// Reads what `encode` wrote.
pub(crate) fn decode(bytes: &[u8]) -> Option<Ledger> {
    let mut input = Reader(bytes);
    if input.byte()? != VERSION {
        return None;
    }
    let mut ledger = Ledger { slots: [input.slot()?, input.slot()?, Slot::default()], ..Ledger::default() };
    ledger.attempts = input.byte()?;
    ledger.confirmed_at_s = u64::from_le_bytes(input.array()?);
    for _ in 0..input.byte()? {
        ledger.results.push(input.result()?).ok()?;
    }
    for _ in 0..input.byte()? {
        let (manifest, deployment) = (Digest(input.array()?), DeploymentId::new(input.array()?));
        ledger.rejections.push(Rejection { manifest, deployment }).ok()?;
    }
    if !input.0.is_empty() {
        ledger.slots[MICROVISOR] = input.slot()?;
        ledger.microvisor_confirmed_at_s = u64::from_le_bytes(input.array()?);
    }
    if !input.0.is_empty() {
        ledger.microvisor_floor = u64::from_le_bytes(input.array()?);
    }
    let count = |wanted: &[Status]| ledger.slots.iter().filter(|slot| wanted.contains(&slot.status)).count();
    let holds = count(&[Status::Confirmed]) <= 1 && count(&[Status::Staged, Status::Trial]) <= 1;
    holds.then_some(ledger)
}

fn reason(byte: u8) -> UpdateReason {
    match UpdateReason::decode(i32::from(byte)) {
        EnumValue::Known(reason) => reason,
        EnumValue::Unknown(_) => UpdateReason::Unspecified,
    }
}

struct Writer(Bytes);

impl Writer {
    fn put(&mut self, bytes: &[u8]) {
        // Cannot fail: LEDGER_BYTES_MAX holds every ledger.
        let _ = self.0.extend_from_slice(bytes);
    }

    fn slot(&mut self, slot: &Slot) {
        self.put(&[slot.status as u8]);
        if slot.status != Status::Empty {
            self.put(&slot.manifest.0);
            self.put(slot.deployment.bytes());
            self.put(&[slot.version.len() as u8]);
            self.put(slot.version.as_bytes());
            self.put(&slot.security_counter.to_le_bytes());
            self.put(&slot.envelope_bytes.to_le_bytes());
        }
    }

    fn result(&mut self, result: &UpdateResult) {
        self.put(&result.boot.counter.to_le_bytes());
        self.put(&result.boot.random.to_le_bytes());
        self.put(&result.sequence.to_le_bytes());
        self.put(result.deployment.bytes());
        self.put(&result.manifest.0);
        self.put(&[result.outcome as u8, result.reason as u8, result.attempts]);
    }
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

    fn byte(&mut self) -> Option<u8> {
        self.array().map(|[byte]| byte)
    }

    fn slot(&mut self) -> Option<Slot> {
        let status = Status::parse(self.byte()?)?;
        if status == Status::Empty {
            return Some(Slot::default());
        }
        let (manifest, deployment) = (Digest(self.array()?), DeploymentId::new(self.array()?));
        let len = self.byte()?;
        let version = core::str::from_utf8(self.take(len.into())?).ok()?;
        Some(Slot {
            status,
            manifest,
            deployment,
            version: String::try_from(version).ok()?,
            security_counter: u64::from_le_bytes(self.array()?),
            envelope_bytes: u16::from_le_bytes(self.array()?),
        })
    }

    fn result(&mut self) -> Option<UpdateResult> {
        Some(UpdateResult {
            boot: BootId {
                counter: u32::from_le_bytes(self.array()?),
                random: u64::from_le_bytes(self.array()?),
            },
            sequence: u32::from_le_bytes(self.array()?),
            deployment: DeploymentId::new(self.array()?),
            manifest: Digest(self.array()?),
            outcome: Outcome::parse(self.byte()?)?,
            reason: reason(self.byte()?),
            attempts: self.byte()?,
        })
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use proptest::prelude::*;

    use super::*;

    fn longest() -> Ledger {
        let slot = |status| Slot {
            status,
            manifest: Digest([7; 32]),
            deployment: DeploymentId::new([8; 16]),
            version: String::try_from("12345678901234567890123456789012").unwrap(),
            security_counter: u64::MAX,
            envelope_bytes: 8192,
        };
        let result = UpdateResult {
            boot: BootId { counter: u32::MAX, random: 1 },
            sequence: 2,
            deployment: DeploymentId::new([3; 16]),
            manifest: Digest([4; 32]),
            outcome: Outcome::Reverted,
            reason: UpdateReason::RejectedBefore,
            attempts: 16,
        };
        let rejection = Rejection { manifest: Digest([5; 32]), deployment: DeploymentId::new([6; 16]) };
        Ledger {
            slots: [slot(Status::Confirmed), slot(Status::Trial), slot(Status::Rejected)],
            attempts: 3,
            confirmed_at_s: 1 << 40,
            results: std::iter::repeat_n(result, RESULTS_MAX).collect(),
            rejections: std::iter::repeat_n(rejection, REJECTIONS_MAX).collect(),
            microvisor_confirmed_at_s: 1 << 41,
            microvisor_floor: 1 << 42,
        }
    }

    #[test]
    fn the_longest_ledger_fits_and_comes_back() {
        for ledger in [Ledger::default(), longest()] {
            assert_eq!(decode(&encode(&ledger)), Some(ledger));
        }
    }

    #[test]
    fn two_confirmed_slots_are_no_ledger() {
        let mut ledger = longest();
        ledger.slots[1].status = Status::Confirmed;
        assert_eq!(decode(&encode(&ledger)), None);
    }

    #[test]
    fn truncated_bytes_are_no_ledger_but_for_one_that_ends_where_an_older_microvisor_ended_it() {
        let bytes = encode(&longest());
        let older = bytes.len() - SLOT_BYTES_MAX - 16;
        let ends = [older, bytes.len() - 8];
        for length in (0..bytes.len()).filter(|length| !ends.contains(length)) {
            assert_eq!(decode(&bytes[..length]), None, "{length}");
        }
        let mut without = longest();
        (without.slots[MICROVISOR], without.microvisor_confirmed_at_s) = (Slot::default(), 0);
        without.microvisor_floor = 0;
        let floorless = Ledger { microvisor_floor: 0, ..longest() };
        assert_eq!(decode(&bytes[..ends[1]]), Some(floorless));
        assert_eq!(decode(&bytes[..older]), Some(without));
    }

    #[test]
    fn what_a_newer_microvisor_added_is_left_unread() {
        let mut bytes = encode(&longest());
        let reason_at = bytes.len() - (SLOT_BYTES_MAX + 16) - (1 + REJECTIONS_MAX * REJECTION_BYTES) - 2;
        bytes[reason_at] = 250;
        bytes.extend_from_slice(&[9; 7]).unwrap();
        let mut known = longest();
        known.results.last_mut().unwrap().reason = UpdateReason::Unspecified;
        assert_eq!(decode(&bytes), Some(known));
    }

    proptest! {
        #[test]
        fn decoding_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..LEDGER_BYTES_MAX)) {
            let _ = decode(&bytes);
        }
    }
}
