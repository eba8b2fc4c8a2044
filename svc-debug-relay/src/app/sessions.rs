//! Creating, showing, ending sessions, and showing what happened to them.

use std::time::SystemTime;

use kit::once::{Call, Known};
use wire::{DebugSessionId, TenantId};

use super::{App, LEASE, SESSIONS_OF_TENANT_MAX, WATCH_SESSIONS_MAX};
use crate::error::Error;
use crate::model::{EndReason, Role};
use crate::store::devices::{self, Standing};
use crate::store::sessions::Open;
use crate::store::{attachments, events, leases, sessions};

pub(crate) use crate::store::events::{Event, Filter as EventFilter, Kind as EventKind};
pub(crate) use crate::store::sessions::{Filter, Stored, Wanted};

impl App {
    /// Who is refused because debugging is forbidden is written down: there is no session it could be said of later.
    pub(crate) async fn create(&self, call: &Call, wanted: &Wanted<'_>) -> Result<Stored, Error> {
        let made = self.make(call, wanted).await;
        if let Err(error @ Error::DebuggingForbidden { .. }) = &made
            && !call.validates_only()
        {
            let (device, subject, reason) = (wanted.device, wanted.creator, error.reason());
            tracing::info!(%device, subject, reason, %error, "refused a debug session");
            metrics::counter!("relay_denials_total", "reason" => reason).increment(1);
            let tx = self.store.tx(wanted.tenant).await?;
            events::refused(&tx, wanted, reason).await?;
            tx.commit().await?;
        }
        made
    }

    async fn make(&self, call: &Call, wanted: &Wanted<'_>) -> Result<Stored, Error> {
        let id = DebugSessionId::new(*uuid::Uuid::now_v7().as_bytes());
        let tx = self.store.tx(wanted.tenant).await?;
        if let Known::Done(id) = call.begin(&tx, SystemTime::now()).await? {
            // As it is by now: what the caller missed has happened since.
            let id = id.parse().map_err(|_| Error::NotFound)?;
            return sessions::get(&tx, id).await?.ok_or(Error::NotFound);
        }
        match devices::standing(&tx, wanted.tenant, wanted.device).await? {
            Standing::Good => {}
            Standing::Unknown => return Err(Error::NotFound),
            Standing::Revoked => return Err(Error::DeviceRevoked),
            Standing::Forbidden(by) => return Err(Error::DebuggingForbidden { by }),
        }
        has_room(&sessions::count_open(&tx, wanted.tenant, wanted.device).await?, wanted.role)?;
        if !sessions::create(&tx, id, wanted).await? {
            return Err(Error::DeviceHasSession);
        }
        events::created(&tx, id, wanted.creator).await?;
        let made = sessions::get(&tx, id).await?.ok_or(Error::NotFound)?;
        if !call.end(tx, &id.to_string()).await? {
            return Ok(made);
        }
        let (device, subject, role) = (wanted.device, wanted.creator, wanted.role.name());
        tracing::info!(session = %id, %device, subject, role, "debug session created");
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

    /// Ends a session, whoever made or holds it; the holder hears of it and tells the device and who is attached.
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
        let reason = EndReason::of_closing(&locked.creator, subject);
        if sessions::end(&tx, id, None, reason, subject).await? && !locked.is_leased {
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

/// Whether there may be one more of that role.
fn has_room(open: &Open, role: Role) -> Result<(), Error> {
    if open.of_tenant >= SESSIONS_OF_TENANT_MAX {
        return Err(Error::TooManySessions { max: SESSIONS_OF_TENANT_MAX });
    }
    match role {
        Role::Writer if open.writers > 0 => Err(Error::DeviceHasSession),
        Role::Watcher if open.watchers >= WATCH_SESSIONS_MAX => {
            Err(Error::DeviceHasWatchers { max: WATCH_SESSIONS_MAX })
        }
        Role::Writer | Role::Watcher => Ok(()),
    }
}

fn cut<T>(mut page: Vec<T>, limit: usize) -> (Vec<T>, bool) {
    let more = page.len() > limit;
    page.truncate(limit);
    (page, more)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_has_one_writer_and_four_watchers_and_a_tenant_has_an_end() {
        let refused = |of_tenant, writers, watchers, role| {
            has_room(&Open { of_tenant, writers, watchers }, role).err().map(|error| error.reason())
        };
        let full = Some("DEBUG_SESSIONS_OF_TENANT_MAX");
        for (role, writers, watchers, reason) in [
            (Role::Writer, 0, WATCH_SESSIONS_MAX, None),
            (Role::Writer, 1, 0, Some("DEVICE_HAS_SESSION")),
            (Role::Watcher, 1, WATCH_SESSIONS_MAX - 1, None),
            (Role::Watcher, 0, WATCH_SESSIONS_MAX, Some("DEVICE_HAS_WATCHERS")),
        ] {
            assert_eq!(refused(SESSIONS_OF_TENANT_MAX - 1, writers, watchers, role), reason, "{role:?}");
            assert_eq!(refused(SESSIONS_OF_TENANT_MAX, writers, watchers, role), full);
        }
    }
}
