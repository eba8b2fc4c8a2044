//! Deployments: create, find, list, cancel.

use std::time::SystemTime;

use kit::once::{Call, Known};
use kit::pg::micros;
use kit::trace::Trace;
use wire::{BundleId, DeploymentId, DeviceId, TenantId};

use super::order::{self, Occasion};
use super::{App, Effect, director};
use crate::error::Error;
use crate::model::deployment::Deployment;
use crate::model::report::Moment;
use crate::model::state::{Event, State};
use crate::store::{Tx, bundles, deployments, devices};

/// Directs a device to a bundle in place of what it was directed to before, unless that has begun to install.
pub(crate) async fn create(
    app: &App,
    call: &Call,
    tenant: TenantId,
    device: DeviceId,
    bundle: BundleId,
    now: SystemTime,
) -> Result<(Deployment, Vec<Effect>), Error> {
    let now = micros(now);
    let tx = app.pg.tx(tenant).await?;
    if let Known::Done(id) = call.begin(&tx, now).await? {
        let id = id.parse().map_err(|_| Error::Corrupt("request"))?;
        // As it is by now: what the caller missed has happened since.
        let made = deployments::find(&tx, tenant, id).await?.ok_or(Error::NotFound)?;
        return Ok((made, Vec::new()));
    }
    let bundle = bundles::hold(&tx, tenant, bundle).await?.ok_or(Error::NotFound)?;
    let device = devices::find(&tx, device).await?.filter(|d| d.tenant == tenant).ok_or(Error::NotFound)?;
    if device.revoked {
        return Err(Error::DeviceRevoked);
    }
    if device.quarantined {
        return Err(Error::DeviceQuarantined);
    }
    if device.board != bundle.board {
        return Err(Error::OtherBoard { device: device.board, bundle: bundle.board });
    }
    believes_the_director(app, &tx, tenant).await?;
    if let Some(mut before) = deployments::lock_unfinished(&tx, device.id, bundle.component).await? {
        before.state =
            before.state.next(Event::Supersede).map_err(|_| Error::Started { deployment: before.id })?;
        before.updated_at = now;
        before.next_send_at = None;
        deployments::save(&tx, &before).await?;
    }
    let mut deployment = Deployment {
        tenant,
        id: DeploymentId::new(kit::fresh_id()),
        device: device.id,
        bundle: bundle.id,
        manifest: bundle.manifest,
        component: bundle.component,
        version: bundle.version,
        security_counter: bundle.security_counter,
        bytes_total: bundle.bytes,
        state: State::Pending,
        reason: String::new(),
        bytes_done: 0,
        attempts: 0,
        committed: false,
        stopped: false,
        latest: Moment::default(),
        sent_at: None,
        sends: 0,
        next_send_at: None,
        created_at: now,
        updated_at: now,
        trace: Trace::current().map(|trace| trace.to_string()).unwrap_or_default(),
        revision: 1,
    };
    if !deployments::insert(&tx, &deployment).await? {
        return Err(Error::Conflict);
    }
    let hello = order::newest_hello(app, &tx, device.id).await?;
    let planned = order::plan(app, &tx, &mut deployment, hello, Occasion::News, now).await?;
    if !call.end(tx, &deployment.id.to_string()).await? {
        return Ok((deployment, Vec::new()));
    }
    app.directed.forget(device.id);
    metrics::counter!("ota_deployments_total", "event" => "created").increment(1);
    let effects = planned.map(|planned| planned.signed(now)).transpose()?;
    Ok((deployment, effects.into_iter().collect()))
}

/// A directive is good for nothing unless the devices' keyset names the key that signs it.
async fn believes_the_director(app: &App, tx: &Tx, tenant: TenantId) -> Result<(), Error> {
    let ours = director::find(app, tx, tenant).await?;
    let signed = devices::keyset(tx, tenant).await?;
    let keyset =
        signed.as_deref().map(wire::keyset::read).transpose().map_err(|_| Error::Corrupt("keyset"))?;
    match (ours, keyset) {
        (Some(ours), Some(keyset)) if keyset.director_key == ours.public() => Ok(()),
        _ => Err(Error::DirectorUnknown),
    }
}

pub(crate) async fn find(app: &App, tenant: TenantId, id: DeploymentId) -> Result<Deployment, Error> {
    let tx = app.pg.one(tenant).await?;
    deployments::find(&tx, tenant, id).await?.ok_or(Error::NotFound)
}

/// Newest first.
pub(crate) async fn list(
    app: &App,
    tenant: TenantId,
    device: Option<DeviceId>,
    before: Option<DeploymentId>,
    limit: usize,
) -> Result<Vec<Deployment>, Error> {
    let tx = app.pg.one(tenant).await?;
    deployments::page(&tx, tenant, device, before, limit as i64).await
}

/// Calls a deployment off that was not granted `go` and is still as its etag says.
pub(crate) async fn cancel(
    app: &App,
    call: &Call,
    tenant: TenantId,
    id: DeploymentId,
    etag: &str,
    now: SystemTime,
) -> Result<(Deployment, Vec<Effect>), Error> {
    let now = micros(now);
    let tx = app.pg.tx(tenant).await?;
    let known = call.begin(&tx, now).await?;
    let mut deployment = deployments::lock(&tx, tenant, id).await?.ok_or(Error::NotFound)?;
    if known == Known::New && !deployment.is_still(etag) {
        return Err(Error::Changed);
    }
    if deployment.state == State::Cancelled {
        call.end(tx, "").await?;
        return Ok((deployment, Vec::new()));
    }
    deployment.state =
        deployment.state.next(Event::Cancel).map_err(|illegal| match illegal.state.started() {
            true => Error::Started { deployment: id },
            false => Error::Over { deployment: id, state: illegal.state },
        })?;
    deployment.updated_at = now;
    let hello = order::newest_hello(app, &tx, deployment.device).await?;
    let planned = order::plan(app, &tx, &mut deployment, hello, Occasion::News, now).await?;
    if !call.end(tx, "").await? {
        return Ok((deployment, Vec::new()));
    }
    app.directed.forget(deployment.device);
    metrics::counter!("ota_deployments_total", "event" => "cancelled").increment(1);
    let effects = planned.map(|planned| planned.signed(now)).transpose()?;
    Ok((deployment, effects.into_iter().collect()))
}
