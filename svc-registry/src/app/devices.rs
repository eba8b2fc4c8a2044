//! Devices as operators see them: rows of Postgres, with presence from Redis if it answers.

use std::time::SystemTime;

use wire::{DeviceId, TenantId};

use super::{Actor, App, Effect, Page, found, micros, one_more};
use crate::error::Error;
use crate::model::{Device, Filter, Labels, Presence, device};
use crate::store::devices::{self, Change};
use crate::store::{Tx, upkeep};

/// A device and what is known of it now.
#[derive(Debug, Clone)]
pub(crate) struct Shown {
    pub device: Device,
    pub presence: Presence,
    pub last_hello_at: Option<SystemTime>,
}

impl App {
    pub(crate) async fn device(
        &self,
        tenant: TenantId,
        id: DeviceId,
        now: SystemTime,
    ) -> Result<Shown, Error> {
        let tx = self.store.tx(tenant).await?;
        let device = found(devices::get_device(&tx, tenant, id).await?)?;
        tx.commit().await?;
        self.show_one(device, now).await
    }

    pub(crate) async fn devices(
        &self,
        tenant: TenantId,
        filter: &Filter,
        after: &str,
        limit: usize,
        now: SystemTime,
    ) -> Result<Page<Shown>, Error> {
        let tx = self.store.tx(tenant).await?;
        let rows = devices::list(&tx, tenant, filter, after, one_more(limit)).await?;
        tx.commit().await?;
        let page = Page::of(rows, limit, |device| device.id.to_string());
        Ok(Page { items: self.show(page.items, now).await, next: page.next })
    }

    pub(crate) async fn set_labels(
        &self,
        actor: &Actor,
        tenant: TenantId,
        id: DeviceId,
        labels: &Labels,
        etag: &str,
        now: SystemTime,
    ) -> Result<Shown, Error> {
        device::check_labels(labels)?;
        let tx = self.store.tx(tenant).await?;
        // Locks the row, so that the etag compared is the one that is replaced.
        if !devices::set_labels(&tx, tenant, id, labels, etag).await? {
            let exists = devices::get_device(&tx, tenant, id).await?.is_some();
            let changed = || {
                Error::precondition("ETAG_MISMATCH", "the device changed since it was read; read it again")
            };
            return Err(if exists { changed() } else { Error::NotFound });
        }
        devices::changed(&tx, tenant, id, Change::Labels).await?;
        upkeep::audit(&tx, tenant, &actor.subject, "set_labels", &id.to_string()).await?;
        let device = found(devices::get_device(&tx, tenant, id).await?)?;
        tx.commit().await?;
        self.show_one(device, now).await
    }

    /// Repeating it is no error: the connection is ended again.
    pub(crate) async fn revoke_device(
        &self,
        actor: &Actor,
        tenant: TenantId,
        id: DeviceId,
        now: SystemTime,
    ) -> Result<(Shown, Vec<Effect>), Error> {
        let tx = self.store.tx(tenant).await?;
        let effects = revoke(&tx, actor, tenant, id, now).await?;
        let device = found(devices::get_device(&tx, tenant, id).await?)?;
        tx.commit().await?;
        let shown = Shown { device, presence: Presence::Offline, last_hello_at: None };
        Ok((shown, effects))
    }

    pub(crate) async fn delete_device(
        &self,
        actor: &Actor,
        tenant: TenantId,
        id: DeviceId,
    ) -> Result<(), Error> {
        let tx = self.store.tx(tenant).await?;
        if !devices::delete(&tx, tenant, id).await? {
            found(devices::get_device(&tx, tenant, id).await?)?;
            return Err(Error::precondition("NOT_REVOKED", "only a revoked device is deleted"));
        }
        devices::changed(&tx, tenant, id, Change::Deleted).await?;
        upkeep::audit(&tx, tenant, &actor.subject, "delete_device", &id.to_string()).await?;
        tx.commit().await?;
        self.leases.forget(tenant, id).await;
        Ok(())
    }

    pub(super) async fn show(&self, devices: Vec<Device>, now: SystemTime) -> Vec<Shown> {
        let asked: Vec<(DeviceId, bool)> = devices.iter().map(|d| (d.id, d.report.is_some())).collect();
        let seen = self.leases.of(&asked, now).await;
        let show = |(device, seen): (Device, crate::store::presence::Seen)| {
            let reported_at = device.report.as_ref().map(|reported| reported.at);
            let presence = if device.revoked_at.is_some() && seen.presence == Presence::Online {
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

/// Within a transaction that holds a device's fate.
pub(super) async fn revoke(
    tx: &Tx,
    actor: &Actor,
    tenant: TenantId,
    id: DeviceId,
    now: SystemTime,
) -> Result<Vec<Effect>, Error> {
    if devices::revoke(tx, tenant, id, micros(now)).await? {
        devices::changed(tx, tenant, id, Change::Revoked).await?;
        upkeep::audit(tx, tenant, &actor.subject, "revoke_device", &id.to_string()).await?;
    } else {
        found(devices::get_device(tx, tenant, id).await?)?;
    }
    let identity = id.to_string();
    upkeep::request_disconnect(tx, tenant, &identity).await?;
    Ok(vec![Effect::Disconnect(identity)])
}
