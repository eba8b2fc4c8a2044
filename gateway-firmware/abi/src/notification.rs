//! Notification centres: an interrupt of the application's, and a ring of records in its memory.
//!
//! Owns where the next record goes. The microvisor writes over what was not read: an application that clears
//! `event_type` after reading sees that it was overtaken. Rings never overlap. Nothing here reads or writes a ring.

use crate::memory::overlap;
use crate::status::Status;
use crate::structures::{Notification, NotificationSetup};

/// Centres that are open at once: the ancestor's number. Each has an interrupt of its own, so a board with fewer has fewer.
pub const CENTRES_MAX: usize = 32;
/// Bytes of a record.
pub const RECORD_BYTES: u32 = size_of::<Notification>() as u32;
/// Bytes of a ring, at least.
pub const RING_BYTES_MIN: u32 = 2 * RECORD_BYTES;
/// Bytes of a ring, at most: every 32 of them may have to be asked for, and a call has to end within 100 us.
pub const RING_BYTES_MAX: u32 = 8 * 1024;

/// `MvEventType`, as far as it happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum EventType {
    NetworkStatusChanged = 1,
    UpdateDownloaded = 5,
}

#[derive(Debug, Clone, Copy)]
struct Centre {
    /// Zero: this place is free.
    handle: u32,
    irq: u32,
    at: u32,
    bytes: u32,
    next: u32,
}

const FREE: Centre = Centre { handle: 0, irq: 0, at: 0, bytes: 0, next: 0 };

/// Where a record goes, and which interrupt is pended then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Post {
    pub at: u32,
    pub irq: u32,
}

/// All centres of an application.
#[derive(Debug)]
pub struct Centres([Centre; CENTRES_MAX]);

impl Default for Centres {
    fn default() -> Self {
        Self::new()
    }
}

impl Centres {
    pub const fn new() -> Self {
        Self([FREE; CENTRES_MAX])
    }

    /// Opens one whose ring was judged. `usable`: this interrupt is the application's. `lent`: this memory is the microvisor's
    /// already.
    pub fn open(
        &mut self,
        setup: NotificationSetup,
        handle: u32,
        usable: impl Fn(u32) -> bool,
        lent: impl Fn(u32, u32) -> bool,
    ) -> Result<(), Status> {
        let NotificationSetup { irq, buffer: at, buffer_size: bytes } = setup;
        if !usable(irq) || self.open_ones().any(|centre| centre.irq == irq) {
            return Err(Status::InvalidInterrupt);
        }
        if lent(at, bytes) || self.overlaps(at, bytes) {
            return Err(Status::BufferAlreadyInUse);
        }
        let free = self.0.iter_mut().find(|centre| centre.handle == 0);
        *free.ok_or(Status::TooManyNotificationBuffers)? = Centre { handle, irq, at, bytes, next: 0 };
        Ok(())
    }

    /// Closes one: nothing is written to its ring any more. An interrupt that is pended stays so.
    pub fn close(&mut self, handle: u32) -> Result<(), Status> {
        *self.find(handle).ok_or(Status::InvalidHandle)? = FREE;
        Ok(())
    }

    /// One of this handle is open.
    pub fn holds(&self, handle: u32) -> bool {
        self.open_ones().any(|centre| centre.handle == handle)
    }

    /// A ring lies in this memory, or a part of one.
    pub fn overlaps(&self, at: u32, bytes: u32) -> bool {
        self.open_ones().any(|centre| overlap(centre.at, centre.bytes, at, bytes))
    }

    /// Takes the next place of this one's ring.
    pub fn post(&mut self, handle: u32) -> Option<Post> {
        let centre = self.find(handle)?;
        let at = centre.at + centre.next;
        centre.next = (centre.next + RECORD_BYTES) % centre.bytes;
        Some(Post { at, irq: centre.irq })
    }

    fn open_ones(&self) -> impl Iterator<Item = &Centre> {
        self.0.iter().filter(|centre| centre.handle != 0)
    }

    fn find(&mut self, handle: u32) -> Option<&mut Centre> {
        self.0.iter_mut().find(|centre| centre.handle == handle && handle != 0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const AT: u32 = 0x2820_0000;

    fn setup(irq: u32, buffer: u32, buffer_size: u32) -> NotificationSetup {
        NotificationSetup { irq, buffer, buffer_size }
    }

    fn open(centres: &mut Centres, setup: NotificationSetup, handle: u32) -> Result<(), Status> {
        centres.open(setup, handle, |irq| irq >= 64, |_, _| false)
    }

    #[test]
    fn records_go_round_and_pend_the_interrupt() {
        let mut centres = Centres::new();
        assert_eq!(open(&mut centres, setup(70, AT, 48), 5), Ok(()));
        let places: [_; 4] = core::array::from_fn(|_| centres.post(5).map(|post| post.at - AT));
        assert_eq!(places, [Some(0), Some(16), Some(32), Some(0)]);
        assert_eq!(centres.post(5), Some(Post { at: AT + 16, irq: 70 }));
        assert_eq!((centres.post(0), centres.post(6)), (None, None));
    }

    #[test]
    fn an_interrupt_is_the_applications_and_used_once() {
        let mut centres = Centres::new();
        assert_eq!(open(&mut centres, setup(48, AT, 32), 1), Err(Status::InvalidInterrupt));
        assert_eq!(open(&mut centres, setup(64, AT, 32), 1), Ok(()));
        assert_eq!(open(&mut centres, setup(64, AT + 32, 32), 2), Err(Status::InvalidInterrupt));
        assert_eq!(centres.close(1), Ok(()));
        assert_eq!(centres.close(1), Err(Status::InvalidHandle));
        assert_eq!(open(&mut centres, setup(64, AT + 32, 32), 2), Ok(()));
    }

    #[test]
    fn a_ring_overlaps_nothing() {
        let mut centres = Centres::new();
        assert_eq!(open(&mut centres, setup(64, AT + 32, 32), 1), Ok(()));
        for at in [AT + 16, AT + 32, AT + 48] {
            assert_eq!(open(&mut centres, setup(65, at, 32), 2), Err(Status::BufferAlreadyInUse), "{at:x}");
        }
        let lent = centres.open(setup(65, AT, 32), 2, |_| true, |at, _| at == AT);
        assert_eq!(lent, Err(Status::BufferAlreadyInUse));
        assert_eq!(open(&mut centres, setup(65, AT, 32), 2), Ok(()));
        assert_eq!(open(&mut centres, setup(66, AT + 64, 32), 3), Ok(()));
    }

    #[test]
    fn there_are_as_many_as_the_ancestor_has_and_a_closed_ones_place_is_free() {
        let mut centres = Centres::new();
        let one = |number: u32| setup(64 + number, AT + 32 * number, 32);
        for number in 0..CENTRES_MAX as u32 {
            assert_eq!(open(&mut centres, one(number), number + 1), Ok(()));
        }
        let more = one(CENTRES_MAX as u32);
        assert_eq!(open(&mut centres, more, 99), Err(Status::TooManyNotificationBuffers));
        assert_eq!(centres.close(7), Ok(()));
        assert_eq!(open(&mut centres, more, 99), Ok(()));
        assert!(centres.holds(99) && !centres.holds(7));
    }

    proptest! {
        /// Whatever is opened, closed and posted: a record lies in the ring it is for, aligned, and in no other.
        #[test]
        fn a_record_lies_in_its_own_ring(
            steps in prop::collection::vec((0u32..8, 0u32..20, 2u32..6, 0u8..4), 1..200),
        ) {
            let mut centres = Centres::new();
            let mut rings: [Option<(u32, u32)>; 8] = [None; 8];
            for (number, place, records, what) in steps {
                let (at, bytes) = (AT + 16 * place, 16 * records);
                let ring = &mut rings[number as usize];
                match what {
                    0 => {
                        let closed = centres.close(number + 1);
                        prop_assert_eq!(closed.is_ok(), ring.take().is_some());
                    }
                    1 => {
                        if open(&mut centres, setup(64 + number, at, bytes), number + 1).is_ok() {
                            prop_assert!(ring.replace((at, bytes)).is_none());
                        }
                    }
                    _ => match (centres.post(number + 1), *ring) {
                        (Some(post), Some((at, bytes))) => {
                            prop_assert!(post.at >= at && post.at + RECORD_BYTES <= at + bytes);
                            prop_assert_eq!((post.at % 16, post.irq), (0, 64 + number));
                        }
                        (posted, ring) => prop_assert!(posted.is_none() && ring.is_none()),
                    },
                }
                for (index, one) in rings.iter().enumerate() {
                    for other in rings.iter().skip(index + 1) {
                        if let (Some(one), Some(other)) = (one, other) {
                            prop_assert!(!overlap(one.0, one.1, other.0, other.1));
                        }
                    }
                }
            }
        }
    }
}
