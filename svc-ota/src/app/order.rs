//! What a device is told, when it is told again, and the signature on it.
//!
//! `plan` runs in the transaction that read the deployment's state and records the telling there; `Planned::signed`
//! makes the directive after it has committed.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use wire::directive::{self, Directive, Target};
use wire::{DeviceId, Nonce};

use super::{App, Effect, director};
use crate::error::Error;
use crate::model::deployment::Order;
use crate::store::deployments::{self, Deployment};
use crate::store::devices::{self, Hello};
use crate::store::{Tx, bundles};

/// Tellings without an answer before the next hello is waited for.
pub(crate) const SENDS_MAX: u32 = 8;
const BACKOFF_MIN: Duration = Duration::from_secs(2);
const BACKOFF_MAX: Duration = Duration::from_secs(60);

/// A telling that is recorded and not yet signed.
#[derive(Debug)]
pub(crate) struct Planned {
    deployment: Deployment,
    order: Order,
    envelope: Vec<u8>,
    nonce: Nonce,
    director: std::sync::Arc<director::Director>,
}

/// Why a telling happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Occasion {
    /// The device has just been heard of, or the deployment has just changed.
    News,
    /// Nothing was heard since the last telling.
    Silence,
}

/// Records that the deployment's device is told what its state calls for, and returns what to sign. Saves the
/// deployment, also when there is nothing to say.
pub(crate) async fn plan(
    app: &App,
    tx: &Tx,
    deployment: &mut Deployment,
    hello: Option<Hello>,
    occasion: Occasion,
    now: SystemTime,
) -> Result<Option<Planned>, Error> {
    let director = director::find(app, tx, deployment.tenant).await?;
    let told = deployment.order().zip(hello).zip(director);
    let Some(((order, hello), director)) = told else {
        deployment.next_send_at = None;
        deployments::save(tx, deployment).await?;
        return Ok(None);
    };
    deployment.sends = if occasion == Occasion::News { 1 } else { deployment.sends + 1 };
    deployment.sent_at = Some(now);
    deployment.next_send_at = backoff(deployment.sends).map(|delay| now + delay);
    if order == Order::Cancel && deployment.next_send_at.is_none() {
        // It was told often enough; should it go on all the same, `go` never comes and its reports are answered.
        deployment.stopped = true;
    }
    deployments::save(tx, deployment).await?;
    let envelope = match order {
        Order::Install => {
            bundles::find(tx, deployment.tenant, deployment.bundle).await?.ok_or(Error::NotFound)?.envelope
        }
        _ => Vec::new(),
    };
    Ok(Some(Planned { deployment: deployment.clone(), order, envelope, nonce: hello.nonce, director }))
}

impl Planned {
    pub(crate) fn signed(self, now: SystemTime) -> Result<Effect, Error> {
        let it = &self.deployment;
        let target = Target { manifest: it.manifest, deployment: it.id, component: it.component };
        let (order, name) = match self.order {
            Order::Install => (directive::Order::Install(target), "install"),
            Order::Go => (directive::Order::Go(target), "go"),
            Order::Commit => {
                (directive::Order::Commit(target, it.security_counter.cast_unsigned()), "commit")
            }
            Order::Cancel => (directive::Order::Cancel(target), "cancel"),
        };
        let directive =
            Directive { device: it.device, nonce: self.nonce, issued_at_s: unix_seconds(now), order };
        metrics::counter!("ota_directives_total", "kind" => name).increment(1);
        Ok(Effect::Direct {
            device: it.device,
            directive: self.director.sign(&directive)?,
            envelope: self.envelope,
        })
    }
}

/// The newest hello of a device: what Postgres kept, or a quiet one that only Redis remembers.
pub(crate) async fn newest_hello(app: &App, tx: &Tx, device: DeviceId) -> Result<Option<Hello>, Error> {
    let kept = devices::link(tx, device).await?.map(|link| link.hello);
    let quiet = app.hellos.newest(device).await;
    Ok(match (kept, quiet) {
        (Some(kept), Some(quiet)) if quiet.moment.is_after(kept.moment) => Some(quiet),
        (Some(kept), _) => Some(kept),
        (None, quiet) => quiet,
    })
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
