//! Reads that come while another is under way are done together, by one statement for many callers.
//!
//! Holds: a read begins after its caller asked for it, so that whoever asks sees all that was done before; a caller alone waits for
//! nobody; at most [`TOGETHER_MAX`] are read at once; what fails for many is for each of them to try alone.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// Things read at once. Callers beyond it wait for the next read.
pub const TOGETHER_MAX: usize = 128;

/// Reads by group: what may be read together, such as the rows of one tenant.
#[derive(Debug)]
pub struct Together<G, I, V>(Mutex<HashMap<G, Vec<Waiting<I, V>>>>);

type Waiting<I, V> = (I, oneshot::Sender<V>);

impl<G, I, V> Default for Together<G, I, V> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<G, I, V> Together<G, I, V>
where
    G: Eq + Hash + Clone + Send + 'static,
    I: Send + 'static,
    V: Send + 'static,
{
    /// Reads one thing, with whatever else of its group is asked for meanwhile. `read` gives an answer for each thing, in order; `None` here and
    /// there: it failed.
    pub async fn get<R, F>(self: &Arc<Self>, group: G, item: I, read: R) -> Option<V>
    where
        R: Fn(Vec<I>) -> F + Send + 'static,
        F: Future<Output = Option<Vec<V>>> + Send + 'static,
    {
        let (sender, answer) = oneshot::channel();
        let is_first = {
            let mut groups = self.groups();
            let is_first = !groups.contains_key(&group);
            groups.entry(group.clone()).or_default().push((item, sender));
            is_first
        };
        if is_first {
            tokio::spawn(Reader { together: self.clone(), group }.run(read));
        }
        answer.await.ok()
    }

    fn groups(&self) -> MutexGuard<'_, HashMap<G, Vec<Waiting<I, V>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads for one group as long as anybody waits. Ended half-way, it leaves nobody waiting.
struct Reader<G: Eq + Hash, I, V> {
    together: Arc<Together<G, I, V>>,
    group: G,
}

impl<G, I, V> Reader<G, I, V>
where
    G: Eq + Hash + Clone + Send + 'static,
    I: Send + 'static,
    V: Send + 'static,
{
    async fn run<R, F>(self, read: R)
    where
        R: Fn(Vec<I>) -> F,
        F: Future<Output = Option<Vec<V>>>,
    {
        while let Some(waiting) = self.next() {
            let (items, senders): (Vec<I>, Vec<_>) = waiting.into_iter().unzip();
            // Where it failed the senders are dropped, and each caller hears that.
            for (answer, sender) in read(items).await.into_iter().flatten().zip(senders) {
                // A caller that left needs no answer.
                let _ = sender.send(answer);
            }
        }
    }

    fn next(&self) -> Option<Vec<Waiting<I, V>>> {
        let mut groups = self.together.groups();
        let waiting = groups.get_mut(&self.group)?;
        if waiting.is_empty() {
            groups.remove(&self.group);
            return None;
        }
        let rest = waiting.split_off(waiting.len().min(TOGETHER_MAX));
        Some(std::mem::replace(waiting, rest))
    }
}

impl<G: Eq + Hash, I, V> Drop for Reader<G, I, V> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.together.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.group);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::Semaphore;

    type Doubled = std::pin::Pin<Box<dyn Future<Output = Option<Vec<u32>>> + Send>>;

    /// Doubles numbers, counts its reads, and waits to be let.
    fn reader(
        gate: &Arc<Semaphore>,
        reads: &Arc<Mutex<Vec<usize>>>,
    ) -> impl Fn(Vec<u32>) -> Doubled + Send + use<> {
        let (gate, reads) = (gate.clone(), reads.clone());
        move |items| {
            let (gate, reads) = (gate.clone(), reads.clone());
            Box::pin(async move {
                gate.acquire().await.unwrap().forget();
                reads.lock().unwrap().push(items.len());
                (!items.contains(&13)).then(|| items.iter().map(|n| n * 2).collect())
            })
        }
    }

    #[tokio::test]
    async fn what_comes_during_a_read_is_read_together_and_everybody_gets_their_own() {
        let together: Arc<Together<&str, u32, u32>> = Arc::default();
        let (gate, reads) = (Arc::new(Semaphore::new(0)), Arc::new(Mutex::new(Vec::new())));
        let count = TOGETHER_MAX as u32 + 2;
        let call = |n: u32| {
            let (together, read) = (together.clone(), reader(&gate, &reads));
            tokio::spawn(async move { together.get("a", n, read).await })
        };
        let until_waiting = async |wanted: usize| {
            while together.groups().get("a").is_none_or(|waiting| waiting.len() != wanted) {
                tokio::task::yield_now().await;
            }
        };
        let mut callers = vec![call(100)];
        // It is being read.
        until_waiting(0).await;
        callers.extend((101..100 + count).map(call));
        until_waiting(count as usize - 1).await;
        // Another group is not held up.
        let other = Arc::new(Semaphore::new(1));
        assert_eq!(together.get("b", 1, reader(&other, &Arc::default())).await, Some(2));
        gate.add_permits(3);
        for (n, caller) in (100..).zip(callers) {
            assert_eq!(caller.await.unwrap(), Some(n * 2));
        }
        assert_eq!(*reads.lock().unwrap(), [1, TOGETHER_MAX, 1]);
        assert!(together.groups().is_empty());
    }

    #[tokio::test]
    async fn what_fails_is_told_to_each_and_a_reader_that_panics_leaves_nobody_waiting() {
        let together: Arc<Together<(), u32, u32>> = Arc::default();
        let gate = Arc::new(Semaphore::new(9));
        assert_eq!(together.get((), 13, reader(&gate, &Arc::default())).await, None);
        let panics =
            |items: Vec<u32>| async move { items.is_empty().then_some(items).or_else(|| panic!("as asked")) };
        assert_eq!(together.get((), 1, panics).await, None);
        assert_eq!(together.get((), 1, reader(&gate, &Arc::default())).await, Some(2));
    }
}
