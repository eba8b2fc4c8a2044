//! Follows one device's records as they are stored, by whichever replica stored them.
//!
//! A tail remembers, for each boot, the version and prefix it has seen; versions rise under the boot's row lock, so none
//! is ever skipped. It looks when this process stored something for the device, and at least every [`super::look::POLL`]. A reader
//! that falls behind by more than [`TAIL_BATCH_MAX`] records of a boot is given the newest and told how many it missed. What it
//! remembers goes with every record: another tail, at any replica, goes on from there.

use std::collections::HashMap;

use kit::pg::Tx;
use kit::places::Place;
use wire::{DeviceId, TenantId};

use super::look::Look;
use super::{App, BOOTS_PER_DEVICE_MAX};
use crate::error::Error;
use crate::model::progress::{Progress, Told, Within};
use crate::model::{Boot, Level, StoredRecord};
use crate::store::boots::Mark;
use crate::store::{boots, devices, records};

/// Records of one boot read at a time; what is beyond is missed.
pub(crate) const TAIL_BATCH_MAX: usize = 1000;
/// Stored records a tail may begin with.
pub(crate) const LAST_MAX: usize = 1000;

/// A tail under way; holds its place among [`super::TAILS_MAX`].
#[derive(Debug)]
pub(crate) struct Tail {
    tenant: TenantId,
    device: DeviceId,
    level: Level,
    marks: HashMap<i64, Mark>,
    look: Look,
    _place: Place,
}

/// A record, how many were missed just before it, and where a tail goes on after it.
#[derive(Debug)]
pub(crate) struct Tailed {
    pub(crate) record: StoredRecord,
    pub(crate) missed: u64,
    pub(crate) progress: Progress,
}

/// Where a tail begins.
#[derive(Debug)]
pub(crate) enum Begin {
    /// With this many stored records.
    Last(usize),
    From(Progress),
}

impl App {
    /// Begins a tail, with what there is to tell at once.
    pub(crate) async fn tail(
        &self,
        tenant: TenantId,
        device: DeviceId,
        level: Level,
        begin: Begin,
    ) -> Result<(Tail, Vec<Tailed>), Error> {
        let place = self.tails.take(tenant)?;
        // Before the first look, so that nothing falls between.
        let look = Look::new(device, self.stored.subscribe());
        let tx = self.store.tx(tenant).await?;
        if !devices::exists(&tx, tenant, device).await? {
            return Err(Error::NotFound);
        }
        let now = boots::marks(&tx, device, BOOTS_PER_DEVICE_MAX).await?;
        let mut tail = Tail { tenant, device, level, marks: now.clone(), look, _place: place };
        let first = match begin {
            Begin::Last(0) => Vec::new(),
            Begin::Last(last) => {
                let all = records::last_up_to(&tx, device, level, &now, last).await?;
                tail.first(all)
            }
            Begin::From(progress) => tail.resume(&tx, progress, &now).await?,
        };
        tx.commit().await?;
        Ok((tail, first))
    }

    /// What was stored since the last look; waits until there may be something.
    pub(crate) async fn follow(&self, tail: &mut Tail) -> Result<Vec<Tailed>, Error> {
        tail.look.wait().await;
        let tx = self.store.tx(tail.tenant).await?;
        let now = boots::marks(&tx, tail.device, BOOTS_PER_DEVICE_MAX).await?;
        let mut changed: Vec<(i64, Mark, Mark)> = Vec::new();
        for (key, to) in &now {
            let from = tail.marks.get(key).copied().unwrap_or(Mark { version: 0, stored_up_to: 0, ..*to });
            if to.version > from.version {
                changed.push((*key, from, *to));
            }
        }
        changed.sort_by_key(|(key, ..)| *key);
        let mut tailed = Vec::new();
        for (key, from, to) in changed {
            tailed.extend(tail.of_boot(&tx, key, from, to).await?);
        }
        tx.commit().await?;
        tail.marks = now;
        Ok(tailed)
    }
}

impl Tail {
    /// Where it stands now.
    pub(crate) fn progress(&self) -> Progress {
        self.progress_within(Within::End)
    }

    fn progress_within(&self, within: Within) -> Progress {
        Progress::new(in_order(&self.marks).into_iter().map(|(_, boot, told)| (boot, told)).collect(), within)
    }

    /// Records that were stored before the tail began.
    fn first(&self, all: Vec<StoredRecord>) -> Vec<Tailed> {
        let last = all.len();
        let tailed = |(n, record): (usize, StoredRecord)| {
            let within = Within::First(record.boot, record.record.sequence);
            let progress = self.progress_within(if n + 1 == last { Within::End } else { within });
            Tailed { record, missed: 0, progress }
        };
        all.into_iter().enumerate().map(tailed).collect()
    }

    /// Takes up where another tail stood; gives what that one had begun to tell.
    async fn resume(
        &mut self,
        tx: &Tx,
        from: Progress,
        now: &HashMap<i64, Mark>,
    ) -> Result<Vec<Tailed>, Error> {
        let there: Vec<(Boot, Told)> =
            in_order(now).into_iter().map(|(_, boot, told)| (boot, told)).collect();
        let told = from.told(&there);
        self.marks = now
            .iter()
            .filter_map(|(key, mark)| {
                let Told { version, stored_up_to } = *told.get(&mark.boot)?;
                Some((*key, Mark { version, stored_up_to, ..*mark }))
            })
            .collect();
        match from.within {
            Within::End => Ok(Vec::new()),
            Within::First(boot, sequence) => {
                let all = records::last_up_to(tx, self.device, self.level, &self.marks, LAST_MAX).await?;
                let rest = all.into_iter().filter(|r| (r.boot, r.record.sequence) > (boot, sequence));
                Ok(self.first(rest.collect()))
            }
            Within::Boot(boot, told, sequence) => {
                let Some((key, to)) = now.iter().find(|(_, mark)| mark.boot == boot) else {
                    return Ok(Vec::new());
                };
                let from =
                    self.marks.get(key).copied().unwrap_or(Mark { version: 0, stored_up_to: 0, ..*to });
                let seen = i64::try_from(sequence).unwrap_or(i64::MAX).max(from.stored_up_to);
                let to = Mark { version: told.version, stored_up_to: told.stored_up_to, ..*to };
                self.of_boot(tx, *key, Mark { stored_up_to: seen, ..from }, to).await
            }
        }
    }

    /// What was stored of one boot since `from`, up to `to`, where the tail then is.
    async fn of_boot(&mut self, tx: &Tx, key: i64, from: Mark, to: Mark) -> Result<Vec<Tailed>, Error> {
        let (newest, all) = records::since(tx, key, from, to, self.level, TAIL_BATCH_MAX).await?;
        let mut missed = (all - newest.len().min(all)) as u64;
        let last = newest.len();
        let told = Told { version: to.version, stored_up_to: to.stored_up_to };
        let mut tailed = Vec::with_capacity(last);
        for (n, record) in newest.into_iter().enumerate() {
            let within = if n + 1 == last {
                self.marks.insert(key, to);
                Within::End
            } else {
                Within::Boot(to.boot, told, record.record.sequence)
            };
            let progress = self.progress_within(within);
            tailed.push(Tailed { record, missed: std::mem::take(&mut missed), progress });
        }
        self.marks.insert(key, to);
        Ok(tailed)
    }
}

/// In the order in which the boots were first heard of.
fn in_order(marks: &HashMap<i64, Mark>) -> Vec<(i64, Boot, Told)> {
    let told = |mark: &Mark| Told { version: mark.version, stored_up_to: mark.stored_up_to };
    let mut all: Vec<_> = marks.iter().map(|(key, mark)| (*key, mark.boot, told(mark))).collect();
    all.sort_by_key(|(key, ..)| *key);
    all
}
