//! The store: the device's own small journal, from a few records in two banks of flash.
//!
//! Each key has one value; a new value is appended, and the newest whole record counts. When a bank is full, or holds
//! anything torn, the live records move to the other bank, whose header is written last. So a put has happened
//! completely or not at all, whenever power fails, and both banks wear alike.
//!
//! A record of a key that is not known here is another microvisor's, a newer one that was taken back: it is passed over, and left behind when
//! the live records move. No key's longest value ever grows, or an older microvisor would take such a record for torn.
//!
//! The store never writes over words that are not freshly erased, never trusts a record without its checksum and a bank
//! without its header, and never holds a payload in memory.

mod bank;
mod record;

use crate::mutation::mutated;
use crate::ports::{Flash, FlashError};
use crate::update::ledger::LEDGER_BYTES_MAX;
use bank::{Bank, Contents, PIECE_BYTES, Place, Source};
use wire::limits::KEYSET_BYTES_MAX;

/// Bytes of one bank; there are two.
pub const STORE_BANK_BYTES: u32 = 16 * 1024;
/// Longest identity record.
pub const IDENTITY_BYTES_MAX: usize = 4096;
/// Longest record of an enrolment under way.
pub const ENROLMENT_BYTES_MAX: usize = 128;
/// Largest write unit of a flash the store works on.
pub const WRITE_BYTES_MAX: u32 = PIECE_BYTES as u32;
/// Smallest alignment of records.
const UNIT_BYTES_MIN: u32 = 8;

/// Names a record. Numbers are kept in flash and never given to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Key {
    /// Boots so far.
    Boot = 1,
    /// Lower bound of the time.
    Time = 2,
    /// The signed keyset.
    Keyset = 3,
    /// Device id, tenant id and what enrolment issued.
    Identity = 4,
    /// An enrolment under way.
    Enrolment = 5,
    /// Slots, trial, results and rejections.
    Ledger = 6,
    /// A crash report not yet acknowledged.
    Crash = 7,
    /// The board's making: whether its hardware is still to be tested, and how that ended.
    Commission = 8,
    /// Secret half of the static key of debug sessions.
    Debug = 9,
}

const KEYS: usize = 9;

impl Key {
    const ALL: [Key; KEYS] = [
        Key::Boot,
        Key::Time,
        Key::Keyset,
        Key::Identity,
        Key::Enrolment,
        Key::Ledger,
        Key::Crash,
        Key::Commission,
        Key::Debug,
    ];

    /// Longest value.
    pub const fn bytes_max(self) -> usize {
        match self {
            Key::Boot => 4,
            Key::Time => 8,
            Key::Keyset => KEYSET_BYTES_MAX,
            // Two ids before the record itself.
            Key::Identity => IDENTITY_BYTES_MAX + 32,
            Key::Enrolment => ENROLMENT_BYTES_MAX,
            Key::Ledger => LEDGER_BYTES_MAX,
            Key::Crash => crate::crash::codec::BYTES_MAX,
            Key::Commission => crate::commission::COMMISSION_BYTES_MAX,
            Key::Debug => noise::KEY_BYTES,
        }
    }

    fn index(self) -> usize {
        self as usize - 1
    }
}

// Everything at its longest, with the coarsest alignment, leaves a quarter of the bank for appending.
const _: () = assert!(record::live_bytes_max(WRITE_BYTES_MAX) <= STORE_BANK_BYTES / 4 * 3);

/// Why the store could not do it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreError {
    Flash(FlashError),
    /// Longer than the key allows, or than the buffer that should take it.
    TooLong,
}

impl From<FlashError> for StoreError {
    fn from(error: FlashError) -> Self {
        StoreError::Flash(error)
    }
}

/// What mounting found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    Sound,
    /// Something torn was left behind; the live records were moved to the other bank.
    Repaired,
    /// Something torn was left behind and the other bank cannot be written: every put tries again.
    Unrepaired,
    /// No bank was complete: the first boot, or everything is lost.
    Formatted,
}

/// The mounted store. It owns its region of the flash, which every call is given.
#[derive(Debug)]
pub struct Store {
    banks: [Bank; 2],
    current: usize,
    generation: u32,
    contents: Contents,
    health: Health,
}

impl Store {
    /// Finds the newest complete bank and repairs it if it holds anything torn; what can be read is there in any case.
    /// `at` is where the two banks start.
    pub fn mount(flash: &mut dyn Flash, at: u32) -> Result<Store, StoreError> {
        let geometry = flash.geometry();
        let bytes = STORE_BANK_BYTES.next_multiple_of(geometry.erase_bytes);
        let unit = geometry.write_bytes.max(UNIT_BYTES_MIN);
        let bank = |at| Bank { at, bytes, erase_bytes: geometry.erase_bytes, unit };
        let banks = [bank(at), bank(at + bytes)];
        let newest = (0..2)
            .filter_map(|index| Some((banks[index].generation(flash)?, index)))
            .max_by_key(|(generation, _)| *generation);
        let Some((generation, current)) = newest else {
            let contents = banks[1].empty();
            let mut store = Store { banks, current: 1, generation: 0, contents, health: Health::Formatted };
            store.compact(flash, None)?;
            return Ok(store);
        };
        let contents = banks[current].scan(flash, generation);
        let mut store = Store { banks, current, generation, contents, health: Health::Sound };
        // The other bank may have been the newer one.
        if !store.contents.sound || banks[1 - current].is_spoiled(flash) {
            store.health = match store.compact(flash, None) {
                Ok(()) => Health::Repaired,
                Err(_) => Health::Unrepaired,
            };
        }
        Ok(store)
    }

    pub fn health(&self) -> Health {
        self.health
    }

    /// Bytes both banks take on this flash.
    pub const fn region_bytes(erase_bytes: u32) -> u32 {
        2 * STORE_BANK_BYTES.next_multiple_of(erase_bytes)
    }

    /// Makes `value` the key's value; an empty one removes it.
    pub fn put(&mut self, flash: &mut dyn Flash, key: Key, value: &[u8]) -> Result<(), StoreError> {
        if value.len() > key.bytes_max() {
            return Err(StoreError::TooLong);
        }
        let bank = self.banks[self.current];
        if self.contents.sound {
            let source = Source::Memory(value);
            if bank.append(flash, self.generation, &mut self.contents, key, source).is_ok() {
                return Ok(());
            }
        }
        self.compact(flash, Some((key, value)))
    }

    /// The key's value, in the front of `into`.
    pub fn read<'b>(
        &self,
        flash: &mut dyn Flash,
        key: Key,
        into: &'b mut [u8],
    ) -> Result<Option<&'b [u8]>, StoreError> {
        let Some(Place { at, len }) = self.contents.places[key.index()].filter(|place| place.len > 0) else {
            return Ok(None);
        };
        let into = into.get_mut(..usize::from(len)).ok_or(StoreError::TooLong)?;
        flash.read(at, into)?;
        Ok(Some(into))
    }

    /// Moves the live records to the other bank, with `change` applied, and makes it the current one.
    fn compact(&mut self, flash: &mut dyn Flash, change: Option<(Key, &[u8])>) -> Result<(), StoreError> {
        let target = 1 - self.current;
        let (bank, generation) = (self.banks[target], self.generation.wrapping_add(1));
        if !mutated!(BankErase) {
            bank.erase(flash)?;
        }
        if mutated!(BankCommitFirst) {
            bank.commit(flash, generation)?;
        }
        let mut contents = bank.empty();
        for key in Key::ALL {
            let source = match (change, self.contents.places[key.index()]) {
                (Some((changed, value)), _) if changed == key => Source::Memory(value),
                (_, Some(place)) => Source::Flash(place),
                (_, None) => continue,
            };
            if source.len() > 0 {
                bank.append(flash, generation, &mut contents, key, source)?;
            }
        }
        if !mutated!(BankCommitFirst) {
            bank.commit(flash, generation)?;
        }
        (self.current, self.generation, self.contents) = (target, generation, contents);
        Ok(())
    }
}
