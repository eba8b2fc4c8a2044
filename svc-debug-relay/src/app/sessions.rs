//! Creating, showing, ending sessions, and showing what happened to them.

use std::time::SystemTime;

use kit::once::{Call, Known};
use wire::{DebugSessionId, DeviceId, TenantId};

use super::{App, LEASE, SESSIONS_OF_TENANT_MAX};
use crate::error::Error;
use crate::model::EndReason;
use crate::model::timeouts::Timeouts;
use crate::store::devices::{self, Standing};
use crate::store::sessions::New;
use crate::store::{attachments, events, leases, sessions};

pub(crate) use crate::store::events::{Event, Filter as EventFilter, Kind as EventKind};
pub(crate) use crate::store::sessions::{Filter, Stored};

impl App {
    /// Who is refused because debugging is forbidden is written down: there is no session it could be said of later.
    pub(crate) async fn create(
        &self,
        call: &Call,
        tenant: TenantId,
        device: DeviceId,
        creator: &str,
        timeouts: Timeouts,
    ) -> Result<Stored, Error> {
        let made = self.make(call, tenant, device, creator, timeouts).await;
        if let Err(error @ Error::DebuggingForbidden { .. }) = &made
            && !call.validates_only()
        {
            let reason = error.reason();
            tracing::info!(%device, subject = creator, reason, %error, "refused a debug session");
            metrics::counter!("relay_denials_total", "reason" => reason).increment(1);
            let tx = self.store.tx(tenant).await?;
            events::refused(&tx, tenant, device, creator, reason).await?;
            tx.commit().await?;
        }
        made
    }

    async fn make(
        &self,
        call: &Call,
        tenant: TenantId,
        device: DeviceId,
        creator: &str,
        timeouts: Timeouts,
    ) -> Result<Stored, Error> {
        let id = DebugSessionId::new(*uuid::Uuid::now_v7().as_bytes());
        let tx = self.store.tx(tenant).await?;
        if let Known::Done(id) = call.begin(&tx, SystemTime::now()).await? {
            // As it is by now: what the caller missed has happened since.
            let id = id.parse().map_err(|_| Error::NotFound)?;
            return sessions::get(&tx, id).await?.ok_or(Error::NotFound);
        }
        match devices::standing(&tx, tenant, device).await? {
            Standing::Good => {}
            Standing::Unknown => return Err(Error::NotFound),
            Standing::Revoked => return Err(Error::DeviceRevoked),
            Standing::Forbidden(by) => return Err(Error::DebuggingForbidden { by }),
        }
        if sessions::count_open(&tx, tenant).await? >= SESSIONS_OF_TENANT_MAX {
            return Err(Error::TooManySessions { max: SESSIONS_OF_TENANT_MAX });
        }
        if !sessions::create(&tx, &New { id, tenant, device, creator, timeouts }).await? {
            return Err(Error::DeviceHasSession);
        }
        events::created(&tx, id, creator).await?;
        let made = sessions::get(&tx, id).await?.ok_or(Error::NotFound)?;
        if !call.end(tx, &id.to_string()).await? {
            return Ok(made);
        }
        tracing::info!(session = %id, %device, subject = creator, "debug session created");
        Ok(made)
    }

    pub(crate) async fn show(&self, tenant: TenantId, id: DebugSessionId) -> Result<Stored, Error> {
        let tx = self.store.one(tenant).await?;
        let found = sessions::get(&tx, id).await?.ok_or(Error::NotFound)?;
        tx.commit().await?;
        Ok(found)
    }

    /// At most `limit`, newest first, and whether there are more.
    pub(crate) async fn list(
        &self,
        tenant: TenantId,
        filter: Filter,
        limit: usize,
    ) -> Result<(Vec<Stored>, bool), Error> {
        let tx = self.store.one(tenant).await?;
        let page = sessions::list(&tx, filter, limit + 1).await?;
        tx.commit().await?;
        Ok(cut(page, limit))
    }

    /// At most `limit`, newest first, and whether there are more.
    pub(crate) async fn events(
        &self,
        tenant: TenantId,
        filter: EventFilter,
        limit: usize,
    ) -> Result<(Vec<Event>, bool), Error> {
        let tx = self.store.one(tenant).await?;
        let page = events::list(&tx, filter, limit + 1).await?;
        tx.commit().await?;
        Ok(cut(page, limit))
    }

    /// Ends a session, whoever holds it; the holder hears of it and tells the device and those attached.
    pub(crate) async fn close(
        &self,
        call: &Call,
        tenant: TenantId,
        id: DebugSessionId,
        subject: &str,
    ) -> Result<Stored, Error> {
        let tx = self.store.tx(tenant).await?;
        if call.begin(&tx, SystemTime::now()).await? != Known::New {
            return sessions::get(&tx, id).await?.ok_or(Error::NotFound);
        }
        let locked = leases::lock(&tx, id).await?.ok_or(Error::NotFound)?;
        let held = self.sessions.get(id).filter(|held| held.epoch == locked.epoch);
        if let Some(held) = &held {
            // With what went through it to the last.
            leases::renew(&tx, self.relay, LEASE, &[self.renewal(held)]).await?;
        }
        if sessions::end(&tx, id, None, EndReason::ClosedByOperator, subject).await? && !locked.is_leased {
            // Whoever served them is gone.
            attachments::remove_orphans(&tx, id, u32::MAX, EndReason::RelayLost).await?;
        }
        let ended = sessions::get(&tx, id).await?.ok_or(Error::NotFound)?;
        if !call.end(tx, "").await? {
            return Ok(ended);
        }
        tracing::info!(session = %id, device = %ended.device, subject, "debug session closed");
        if let (Some(held), Some(reason)) = (held, ended.ended) {
            held.session().end(reason, self.now());
            held.session().settle();
            self.touched(&held);
        }
        Ok(ended)
    }
}

fn cut<T>(mut page: Vec<T>, limit: usize) -> (Vec<T>, bool) {
    let more = page.len() > limit;
    page.truncate(limit);
    (page, more)
}
