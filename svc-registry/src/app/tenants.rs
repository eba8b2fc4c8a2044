//! Tenants and their keys. A tenant comes with its device CA and its first administrator's key, or not at all; it
//! never loses its last administrator, nor the installation its last.

use std::time::SystemTime;

use kit::once::{Call, Known};
use wire::{KeyId, PublicKey, TenantId};

use super::installation::tenant_authority;
use super::{Actor, App, Page, found, micros, new_tenant_id, one_more};
use crate::error::Error;
use crate::model::{Invalid, Key, Role, Tenant, field};
use crate::store::{Tx, authority, tenants, upkeep};

/// SubjectPublicKeyInfo DER of a P-256 key, in its one encoding.
pub(super) fn public_key(field: &'static str, der: &[u8]) -> Result<Vec<u8>, Error> {
    let key = PublicKey::from_spki_der(der).and_then(|key| key.spki_der());
    let refused = || Invalid::new(field, "must be a P-256 public key as SubjectPublicKeyInfo DER");
    Ok(key.map_err(|_| refused())?.to_vec())
}

impl App {
    pub(crate) async fn create_tenant(
        &self,
        actor: &Actor,
        call: &Call,
        display_name: &str,
        admin_public_key: &[u8],
        now: SystemTime,
    ) -> Result<(Tenant, KeyId), Error> {
        let now = micros(now);
        field::display_name("display_name", display_name)?;
        let public_key = public_key("admin_public_key", admin_public_key)?;
        let tenant = Tenant {
            id: new_tenant_id(),
            display_name: display_name.to_owned(),
            created_at: now,
            debugging_forbidden: false,
        };
        let key = Key {
            id: KeyId::new(kit::fresh_id()),
            tenant: tenant.id,
            display_name: "first administrator".to_owned(),
            role: Role::Admin,
            installation: false,
            public_key,
            created_at: now,
        };
        let tx = self.store.every().await?;
        if let Known::Done(made) = call.begin(&tx, now).await? {
            return made_before(&tx, &made).await;
        }
        self.make_tenant(&tx, &tenant, &key, now).await?;
        upkeep::audit(&tx, tenant.id, &actor.subject, "create_tenant", &format!("tenants/{}", tenant.id))
            .await?;
        call.end(tx, &format!("{} {}", tenant.id, key.id)).await?;
        Ok((tenant, key.id))
    }

    pub(super) async fn make_tenant(
        &self,
        tx: &Tx,
        tenant: &Tenant,
        key: &Key,
        now: SystemTime,
    ) -> Result<(), Error> {
        tenants::insert_tenant(tx, tenant).await?;
        tenant_authority(tx, &self.master, tenant.id, now).await?;
        tenants::insert_key(tx, key).await?;
        Ok(())
    }

    pub(crate) async fn tenant(&self, tenant: TenantId) -> Result<Tenant, Error> {
        let tx = self.store.tx(tenant).await?;
        found(tenants::tenant(&tx, tenant).await?)
    }

    pub(crate) async fn tenants(&self, after: &str, limit: usize) -> Result<Page<Tenant>, Error> {
        let tx = self.store.every().await?;
        let rows = tenants::list_tenants(&tx, after, one_more(limit)).await?;
        Ok(Page::of(rows, limit, |tenant| tenant.id.to_string()))
    }

    /// `key` comes without id and times.
    pub(crate) async fn create_key(
        &self,
        actor: &Actor,
        call: &Call,
        mut key: Key,
        now: SystemTime,
    ) -> Result<Key, Error> {
        field::display_name("key.display_name", &key.display_name)?;
        key.public_key = public_key("key.public_key", &key.public_key)?;
        if key.installation && !actor.installation {
            return Err(Error::Forbidden("only an administrator of the installation makes another"));
        }
        if key.installation && key.role != Role::Admin {
            return Err(Invalid::new("key.installation", "goes with the role admin only").into());
        }
        key.id = KeyId::new(kit::fresh_id());
        key.created_at = micros(now);
        let tx = self.store.tx(key.tenant).await?;
        if let Known::Done(id) = call.begin(&tx, now).await? {
            let id = id.parse().map_err(|_| Error::Corrupt { column: "requests.outcome" })?;
            return found(tenants::key(&tx, key.tenant, id).await?);
        }
        if !tenants::lock_tenant(&tx, key.tenant).await? {
            return Err(Error::NotFound);
        }
        if !tenants::insert_key(&tx, &key).await? {
            return Err(Error::AlreadyExists("the tenant has this public key already"));
        }
        upkeep::audit(&tx, key.tenant, &actor.subject, "create_key", &key.id.to_string()).await?;
        call.end(tx, &key.id.to_string()).await?;
        Ok(key)
    }

    pub(crate) async fn keys(&self, tenant: TenantId, after: &str, limit: usize) -> Result<Page<Key>, Error> {
        let tx = self.store.tx(tenant).await?;
        let rows = tenants::list_keys(&tx, tenant, after, one_more(limit)).await?;
        Ok(Page::of(rows, limit, |key| key.id.to_string()))
    }

    pub(crate) async fn delete_key(
        &self,
        actor: &Actor,
        call: &Call,
        tenant: TenantId,
        id: KeyId,
        now: SystemTime,
    ) -> Result<(), Error> {
        // Across tenants, to count the installation's administrators; the queries name the tenant.
        let tx = self.store.every().await?;
        if let Known::Done(_) = call.begin(&tx, now).await? {
            return Ok(());
        }
        authority::lock_installation(&tx).await?;
        tenants::lock_tenant(&tx, tenant).await?;
        let key = found(tenants::key(&tx, tenant, id).await?)?;
        if key.installation && !actor.installation {
            return Err(Error::Forbidden("only an administrator of the installation deletes this key"));
        }
        if key.role == Role::Admin && tenants::count_admins(&tx, tenant).await? <= 1 {
            return Err(Error::precondition("LAST_ADMIN_KEY", "the tenant's last administrator key stays"));
        }
        if key.installation && tenants::count_installers(&tx).await? <= 1 {
            return Err(Error::precondition(
                "LAST_ADMIN_KEY",
                "the installation's last administrator key stays",
            ));
        }
        tenants::delete_key(&tx, tenant, id).await?;
        upkeep::audit(&tx, tenant, &actor.subject, "delete_key", &id.to_string()).await?;
        call.end(tx, "").await?;
        Ok(())
    }
}

/// What an earlier call of the same name made, as it is by now.
async fn made_before(tx: &Tx, made: &str) -> Result<(Tenant, KeyId), Error> {
    let corrupt = || Error::Corrupt { column: "requests.outcome" };
    let (tenant, key) = made.split_once(' ').ok_or_else(corrupt)?;
    let tenant = tenant.parse().map_err(|_| corrupt())?;
    let key = key.parse().map_err(|_| corrupt())?;
    Ok((found(tenants::tenant(tx, tenant).await?)?, key))
}
