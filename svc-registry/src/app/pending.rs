//! Boards that wait because their hardware id is held by another key. Accepting one ends the old identity and makes a
//! new one for the waiting key, which takes its place; the board gets its certificates when it asks again. It does not count against its
//! claim: the operator's word is worth more.

use std::time::SystemTime;

use kit::once::{Call, Known};
use wire::{DeviceId, PendingId, TenantId};

use super::devices::revoke;
use super::replace::{keep_bans, take_place};
use super::{Actor, App, Effect, Page, Shown, found, micros, one_more};
use crate::error::Error;
use crate::model::{Pending, Presence};
use crate::store::devices::{self, Change};
use crate::store::enroll::{self as rows, NewDevice};
use crate::store::upkeep;

impl App {
    pub(crate) async fn pending(
        &self,
        tenant: TenantId,
        after: &str,
        limit: usize,
    ) -> Result<Page<Pending>, Error> {
        let tx = self.store.tx(tenant).await?;
        let rows = rows::list_pending(&tx, tenant, after, one_more(limit)).await?;
        Ok(Page::of(rows, limit, |pending| pending.id.to_string()))
    }

    pub(crate) async fn accept_pending(
        &self,
        actor: &Actor,
        call: &Call,
        tenant: TenantId,
        id: PendingId,
        now: SystemTime,
    ) -> Result<(Shown, Vec<Effect>), Error> {
        let tx = self.store.tx(tenant).await?;
        if let Known::Done(device) = call.begin(&tx, now).await? {
            let device = device.parse().map_err(|_| Error::Corrupt { column: "requests.outcome" })?;
            let device = found(devices::get_device(&tx, tenant, device).await?)?;
            return Ok((self.show_one(device, now).await?, Vec::new()));
        }
        let waiting = found(rows::waiting(&tx, tenant, id).await?)?;
        let mut effects = Vec::new();
        if let Some(old) = waiting.pending.holder {
            effects = revoke(&tx, actor, tenant, old, now).await?;
            rows::release_hardware_id(&tx, old).await?;
        }
        let device = DeviceId::new(kit::fresh_id());
        let new = NewDevice {
            id: device,
            tenant,
            hardware_id: &waiting.pending.hardware_id,
            board: &waiting.pending.board,
            key_digest: waiting.pending.key_digest,
            public_key: &waiting.public_key,
            claim: Some(waiting.claim),
            now: micros(now),
        };
        if !rows::insert(&tx, &new).await? {
            return Err(Error::precondition(
                "KEY_KNOWN",
                "the waiting board's key has become another device's",
            ));
        }
        rows::delete_pending(&tx, tenant, id).await?;
        devices::changed(&tx, tenant, &[device], Change::Created).await?;
        upkeep::audit(&tx, tenant, &actor.subject, "accept_pending", &device.to_string()).await?;
        let both = waiting.pending.holder.map_or(vec![device], |old| vec![old, device]);
        let both = devices::lock_many(&tx, tenant, &both).await?;
        match waiting.pending.holder.and_then(|old| both.get(&old)).zip(both.get(&device)) {
            Some((old, new)) if old.replaced_by.is_none() => take_place(&tx, actor, old, new).await?,
            Some((old, new)) => keep_bans(&tx, old, new).await?,
            None => {}
        }
        let shown = found(devices::get_device(&tx, tenant, device).await?)?;
        if !call.end(tx, &device.to_string()).await? {
            effects.clear();
        }
        Ok((Shown { device: shown, presence: Presence::Unknown, last_hello_at: None }, effects))
    }
}
