//! Devices as operators see them: rows of Postgres, with presence from Redis if it answers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use kit::once::{Call, Known};
use wire::{DeviceId, TenantId};

use super::hello::fresh_challenge;
use super::{Actor, App, Effect, Page, found, micros, one_more};
use crate::error::Error;
use crate::model::debugging::lifted;
use crate::model::device::{self, Relabel};
use crate::model::{Device, Filter, Presence};
use crate::store::devices::{self, Change};
use crate::store::{Tx, debugging, lives, upkeep};

const LIFTS_A_BAN: &str =
    "debugging is forbidden for a label of the device: only an administrator takes it away or changes it";

/// A device and what is known of it now.
#[derive(Debug, Clone)]
pub(crate) struct Shown {
    pub device: Device,
    pub presence: Presence,
    pub last_hello_at: Option<SystemTime>,
}

impl App {
    /// Devices of a tenant that are asked for at the same time are read together.
    pub(crate) async fn device(
        self: &Arc<Self>,
        tenant: TenantId,
        id: DeviceId,
        now: SystemTime,
    ) -> Result<Shown, Error> {
        let app = self.clone();
        let read = move |ids: Vec<DeviceId>| {
            let app = app.clone();
            async move { app.devices_shown(tenant, ids, SystemTime::now()).await.ok() }
        };
        if let Some(shown) = self.reads.get(tenant, id, read).await {
            return shown.ok_or(Error::NotFound);
        }
        // It failed for all of them: alone, to learn why.
        let shown = self.devices_shown(tenant, vec![id], now).await?.pop().flatten();
        shown.ok_or(Error::NotFound)
    }

    /// One for each id; `None`: there is no such device of this tenant.
    async fn devices_shown(
        &self,
        tenant: TenantId,
        ids: Vec<DeviceId>,
        now: SystemTime,
    ) -> Result<Vec<Option<Shown>>, Error> {
        let tx = self.store.one(tenant).await?;
        let devices = devices::get_many(&tx, tenant, &ids).await?;
        tx.commit().await?;
        let shown = self.show(devices, now).await;
        let shown: BTreeMap<DeviceId, Shown> = shown.into_iter().map(|one| (one.device.id, one)).collect();
        Ok(ids.iter().map(|id| shown.get(id).cloned()).collect())
    }

    pub(crate) async fn devices(
        &self,
        tenant: TenantId,
        filter: &Filter,
        after: &str,
        limit: usize,
        now: SystemTime,
    ) -> Result<Page<Shown>, Error> {
        let tx = self.store.one(tenant).await?;
        let rows = devices::list(&tx, tenant, filter, after, one_more(limit)).await?;
        tx.commit().await?;
        let page = Page::of(rows, limit, |device| device.id.to_string());
        Ok(Page { items: self.show(page.items, now).await, next: page.next })
    }

    /// In the order of `ids`; all or none.
    pub(crate) async fn devices_named(
        &self,
        tenant: TenantId,
        ids: &[DeviceId],
        now: SystemTime,
    ) -> Result<Vec<Shown>, Error> {
        let tx = self.store.tx(tenant).await?;
        let found = in_order(&tx, tenant, ids).await?;
        tx.commit().await?;
        Ok(self.show(found, now).await)
    }

    /// All or none; each device once.
    pub(crate) async fn set_labels(
        &self,
        actor: &Actor,
        call: &Call,
        tenant: TenantId,
        changes: &[Relabel],
        now: SystemTime,
    ) -> Result<Vec<Shown>, Error> {
        for (at, change) in changes.iter().enumerate() {
            device::check_labels(&change.labels).map_err(|invalid| Error::from(invalid).of(at))?;
        }
        let ids: Vec<DeviceId> = changes.iter().map(|change| change.device).collect();
        let tx = self.store.tx(tenant).await?;
        if call.begin(&tx, now).await? == Known::New {
            let locked = devices::lock_many(&tx, tenant, &ids).await?;
            let bans = if actor.admin { Vec::new() } else { debugging::labels(&tx, tenant).await? };
            for (at, change) in changes.iter().enumerate() {
                let device = still(locked.get(&change.device), &change.etag).map_err(|error| error.of(at))?;
                if lifted(&bans, &device.labels, &change.labels).is_some() {
                    return Err(Error::Forbidden(LIFTS_A_BAN).of(at));
                }
            }
            devices::set_labels(&tx, tenant, changes).await?;
            note(&tx, actor, tenant, &ids, (Change::Labels, "set_labels")).await?;
        }
        // Of a call that was done before: as they are by now.
        let relabelled = in_order(&tx, tenant, &ids).await?;
        call.end(tx, "").await?;
        Ok(self.show(relabelled, now).await)
    }

    /// Repeating it is no error: the connection is ended again.
    pub(crate) async fn revoke_device(
        &self,
        actor: &Actor,
        call: &Call,
        tenant: TenantId,
        id: DeviceId,
        etag: &str,
        now: SystemTime,
    ) -> Result<(Shown, Vec<Effect>), Error> {
        let tx = self.store.tx(tenant).await?;
        if call.begin(&tx, now).await? == Known::New {
            still(devices::lock_many(&tx, tenant, &[id]).await?.get(&id), etag)?;
        }
        let effects = revoke(&tx, actor, tenant, id, now).await?;
        let device = found(devices::get_device(&tx, tenant, id).await?)?;
        let effects = if call.end(tx, "").await? { effects } else { Vec::new() };
        let shown = Shown { device, presence: Presence::Offline, last_hello_at: None };
        Ok((shown, effects))
    }

    /// Ends a quarantine: whichever board of the two comes then is the device, until the other one is heard again.
    pub(crate) async fn release_device(
        &self,
        actor: &Actor,
        call: &Call,
        tenant: TenantId,
        id: DeviceId,
        etag: &str,
        now: SystemTime,
    ) -> Result<Shown, Error> {
        let tx = self.store.tx(tenant).await?;
        if call.begin(&tx, now).await? == Known::New {
            let device = still(devices::lock_many(&tx, tenant, &[id]).await?.get(&id), etag)?.clone();
            if device.revoked_at.is_some() {
                return Err(Error::precondition("DEVICE_REVOKED", "the device is revoked for good"));
            }
            if !devices::release(&tx, tenant, id).await? {
                return Err(Error::precondition("NOT_QUARANTINED", "the device is not in quarantine"));
            }
            lives::begin_anew(&tx, id, &fresh_challenge()).await?;
            note(&tx, actor, tenant, &[id], (Change::Released, "release_device")).await?;
        }
        let device = found(devices::get_device(&tx, tenant, id).await?)?;
        call.end(tx, "").await?;
        self.show_one(device, now).await
    }

    /// Those that are revoked; all or none, each once, with the etag it must still have.
    pub(crate) async fn delete_devices(
        &self,
        actor: &Actor,
        call: &Call,
        tenant: TenantId,
        doomed: &[(DeviceId, String)],
        now: SystemTime,
    ) -> Result<(), Error> {
        let ids: Vec<DeviceId> = doomed.iter().map(|(id, _)| *id).collect();
        let tx = self.store.tx(tenant).await?;
        if let Known::Done(_) = call.begin(&tx, now).await? {
            return Ok(());
        }
        let locked = devices::lock_many(&tx, tenant, &ids).await?;
        for (at, (id, etag)) in doomed.iter().enumerate() {
            let device = still(locked.get(id), etag).map_err(|error| error.of(at))?;
            if device.revoked_at.is_none() {
                return Err(Error::precondition("NOT_REVOKED", "only a revoked device is deleted").of(at));
            }
        }
        devices::delete(&tx, tenant, &ids).await?;
        note(&tx, actor, tenant, &ids, (Change::Deleted, "delete_device")).await?;
        if call.end(tx, "").await? {
            self.leases.forget(tenant, &ids).await;
        }
        Ok(())
    }

    pub(super) async fn show(&self, devices: Vec<Device>, now: SystemTime) -> Vec<Shown> {
        let asked: Vec<(DeviceId, bool)> = devices.iter().map(|d| (d.id, d.report.is_some())).collect();
        let seen = self.leases.of(&asked, now).await;
        let show = |(device, seen): (Device, crate::store::presence::Seen)| {
            let reported_at = device.report.as_ref().map(|reported| reported.at);
            let out = device.revoked_at.is_some() || device.quarantined_at.is_some();
            let presence = if out && seen.presence == Presence::Online {
                // Its lease outlives its connection by a moment.
                Presence::Offline
            } else {
                seen.presence
            };
            Shown { presence, last_hello_at: seen.last_hello_at.max(reported_at), device }
        };
        devices.into_iter().zip(seen).map(show).collect()
    }

    pub(super) async fn show_one(&self, device: Device, now: SystemTime) -> Result<Shown, Error> {
        found(self.show(vec![device], now).await.pop())
    }
}

/// A device that is there and as its etag says.
pub(super) fn still<'d>(device: Option<&'d Device>, etag: &str) -> Result<&'d Device, Error> {
    let device = device.ok_or(Error::NotFound)?;
    if device.is_still(etag) { Ok(device) } else { Err(Error::Changed) }
}

/// All of them, in the order of `ids`, or an error of the first that is not there.
async fn in_order(tx: &Tx, tenant: TenantId, ids: &[DeviceId]) -> Result<Vec<Device>, Error> {
    let found = devices::get_many(tx, tenant, ids).await?;
    let found: BTreeMap<DeviceId, Device> = found.into_iter().map(|device| (device.id, device)).collect();
    let one = |(at, id)| found.get(id).cloned().ok_or_else(|| Error::NotFound.of(at));
    ids.iter().enumerate().map(one).collect()
}

/// Tells the feed and the audit trail.
pub(super) async fn note(
    tx: &Tx,
    actor: &Actor,
    tenant: TenantId,
    ids: &[DeviceId],
    (change, action): (Change, &str),
) -> Result<(), Error> {
    devices::changed(tx, tenant, ids, change).await?;
    let targets: Vec<String> = ids.iter().map(ToString::to_string).collect();
    upkeep::audit_all(tx, tenant, &actor.subject, action, &targets).await
}

/// Within a transaction that holds a device's fate.
pub(super) async fn revoke(
    tx: &Tx,
    actor: &Actor,
    tenant: TenantId,
    id: DeviceId,
    now: SystemTime,
) -> Result<Vec<Effect>, Error> {
    if devices::revoke(tx, tenant, id, micros(now)).await? {
        note(tx, actor, tenant, &[id], (Change::Revoked, "revoke_device")).await?;
    } else {
        found(devices::get_device(tx, tenant, id).await?)?;
    }
    let identity = id.to_string();
    upkeep::request_disconnect(tx, tenant, &identity).await?;
    Ok(vec![Effect::Disconnect(identity)])
}
