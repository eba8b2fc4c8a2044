//! Watching devices: a snapshot, then every change, until the caller leaves. Levels, not edges: a change makes the
//! device be read again, so several quick changes may be told as one, and none is lost.
//!
//! Each message carries a token that says where the watch stands; a later one goes on from it, at whichever replica. What has
//! happened since is read from the feed and from Redis by that; hints only say when to look. Memory is bounded by one page
//! whatever is waiting: a reader that is slow finds what waits in the database, and is told how much of it was not told one by one.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use kit::Shutdown;
use kit::places::{Place, Places};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use wire::{DeviceId, TenantId};

use super::feed::{Reached, Stir};
use super::resume::{read_token, token};
use super::{App, Shown};
use crate::error::Error;
use crate::model::{Change, Filter, Progress};
use crate::store::changes::{self, BEHIND_MAX, WAITING_MAX, Waiting};
use crate::store::devices;
use crate::store::presence::PresenceChanges;

/// Watchers of one process.
pub(crate) const WATCHERS_MAX: usize = 1024;
/// Those of one tenant.
pub(crate) const WATCHERS_OF_TENANT_MAX: usize = 256;
/// Devices of a snapshot read at once.
const CHUNK: usize = 500;
/// How long nothing is said to a watch for which nothing happens.
const SILENCE_MAX: Duration = Duration::from_secs(60);

#[derive(Debug, Clone)]
pub(crate) enum WatchItem {
    Snapshot(Box<Shown>),
    Synced,
    Changed(Box<Shown>),
    /// Deleted, or no longer one of those asked for.
    Gone(DeviceId),
    /// Changes that are not told one by one.
    Missed(u64),
    Reset(Reset),
}

/// Why a snapshot begins anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reset {
    Expired,
    /// Changes that are not told one by one.
    Behind(u64),
    Presence,
}

/// An item, and the token that goes on after it.
#[derive(Debug)]
pub(crate) struct Told {
    pub item: WatchItem,
    pub resume_token: String,
}

/// One caller's watch.
#[derive(Debug)]
pub(crate) struct Watch {
    app: Arc<App>,
    tenant: TenantId,
    filter: Filter,
    /// What a token of this watch is good for.
    owner: String,
    stirs: broadcast::Receiver<Stir>,
    ready: VecDeque<(WatchItem, Progress)>,
    state: State,
    shutdown: Shutdown,
    _place: Place,
}

#[derive(Debug)]
enum State {
    /// Nothing read yet; with the token's progress.
    New(Option<Progress>),
    /// A snapshot is being told.
    Snapshot(Progress),
    /// What had happened when the watch began is being told.
    CatchUp(Progress, Reached),
    Live(Progress),
}

/// Where a read of what happened has led.
struct Step {
    progress: Progress,
    /// There may be more at once.
    more: bool,
}

impl Watch {
    pub(crate) fn new(
        app: Arc<App>,
        watchers: &Arc<Places>,
        tenant: TenantId,
        filter: (Filter, &str),
        resume_token: &str,
        shutdown: Shutdown,
    ) -> Result<Self, Error> {
        let owner = format!("watch-devices/{tenant}/{}", filter.1);
        let from = read_token(&app.master, &owner, resume_token)?;
        let place = watchers.take(tenant)?;
        // Subscribed before anything is read: what changes meanwhile is looked for after it.
        let stirs = app.feed().subscribe();
        let state = State::New(from);
        let (filter, ready) = (filter.0, VecDeque::new());
        Ok(Self { app, tenant, filter, owner, stirs, ready, state, shutdown, _place: place })
    }

    /// None: this process stops.
    pub(crate) async fn next(&mut self) -> Result<Option<Told>, Error> {
        loop {
            if let Some((item, progress)) = self.ready.pop_front() {
                let resume_token = token(&self.app.master, &self.owner, &progress)?;
                return Ok(Some(Told { item, resume_token }));
            }
            let shutdown = self.shutdown.clone();
            if shutdown.or(self.step()).await.transpose()?.is_none() {
                return Ok(None);
            }
        }
    }

    /// Reads on, or waits until there may be something to read. May be dropped at any time.
    async fn step(&mut self) -> Result<(), Error> {
        match &self.state {
            State::New(from) => {
                let from = from.clone();
                self.begin(from).await
            }
            State::Snapshot(progress) => {
                let progress = progress.clone();
                self.snapshot(progress).await
            }
            State::CatchUp(progress, reached) => {
                let (progress, reached) = (progress.clone(), reached.clone());
                if let Some(step) = self.read(progress, &reached).await? {
                    self.state = match step.more {
                        true => State::CatchUp(step.progress, reached),
                        false => {
                            self.ready.push_back((WatchItem::Synced, step.progress.clone()));
                            State::Live(step.progress)
                        }
                    };
                }
                Ok(())
            }
            State::Live(progress) => {
                let progress = progress.clone();
                let silent = tokio::time::timeout(SILENCE_MAX, stirred(&mut self.stirs, self.tenant)).await;
                let Some(reached) = self.app.feed().reached() else { return Ok(()) };
                self.live(progress, &reached, silent.is_err()).await
            }
        }
    }

    async fn begin(&mut self, from: Option<Progress>) -> Result<(), Error> {
        let now = SystemTime::now();
        let reached = Reached { position: self.app.newest_position().await?, at: now };
        self.state = match from {
            None => State::Snapshot(self.fresh(reached).await),
            Some(from) if from.is_expired(seconds(now)) => self.reset(reached, Reset::Expired).await,
            Some(from) if from.after.is_some() => State::Snapshot(from),
            Some(from) => State::CatchUp(from, reached),
        };
        Ok(())
    }

    /// The beginning of a snapshot, of all that had committed when the feed was there.
    async fn fresh(&self, reached: Reached) -> Progress {
        let presence = match self.app.leases.changes(self.tenant, None, SystemTime::now()).await {
            PresenceChanges::Unknown => None,
            PresenceChanges::Lost(to) | PresenceChanges::Of { to, .. } => Some(to),
        };
        let (position, at_s) = (reached.position, seconds(reached.at));
        Progress { position, presence, after: Some(String::new()), at_s }
    }

    async fn reset(&mut self, reached: Reached, why: Reset) -> State {
        let progress = self.fresh(reached).await;
        self.ready.push_back((WatchItem::Reset(why), progress.clone()));
        State::Snapshot(progress)
    }

    async fn snapshot(&mut self, progress: Progress) -> Result<(), Error> {
        let after = progress.after.as_deref().unwrap_or_default();
        let page = self.app.devices(self.tenant, &self.filter, after, CHUNK, SystemTime::now()).await?;
        let mut ready = Vec::with_capacity(page.items.len());
        for shown in page.items {
            let after = Some(shown.device.id.to_string());
            let progress = Progress { after, ..progress.clone() };
            ready.push((WatchItem::Snapshot(Box::new(shown)), progress));
        }
        let complete = page.next.is_none();
        let progress = Progress { after: page.next, ..progress };
        self.ready.extend(ready);
        self.state = match complete {
            false => State::Snapshot(progress),
            true => {
                self.ready.push_back((WatchItem::Synced, progress.clone()));
                State::Live(progress)
            }
        };
        Ok(())
    }

    async fn live(&mut self, progress: Progress, reached: &Reached, silent: bool) -> Result<(), Error> {
        let Some(step) = self.read(progress, reached).await? else { return Ok(()) };
        if silent && self.ready.is_empty() && !step.more {
            self.ready.push_back((WatchItem::Synced, step.progress.clone()));
        }
        // One page is told before the next is read, so that no more than one is held.
        self.state = match step.more {
            true => State::CatchUp(step.progress, reached.clone()),
            false => State::Live(step.progress),
        };
        Ok(())
    }

    /// One page of what happened since `from`, as far as the feed has reached. None: a snapshot begins instead.
    async fn read(&mut self, from: Progress, reached: &Reached) -> Result<Option<Step>, Error> {
        let now = SystemTime::now();
        let ranges = from.position.unread(&reached.position);
        let presence = self.app.leases.changes(self.tenant, from.presence, now).await;
        let lost = match &presence {
            PresenceChanges::Lost(_) => true,
            PresenceChanges::Of { .. } => from.presence.is_none(),
            PresenceChanges::Unknown => false,
        };
        if lost {
            self.state = self.reset(reached.clone(), Reset::Presence).await;
            return Ok(None);
        }
        let tx = self.app.store.tx(self.tenant).await?;
        let waiting = match ranges.is_empty() {
            true => Vec::new(),
            false => changes::waiting(&tx, self.tenant, &ranges).await?,
        };
        let full = waiting.len() == WAITING_MAX;
        if full {
            let (matching, all) = changes::count(&tx, self.tenant, &ranges, &self.filter).await?;
            if usize::try_from(all).is_ok_and(|all| all > BEHIND_MAX) {
                tx.commit().await?;
                let missed = u64::try_from(matching).unwrap_or(0).min(BEHIND_MAX as u64);
                self.state = self.reset(reached.clone(), Reset::Behind(missed)).await;
                return Ok(None);
            }
        }
        let (by_presence, presence, more) = match presence {
            PresenceChanges::Of { devices, to, more } => (devices, Some(to), more),
            PresenceChanges::Unknown | PresenceChanges::Lost(_) => (Vec::new(), from.presence, false),
        };
        let touched = Touched::of(&waiting, &by_presence);
        let ids: Vec<DeviceId> = touched.0.keys().copied().collect();
        let rows = match ids.is_empty() {
            true => Vec::new(),
            false => devices::get_many(&tx, self.tenant, &ids).await?,
        };
        tx.commit().await?;
        let upto = if full { waiting.last().map_or(i64::MAX, |last| last.seq) } else { i64::MAX };
        let position = from.position.advanced(&reached.position, upto);
        let to = Progress { position, presence, after: None, at_s: seconds(reached.at) };
        let there: BTreeSet<DeviceId> = rows.iter().map(|device| device.id).collect();
        let matching = rows.into_iter().filter(|device| self.filter.matches(device)).collect();
        let shown = self.app.show(matching, now).await;
        let items = touched.items(&self.filter, &there, shown, full);
        self.tell(items, from, &to);
        Ok(Some(Step { progress: to, more: more || full }))
    }

    /// Only the last message of a page says that the page was read: who goes on from one before hears the page again.
    fn tell(&mut self, items: Vec<WatchItem>, from: Progress, to: &Progress) {
        let last = items.len().saturating_sub(1);
        for (n, item) in items.into_iter().enumerate() {
            self.ready.push_back((item, if n == last { to.clone() } else { from.clone() }));
        }
    }
}

/// What happened to each device.
struct Touched(BTreeMap<DeviceId, Vec<Change>>);

impl Touched {
    fn of(waiting: &[Waiting], by_presence: &[DeviceId]) -> Self {
        let mut touched: BTreeMap<DeviceId, Vec<Change>> = BTreeMap::new();
        for waiting in waiting {
            touched.entry(waiting.device).or_default().push(waiting.change);
        }
        for device in by_presence {
            touched.entry(*device).or_default();
        }
        Self(touched)
    }

    /// What to say of it: `there` are those that exist, `shown` those that match.
    fn items(
        &self,
        filter: &Filter,
        there: &BTreeSet<DeviceId>,
        shown: Vec<Shown>,
        behind: bool,
    ) -> Vec<WatchItem> {
        let matching: BTreeSet<DeviceId> = shown.iter().map(|shown| shown.device.id).collect();
        let mut items = Vec::new();
        let (mut missed, mut gone) = (0, Vec::new());
        for (device, changes) in &self.0 {
            if matching.contains(device) || !there.contains(device) {
                missed += changes.len().saturating_sub(1);
            }
            // One that exists and whose match nothing of this can have ended did not match before.
            let left = !there.contains(device) || changes.iter().any(|change| filter.minds(*change));
            if !matching.contains(device) && left {
                gone.push(WatchItem::Gone(*device));
            }
        }
        if behind && missed > 0 {
            items.push(WatchItem::Missed(missed as u64));
        }
        items.extend(gone);
        items.extend(shown.into_iter().map(|shown| WatchItem::Changed(Box::new(shown))));
        items
    }
}

/// Until something may have happened to the tenant.
async fn stirred(stirs: &mut broadcast::Receiver<Stir>, tenant: TenantId) {
    let concerns = |stir: Stir| stir.is_none_or(|of| of == tenant);
    loop {
        match stirs.recv().await {
            Ok(stir) if concerns(stir) => break,
            Ok(_) => {}
            // It may have been about this tenant.
            Err(RecvError::Lagged(_)) => break,
            Err(RecvError::Closed) => std::future::pending().await,
        }
    }
    // All that waits is answered by one look.
    while matches!(stirs.try_recv(), Ok(_) | Err(TryRecvError::Lagged(_))) {}
}

fn seconds(at: SystemTime) -> u64 {
    at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}
