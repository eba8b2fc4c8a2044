//! The first stage's own record: which microvisor runs, which is on trial, the floor, and which roots are revoked.
//!
//! Its layout is frozen (a byte test with literals): a first stage is never updated, and every microvisor to come must
//! be able to write what it reads. The microvisor writes all of it but the attempts, which the first stage counts before
//! it jumps.

use crate::pair::{Health, Pair, Payload};
use crate::ports::{Flash, FlashError};

/// Where the record lies: at the start of a region of its own.
const PAIR: Pair = Pair { at: 0, kind: *b"HFB1" };
/// `trial` when there is none.
const NO_TRIAL: u8 = 0xff;

/// A microvisor slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Slot {
    A = 0,
    B = 1,
}

impl Slot {
    pub const BOTH: [Slot; 2] = [Slot::A, Slot::B];

    pub const fn other(self) -> Slot {
        match self {
            Slot::A => Slot::B,
            Slot::B => Slot::A,
        }
    }

    pub const fn index(self) -> usize {
        self as usize
    }

    pub const fn name(self) -> &'static str {
        match self {
            Slot::A => "a",
            Slot::B => "b",
        }
    }

    pub(crate) const fn from_byte(byte: u8) -> Option<Slot> {
        match byte {
            0 => Some(Slot::A),
            1 => Some(Slot::B),
            _ => None,
        }
    }
}

/// What the record says. The default is what a board without one does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record {
    /// The confirmed microvisor's slot.
    pub active: Slot,
    /// The slot on trial; never the active one.
    pub trial: Option<Slot>,
    /// Starts of the slot on trial.
    pub attempts: u8,
    /// Bit n: root key hash n of the provisioning is revoked.
    pub revoked: u8,
    /// Lowest security counter of a microvisor that may run.
    pub floor: u64,
}

impl Default for Record {
    fn default() -> Self {
        Record { active: Slot::A, trial: None, attempts: 0, revoked: 0, floor: 0 }
    }
}

/// The step does not fit what the record says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Misfit;

impl Record {
    /// The newest whole record, or the default; and how its region was found.
    pub fn read(flash: &mut dyn Flash) -> (Record, Health) {
        let found = PAIR.read(flash);
        (found.payload.and_then(|payload| Record::decode(&payload)).unwrap_or_default(), found.health)
    }

    /// Makes this the record; it was read back when this returns.
    pub fn write(&self, flash: &mut dyn Flash) -> Result<(), FlashError> {
        PAIR.put(flash, &self.encode())
    }

    /// The same, in both units: one that is lost leaves the other. For a microvisor; the first stage writes once.
    pub fn write_twice(&self, flash: &mut dyn Flash) -> Result<(), FlashError> {
        self.write(flash)?;
        // The record is what it says by now. Without its copy it is as good as one that the first stage wrote.
        let _ = PAIR.copy(flash);
        Ok(())
    }

    /// The slot that is not active is to be tried from the next start on.
    pub fn begin_trial(self) -> Record {
        Record { trial: Some(self.active.other()), attempts: 0, ..self }
    }

    /// One more start of the slot on trial.
    pub fn count_attempt(self) -> Result<Record, Misfit> {
        let attempts = self.attempts.checked_add(1).ok_or(Misfit)?;
        self.trial.map(|_| Record { attempts, ..self }).ok_or(Misfit)
    }

    /// The slot on trial is good: it is the active one from now on.
    pub fn confirm(self) -> Result<Record, Misfit> {
        let active = self.trial.ok_or(Misfit)?;
        Ok(Record { active, trial: None, attempts: 0, ..self })
    }

    /// The slot on trial is not: the active one stays.
    pub fn take_back(self) -> Record {
        Record { trial: None, attempts: 0, ..self }
    }

    /// Raises the floor; it never falls.
    pub fn raise_floor(self, to: u64) -> Record {
        Record { floor: self.floor.max(to), ..self }
    }

    /// Revokes root key hash `index`, unless fewer of the `provisioned` ones than the threshold would be left: nothing
    /// could be verified any more.
    pub fn revoke(self, index: usize, provisioned: usize, threshold: u8) -> Result<Record, Misfit> {
        if index >= provisioned || provisioned > 8 {
            return Err(Misfit);
        }
        let revoked = self.revoked | 1 << index;
        let left = (0..provisioned).filter(|at| revoked >> at & 1 == 0).count();
        if left >= usize::from(threshold.max(1)) { Ok(Record { revoked, ..self }) } else { Err(Misfit) }
    }

    /// No eight bytes may be all 0xFF (`pair`): the active slot's byte and the zeros between see to it.
    fn encode(&self) -> Payload {
        let [f0, f1, f2, f3, f4, f5, f6, f7] = self.floor.to_le_bytes();
        let trial = self.trial.map_or(NO_TRIAL, |slot| slot as u8);
        let head = [self.active as u8, trial, self.attempts, self.revoked];
        let [h0, h1, h2, h3] = head;
        [h0, h1, h2, h3, f0, f1, f2, f3, f4, f5, f6, f7, 0, 0, 0, 0, 0, 0, 0, 0]
    }

    fn decode(payload: &Payload) -> Option<Record> {
        let [active, trial, attempts, revoked, f0, f1, f2, f3, f4, f5, f6, f7, ..] = *payload;
        let active = Slot::from_byte(active)?;
        let trial = match trial {
            NO_TRIAL => None,
            byte => Some(Slot::from_byte(byte).filter(|slot| *slot != active)?),
        };
        let floor = u64::from_le_bytes([f0, f1, f2, f3, f4, f5, f6, f7]);
        Some(Record { active, trial, attempts, revoked, floor })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FULL: Record = Record {
        active: Slot::B,
        trial: Some(Slot::A),
        attempts: 3,
        revoked: 0b0101,
        floor: 0x1122_3344_5566_7788,
    };

    #[test]
    fn the_layout_is_frozen() {
        assert_eq!(
            FULL.encode(),
            [1, 0, 3, 5, 0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, 0, 0, 0, 0, 0, 0, 0, 0]
        );
        assert_eq!(
            Record::default().encode(),
            [0, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
        );
    }

    #[test]
    fn what_no_record_says_is_not_read_as_one() {
        for (at, byte) in [(0, 2), (0, 0xff), (1, 1), (1, 2)] {
            let mut payload = FULL.encode();
            payload[at] = byte;
            assert_eq!(Record::decode(&payload), None, "byte {at} = {byte}");
        }
    }

    #[test]
    fn steps_do_what_they_say_and_nothing_else() {
        let fresh = Record::default().raise_floor(5);
        let trial = fresh.begin_trial();
        assert_eq!((trial.trial, trial.attempts, trial.active), (Some(Slot::B), 0, Slot::A));
        let tried = trial.count_attempt().unwrap();
        assert_eq!(tried.attempts, 1);
        assert_eq!(tried.take_back(), fresh);
        assert_eq!(tried.confirm(), Ok(Record { active: Slot::B, ..fresh }));
        assert_eq!((fresh.confirm(), fresh.count_attempt()), (Err(Misfit), Err(Misfit)));
        assert_eq!(Record { attempts: 255, ..tried }.count_attempt(), Err(Misfit));
        assert_eq!(fresh.raise_floor(4).floor, 5);
    }

    #[test]
    fn roots_are_not_revoked_below_the_threshold() {
        let record = Record::default();
        let one = record.revoke(0, 2, 1).unwrap();
        assert_eq!(one.revoked, 1);
        assert_eq!(one.revoke(0, 2, 1), Ok(one));
        assert_eq!(one.revoke(1, 2, 1), Err(Misfit));
        assert_eq!(record.revoke(0, 2, 2), Err(Misfit));
        assert_eq!(record.revoke(2, 2, 1), Err(Misfit));
        assert_eq!(record.revoke(0, 1, 0), Err(Misfit), "a threshold of none is one");
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_record_or_none_and_never_look_blank(bytes: [u8; 20]) {
            if let Some(record) = Record::decode(&bytes) {
                let payload = record.encode();
                prop_assert_eq!(Record::decode(&payload), Some(record));
                prop_assert!(payload[..16].chunks(8).all(|word| word != [0xff; 8]));
            }
        }
    }
}
