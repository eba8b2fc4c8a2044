//! What is due: devices to be told again, uploads to be forgotten, objects to be deleted, layers nobody needs.
//!
//! Always holds: any number of replicas may sweep at once (rows are locked and skipped, never waited for); every step
//! is a small transaction, and one that fails is found again by the next sweep.

use std::time::{Duration, SystemTime};

use wire::DeviceId;

use super::order::{self, Occasion};
use super::{App, Effect, director, upload};
use crate::error::Error;
use crate::model::device::Hello;
use crate::model::state::Event;
use crate::store::{Scope, bundles, deployments, devices, uploads};

/// Rows of one kind handled in one transaction.
const BATCH_MAX: i64 = 100;
/// Who was heard of longer ago is waited for.
const HELLO_RECENT: Duration = Duration::from_secs(24 * 3600);
/// When to try again to delete what S3 would not.
const TRASH_RETRY: Duration = Duration::from_secs(10);

/// Tells devices again that did not answer. A handful of statements, however many there are: meanwhile their rows are locked,
/// and who hears devices waits for them.
pub(crate) async fn resend(app: &App, now: SystemTime) -> Result<Vec<Effect>, Error> {
    let tx = app.pg.tx(Scope::Every).await?;
    let mut due = deployments::lock_due(&tx, now, BATCH_MAX).await?;
    if due.is_empty() {
        tx.commit().await?;
        return Ok(Vec::new());
    }
    let devices: Vec<DeviceId> = due.iter().map(|deployment| deployment.device).collect();
    let hellos = order::newest_hellos(app, &tx, &devices).await?;
    let asked = due.iter().filter_map(|it| Some((it.tenant, hellos.get(&it.device)?.keyset)));
    let voices = director::voices(app, &tx, asked).await?;
    let mut tellings = Vec::new();
    for deployment in &mut due {
        let recent = |hello: &&Hello| now.duration_since(hello.heard_at).is_ok_and(|ago| ago < HELLO_RECENT);
        let hello = hellos.get(&deployment.device).filter(recent).copied();
        let director = hello.and_then(|hello| voices.to(deployment.tenant, hello.keyset));
        tellings.extend(order::tell(deployment, hello, director, Occasion::Silence, now));
    }
    deployments::save_all(&tx, &due.iter().collect::<Vec<_>>()).await?;
    let planned = order::planned(&tx, tellings).await?;
    tx.commit().await?;
    planned.into_iter().map(|planned| planned.signed(now)).collect()
}

/// Forgets uploads whose time has come; what they staged goes into the trash. Returns how many there were.
pub(crate) async fn expire_uploads(app: &App, now: SystemTime) -> Result<usize, Error> {
    let tx = app.pg.tx(Scope::Every).await?;
    let expired = uploads::delete_expired(&tx, now, BATCH_MAX).await?;
    for upload in expired.iter().filter(|upload| upload.bundle.is_none()) {
        upload::throw_away_staged(&tx, upload, now).await?;
        metrics::counter!("ota_uploads_total", "event" => "expired").increment(1);
    }
    tx.commit().await?;
    Ok(expired.len())
}

/// Forgets calls whose repetition is no longer answered.
pub(crate) async fn forget_requests(app: &App, now: SystemTime) -> Result<usize, Error> {
    let tx = app.pg.tx(Scope::Every).await?;
    let forgotten = kit::once::forget(&tx, now).await?;
    tx.commit().await?;
    Ok(usize::try_from(forgotten).unwrap_or(usize::MAX))
}

/// Lets go of layers that no bundle and no open upload refers to.
pub(crate) async fn release_layers(app: &App, now: SystemTime) -> Result<usize, Error> {
    let tx = app.pg.tx(Scope::Every).await?;
    let released = bundles::release_layers(&tx, BATCH_MAX).await?;
    for (tenant, object) in &released {
        uploads::discard(&tx, *tenant, object, now).await?;
    }
    tx.commit().await?;
    Ok(released.len())
}

/// Deletes from S3 what is in the trash; what cannot be deleted is tried again later and keeps nothing else waiting.
pub(crate) async fn empty_trash(app: &App, now: SystemTime) -> Result<usize, Error> {
    let tx = app.pg.tx(Scope::Every).await?;
    let trash = uploads::take_trash(&tx, now, BATCH_MAX).await?;
    tx.commit().await?;
    let mut failed = Ok(());
    for item in &trash {
        let deleted = app.objects.delete_all(&item.prefix).await;
        let tx = app.pg.tx(Scope::Every).await?;
        match deleted {
            Ok(count) => {
                metrics::counter!("ota_objects_deleted_total").increment(count as u64);
                uploads::forget_trash(&tx, item.id).await?;
            }
            Err(error) => {
                uploads::postpone_trash(&tx, item.id, now + TRASH_RETRY).await?;
                failed = Err(error);
            }
        }
        tx.commit().await?;
        if let Err(Error::Objects(_)) = failed {
            // It is away: the others would fail as well.
            break;
        }
    }
    failed.map(|()| trash.len())
}

/// Ends deployments whose device is revoked or no longer there, and forgets what such devices said: nobody waits for
/// them, and no bundle is kept for them.
pub(crate) async fn end_gone(app: &App, now: SystemTime) -> Result<usize, Error> {
    let tx = app.pg.tx(Scope::Every).await?;
    let mut gone = deployments::lock_gone(&tx, BATCH_MAX).await?;
    for deployment in &mut gone {
        deployment.state = deployment.state.next(Event::Gone).unwrap_or(deployment.state);
        deployment.reason = "device_revoked".to_owned();
        deployment.stopped = true;
        deployment.next_send_at = None;
        deployment.updated_at = now;
        deployments::save(&tx, deployment).await?;
    }
    devices::forget_gone(&tx, BATCH_MAX).await?;
    tx.commit().await?;
    Ok(gone.len())
}
