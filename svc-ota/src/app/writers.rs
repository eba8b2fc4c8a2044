//! Who is writing into which upload in this process.
//!
//! A writer whose caller was cut off goes on with what has arrived: it is an orphan. Whoever asks what is committed
//! waits for the orphans first, so that a client that comes back sends next to nothing twice; and, because a cut wire
//! takes a moment to be noticed, for a moment also for writers that seem to be attended.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use wire::{TenantId, UploadId};

use crate::error::Error;

/// Streams that write at once; each holds at most one staged chunk and one message.
pub(crate) const WRITERS_MAX: usize = 32;
/// Those of one tenant: the others' uploads go on whatever it does.
pub(crate) const WRITERS_OF_TENANT_MAX: usize = 8;
/// How long orphans are waited for; not waiting would be safe, only dearer.
const ORPHANS_WAIT_MAX: Duration = Duration::from_secs(10);
/// How long a writer is waited for whose caller seems to be there.
const ATTENDED_WAIT_MAX: Duration = Duration::from_millis(500);

#[derive(Debug, Default)]
pub(crate) struct Writers {
    at_work: Mutex<AtWork>,
    left: Notify,
}

#[derive(Debug, Default)]
struct AtWork {
    next: u64,
    writers: HashMap<u64, Entry>,
}

#[derive(Debug)]
struct Entry {
    tenant: TenantId,
    upload: UploadId,
    orphaned: bool,
}

/// A writer's place; free again when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    writers: Arc<Writers>,
    number: u64,
}

/// Held while the caller is there.
#[derive(Debug)]
pub(crate) struct Attended {
    writers: Arc<Writers>,
    number: u64,
}

impl Writers {
    pub(crate) fn enter(
        self: &Arc<Self>,
        tenant: TenantId,
        upload: UploadId,
    ) -> Result<(Place, Attended), Error> {
        let mut at_work = self.lock();
        let own = at_work.writers.values().filter(|entry| entry.tenant == tenant).count();
        if own >= WRITERS_OF_TENANT_MAX {
            return Err(Error::Limit { what: "WRITERS_OF_TENANT_MAX", limit: WRITERS_OF_TENANT_MAX as u64 });
        }
        if at_work.writers.len() >= WRITERS_MAX {
            return Err(Error::Limit { what: "WRITERS_MAX", limit: WRITERS_MAX as u64 });
        }
        let number = at_work.next;
        at_work.next += 1;
        at_work.writers.insert(number, Entry { tenant, upload, orphaned: false });
        Ok((Place { writers: self.clone(), number }, Attended { writers: self.clone(), number }))
    }

    /// Returns when nobody writes into the upload any longer, or after a bound.
    pub(crate) async fn settled(&self, upload: UploadId) {
        let _ = tokio::time::timeout(ATTENDED_WAIT_MAX, self.left(|entry| entry.upload == upload)).await;
        let orphans = self.left(|entry| entry.upload == upload && entry.orphaned);
        let _ = tokio::time::timeout(ORPHANS_WAIT_MAX, orphans).await;
    }

    async fn left(&self, waited_for: impl Fn(&Entry) -> bool) {
        loop {
            let mut next = std::pin::pin!(self.left.notified());
            next.as_mut().enable();
            if !self.lock().writers.values().any(&waited_for) {
                return;
            }
            next.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, AtWork> {
        self.at_work.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.writers.lock().writers.remove(&self.number);
        self.writers.left.notify_waiters();
    }
}

impl Drop for Attended {
    fn drop(&mut self) {
        if let Some(entry) = self.writers.lock().writers.get_mut(&self.number) {
            entry.orphaned = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TENANT: TenantId = TenantId::new([1; 16]);
    const UPLOAD: UploadId = UploadId::new([1; 16]);

    #[tokio::test(start_paused = true)]
    async fn a_writer_is_waited_for_a_moment_and_an_orphan_until_it_has_left() {
        let writers = Arc::new(Writers::default());
        let start = tokio::time::Instant::now();
        writers.settled(UPLOAD).await;
        let (place, attended) = writers.enter(TENANT, UPLOAD).unwrap();
        writers.settled(UploadId::new([2; 16])).await;
        assert_eq!(start.elapsed(), Duration::ZERO);
        writers.settled(UPLOAD).await;
        assert_eq!(start.elapsed(), ATTENDED_WAIT_MAX);
        drop(attended);
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(1)).await;
            drop(place);
        });
        writers.settled(UPLOAD).await;
        assert_eq!(start.elapsed(), ATTENDED_WAIT_MAX + Duration::from_secs(1));
    }

    #[tokio::test(start_paused = true)]
    async fn an_orphan_that_hangs_is_waited_for_a_bounded_time() {
        let writers = Arc::new(Writers::default());
        let (_place, attended) = writers.enter(TENANT, UPLOAD).unwrap();
        drop(attended);
        let start = tokio::time::Instant::now();
        writers.settled(UPLOAD).await;
        assert_eq!(start.elapsed(), ATTENDED_WAIT_MAX + ORPHANS_WAIT_MAX);
    }

    #[test]
    fn writers_are_bounded_and_places_come_back() {
        let writers = Arc::new(Writers::default());
        let tenant = |n: usize| TenantId::new([(n / WRITERS_OF_TENANT_MAX) as u8; 16]);
        let mut places: Vec<_> =
            (0..WRITERS_MAX).map(|n| writers.enter(tenant(n), UPLOAD).unwrap()).collect();
        let newcomer = tenant(WRITERS_MAX);
        assert!(matches!(writers.enter(newcomer, UPLOAD), Err(Error::Limit { what: "WRITERS_MAX", .. })));
        places.pop();
        assert!(writers.enter(newcomer, UPLOAD).is_ok());
    }

    #[test]
    fn one_tenants_writers_leave_room_for_anothers() {
        let writers = Arc::new(Writers::default());
        let mut own: Vec<_> =
            (0..WRITERS_OF_TENANT_MAX).map(|_| writers.enter(TENANT, UPLOAD).unwrap()).collect();
        let more = writers.enter(TENANT, UPLOAD);
        assert!(matches!(more, Err(Error::Limit { what: "WRITERS_OF_TENANT_MAX", .. })));
        assert!(writers.enter(TenantId::new([2; 16]), UPLOAD).is_ok());
        own.pop();
        assert!(writers.enter(TENANT, UPLOAD).is_ok());
    }
}
