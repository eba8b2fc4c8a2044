//! A board's making: it may begin with a test of its hardware, and is a product ever after.
//!
//! A factory that puts a test application into the store (`make`) makes a board that is `Testing`: it runs that
//! application alone and has no network. The application says how it went, once, by `TestingComplete`: 0 makes the board a
//! product, for good; anything else locks it: nothing runs any more, nothing is connected to, and the number is shown at every
//! start. What it said is journaled before anything follows from it, so that power may fail at any time: the test runs
//! again, or it is over. No step leads back; a board of which nothing is recorded, or nothing that can be read, is a product.

pub mod make;

use wire::Digest;

use crate::boot::Running;
use crate::device::{Device, Next, Notice, STORE_RETRY_MS};
use crate::ports::{App as _, Board, StartReason};
use crate::store::Key;
use crate::update::ledger::{Slot, Status};

/// Longest record.
pub const COMMISSION_BYTES_MAX: usize = 64;
/// First byte of a record.
const VERSION: u8 = 1;
/// Bytes of a record of this version; more are a later version's, and are not looked at.
const RECORD_BYTES: usize = 1 + 1 + 4 + 1 + 2 + 32;

/// Where a board's making stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Stage {
    /// Only the test application runs, without a network.
    Testing,
    /// A board like any other.
    #[default]
    Production,
    /// The test ended with this, which is not 0: nothing runs, nothing is connected to.
    Failed(u32),
}

/// The test is over already, or there never was one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotTesting;

impl Stage {
    /// What `TestingComplete(status)` makes of it.
    pub fn after(self, status: u32) -> Result<Stage, NotTesting> {
        match (self, status) {
            (Stage::Testing, 0) => Ok(Stage::Production),
            (Stage::Testing, status) => Ok(Stage::Failed(status)),
            (Stage::Production | Stage::Failed(_), _) => Err(NotTesting),
        }
    }

    /// For a person or a program.
    pub const fn name(self) -> &'static str {
        match self {
            Stage::Testing => "testing",
            Stage::Production => "production",
            Stage::Failed(_) => "failed",
        }
    }
}

/// Which application tests the hardware.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Test {
    /// The slot it was put into; an update may take it once the test is over.
    pub slot: u8,
    pub manifest: Digest,
    /// Length of the envelope in the slot.
    pub envelope_bytes: u16,
}

/// The record of a board's making.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Commission {
    pub stage: Stage,
    /// None: it was made without one.
    pub test: Option<Test>,
}

impl Commission {
    fn encode(self) -> [u8; RECORD_BYTES] {
        let (stage, status) = match self.stage {
            Stage::Testing => (1, 0),
            Stage::Production => (2, 0),
            Stage::Failed(status) => (3, status),
        };
        let none = Test { slot: u8::MAX, manifest: Digest([0; 32]), envelope_bytes: 0 };
        let Test { slot, manifest, envelope_bytes } = self.test.unwrap_or(none);
        let mut bytes = [0; RECORD_BYTES];
        (bytes[0], bytes[1], bytes[6]) = (VERSION, stage, slot);
        bytes[2..6].copy_from_slice(&status.to_le_bytes());
        bytes[7..9].copy_from_slice(&envelope_bytes.to_le_bytes());
        bytes[9..].copy_from_slice(&manifest.0);
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Commission> {
        let (&[version, stage, s0, s1, s2, s3, slot, e0, e1, ref digest @ ..], _) =
            bytes.split_first_chunk::<RECORD_BYTES>()?;
        let status = u32::from_le_bytes([s0, s1, s2, s3]);
        let stage = match (version, stage, status) {
            (VERSION, 1, 0) => Stage::Testing,
            (VERSION, 2, 0) => Stage::Production,
            (VERSION, 3, 1..) => Stage::Failed(status),
            _ => return None,
        };
        let envelope_bytes = u16::from_le_bytes([e0, e1]);
        let test = (slot < 2).then_some(Test { slot, manifest: Digest(*digest), envelope_bytes });
        // Without an application there is nothing to test with.
        (stage != Stage::Testing || test.is_some()).then_some(Commission { stage, test })
    }
}

impl<B: Board> Device<'_, B> {
    /// Where its making stands.
    pub fn commission(&self) -> Stage {
        self.commission.stage
    }

    /// Whether it has anything to do with a network: a factory's is not to be trusted, and a board that failed is nobody's device.
    pub fn may_connect(&self) -> bool {
        self.commission.stage == Stage::Production
    }

    pub(crate) fn restore_commission(&mut self) {
        let mut bytes = [0; COMMISSION_BYTES_MAX];
        if let Ok(Some(record)) = self.store.read(&mut self.ports.flash, Key::Commission, &mut bytes) {
            self.commission = Commission::decode(record).unwrap_or_default();
        }
        if self.commission.stage != Stage::Production {
            self.note(Notice::Commission(self.commission.stage));
        }
    }

    /// The test application, as it was measured; none if it is not whole.
    pub(crate) fn measured_test(&mut self) -> Option<Running> {
        let Test { slot, manifest, envelope_bytes } = self.commission.test?;
        // Not proven: its release key has to be in the keyset.
        let entry = Slot { status: Status::Staged, manifest, envelope_bytes, ..Slot::default() };
        self.measure_entry(slot.into(), &entry).ok()
    }

    /// Journals what the test application said, and then does it.
    pub(crate) fn poll_commission(&mut self, now_ms: u64) -> Next {
        if self.commission.stage != Stage::Testing {
            return Next::Never;
        }
        let Some(status) = self.ports.app.tested() else { return Next::Never };
        if now_ms < self.store_retry_ms {
            return Next::At(self.store_retry_ms);
        }
        let Ok(stage) = self.commission.stage.after(status) else { return Next::Never };
        let changed = Commission { stage, ..self.commission };
        if let Err(error) = self.store.put(&mut self.ports.flash, Key::Commission, &changed.encode()) {
            self.store_retry_ms = now_ms.saturating_add(STORE_RETRY_MS);
            self.note(Notice::StoreFailed(error));
            return Next::At(self.store_retry_ms);
        }
        self.commission = changed;
        self.note(Notice::Commission(stage));
        self.why = StartReason::Update;
        self.start_chosen();
        Next::Now
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use proptest::prelude::*;

    use super::*;

    const TEST: Test = Test { slot: 1, manifest: Digest([9; 32]), envelope_bytes: 700 };

    #[test]
    fn the_whole_table() {
        let stages = [Stage::Testing, Stage::Production, Stage::Failed(7)];
        let after = stages.map(|stage| [0, 1, u32::MAX].map(|status| stage.after(status)));
        let failed = |status| Ok(Stage::Failed(status));
        assert_eq!(after[0], [Ok(Stage::Production), failed(1), failed(u32::MAX)]);
        assert_eq!(after[1], [Err(NotTesting); 3], "a product stays one");
        assert_eq!(after[2], [Err(NotTesting); 3], "nothing unlocks a board");
    }

    #[test]
    fn a_record_comes_back_and_may_be_longer_one_day() {
        for stage in [Stage::Testing, Stage::Production, Stage::Failed(1), Stage::Failed(u32::MAX)] {
            let record = Commission { stage, test: Some(TEST) };
            let mut bytes = std::vec::Vec::from(record.encode());
            assert_eq!(Commission::decode(&bytes), Some(record));
            bytes.push(1);
            assert_eq!(Commission::decode(&bytes), Some(record));
            assert!(bytes.len() < COMMISSION_BYTES_MAX);
            assert!((0..RECORD_BYTES).all(|length| Commission::decode(&bytes[..length]).is_none()));
        }
        let untested = Commission::default();
        assert_eq!(Commission::decode(&untested.encode()), Some(untested));
        let nothing_to_test_with = Commission { stage: Stage::Testing, test: None };
        assert_eq!(Commission::decode(&nothing_to_test_with.encode()), None);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..COMMISSION_BYTES_MAX)) {
            let _ = Commission::decode(&bytes);
        }
    }
}
