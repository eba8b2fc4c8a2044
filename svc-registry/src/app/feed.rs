//! The change feed, followed once a process: how far it is, and a hint to whoever watches that there is something to read.
//! Hints (NOTIFY, Redis) make it quick, polling makes it certain; a watch reads by itself, from where it stands.

use std::time::{Duration, SystemTime};

use kit::Shutdown;
use kit::pg::Hint;
use tokio::sync::{broadcast, mpsc, watch};
use tokio::time::Instant;
use wire::TenantId;

use super::App;
use crate::error::Error;
use crate::model::Position;
use crate::model::feed::Cursor;
use crate::store::presence::Announcements;
use crate::store::upkeep::{self, CHANGES_READ_MAX};

/// Hints a watch may fall behind; with more it looks anyway.
pub(crate) const HINTS_MAX: usize = 4096;
/// How often the feed is read without a hint.
const POLL: Duration = Duration::from_secs(1);
/// Numbers before the newest that are looked at when a reader begins: one may still be uncommitted.
const START_BEFORE: i64 = 4096;

/// Something happened in this tenant; none: it may have, in any.
pub(crate) type Stir = Option<TenantId>;

/// How far the feed was read, and when.
#[derive(Debug, Clone)]
pub(crate) struct Reached {
    pub position: Position,
    pub at: SystemTime,
}

/// Where hints come out.
#[derive(Debug, Clone)]
pub(crate) struct Feed {
    stirs: broadcast::Sender<Stir>,
    reached: watch::Sender<Option<Reached>>,
}

impl Default for Feed {
    fn default() -> Self {
        Self { stirs: broadcast::Sender::new(HINTS_MAX), reached: watch::Sender::new(None) }
    }
}

impl Feed {
    pub(crate) fn subscribe(&self) -> broadcast::Receiver<Stir> {
        self.stirs.subscribe()
    }

    /// None: it could not be read yet.
    pub(crate) fn reached(&self) -> Option<Reached> {
        self.reached.borrow().clone()
    }

    /// Nobody watching is no error.
    fn tell(&self, stir: Stir) {
        let _ = self.stirs.send(stir);
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
        let tell = |stir| self.feed.tell(stir);
        while shutdown.or(announcements.follow(&tell)).await.is_some() {
            if shutdown.or(tokio::time::sleep(POLL)).await.is_none() {
                return;
            }
        }
    }

    /// What has committed by now counts as seen, and nothing that has not.
    pub(super) async fn newest_position(&self) -> Result<Position, Error> {
        let cursor = self.begin(Instant::now()).await?;
        Ok(position(&cursor))
    }

    async fn begin(&self, started: Instant) -> Result<Cursor, Error> {
        let tx = self.store.every().await?;
        let last = upkeep::last_change(&tx).await?;
        let mut cursor = Cursor::after((last - START_BEFORE).max(0));
        loop {
            let rows = upkeep::changes(&tx, cursor.last(), &[]).await?;
            // Only to learn which numbers are missing; what is there is in everybody's first snapshot.
            cursor.take(&rows.iter().map(|row| row.seq).collect::<Vec<_>>(), started.elapsed());
            if (rows.len() as i64) < CHANGES_READ_MAX {
                break;
            }
        }
        tx.commit().await?;
        Ok(cursor)
    }

    /// True: there may be more at once.
    async fn read_changes(&self, cursor: &mut Cursor, started: Instant) -> Result<bool, Error> {
        let at = SystemTime::now();
        let tx = self.store.every().await?;
        let rows = upkeep::changes(&tx, cursor.last(), &cursor.holes()).await?;
        tx.commit().await?;
        let seqs: Vec<i64> = rows.iter().map(|row| row.seq).collect();
        let new: Vec<i64> = cursor.take(&seqs, started.elapsed());
        // Told before the hints: who looks finds what they are about.
        self.feed.reached.send_replace(Some(Reached { position: position(cursor), at }));
        let mut last = None;
        for row in rows.iter().filter(|row| new.binary_search(&row.seq).is_ok()) {
            // One for many changes of one tenant that follow each other.
            if last.replace(row.tenant) != Some(row.tenant) {
                self.feed.tell(Some(row.tenant));
            }
        }
        Ok(rows.len() as i64 >= CHANGES_READ_MAX)
    }
}

fn position(cursor: &Cursor) -> Position {
    Position::new(cursor.last(), cursor.holes().into_iter().map(|hole| (hole, hole)))
}
