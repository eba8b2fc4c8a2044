//! Which held session has something to say to its device, and when the next one has.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;
use wire::DebugSessionId;

use crate::model::Moment;

/// Sessions by when they are due; each at most once, so that it is bounded by the sessions held.
#[derive(Debug, Default)]
pub(super) struct Turns {
    queue: Mutex<Queue>,
    sooner: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    order: BTreeSet<(Moment, DebugSessionId)>,
    due: HashMap<DebugSessionId, Moment>,
}

impl Queue {
    fn set(&mut self, id: DebugSessionId, at: Option<Moment>) {
        if let Some(old) = self.due.remove(&id) {
            self.order.remove(&(old, id));
        }
        if let Some(at) = at {
            self.due.insert(id, at);
            self.order.insert((at, id));
        }
    }
}

impl Turns {
    /// A session is due then, and not at any other time; none: never.
    pub(super) fn set(&self, id: DebugSessionId, at: Option<Moment>) {
        let is_first = {
            let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
            queue.set(id, at);
            queue.order.first().is_some_and(|(_, first)| *first == id)
        };
        if is_first {
            self.sooner.notify_one();
        }
    }

    /// The next session that is due, as soon as one is; it is not due again until it is set.
    pub(super) async fn next(&self, now: impl Fn() -> Moment) -> DebugSessionId {
        loop {
            let now = now();
            let wait = {
                let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
                match queue.order.first().copied() {
                    Some((at, id)) if at <= now => {
                        queue.set(id, None);
                        return id;
                    }
                    Some((at, _)) => Some(at - now),
                    None => None,
                }
            };
            let sooner = self.sooner.notified();
            match wait {
                Some(wait) => drop(tokio::time::timeout(wait, sooner).await),
                None => sooner.await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn sessions_come_when_they_are_due_and_once() {
        let turns = Turns::default();
        let start = tokio::time::Instant::now();
        let now = || start.elapsed();
        let [one, two, three] = [1, 2, 3].map(|n| DebugSessionId::new([n; 16]));
        turns.set(one, Some(Duration::from_secs(9)));
        turns.set(two, Some(Duration::from_secs(2)));
        turns.set(three, Some(Duration::from_secs(1)));
        turns.set(three, None);
        turns.set(one, Some(Duration::from_secs(3)));
        assert_eq!((turns.next(now).await, now().as_secs()), (two, 2));
        assert_eq!((turns.next(now).await, now().as_secs()), (one, 3));
        assert!(tokio::time::timeout(Duration::from_secs(60), turns.next(now)).await.is_err());
        let queue = turns.queue.lock().unwrap();
        assert!(queue.order.is_empty() && queue.due.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_becomes_due_sooner_is_not_waited_past() {
        let turns = std::sync::Arc::new(Turns::default());
        let start = tokio::time::Instant::now();
        let [late, soon] = [1, 2].map(|n| DebugSessionId::new([n; 16]));
        turns.set(late, Some(Duration::from_secs(100)));
        let waiter = tokio::spawn({
            let turns = turns.clone();
            async move { turns.next(|| start.elapsed()).await }
        });
        tokio::task::yield_now().await;
        turns.set(soon, Some(Duration::ZERO));
        assert_eq!(waiter.await.unwrap(), soon);
        assert_eq!(start.elapsed(), Duration::ZERO);
    }
}
