//! What a device is told, when it is told again, and the signature on it.
//!
//! `tell` decides it from a locked deployment; the transaction that read the state records it; `Planned::signed` makes
//! the directive after that has committed.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use wire::directive::{self, Directive, Target};
use wire::{BundleId, DeploymentId, DeviceId, Nonce};

use super::{App, Effect, director};
use crate::error::Error;
use crate::model::deployment::Deployment;
use crate::model::device::{Device, Hello, Link};
use crate::model::state::Order;
use crate::store::{Tx, bundles, deployments, devices};

/// Tellings without an answer before the next hello is waited for.
pub(crate) const SENDS_MAX: u32 = 8;
const BACKOFF_MIN: Duration = Duration::from_secs(2);
const BACKOFF_MAX: Duration = Duration::from_secs(60);

/// What a device is to be told; not recorded yet.
#[derive(Debug)]
pub(crate) struct Telling {
    deployment: Deployment,
    order: Order,
    nonce: Nonce,
    director: Arc<director::Director>,
}

/// A telling that is recorded and not yet signed.
#[derive(Debug)]
pub(crate) struct Planned {
    telling: Telling,
    envelope: Vec<u8>,
}

/// Why a telling happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Occasion {
    /// The device has just been heard of, or the deployment has just changed.
    News,
    /// Nothing was heard since the last telling.
    Silence,
}

/// Changes the deployment to one whose device was told what its state calls for, and returns that; the caller saves
/// the deployment, also when there is nothing to say.
pub(crate) fn tell(
    deployment: &mut Deployment,
    hello: Option<Hello>,
    director: Option<Arc<director::Director>>,
    occasion: Occasion,
    now: SystemTime,
) -> Option<Telling> {
    deployment.next_send_at = None;
    let ((order, hello), director) = deployment.order().zip(hello).zip(director)?;
    deployment.sends = if occasion == Occasion::News { 1 } else { deployment.sends + 1 };
    deployment.sent_at = Some(now);
    deployment.next_send_at = backoff(deployment.sends).map(|delay| now + delay);
    if order == Order::Cancel && deployment.next_send_at.is_none() {
        // It was told often enough; should it go on all the same, `go` never comes and its reports are answered.
        deployment.stopped = true;
    }
    Some(Telling { deployment: deployment.clone(), order, nonce: hello.nonce, director })
}

/// Tells, saves, and returns what to sign.
pub(crate) async fn plan(
    app: &App,
    tx: &Tx,
    deployment: &mut Deployment,
    hello: Option<Hello>,
    occasion: Occasion,
    now: SystemTime,
) -> Result<Option<Planned>, Error> {
    let tenant = deployment.tenant;
    let voices = director::voices(app, tx, hello.map(|hello| (tenant, hello.keyset))).await?;
    let director = hello.and_then(|hello| voices.to(tenant, hello.keyset));
    let telling = tell(deployment, hello, director, occasion, now);
    deployments::save(tx, deployment).await?;
    Ok(planned(tx, telling).await?.pop())
}

/// Each with the envelope it needs.
pub(crate) async fn planned(
    tx: &Tx,
    tellings: impl IntoIterator<Item = Telling>,
) -> Result<Vec<Planned>, Error> {
    let tellings: Vec<Telling> = tellings.into_iter().collect();
    let mut bundles: Vec<String> =
        tellings.iter().filter_map(Telling::bundle).map(|bundle| bundle.to_string()).collect();
    bundles.sort();
    bundles.dedup();
    let envelopes =
        if bundles.is_empty() { HashMap::new() } else { bundles::envelopes(tx, &bundles).await? };
    let planned = tellings.into_iter().map(|telling| {
        let envelope = match telling.bundle() {
            Some(bundle) => envelopes.get(&bundle).cloned().ok_or(Error::NotFound)?,
            None => Vec::new(),
        };
        Ok(Planned { telling, envelope })
    });
    planned.collect()
}

impl Telling {
    pub(crate) fn deployment(&self) -> DeploymentId {
        self.deployment.id
    }

    /// Whose envelope goes with it.
    fn bundle(&self) -> Option<BundleId> {
        (self.order == Order::Install).then_some(self.deployment.bundle)
    }
}

impl Planned {
    pub(crate) fn signed(self, now: SystemTime) -> Result<Effect, Error> {
        let Telling { deployment: it, order, nonce, director } = &self.telling;
        let target = Target { manifest: it.manifest, deployment: it.id, component: it.component };
        let (order, name) = match order {
            Order::Install => (directive::Order::Install(target), "install"),
            Order::Go => (directive::Order::Go(target), "go"),
            Order::Commit => {
                (directive::Order::Commit(target, it.security_counter.cast_unsigned()), "commit")
            }
            Order::Cancel => (directive::Order::Cancel(target), "cancel"),
        };
        let directive = Directive { device: it.device, nonce: *nonce, issued_at_s: unix_seconds(now), order };
        metrics::counter!("ota_directives_total", "kind" => name).increment(1);
        let trace = it.trace.parse().ok();
        if let Some(trace) = trace {
            let facts = [("kind", name.to_owned()), ("device", it.device.to_string())];
            kit::trace::mark(trace, "directive", &facts);
        }
        Ok(Effect::Direct {
            device: it.device,
            trace,
            directive: director.sign(&directive)?,
            envelope: self.envelope,
        })
    }
}

/// For a device that is at work on what is known to nobody here: it would wait for `go` for ever.
pub(super) fn stop(
    device: DeviceId,
    nonce: Nonce,
    target: Target,
    director: &director::Director,
    now: SystemTime,
) -> Result<Effect, Error> {
    let order = directive::Order::Cancel(target);
    let cancel = Directive { device, nonce, issued_at_s: unix_seconds(now), order };
    metrics::counter!("ota_directives_total", "kind" => "cancel").increment(1);
    Ok(Effect::Direct { device, trace: None, directive: director.sign(&cancel)?, envelope: Vec::new() })
}

/// The newest hello of each device: what Postgres kept, or a quiet one that only Redis remembers.
pub(crate) async fn newest_hellos(
    app: &App,
    tx: &Tx,
    ids: &[DeviceId],
) -> Result<HashMap<DeviceId, Hello>, Error> {
    let texts: Vec<String> = ids.iter().map(DeviceId::to_string).collect();
    let (found, mut quiet) = tokio::join!(devices::find_all(tx, &texts), app.hellos.newest_all(ids));
    let newest = |(device, kept): (Device, Option<Link>)| {
        // In quarantine whoever said hello may be the copy: nobody is told anything.
        let newest =
            newest(&device, kept.as_ref(), quiet.remove(&device.id)).filter(|_| !device.quarantined)?;
        Some((device.id, newest))
    };
    Ok(found?.into_iter().filter_map(newest).collect())
}

/// That of one device.
pub(crate) async fn newest_hello(app: &App, tx: &Tx, device: DeviceId) -> Result<Option<Hello>, Error> {
    Ok(newest_hellos(app, tx, &[device]).await?.remove(&device))
}

/// The newer of what Postgres kept and what Redis remembers, said with the key the device has now.
pub(crate) fn newest(device: &Device, kept: Option<&Link>, quiet: Option<Hello>) -> Option<Hello> {
    match (kept.map(|link| link.hello), quiet.filter(|quiet| quiet.key == device.key)) {
        (Some(kept), Some(quiet)) if device.place(quiet.moment.boot).is_later(&quiet, &kept) => Some(quiet),
        (Some(kept), _) => Some(kept),
        (None, quiet) => quiet,
    }
}

pub(crate) fn unix_seconds(now: SystemTime) -> u64 {
    // A clock before 1970 would sign time zero, which no device takes for news.
    now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// How long to wait after the n-th telling; none: until the next hello.
fn backoff(sends: u32) -> Option<Duration> {
    let doubled = BACKOFF_MIN.saturating_mul(1 << (sends.saturating_sub(1)).min(16));
    (sends < SENDS_MAX).then(|| doubled.min(BACKOFF_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tellings_become_rarer_and_stop() {
        let delays: Vec<_> = (1..=SENDS_MAX).map(|n| backoff(n).map(|d| d.as_secs())).collect();
        assert_eq!(delays, [Some(2), Some(4), Some(8), Some(16), Some(32), Some(60), Some(60), None]);
        assert_eq!(backoff(u32::MAX), None);
    }

    #[test]
    fn a_clock_before_1970_signs_zero() {
        assert_eq!(unix_seconds(UNIX_EPOCH - Duration::from_secs(5)), 0);
        assert_eq!(unix_seconds(UNIX_EPOCH + Duration::from_secs(5)), 5);
    }
}
