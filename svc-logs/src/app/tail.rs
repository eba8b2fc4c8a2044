//! Follows one device's records as they are stored, by whichever replica stored them.
//!
//! A tail remembers, for each boot, the version and prefix it has seen; versions rise under the boot's row lock, so none
//! is ever skipped. It looks when this process stored something for the device, and at least every [`POLL`]. A reader
//! that falls behind by more than [`TAIL_BATCH_MAX`] records of a boot is given the newest and told how many it missed.

use std::collections::HashMap;
use std::time::Duration;

use kit::places::Place;
use tokio::sync::broadcast;
use tokio::time::{Instant, sleep_until};
use wire::{DeviceId, TenantId};

use super::{App, BOOTS_PER_DEVICE_MAX};
use crate::error::Error;
use crate::model::{Level, StoredRecord};
use crate::store::boots::Mark;
use crate::store::{boots, devices, records};

/// Records of one boot read at a time; what is beyond is missed.
pub(crate) const TAIL_BATCH_MAX: usize = 1000;
/// How soon records stored by another replica are seen.
pub(crate) const POLL: Duration = Duration::from_millis(500);
/// Shortest time between two looks, however much is stored.
const PAUSE_MIN: Duration = Duration::from_millis(50);

/// A tail under way; holds its place among [`super::TAILS_MAX`].
#[derive(Debug)]
pub(crate) struct Tail {
    tenant: TenantId,
    device: DeviceId,
    level: Level,
    marks: HashMap<i64, Mark>,
    hints: broadcast::Receiver<DeviceId>,
    looked: Instant,
    _place: Place,
}

/// A record, and how many were missed just before it.
#[derive(Debug)]
pub(crate) struct Tailed {
    pub(crate) record: StoredRecord,
    pub(crate) missed: u64,
}

impl App {
    /// Begins a tail with the last `last` records.
    pub(crate) async fn tail(
        &self,
        tenant: TenantId,
        device: DeviceId,
        level: Level,
        last: usize,
    ) -> Result<(Tail, Vec<StoredRecord>), Error> {
        let place = self.tails.take(tenant)?;
        // Before the first look, so that nothing falls between.
        let hints = self.stored.subscribe();
        let tx = self.store.tx(tenant).await?;
        if !devices::exists(&tx, tenant, device).await? {
            return Err(Error::NoDevice);
        }
        let marks = boots::marks(&tx, device, BOOTS_PER_DEVICE_MAX).await?;
        let first = match last {
            0 => Vec::new(),
            _ => records::last_up_to(&tx, device, level, &marks, last).await?,
        };
        tx.commit().await?;
        let tail = Tail { tenant, device, level, marks, hints, looked: Instant::now(), _place: place };
        Ok((tail, first))
    }

    /// What was stored since the last look; waits until there may be something.
    pub(crate) async fn follow(&self, tail: &mut Tail) -> Result<Vec<Tailed>, Error> {
        tail.wait().await;
        let tx = self.store.tx(tail.tenant).await?;
        let now = boots::marks(&tx, tail.device, BOOTS_PER_DEVICE_MAX).await?;
        let mut changed: Vec<(i64, Mark, Mark)> = Vec::new();
        for (key, to) in &now {
            let from = tail.marks.get(key).copied().unwrap_or(Mark { version: 0, stored_up_to: 0 });
            if to.version > from.version {
                changed.push((*key, from, *to));
            }
        }
        changed.sort_by_key(|(key, ..)| *key);
        let mut tailed = Vec::new();
        for (key, from, to) in changed {
            let (newest, all) = records::since(&tx, key, from, to, tail.level, TAIL_BATCH_MAX).await?;
            let mut missed = (all - newest.len().min(all)) as u64;
            for record in newest {
                tailed.push(Tailed { record, missed: std::mem::take(&mut missed) });
            }
        }
        tx.commit().await?;
        tail.marks = now;
        Ok(tailed)
    }
}

impl Tail {
    /// Until something was stored for the device, or the poll is due.
    async fn wait(&mut self) {
        let due = self.looked + POLL;
        loop {
            tokio::select! {
                () = sleep_until(due) => break,
                hint = self.hints.recv() => match hint {
                    Ok(device) if device != self.device => {}
                    // Ours, or too many to know.
                    Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => break,
                    Err(broadcast::error::RecvError::Closed) => sleep_until(due).await,
                }
            }
        }
        sleep_until(self.looked + PAUSE_MIN).await;
        self.looked = Instant::now();
    }
}
