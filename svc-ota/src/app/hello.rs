//! A device says what it is and runs; whatever differs from what it should run is told to it in answer.
//!
//! Always holds: a hello that brings nothing new writes nothing to Postgres (its nonce goes to Redis, as a lease).

use std::time::SystemTime;

use wire::directive::{self, Directive};
use wire::{DeviceId, Digest, Nonce};

use super::order::{self, Occasion};
use super::{App, Effect, director, report};
use crate::error::Error;
use crate::model::deployment::{Event, Order, State};
use crate::model::report::{Moment, Report};
use crate::store::deployments::Deployment;
use crate::store::devices::{self, Hello, Link};
use crate::store::{Scope, deployments};

/// `HelloUp`, as far as updates go, its fields checked.
#[derive(Clone, Debug)]
pub(crate) struct Said {
    pub(crate) nonce: Nonce,
    pub(crate) moment: Moment,
    pub(crate) slots: Vec<Slot>,
    pub(crate) app_floor: u64,
    pub(crate) result: Option<Report>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slot {
    pub(crate) manifest: Digest,
    pub(crate) confirmed: bool,
    pub(crate) staged: bool,
    pub(crate) running: bool,
}

pub(crate) async fn heard(
    app: &App,
    device: DeviceId,
    said: Said,
    now: SystemTime,
) -> Result<Vec<Effect>, Error> {
    let tx = app.pg.tx(Scope::Every).await?;
    let Some(known) = devices::find(&tx, device).await?.filter(|device| !device.revoked) else {
        report::count_lie("unknown_device");
        return Ok(Vec::new());
    };
    let link = devices::link(&tx, device).await?;
    if link.as_ref().is_some_and(|link| !said.moment.is_after(link.hello.moment)) {
        metrics::counter!("ota_hellos_total", "kind" => "stale").increment(1);
        return Ok(Vec::new());
    }
    let mut effects = Vec::new();
    let hello = Hello { nonce: said.nonce, moment: said.moment, heard_at: now };
    if let Some(result) = &said.result {
        effects.extend(report::take(app, &tx, &known, result, None, now).await?.acknowledge());
    }
    let mut planned = Vec::new();
    let mut open = deployments::lock_open(&tx, device).await?;
    for deployment in &mut open {
        compare(deployment, &said, now);
        planned.extend(
            order::plan(app, &tx, deployment, worth_telling(deployment, &said, hello), Occasion::News, now)
                .await?,
        );
    }
    let newest = Link { hello, app_floor: said.app_floor, confirmed: confirmed(&said.slots) };
    let news =
        link.is_none_or(|old| (old.app_floor, &old.confirmed) != (newest.app_floor, &newest.confirmed));
    if news || !open.is_empty() {
        devices::save_link(&tx, known.tenant, device, &newest).await?;
    }
    let director = director::find(app, &tx, known.tenant).await?;
    tx.commit().await?;
    metrics::counter!("ota_hellos_total", "kind" => if news { "news" } else { "same" }).increment(1);
    app.hellos.remember(device, hello).await;
    if let Some(director) = director {
        let order = directive::Order::Time;
        let time = Directive { device, nonce: said.nonce, issued_at_s: order::unix_seconds(now), order };
        effects.push(Effect::Time { device, directive: director.sign(&time)? });
    }
    for planned in planned {
        effects.push(planned.signed(now)?);
    }
    Ok(effects)
}

/// What the slots say about a deployment whose messages may have been lost.
fn compare(deployment: &mut Deployment, said: &Said, now: SystemTime) {
    let slot = said.slots.iter().find(|slot| slot.manifest == deployment.manifest);
    let restarted = said.moment.boot != deployment.latest.boot && deployment.latest != Moment::default();
    if deployment.state == State::Confirmed
        && !deployment.committed
        && u64::try_from(deployment.security_counter).is_ok_and(|counter| said.app_floor >= counter)
    {
        deployment.committed = true;
        deployment.updated_at = now;
    }
    if deployment.state.started() && restarted && slot.is_none() && said.result.is_none() {
        deployment.state = deployment.state.next(Event::Lost).unwrap_or(deployment.state);
        deployment.updated_at = now;
    }
}

/// A floor is raised only for what the device runs now, and who is at work on a manifest need not be sent it again.
fn worth_telling(deployment: &Deployment, said: &Said, hello: Hello) -> Option<Hello> {
    let mut slots = said.slots.iter().filter(|slot| slot.manifest == deployment.manifest);
    let worth = match deployment.order() {
        Some(Order::Commit) => slots.any(|slot| slot.running),
        Some(Order::Install) => deployment.state == State::Pending || !slots.any(|slot| slot.staged),
        _ => true,
    };
    worth.then_some(hello)
}

fn confirmed(slots: &[Slot]) -> Vec<Digest> {
    let mut digests: Vec<Digest> =
        slots.iter().filter(|slot| slot.confirmed).map(|slot| slot.manifest).collect();
    digests.sort();
    digests.dedup();
    digests
}
