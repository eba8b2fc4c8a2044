//! Keysets: only the next version, signed by the threshold of the version before. What is stored is what devices get:
//! they check it again.

use std::time::SystemTime;

use kit::once::{Call, Known};
use kit::pg::Scope;
use wire::TenantId;
use wire::cose::P256;
use wire::keyset::{Keyset, KeysetError, open_next, open_self_signed, read};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{Actor, App, Page, found, micros, one_more};
use crate::error::Error;
use crate::model::{Invalid, SignedKeyset};
use crate::store::{keysets, tenants, upkeep};

impl App {
    /// Sending the newest version again, byte for byte, is no error.
    pub(crate) async fn create_keyset(
        &self,
        actor: &Actor,
        call: &Call,
        tenant: TenantId,
        signed: &[u8],
        now: SystemTime,
    ) -> Result<SignedKeyset, Error> {
        let tx = self.store.tx(Scope::Tenant(tenant)).await?;
        if let Known::Done(version) = call.begin(&tx, now).await? {
            let version = version.parse().map_err(|_| Error::Corrupt { column: "requests.outcome" })?;
            return found(keysets::version(&tx, tenant, version).await?);
        }
        if !tenants::lock_tenant(&tx, tenant).await? {
            return Err(Error::NotFound);
        }
        let latest = keysets::latest(&tx, tenant).await?;
        if let Some(latest) = latest.as_ref().filter(|latest| latest.signed == signed) {
            call.end(tx, &latest.version.to_string()).await?;
            return Ok(latest.clone());
        }
        let keyset = check(signed, latest.as_ref(), tenant)?;
        let version =
            i32::try_from(keyset.version).map_err(|_| Invalid::new("signed", "version is out of range"))?;
        let made = SignedKeyset { version, signed: signed.to_vec(), created_at: micros(now) };
        keysets::insert(&tx, tenant, &made).await?;
        upkeep::audit(&tx, tenant, &actor.subject, "create_keyset", &made.version.to_string()).await?;
        call.end(tx, &made.version.to_string()).await?;
        Ok(made)
    }

    /// None: the newest.
    pub(crate) async fn keyset(&self, tenant: TenantId, version: Option<u32>) -> Result<SignedKeyset, Error> {
        let tx = self.store.one(tenant).await?;
        let row = match version {
            None => keysets::latest(&tx, tenant).await?,
            Some(version) => match i32::try_from(version) {
                Ok(version) => keysets::version(&tx, tenant, version).await?,
                Err(_) => None,
            },
        };
        found(row)
    }

    pub(crate) async fn keysets(
        &self,
        tenant: TenantId,
        after: i32,
        limit: usize,
    ) -> Result<Page<SignedKeyset>, Error> {
        let tx = self.store.one(tenant).await?;
        let rows = keysets::list(&tx, tenant, after, one_more(limit)).await?;
        Ok(Page::of(rows, limit, |keyset| keyset.version.to_string()))
    }
}

fn check<'a>(signed: &'a [u8], latest: Option<&SignedKeyset>, tenant: TenantId) -> Result<Keyset<'a>, Error> {
    let keyset = match latest {
        None => open_self_signed(signed, &P256),
        Some(latest) => {
            let current = read(&latest.signed).map_err(|_| Error::Corrupt { column: "signed" })?;
            open_next(signed, &current, &P256)
        }
    };
    let keyset = keyset.map_err(|error| refused(error, latest))?;
    if keyset.tenant != tenant {
        return Err(Invalid::new("signed", "keyset is another tenant's").into());
    }
    for anchor in &keyset.broker_anchors {
        if !X509Certificate::from_der(anchor)
            .is_ok_and(|(rest, certificate)| rest.is_empty() && certificate.is_ca())
        {
            return Err(Invalid::new("signed", "a broker anchor is not a CA certificate").into());
        }
    }
    Ok(keyset)
}

fn refused(error: KeysetError, latest: Option<&SignedKeyset>) -> Error {
    match error {
        KeysetError::Version => {
            let next = latest.map_or(1, |latest| latest.version + 1);
            Error::precondition("KEYSET_VERSION", format!("the next keyset is version {next}"))
        }
        error => Invalid::new("signed", error.to_string()).into(),
    }
}
