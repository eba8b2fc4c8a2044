//! A device reports progress or a result. What it says is judged, stored and, if it is a result, acknowledged after
//! the transaction that stored it; `go` is granted in the transaction that reads the deployment's state.

use std::time::SystemTime;

use wire::DeviceId;

use super::order::{self, Occasion, Planned};
use super::{App, Effect};
use crate::error::Error;
use crate::model::deployment::{Event, Phase, State};
use crate::model::report::{Moment, Report, Verdict, judge};
use crate::store::deployments::Deployment;
use crate::store::devices::{self, Device, Hello};
use crate::store::{Scope, Tx, deployments};

/// What to say once the transaction has committed.
#[derive(Debug, Default)]
pub(super) struct Answer {
    acknowledge: Option<(DeviceId, Moment)>,
    planned: Option<Planned>,
}

impl Answer {
    pub(super) fn acknowledge(&self) -> Option<Effect> {
        self.acknowledge.map(|(device, result)| Effect::Acknowledge { device, result })
    }
}

pub(crate) async fn reported(
    app: &App,
    device: DeviceId,
    report: &Report,
    now: SystemTime,
) -> Result<Vec<Effect>, Error> {
    let tx = app.pg.tx(Scope::Every).await?;
    let Some(known) = devices::find(&tx, device).await?.filter(|device| !device.revoked) else {
        count_lie("unknown_device");
        return Ok(Vec::new());
    };
    let hello = order::newest_hello(app, &tx, device).await?;
    let answer = take(app, &tx, &known, report, hello, now).await?;
    tx.commit().await?;
    let mut effects: Vec<Effect> = answer.acknowledge().into_iter().collect();
    if let Some(planned) = answer.planned {
        effects.push(planned.signed(now)?);
    }
    Ok(effects)
}

/// Stores what a report is worth. Without a `hello` nothing but the acknowledgement is said.
pub(super) async fn take(
    app: &App,
    tx: &Tx,
    device: &Device,
    report: &Report,
    hello: Option<Hello>,
    now: SystemTime,
) -> Result<Answer, Error> {
    let found = deployments::lock(tx, device.tenant, report.deployment).await?;
    let Some(mut deployment) = found.filter(|deployment| deployment.device == device.id) else {
        count_lie("foreign_deployment");
        return Ok(Answer::default());
    };
    let mut answer = Answer::default();
    match judge(&deployment.known(), report) {
        Verdict::Lie(lie) => {
            count_lie(lie.as_str());
            // It will not be told to go on, and need not keep what nobody believes.
            if deployment.state.is_final() && report.phase.is_result() {
                answer.acknowledge = Some((device.id, report.moment));
            }
            return Ok(answer);
        }
        Verdict::Stale => return repeated(app, tx, deployment, report, hello, now).await,
        Verdict::Over => {
            deployment.stopped = false;
            let replaced = deployments::lock_unfinished(tx, device.id, deployment.component).await?;
            let told = replaced.unwrap_or(deployment);
            answer.planned = plan(app, tx, told, hello, now).await?;
            return Ok(answer);
        }
        Verdict::Take(state) => {
            // Rollouts will ask here whether they are paused; a single deployment goes at once.
            let granted = if state == State::Ready { state.next(Event::Go).ok() } else { None };
            deployment.state = granted.unwrap_or(state);
        }
    }
    deployment.reason.clone_from(&report.reason);
    deployment.bytes_done = report.bytes_done;
    deployment.attempts = report.attempts;
    deployment.latest = report.moment;
    deployment.updated_at = now;
    if deployment.state.is_final() {
        metrics::counter!("ota_results_total", "state" => deployment.state.as_str(), "reason" => report.reason.clone())
            .increment(1);
        answer.acknowledge = Some((device.id, report.moment));
    }
    // Fetching devices know what they are to do: they are told again by the sweep or at their next hello.
    let silent = !matches!(deployment.state, State::Granted | State::Confirmed);
    if silent {
        deployment.sends = 0;
        deployment.next_send_at = None;
        deployments::save(tx, &deployment).await?;
        return Ok(answer);
    }
    answer.planned = plan(app, tx, deployment, hello, now).await?;
    Ok(answer)
}

/// A report that was taken before, or came too late: nothing changes, but it is answered.
async fn repeated(
    app: &App,
    tx: &Tx,
    mut deployment: Deployment,
    report: &Report,
    hello: Option<Hello>,
    now: SystemTime,
) -> Result<Answer, Error> {
    let mut answer = Answer::default();
    if deployment.state.is_final() && report.phase.is_result() {
        answer.acknowledge = Some((deployment.device, report.moment));
        if deployment.state == State::Cancelled && !deployment.stopped {
            // It has heard.
            deployment.stopped = true;
            deployment.next_send_at = None;
            deployments::save(tx, &deployment).await?;
        }
    } else if deployment.state == State::Granted
        && report.phase == Phase::Ready
        && report.moment == deployment.latest
    {
        // It still waits: `go` was lost.
        answer.planned = plan(app, tx, deployment, hello, now).await?;
    }
    Ok(answer)
}

async fn plan(
    app: &App,
    tx: &Tx,
    mut deployment: Deployment,
    hello: Option<Hello>,
    now: SystemTime,
) -> Result<Option<Planned>, Error> {
    order::plan(app, tx, &mut deployment, hello, Occasion::News, now).await
}

/// Something a device said that cannot be true.
pub(super) fn count_lie(reason: &'static str) {
    metrics::counter!("ota_reports_refused_total", "reason" => reason).increment(1);
}
