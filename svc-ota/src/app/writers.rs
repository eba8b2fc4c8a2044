//! Who is writing into which upload in this process.
//!
//! A writer whose caller was cut off goes on with what has arrived: it is an orphan. Whoever asks what is committed
//! waits for the orphans first, so that a client that comes back sends next to nothing twice.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use wire::UploadId;

use crate::error::Error;

/// Streams that write at once; each holds at most one staged chunk and one message.
pub(crate) const WRITERS_MAX: usize = 32;
/// How long orphans are waited for; they are safe without, only dearer.
const ORPHANS_WAIT_MAX: Duration = Duration::from_secs(10);

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
    pub(crate) fn enter(self: &Arc<Self>, upload: UploadId) -> Result<(Place, Attended), Error> {
        let mut at_work = self.lock();
        if at_work.writers.len() >= WRITERS_MAX {
            return Err(Error::Limit { what: "WRITERS_MAX", limit: WRITERS_MAX as u64 });
        }
        let number = at_work.next;
        at_work.next += 1;
        at_work.writers.insert(number, Entry { upload, orphaned: false });
        Ok((Place { writers: self.clone(), number }, Attended { writers: self.clone(), number }))
    }

    /// Returns when no orphan writes into the upload any longer, or after a bound.
    pub(crate) async fn orphans_left(&self, upload: UploadId) {
        let left = async {
            loop {
                let mut next = std::pin::pin!(self.left.notified());
                next.as_mut().enable();
                if !self.lock().writers.values().any(|w| w.orphaned && w.upload == upload) {
                    return;
                }
                next.await;
            }
        };
        let _ = tokio::time::timeout(ORPHANS_WAIT_MAX, left).await;
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

    const UPLOAD: UploadId = UploadId::new([1; 16]);

    #[tokio::test(start_paused = true)]
    async fn an_attended_writer_is_not_waited_for_and_an_orphan_is() {
        let writers = Arc::new(Writers::default());
        let (place, attended) = writers.enter(UPLOAD).unwrap();
        let start = tokio::time::Instant::now();
        writers.orphans_left(UPLOAD).await;
        drop(attended);
        writers.orphans_left(UploadId::new([2; 16])).await;
        assert_eq!(start.elapsed(), Duration::ZERO);
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(1)).await;
            drop(place);
        });
        writers.orphans_left(UPLOAD).await;
        assert_eq!(start.elapsed(), Duration::from_secs(1));
    }

    #[tokio::test(start_paused = true)]
    async fn an_orphan_that_hangs_is_waited_for_a_bounded_time() {
        let writers = Arc::new(Writers::default());
        let (_place, attended) = writers.enter(UPLOAD).unwrap();
        drop(attended);
        let start = tokio::time::Instant::now();
        writers.orphans_left(UPLOAD).await;
        assert_eq!(start.elapsed(), ORPHANS_WAIT_MAX);
    }

    #[test]
    fn writers_are_bounded_and_places_come_back() {
        let writers = Arc::new(Writers::default());
        let mut places: Vec<_> = (0..WRITERS_MAX).map(|_| writers.enter(UPLOAD).unwrap()).collect();
        assert!(matches!(writers.enter(UPLOAD), Err(Error::Limit { what: "WRITERS_MAX", .. })));
        places.pop();
        assert!(writers.enter(UPLOAD).is_ok());
    }
}
