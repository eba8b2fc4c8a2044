//! Where debugging is forbidden. svc-debug-relay enforces it; here it is decided, kept and audited.

use std::time::SystemTime;

use kit::once::{Call, Known};
use wire::TenantId;

use super::devices::note;
use super::{Actor, App, Page, found, micros, one_more};
use crate::error::Error;
use crate::model::debugging::{Ban, Scope};
use crate::store::devices::{self, Change};
use crate::store::{Tx, debugging, tenants, upkeep};

impl App {
    /// Repeating it is no error: who forbade it first stays.
    pub(crate) async fn forbid_debugging(
        &self,
        actor: &Actor,
        call: &Call,
        tenant: TenantId,
        scope: &Scope,
        now: SystemTime,
    ) -> Result<Ban, Error> {
        scope.check()?;
        let tx = self.store.tx(tenant).await?;
        if call.begin(&tx, now).await? == Known::New {
            lock(&tx, tenant, scope).await?;
            if debugging::forbid(&tx, tenant, scope, &actor.subject, micros(now)).await? {
                tell(&tx, actor, tenant, scope, "forbid_debugging").await?;
            }
        }
        let ban = found(debugging::ban(&tx, tenant, scope).await?)?;
        call.end(tx, "").await?;
        Ok(ban)
    }

    /// Repeating it is no error.
    pub(crate) async fn allow_debugging(
        &self,
        actor: &Actor,
        call: &Call,
        tenant: TenantId,
        scope: &Scope,
        now: SystemTime,
    ) -> Result<(), Error> {
        scope.check()?;
        let tx = self.store.tx(tenant).await?;
        if call.begin(&tx, now).await? == Known::New {
            lock(&tx, tenant, scope).await?;
            if debugging::allow(&tx, tenant, scope).await? {
                tell(&tx, actor, tenant, scope, "allow_debugging").await?;
            }
        }
        call.end(tx, "").await?;
        Ok(())
    }

    pub(crate) async fn debug_bans(
        &self,
        tenant: TenantId,
        after: Option<&Scope>,
        limit: usize,
    ) -> Result<Page<Ban>, Error> {
        let tx = self.store.one(tenant).await?;
        let rows = debugging::list(&tx, tenant, after, one_more(limit)).await?;
        tx.commit().await?;
        Ok(Page::of(rows, limit, |ban| ban.scope.to_string()))
    }
}

/// Of what is there; a device's own row, or the tenant's, so that labels are counted one at a time.
async fn lock(tx: &Tx, tenant: TenantId, scope: &Scope) -> Result<(), Error> {
    let there = match scope {
        Scope::Device(id) => devices::lock_many(tx, tenant, &[*id]).await?.contains_key(id),
        Scope::Tenant | Scope::Label { .. } => tenants::lock_tenant(tx, tenant).await?,
    };
    if there { Ok(()) } else { Err(Error::NotFound) }
}

/// The audit trail, and of a device the feed: those of a tenant or label are too many to be told one by one.
async fn tell(tx: &Tx, actor: &Actor, tenant: TenantId, scope: &Scope, action: &str) -> Result<(), Error> {
    match scope {
        Scope::Device(id) => note(tx, actor, tenant, &[*id], (Change::Debugging, action)).await,
        Scope::Tenant | Scope::Label { .. } => {
            upkeep::audit(tx, tenant, &actor.subject, action, &scope.to_string()).await
        }
    }
}
