//! A notification centre's records, read in order, with the overrun seen.
//!
//! The microvisor writes records round and round, read or not; a reader clears the type of what it has read. So a record that
//! waits at the reader's place while the one before it waits too means that the ring is full: whether the writer stopped there or
//! went on, once round or more often, nobody can tell, and it counts as an overrun. This file knows no call.

use core::cell::UnsafeCell;

/// The type of a record that was read.
const NO_EVENT: u32 = 0;
/// Bytes of a record.
const RECORD_BYTES: usize = 16;

/// A record as it lies in memory: `MvNotification`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(C, align(8))]
pub struct Record {
    /// When, by [`microseconds`](crate::microseconds).
    pub microseconds: u64,
    /// What: a number of the ancestor's `MvEventType`.
    pub event: u32,
    /// What it was asked for with.
    pub tag: u32,
}
const _: () = assert!(size_of::<Record>() == RECORD_BYTES);

/// What the next look found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The next record.
    Record(Record),
    /// The ring was full: records may have been written over before they were read, how many, nobody knows. The next is the oldest
    /// of those left.
    Overrun,
}

/// Memory for a centre's records, a static of the application's: one more than may wait unread, so at least two.
#[derive(Debug)]
pub struct Ring<const RECORDS: usize>(UnsafeCell<[Record; RECORDS]>);

// SAFETY: records are only reached by volatile reads and writes of a `Reader`, of which an open centre has one.
unsafe impl<const RECORDS: usize> Sync for Ring<RECORDS> {}

impl<const RECORDS: usize> Ring<RECORDS> {
    /// Empty.
    pub const fn new() -> Self {
        const { assert!(RECORDS >= 2, "a ring has two records at least") };
        Self(UnsafeCell::new([Record { microseconds: 0, event: NO_EVENT, tag: 0 }; RECORDS]))
    }

    pub(crate) fn at(&self) -> *mut Record {
        self.0.get().cast()
    }
}

impl<const RECORDS: usize> Default for Ring<RECORDS> {
    fn default() -> Self {
        Self::new()
    }
}

/// Where a centre's reader is.
#[derive(Debug)]
pub(crate) struct Reader {
    at: *mut Record,
    records: usize,
    next: usize,
    /// The overrun that is to be seen here was told.
    told: bool,
}

impl Reader {
    /// Of an empty ring, from its beginning.
    pub(crate) fn new<const RECORDS: usize>(ring: &'static Ring<RECORDS>) -> Reader {
        let reader = Reader { at: ring.at(), records: RECORDS, next: 0, told: false };
        (0..RECORDS).for_each(|index| reader.clear(index));
        reader
    }

    /// What came next, once.
    pub(crate) fn take(&mut self) -> Option<Event> {
        let record = self.record(self.next);
        if record.event == NO_EVENT {
            return None;
        }
        let before = self.record(self.before(self.next));
        if before.event != NO_EVENT && !self.told {
            self.told = true;
            self.next = self.oldest();
            return Some(Event::Overrun);
        }
        self.told = false;
        let taken = self.next;
        self.clear(taken);
        self.next = self.after(taken);
        // Written over while it was read: what was cleared was another.
        if self.record(taken).microseconds != record.microseconds {
            return Some(Event::Overrun);
        }
        Some(Event::Record(record))
    }

    /// The place after which time goes back, or the reader's own.
    fn oldest(&self) -> usize {
        let mut place = self.next;
        for _ in 0..self.records {
            let next = self.after(place);
            if self.record(next).microseconds < self.record(place).microseconds {
                return next;
            }
            place = next;
        }
        self.next
    }

    fn after(&self, index: usize) -> usize {
        if index + 1 == self.records { 0 } else { index + 1 }
    }

    fn before(&self, index: usize) -> usize {
        if index == 0 { self.records - 1 } else { index - 1 }
    }

    /// A record as it is at one moment: the microvisor may write it between two words.
    fn record(&self, index: usize) -> Record {
        loop {
            // SAFETY: `index` is below `records`, and the ring is a static.
            let (record, again) = unsafe {
                let at = self.at.add(index);
                (at.read_volatile(), (&raw const (*at).microseconds).read_volatile())
            };
            if record.microseconds == again {
                return record;
            }
        }
    }

    fn clear(&self, index: usize) {
        // SAFETY: as above; nothing but the microvisor and this reader knows the ring.
        unsafe { (&raw mut (*self.at.add(index)).event).write_volatile(NO_EVENT) };
    }
}
