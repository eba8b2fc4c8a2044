//! The change feed, read once a process and handed to everybody who watches. Hints (NOTIFY, Redis) make it quick,
//! polling makes it certain; a watcher that falls behind is told so and starts over.

use std::collections::VecDeque;
use std::time::Duration;

use kit::Shutdown;
use kit::pg::Hint;
use tokio::sync::{broadcast, mpsc};
use tokio::time::Instant;
use wire::{DeviceId, TenantId};

use super::App;
use crate::error::Error;
use crate::model::feed::Cursor;
use crate::store::presence::Announcements;
use crate::store::upkeep::{self, CHANGES_READ_MAX};

/// Events a watcher may fall behind.
pub(crate) const EVENTS_MAX: usize = 4096;
/// How often the feed is read without a hint.
const POLL: Duration = Duration::from_secs(1);
/// Changes before the newest that are looked at once at the start: one may still be uncommitted.
const START_BEFORE: i64 = 1000;

/// Something happened to a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Event {
    pub tenant: TenantId,
    pub device: DeviceId,
}

/// Where events come out.
#[derive(Debug, Clone)]
pub(crate) struct Feed {
    sender: broadcast::Sender<Event>,
}

impl Default for Feed {
    fn default() -> Self {
        Self { sender: broadcast::Sender::new(EVENTS_MAX) }
    }
}

impl Feed {
    pub(crate) fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.sender.subscribe()
    }

    /// Nobody watching is no error.
    pub(crate) fn tell(&self, event: Event) {
        let _ = self.sender.send(event);
    }
}

impl App {
    pub(crate) fn feed(&self) -> &Feed {
        &self.feed
    }

    /// Reads changes until shutdown.
    pub(crate) async fn follow_changes(&self, mut hints: mpsc::Receiver<Hint>, shutdown: Shutdown) {
        let started = Instant::now();
        let mut cursor: Option<Cursor> = None;
        let mut failing = false;
        loop {
            let read = match &mut cursor {
                None => self.begin(started).await.map(|begun| {
                    cursor = Some(begun);
                    false
                }),
                Some(cursor) => self.read_changes(cursor, started).await,
            };
            match read {
                Ok(true) => continue,
                Ok(false) => failing = false,
                Err(error) if !failing => {
                    failing = true;
                    tracing::warn!(error = kit::status::chain(&error), "change feed cannot be read");
                }
                Err(_) => {}
            }
            let pause = async {
                tokio::select! {
                    _ = hints.recv() => {}
                    () = tokio::time::sleep(POLL) => {}
                }
            };
            if shutdown.or(pause).await.is_none() {
                return;
            }
        }
    }

    /// Hands on presence as Redis announces it, until shutdown.
    pub(crate) async fn follow_presence(&self, announcements: Announcements, shutdown: Shutdown) {
        let tell = |tenant, device| self.feed.tell(Event { tenant, device });
        while shutdown.or(announcements.follow(&tell)).await.is_some() {
            if shutdown.or(tokio::time::sleep(POLL)).await.is_none() {
                return;
            }
        }
    }

    async fn begin(&self, started: Instant) -> Result<Cursor, Error> {
        let tx = self.store.every().await?;
        let last = upkeep::last_change(&tx).await?;
        let mut cursor = Cursor::after((last - START_BEFORE).max(0));
        let rows = upkeep::changes(&tx, cursor.last(), &[]).await?;
        tx.commit().await?;
        // Only to learn which numbers are missing; what is there is in everybody's first snapshot.
        cursor.take(&rows.iter().map(|row| row.seq).collect::<Vec<_>>(), started.elapsed());
        Ok(cursor)
    }

    /// True: there may be more at once.
    async fn read_changes(&self, cursor: &mut Cursor, started: Instant) -> Result<bool, Error> {
        let tx = self.store.every().await?;
        let rows = upkeep::changes(&tx, cursor.last(), &cursor.holes()).await?;
        tx.commit().await?;
        let seqs: Vec<i64> = rows.iter().map(|row| row.seq).collect();
        let mut new: VecDeque<i64> = cursor.take(&seqs, started.elapsed()).into();
        for row in &rows {
            if new.front() == Some(&row.seq) {
                new.pop_front();
                self.feed.tell(Event { tenant: row.tenant, device: row.device });
            }
        }
        Ok(rows.len() as i64 == CHANGES_READ_MAX)
    }
}
