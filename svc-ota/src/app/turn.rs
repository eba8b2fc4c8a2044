//! What devices said, many messages at once: one transaction reads what is known of all of them, each message is judged
//! in its order, and what changed is written together.
//!
//! Always holds: a turn costs a handful of statements however many messages it has; deployments are locked in the order
//! of their ids and links written in that of their devices', so turns of replicas never wait in a circle; a turn that
//! fails has changed nothing and said nothing, and may be taken again, whole or message by message.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Deref;
use std::sync::Arc;
use std::time::SystemTime;

use wire::directive::Target;
use wire::manifest::Component;
use wire::{DeploymentId, DeviceId, Nonce, TenantId};

use super::director::{self, Director, Voices};
use super::order::{self, Telling};
use super::{App, Effect, hello, report};
use crate::error::Error;
use crate::model::deployment::Deployment;
use crate::model::device::{Device, Hello, Link};
use crate::model::precedence;
use crate::model::report::{Moment, Report};
use crate::model::state::State;
use crate::store::{Scope, Tx, deployments, devices};

/// Messages taken together.
pub(crate) const TURN_MESSAGES_MAX: usize = 128;

/// What a device said.
#[derive(Clone, Debug)]
pub(crate) enum Message {
    Hello(hello::Said),
    Report(Report),
}

/// A device that speaks in this turn.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) device: Device,
    /// As kept, or as it will be.
    pub(super) link: Option<Link>,
    /// The newest there is.
    pub(super) hello: Option<Hello>,
    /// Who speaks to the devices of this turn.
    pub(super) voices: Arc<Voices>,
}

impl Known {
    /// Whom the device obeys, as it said in this hello.
    pub(super) fn director(&self, hello: Hello) -> Option<Arc<Director>> {
        self.voices.to(self.device.tenant, hello.keyset)
    }
}

/// What follows from one message.
#[derive(Debug, Default)]
pub(super) struct Answer {
    pub(super) acknowledge: Option<Moment>,
    pub(super) tellings: Vec<Telling>,
    /// A hello that counts; the link is kept when there was something to answer or record.
    pub(super) hello: Option<Hello>,
    /// Its boot is later than any other whatever they count.
    pub(super) follows: bool,
    /// What the device is at work on and nobody here knows of.
    pub(super) stop: Option<(Hello, Target)>,
    /// The device is to say another hello.
    pub(super) again: Option<Hello>,
    /// The device's time is behind.
    pub(super) time: bool,
    pub(super) keep: Option<Link>,
    pub(super) step: Option<Step>,
}

/// What a deployment's device brought it to, for the trace of who asked for it.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) trace: String,
    pub(super) device: DeviceId,
    pub(super) state: State,
    pub(super) reason: String,
}

impl Step {
    fn tell(&self) {
        let Ok(trace) = self.trace.parse() else { return };
        let facts = [
            ("state", self.state.as_str().to_owned()),
            ("reason", self.reason.clone()),
            ("device", self.device.to_string()),
        ];
        kit::trace::mark(trace, "device report", &facts);
    }
}

/// Deployments of this turn, locked; those that were changed are saved at its end.
#[derive(Debug, Default)]
pub(super) struct Held(BTreeMap<DeploymentId, Row>);

#[derive(Debug)]
pub(super) struct Row {
    deployment: Deployment,
    changed: bool,
}

impl Deref for Row {
    type Target = Deployment;

    fn deref(&self) -> &Deployment {
        &self.deployment
    }
}

impl Row {
    pub(super) fn change(&mut self) -> &mut Deployment {
        self.changed = true;
        &mut self.deployment
    }
}

impl Held {
    fn new(deployments: Vec<Deployment>) -> Self {
        let row = |deployment: Deployment| (deployment.id, Row { deployment, changed: false });
        Self(deployments.into_iter().map(row).collect())
    }

    /// The device's deployment of this id.
    pub(super) fn named(&mut self, device: &Device, id: DeploymentId) -> Option<&mut Row> {
        self.0.get_mut(&id).filter(|row| row.device == device.id && row.tenant == device.tenant)
    }

    /// The device's unfinished one of a component.
    pub(super) fn unfinished(&self, device: &Device, component: Component) -> Option<DeploymentId> {
        let mut rows = self.0.values().filter(|row| row.device == device.id && row.component == component);
        rows.find(|row| !row.state.is_final()).map(|row| row.id)
    }

    /// Another one of its device goes first.
    pub(super) fn waits(&self, id: DeploymentId) -> bool {
        let Some(row) = self.0.get(&id) else { return false };
        let mut others = self.0.values().filter(|other| other.device == row.device);
        others.any(|other| precedence::goes_before(other, row))
    }

    /// Something of the device has begun to change what it runs, beside this one.
    pub(super) fn started_beside(&self, id: DeploymentId) -> bool {
        let Some(row) = self.0.get(&id) else { return false };
        self.0.values().any(|other| other.device == row.device && other.id != id && other.state.started())
    }

    /// The device's unfinished ones beside this one.
    pub(super) fn beside(&self, id: DeploymentId) -> Vec<DeploymentId> {
        let Some(row) = self.0.get(&id) else { return Vec::new() };
        let mine = |other: &&Row| other.device == row.device && other.id != id && !other.state.is_final();
        self.0.values().filter(mine).map(|other| other.id).collect()
    }

    /// All about which the device may have to be told something, oldest first.
    pub(super) fn open(&mut self, device: DeviceId) -> impl Iterator<Item = &mut Row> {
        self.0.values_mut().filter(move |row| row.device == device && row.is_open())
    }

    fn changed(&self) -> Vec<&Deployment> {
        self.0.values().filter(|row| row.changed).map(|row| &row.deployment).collect()
    }
}

/// What a turn says once it has committed: of two things for one device or deployment the later.
#[derive(Debug, Default)]
struct Said {
    acknowledged: Vec<(DeviceId, Moment)>,
    times: BTreeMap<(DeviceId, [u8; 16]), Arc<Director>>,
    tellings: BTreeMap<DeploymentId, Telling>,
    stops: BTreeMap<DeviceId, (Nonce, Target, Arc<Director>)>,
    links: BTreeMap<DeviceId, (TenantId, Link)>,
    heard: Vec<(DeviceId, Hello)>,
    followed: BTreeSet<DeviceId>,
    steps: Vec<Step>,
}

/// Hears messages in their order. Those of devices that are unknown, revoked or in quarantine are counted and dropped.
pub(crate) async fn take(
    app: &App,
    messages: &[(DeviceId, Message)],
    now: SystemTime,
) -> Result<Vec<Effect>, Error> {
    let tx = app.pg.tx(Scope::Every).await?;
    let mut known = known(app, &tx, messages).await?;
    let mut held = held(&tx, &known, messages).await?;
    let mut said = Said::default();
    for (device, message) in messages {
        let Some(known) = known.get_mut(device) else {
            report::count_lie("unknown_device");
            continue;
        };
        let answer = match message {
            Message::Hello(hello) => hello::hear(&mut held, known, hello, now),
            Message::Report(report) => report::take(&mut held, known, report, known.hello, now),
        };
        said.add(known, answer);
    }
    let changed = held.changed();
    if !changed.is_empty() {
        deployments::save_all(&tx, &changed).await?;
    }
    if !said.links.is_empty() {
        devices::save_links(&tx, &said.links, &said.followed).await?;
    }
    let planned = order::planned(&tx, said.tellings.into_values()).await?;
    tx.commit().await?;
    said.steps.iter().for_each(Step::tell);
    app.hellos.remember(&said.heard, &said.followed).await;

    let acknowledged = said.acknowledged.into_iter();
    let mut effects: Vec<Effect> =
        acknowledged.map(|(device, result)| Effect::Acknowledge { device, result }).collect();
    for ((device, nonce), director) in said.times {
        effects.push(hello::time(device, Nonce(nonce), &director, now)?);
    }
    for (device, (nonce, target, director)) in said.stops {
        effects.push(order::stop(device, nonce, target, &director, now)?);
    }
    for planned in planned {
        effects.push(planned.signed(now)?);
    }
    Ok(effects)
}

async fn known(
    app: &App,
    tx: &Tx,
    messages: &[(DeviceId, Message)],
) -> Result<HashMap<DeviceId, Known>, Error> {
    let mut ids: Vec<DeviceId> = messages.iter().map(|(device, _)| *device).collect();
    ids.sort();
    ids.dedup();
    let texts: Vec<String> = ids.iter().map(DeviceId::to_string).collect();
    // A hello brings its own nonce; what a report is answered with is bound to the newest there was.
    let mut reporting: Vec<DeviceId> = messages
        .iter()
        .filter(|(_, message)| matches!(message, Message::Report(_)))
        .map(|(device, _)| *device)
        .collect();
    reporting.sort();
    reporting.dedup();
    let (found, mut quiet) = tokio::join!(devices::find_all(tx, &texts), app.hellos.newest_all(&reporting));
    let mut known = HashMap::with_capacity(ids.len());
    for (device, link) in found?.into_iter().filter(|(device, _)| !device.revoked && !device.quarantined) {
        let hello = order::newest(&device, link.as_ref(), quiet.remove(&device.id));
        known.insert(device.id, Known { device, link, hello, voices: Arc::default() });
    }
    let said = messages.iter().filter_map(|(device, message)| match message {
        Message::Hello(said) => Some((known.get(device)?.device.tenant, said.keyset)),
        Message::Report(_) => None,
    });
    let kept = known.values().filter_map(|known| Some((known.device.tenant, known.hello?.keyset)));
    let asked: Vec<(TenantId, u32)> = said.chain(kept).collect();
    let voices = Arc::new(director::voices(app, tx, asked).await?);
    known.values_mut().for_each(|known| known.voices = voices.clone());
    Ok(known)
}

async fn held(
    tx: &Tx,
    known: &HashMap<DeviceId, Known>,
    messages: &[(DeviceId, Message)],
) -> Result<Held, Error> {
    if known.is_empty() {
        return Ok(Held::default());
    }
    let devices: Vec<String> = known.keys().map(DeviceId::to_string).collect();
    let reports = messages.iter().filter_map(|(_, message)| match message {
        Message::Hello(said) => said.result.as_ref(),
        Message::Report(report) => Some(report),
    });
    let named: Vec<String> = reports.map(|report| report.deployment.to_string()).collect();
    Ok(Held::new(deployments::lock_all(tx, &devices, &named).await?))
}

impl Said {
    fn add(&mut self, known: &mut Known, answer: Answer) {
        let device = known.device.id;
        self.steps.extend(answer.step);
        self.acknowledged.extend(answer.acknowledge.map(|result| (device, result)));
        if let Some(hello) = answer.hello {
            self.heard.push((device, hello));
            if let Some(director) = known.director(hello).filter(|_| answer.time) {
                self.times.insert((device, hello.nonce.0), director);
            }
            if answer.follows {
                self.followed.insert(device);
            }
            known.hello = Some(hello);
        }
        if let Some(hello) = answer.again
            && let Some(director) = known.director(hello)
        {
            self.times.insert((device, hello.nonce.0), director);
        }
        if let Some((hello, target)) = answer.stop
            && let Some(director) = known.director(hello)
        {
            self.stops.insert(device, (hello.nonce, target, director));
        }
        for telling in answer.tellings {
            self.tellings.insert(telling.deployment(), telling);
        }
        if let Some(link) = answer.keep {
            self.links.insert(device, (known.device.tenant, link.clone()));
            known.link = Some(link);
        }
    }
}
