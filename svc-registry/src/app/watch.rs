//! Watching devices: a snapshot, then every change, until the caller leaves. Levels, not edges: a change makes the
//! device be read again, so several quick changes may be told as one, and none is lost.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::SystemTime;

use kit::Shutdown;
use kit::places::{Place, Places};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use wire::{DeviceId, TenantId};

use super::feed::Event;
use super::{App, Shown};
use crate::error::Error;
use crate::model::Filter;
use crate::store::devices;

/// Watchers of one process.
pub(crate) const WATCHERS_MAX: usize = 1024;
/// Those of one tenant.
pub(crate) const WATCHERS_OF_TENANT_MAX: usize = 256;
/// Devices read at once.
const CHUNK: usize = 500;

#[derive(Debug, Clone)]
pub(crate) enum WatchItem {
    Snapshot(Box<Shown>),
    Synced,
    Changed(Box<Shown>),
    /// Deleted, or no longer one of those asked for.
    Gone(DeviceId),
}

/// One caller's watch.
#[derive(Debug)]
pub(crate) struct Watch {
    app: Arc<App>,
    tenant: TenantId,
    filter: Filter,
    events: broadcast::Receiver<Event>,
    ready: VecDeque<WatchItem>,
    /// The snapshot goes on after this id; none: it is complete.
    after: Option<String>,
    shutdown: Shutdown,
    _place: Place,
}

impl Watch {
    pub(crate) fn new(
        app: Arc<App>,
        watchers: &Arc<Places>,
        tenant: TenantId,
        filter: Filter,
        shutdown: Shutdown,
    ) -> Result<Self, Error> {
        let place = watchers.take(tenant)?;
        // Subscribed before the snapshot is read: what changes meanwhile comes after it.
        let events = app.feed().subscribe();
        let after = Some(String::new());
        Ok(Self { app, tenant, filter, events, ready: VecDeque::new(), after, shutdown, _place: place })
    }

    /// None: this process stops.
    pub(crate) async fn next(&mut self) -> Result<Option<WatchItem>, Error> {
        loop {
            if let Some(item) = self.ready.pop_front() {
                return Ok(Some(item));
            }
            match self.after.take() {
                Some(after) => self.read_snapshot(after).await?,
                None => {
                    let shutdown = self.shutdown.clone();
                    if shutdown.or(self.read_changes()).await.transpose()?.is_none() {
                        return Ok(None);
                    }
                }
            }
        }
    }

    async fn read_snapshot(&mut self, after: String) -> Result<(), Error> {
        let now = SystemTime::now();
        let page = self.app.devices(self.tenant, &self.filter, &after, CHUNK, now).await?;
        self.ready.extend(page.items.into_iter().map(|shown| WatchItem::Snapshot(Box::new(shown))));
        self.after = page.next;
        if self.after.is_none() {
            self.ready.push_back(WatchItem::Synced);
        }
        Ok(())
    }

    async fn read_changes(&mut self) -> Result<(), Error> {
        let Some(touched) = self.touched().await else {
            // Fell behind: everything again.
            self.after = Some(String::new());
            return Ok(());
        };
        let ids: Vec<DeviceId> = touched.into_iter().collect();
        let tx = self.app.store.tx(self.tenant).await?;
        let rows = devices::get_many(&tx, self.tenant, &ids).await?;
        tx.commit().await?;
        let matching = rows.into_iter().filter(|device| self.filter.matches(device)).collect();
        let shown = self.app.show(matching, SystemTime::now()).await;
        let there: BTreeSet<DeviceId> = shown.iter().map(|shown| shown.device.id).collect();
        self.ready.extend(ids.into_iter().filter(|id| !there.contains(id)).map(WatchItem::Gone));
        self.ready.extend(shown.into_iter().map(|shown| WatchItem::Changed(Box::new(shown))));
        Ok(())
    }

    /// The tenant's devices something happened to; waits for at least one. None: events were missed.
    async fn touched(&mut self) -> Option<BTreeSet<DeviceId>> {
        let mut touched = BTreeSet::new();
        while touched.is_empty() {
            match self.events.recv().await {
                Ok(event) => self.note(&mut touched, event),
                Err(RecvError::Lagged(_)) => return None,
                Err(RecvError::Closed) => std::future::pending().await,
            }
        }
        while touched.len() < CHUNK {
            match self.events.try_recv() {
                Ok(event) => self.note(&mut touched, event),
                Err(TryRecvError::Lagged(_)) => return None,
                Err(_) => break,
            }
        }
        Some(touched)
    }

    fn note(&self, touched: &mut BTreeSet<DeviceId>, event: Event) {
        if event.tenant == self.tenant {
            touched.insert(event.device);
        }
    }
}
