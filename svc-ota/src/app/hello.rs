//! A device says what it is and runs; whatever differs from what it should run is told to it in answer.
//!
//! Always holds: a hello that brings nothing new writes nothing to Postgres (its nonce goes to Redis, as a lease).

use std::time::SystemTime;

use wire::directive::{self, Directive};
use wire::{DeploymentId, DeviceId, Digest, Nonce};

use super::director::Director;
use super::order::{self, Occasion};
use super::turn::{Answer, Held, Known};
use super::{Effect, report};
use crate::error::Error;
use crate::model::deployment::Deployment;
use crate::model::device::{Facts, Hello, Link};
use crate::model::life::Place;
use crate::model::report::{Moment, Report};
use crate::model::state::{Event, Order, State};

/// `HelloUp`, as far as updates go, its fields checked.
#[derive(Clone, Debug)]
pub(crate) struct Said {
    pub(crate) nonce: Nonce,
    pub(crate) moment: Moment,
    pub(crate) slots: Vec<Slot>,
    /// The microvisor that runs is on trial: an answer is what it needs to be confirmed.
    pub(crate) on_trial: bool,
    pub(crate) facts: Facts,
    /// Version of the keyset it holds.
    pub(crate) keyset: u32,
    /// What the device knows of the time, Unix seconds: at least this late.
    pub(crate) time_bound_s: u64,
    pub(crate) result: Option<Report>,
}

/// A device whose bound is no further behind is not told the time: the signature would cost both more than it is worth. A microvisor on
/// trial always is.
const TIME_FRESH_S: u64 = 60;

/// Hellos of a boot that are followed by another one at once, so that svc-registry can prove which boot it is. It may be away.
const AGAIN_MAX: u32 = 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slot {
    pub(crate) manifest: Digest,
    pub(crate) confirmed: bool,
    pub(crate) staged: bool,
    /// Confirmed once, and another one runs in its place.
    pub(crate) previous: bool,
    pub(crate) running: bool,
}

/// Hears one hello. One that is not newer than what is known changes nothing.
pub(super) fn hear(held: &mut Held, known: &Known, said: &Said, now: SystemTime) -> Answer {
    let hello = Hello {
        nonce: said.nonce,
        moment: said.moment,
        heard_at: now,
        key: known.device.key,
        keyset: said.keyset,
    };
    let place = known.device.place(said.moment.boot);
    let kept = known.link.as_ref().map(|link| link.hello);
    if place == Place::Over || kept.is_some_and(|kept| !place.is_later(&hello, &kept)) {
        metrics::counter!("ota_hellos_total", "kind" => "stale").increment(1);
        let other = kept.filter(|kept| kept.moment.boot != said.moment.boot);
        return Answer { again: again(place, hello, other), ..Answer::default() };
    }
    let follows = place == Place::Newest || kept.is_some_and(|kept| place.overrules(&hello, &kept));
    let (unknown, mut doubtful) = (known.link.is_none(), false);
    for row in held.open(known.device.id) {
        let latest = row.latest;
        let lower = latest.boot != said.moment.boot && !said.moment.is_after(latest);
        if unknown || follows && lower {
            // What was reported of the deployment before came from another board, or this one has forgotten it.
            row.change().latest = latest.long_past();
        } else {
            // Its reports would be older than those.
            doubtful |= lower;
        }
    }
    let mut answer = match &said.result {
        Some(result) => report::take(held, known, result, None, now),
        None => Answer::default(),
    };
    let mut open: Vec<DeploymentId> = Vec::new();
    for row in held.open(known.device.id) {
        let deployment = row.change();
        compare(deployment, said, now);
        open.push(deployment.id);
    }
    for id in &open {
        let waits = held.waits(*id);
        let Some(row) = held.named(&known.device, *id) else { continue };
        let worth = if waits { None } else { worth_telling(row, said, hello) };
        let director = known.director(hello);
        answer.tellings.extend(order::tell(row.change(), worth, director, Occasion::News, now));
    }
    let newest = Link { hello, facts: said.facts.clone() };
    let news = known
        .link
        .as_ref()
        .is_none_or(|old| (&old.facts, old.hello.keyset) != (&newest.facts, newest.hello.keyset));
    metrics::counter!("ota_hellos_total", "kind" => if news { "news" } else { "same" }).increment(1);
    let lower = kept.is_some_and(|kept| !said.moment.is_after(kept.moment));
    answer.keep = (news || lower || !open.is_empty()).then_some(newest);
    (answer.hello, answer.follows) = (Some(hello), follows);
    answer.again = again(place, hello, kept.filter(|_| doubtful));
    answer.time = said.on_trial || said.time_bound_s.saturating_add(TIME_FRESH_S) < order::unix_seconds(now);
    answer
}

/// A boot that counts lower than what is known may be the current one of a board that lost its journal. Its next hello proves that, and
/// is a quarter of an hour away: a directive that answers another hello than its newest brings it soon.
fn again(place: Place, hello: Hello, kept: Option<Hello>) -> Option<Hello> {
    let asks = place != Place::Over && hello.moment.sequence <= AGAIN_MAX;
    kept.filter(|_| asks).map(|kept| Hello { nonce: kept.nonce, ..hello })
}

/// The time, signed for who said hello.
pub(super) fn time(
    device: DeviceId,
    nonce: Nonce,
    director: &Director,
    now: SystemTime,
) -> Result<Effect, Error> {
    let order = directive::Order::Time;
    let time = Directive { device, nonce, issued_at_s: order::unix_seconds(now), order };
    Ok(Effect::Time { device, directive: director.sign(&time)? })
}

/// What the slots say about a deployment whose messages may have been lost.
fn compare(deployment: &mut Deployment, said: &Said, now: SystemTime) {
    let slot = said.slots.iter().find(|slot| slot.manifest == deployment.manifest);
    let restarted = said.moment.boot != deployment.latest.boot && deployment.latest != Moment::default();
    if deployment.state == State::Confirmed
        && !deployment.committed
        && u64::try_from(deployment.security_counter)
            .is_ok_and(|counter| said.facts.floors.of(deployment.component) >= counter)
    {
        deployment.committed = true;
        deployment.updated_at = now;
    }
    let owed = said.result.as_ref().is_some_and(|result| result.deployment == deployment.id);
    let proven = slot.is_some_and(|slot| slot.confirmed && slot.running || slot.previous && restarted);
    if deployment.state.started() && proven && !owed {
        // Its result was stored and acknowledged once: a backup from before that was restored.
        deployment.state = deployment.state.next(Event::AlreadyRunning).unwrap_or(deployment.state);
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
