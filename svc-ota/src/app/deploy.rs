//! Deployments: create, find, list, cancel.

use std::time::SystemTime;

use kit::once::{Call, Known};
use kit::pg::micros;
use kit::trace::Trace;
use wire::manifest::Component;
use wire::{BundleId, DeploymentId, DeviceId, TenantId};

use super::order::{self, Occasion};
use super::{App, Effect, director};
use crate::error::Error;
use crate::model;
use crate::model::deployment::Deployment;
use crate::model::precedence::goes_before;
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
    believes_the_director(&tx, tenant).await?;
    let (mut before, mut beside) = unfinished(&tx, device.id, bundle.component).await?;
    let link = devices::find_all(&tx, &[device.id.to_string()]).await?.pop().and_then(|(_, link)| link);
    let running = link.as_ref().and_then(|link| link.facts.microvisor);
    let coming = beside.as_ref().filter(|beside| beside.component == Component::Microvisor);
    let coming = coming.and_then(|coming| coming.version.parse().ok());
    let needed = model::bundle::reread(&bundle.envelope)?.microvisor_min;
    model::bundle::runs_on(needed, running, coming)
        .map_err(|running| Error::MicrovisorTooOld { needed, running })?;
    let in_its_place = before.as_ref().is_some_and(|before| has_its_turn(before, beside.as_ref()));
    if let Some(before) = &mut before {
        before.state =
            before.state.next(Event::Supersede).map_err(|_| Error::Started { deployment: before.id })?;
        before.updated_at = now;
        before.next_send_at = None;
        deployments::save(&tx, before).await?;
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
    let waits = !in_its_place && beside.as_ref().is_some_and(|it| goes_before(it, &deployment));
    let hello = hello.filter(|_| !waits);
    let planned = order::plan(app, &tx, &mut deployment, hello, Occasion::News, now).await?;
    if let Some(beside) =
        beside.as_mut().filter(|it| it.next_send_at.is_some() && goes_before(&deployment, it))
    {
        beside.next_send_at = None;
        deployments::save(&tx, beside).await?;
    }
    if !call.end(tx, &deployment.id.to_string()).await? {
        return Ok((deployment, Vec::new()));
    }
    app.directed.forget(device.id);
    metrics::counter!("ota_deployments_total", "event" => "created").increment(1);
    let effects = planned.map(|planned| planned.signed(now)).transpose()?;
    Ok((deployment, effects.into_iter().collect()))
}

/// The device's unfinished one of the component and that of the other one, locked.
async fn unfinished(
    tx: &Tx,
    device: DeviceId,
    component: Component,
) -> Result<(Option<Deployment>, Option<Deployment>), Error> {
    let locked = deployments::lock_all(tx, &[device.to_string()], &[]).await?;
    let unfinished = locked.into_iter().filter(|deployment| !deployment.state.is_final());
    let (mut same, mut other): (Vec<_>, Vec<_>) = unfinished.partition(|it| it.component == component);
    Ok((same.pop(), other.pop()))
}

/// The device was told of it, and may be at work on it: what takes its place has its turn.
fn has_its_turn(before: &Deployment, beside: Option<&Deployment>) -> bool {
    before.sent_at.is_some() && !beside.is_some_and(|beside| goes_before(beside, before))
}

/// A directive is good for nothing unless the devices' keyset names the key that signs it.
async fn believes_the_director(tx: &Tx, tenant: TenantId) -> Result<(), Error> {
    match director::directorship(tx, tenant).await?.governing() {
        Some(_) => Ok(()),
        None => Err(Error::DirectorUnknown),
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
    let device = deployments::find(&tx, tenant, id).await?.ok_or(Error::NotFound)?.device;
    let locked = deployments::lock_all(&tx, &[device.to_string()], &[id.to_string()]).await?;
    let (mine, others): (Vec<_>, Vec<_>) = locked.into_iter().partition(|deployment| deployment.id == id);
    let mut deployment = mine.into_iter().next().ok_or(Error::NotFound)?;
    if known == Known::New && !deployment.is_still(etag) {
        return Err(Error::Changed);
    }
    if deployment.state == State::Cancelled {
        call.end(tx, "").await?;
        return Ok((deployment, Vec::new()));
    }
    let next = others.into_iter().find(|other| goes_before(&deployment, other));
    deployment.state =
        deployment.state.next(Event::Cancel).map_err(|illegal| match illegal.state.started() {
            true => Error::Started { deployment: id },
            false => Error::Over { deployment: id, state: illegal.state },
        })?;
    deployment.updated_at = now;
    let hello = order::newest_hello(app, &tx, device).await?;
    let mut planned =
        Vec::from_iter(order::plan(app, &tx, &mut deployment, hello, Occasion::News, now).await?);
    // What waited for it has its turn.
    if let Some(mut next) = next {
        planned.extend(order::plan(app, &tx, &mut next, hello, Occasion::News, now).await?);
    }
    if !call.end(tx, "").await? {
        return Ok((deployment, Vec::new()));
    }
    app.directed.forget(device);
    metrics::counter!("ota_deployments_total", "event" => "cancelled").increment(1);
    let effects = planned.into_iter().map(|planned| planned.signed(now));
    Ok((deployment, effects.collect::<Result<_, _>>()?))
}
