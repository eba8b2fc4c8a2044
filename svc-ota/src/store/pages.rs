//! A bounded cache of layer bytes in front of S3: pages of 1 MiB, the least recently used goes first.
//!
//! Always holds: cached pages hold at most `PAGES_BYTES_MAX`, pages being read at most `PAGES_LOADING_MAX` more; a
//! page that many ask for at once is read once; a failed read is nobody's answer but the askers' of that moment.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::{OnceCell, Semaphore};

use super::objects::Objects;
use crate::error::Error;

/// Bytes of one page.
pub(crate) const PAGE_BYTES: u64 = 1024 * 1024;
/// Bytes of all cached pages.
pub(crate) const PAGES_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Pages being read from S3 at once.
pub(crate) const PAGES_LOADING_MAX: usize = 8;

type Key = (Arc<str>, u64);
type Cell = Arc<OnceCell<Bytes>>;

#[derive(Debug)]
pub(crate) struct Pages {
    bytes_max: usize,
    loading: Semaphore,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    pages: HashMap<Key, Page>,
    bytes: usize,
    uses: u64,
}

#[derive(Debug)]
struct Page {
    cell: Cell,
    bytes: usize,
    used: u64,
}

impl Pages {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { bytes_max, loading: Semaphore::new(PAGES_LOADING_MAX), inner: Mutex::default() }
    }

    /// The page `index` of an object of `size` bytes.
    pub(crate) async fn page(
        &self,
        objects: &Objects,
        object: &Arc<str>,
        size: u64,
        index: u64,
    ) -> Result<Bytes, Error> {
        let start = index * PAGE_BYTES;
        let end = (start + PAGE_BYTES).min(size);
        self.load((object.clone(), index), || objects.range(object, start, end)).await
    }

    async fn load<F>(&self, key: Key, read: impl FnOnce() -> F) -> Result<Bytes, Error>
    where
        F: Future<Output = Result<Bytes, Error>>,
    {
        let cell = self.lock().touch(&key);
        if let Some(data) = cell.get() {
            metrics::counter!("ota_page_hits_total").increment(1);
            return Ok(data.clone());
        }
        metrics::counter!("ota_page_misses_total").increment(1);
        let loaded = cell
            .get_or_try_init(|| async {
                let _permit = self.loading.acquire().await.map_err(|_| Error::Draining)?;
                read().await
            })
            .await;
        match loaded {
            Ok(data) => {
                self.lock().settle(&key, data.len(), self.bytes_max);
                Ok(data.clone())
            }
            Err(error) => {
                self.lock().forget_failed(&key);
                Err(error)
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing panics while it is held; a poisoned map would still be whole.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn touch(&mut self, key: &Key) -> Cell {
        self.uses += 1;
        let used = self.uses;
        let page =
            self.pages.entry(key.clone()).or_insert_with(|| Page { cell: Cell::default(), bytes: 0, used });
        page.used = used;
        page.cell.clone()
    }

    /// Counts a page that has just been read, and makes room.
    fn settle(&mut self, key: &Key, bytes: usize, bytes_max: usize) {
        if let Some(page) = self.pages.get_mut(key)
            && page.bytes == 0
        {
            page.bytes = bytes;
            self.bytes += bytes;
        }
        while self.bytes > bytes_max {
            // At most a hundred pages: a scan is cheaper than a list to keep in order.
            let oldest = self.pages.iter().filter(|(_, p)| p.bytes > 0).min_by_key(|(_, p)| p.used);
            let Some(key) = oldest.map(|(key, _)| key.clone()) else { return };
            if let Some(page) = self.pages.remove(&key) {
                self.bytes -= page.bytes;
            }
        }
    }

    fn forget_failed(&mut self, key: &Key) {
        // Others may wait on the same cell: the last one out removes it.
        if self
            .pages
            .get(key)
            .is_some_and(|page| !page.cell.initialized() && Arc::strong_count(&page.cell) <= 2)
        {
            self.pages.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn key(index: u64) -> Key {
        ("object".into(), index)
    }

    async fn load(pages: &Pages, index: u64, reads: &AtomicUsize) -> Result<Bytes, Error> {
        pages
            .load(key(index), || async {
                reads.fetch_add(1, Ordering::Relaxed);
                tokio::task::yield_now().await;
                Ok(Bytes::from(vec![index as u8; 10]))
            })
            .await
    }

    #[tokio::test]
    async fn a_page_that_many_ask_for_is_read_once() {
        let (pages, reads) = (Pages::new(100), AtomicUsize::new(0));
        let (a, b, c) =
            tokio::join!(load(&pages, 1, &reads), load(&pages, 1, &reads), load(&pages, 1, &reads));
        assert_eq!((a.unwrap(), b.unwrap(), c.unwrap().len()), (vec![1; 10].into(), vec![1; 10].into(), 10));
        assert_eq!(reads.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn the_least_recently_used_page_goes_first_and_the_bound_holds() {
        let (pages, reads) = (Pages::new(30), AtomicUsize::new(0));
        for index in [1, 2, 3, 1, 4] {
            load(&pages, index, &reads).await.unwrap();
            assert!(pages.lock().bytes <= 30);
        }
        let mut left: Vec<u64> = pages.lock().pages.keys().map(|k| k.1).collect();
        left.sort();
        assert_eq!(left, [1, 3, 4]);
    }

    #[tokio::test]
    async fn a_failed_read_is_tried_again_by_the_next_asker_and_leaves_nothing() {
        let (pages, reads) = (Pages::new(30), AtomicUsize::new(0));
        let failed = pages.load(key(1), || async { Err(Error::Corrupt("object length")) }).await;
        assert!(failed.is_err());
        assert!(pages.lock().pages.is_empty());
        assert!(load(&pages, 1, &reads).await.is_ok());
    }
}
