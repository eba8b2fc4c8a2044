//! Bundles: find, list, delete what nothing uses.

use std::time::SystemTime;

use kit::once::{Call, Known};
use wire::{BundleId, TenantId};

use super::App;
use crate::error::Error;
use crate::model::bundle::Bundle;
use crate::store::bundles::{self, Use};
use crate::store::{symbols, uploads};

pub(crate) async fn find(app: &App, tenant: TenantId, id: BundleId) -> Result<Bundle, Error> {
    let tx = app.pg.one(tenant).await?;
    bundles::find(&tx, tenant, id).await?.ok_or(Error::NotFound)
}

/// In order of id.
pub(crate) async fn list(
    app: &App,
    tenant: TenantId,
    before: Option<BundleId>,
    limit: usize,
) -> Result<Vec<Bundle>, Error> {
    let tx = app.pg.one(tenant).await?;
    bundles::page(&tx, tenant, before, limit as i64).await
}

/// Forgets a bundle that no unfinished deployment and no confirmed slot of a device needs; its layers go with the next
/// sweep if no other bundle has them, and so does its ELF file.
pub(crate) async fn delete(
    app: &App,
    call: &Call,
    tenant: TenantId,
    id: BundleId,
    now: SystemTime,
) -> Result<(), Error> {
    let tx = app.pg.tx(tenant).await?;
    if let Known::Done(_) = call.begin(&tx, now).await? {
        return Ok(());
    }
    let bundle = bundles::find(&tx, tenant, id).await?.ok_or(Error::NotFound)?;
    match bundles::in_use(&tx, &bundle).await? {
        Some(Use::Deployment) => return Err(Error::InUse("an unfinished deployment uses the bundle")),
        Some(Use::ConfirmedSlot) => return Err(Error::InUse("a device holds the bundle confirmed")),
        None => {}
    }
    if let Some(object) = symbols::delete(&tx, tenant, bundle.manifest).await? {
        uploads::discard(&tx, tenant, &object, now).await?;
    }
    bundles::delete(&tx, id).await?;
    call.end(tx, "").await?;
    Ok(())
}
