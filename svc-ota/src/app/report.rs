//! A device reports progress or a result. What it says is judged, stored and, if it is a result, acknowledged after
//! the transaction that stored it; `go` is granted in the transaction that reads the deployment's state.

use std::time::SystemTime;

use wire::DeploymentId;
use wire::directive::Target;
use wire::manifest::Component;

use super::order::{self, Occasion};
use super::turn::{Answer, Held, Known, Row, Step};
use crate::model::device::Hello;
use crate::model::report::{Report, Verdict, judge};
use crate::model::state::{Event, Phase, State};

/// Takes what a report is worth. Without a `hello` nothing but the acknowledgement is said.
pub(super) fn take(
    held: &mut Held,
    known: &Known,
    report: &Report,
    hello: Option<Hello>,
    now: SystemTime,
) -> Answer {
    let device = &known.device;
    let Some(row) = held.named(device, report.deployment) else {
        count_lie("foreign_deployment");
        return unknown(report, hello);
    };
    let mut answer = Answer::default();
    match judge(&row.known(), report) {
        Verdict::Lie(lie) => {
            count_lie(lie.as_str());
            // It need not keep what nobody believes. Should it be true (a database from a backup knows less than the device), the device
            // would take no order about the deployment while it holds that, and tells the same again when it is told again.
            answer.acknowledge = report.phase.is_result().then_some(report.moment);
        }
        Verdict::Stale => return repeated(row, known, report, hello, now),
        Verdict::Over => {
            let component = row.component;
            let told = held.unfinished(device, component).unwrap_or(report.deployment);
            if let Some(row) = held.named(device, told) {
                let deployment = row.change();
                deployment.stopped &= told != report.deployment;
                answer.tellings.extend(plan(row, known, hello, now));
            }
        }
        Verdict::Take(state) => {
            let id = row.id;
            let go = !held.started_beside(id);
            let Some(row) = held.named(device, id) else { return answer };
            answer = accept(row, known, state, go, report, hello, now);
            let ended = row.state.is_final();
            answer.tellings.extend(turn_to_others(held, known, id, ended, hello, now));
        }
    }
    answer
}

/// A restored backup knows nothing of what came after it. A result that is kept would take the place of later ones for ever, and who is at work
/// would wait for ever.
fn unknown(report: &Report, hello: Option<Hello>) -> Answer {
    if report.phase.is_result() {
        return Answer { acknowledge: Some(report.moment), ..Answer::default() };
    }
    // A cancel goes by deployment and manifest: which component it is nobody said.
    let (deployment, manifest) = (report.deployment, report.manifest);
    let target = Target { manifest, deployment, component: Component::App };
    let stop = hello.filter(|_| report.phase.before_go()).map(|hello| (hello, target));
    Answer { stop, ..Answer::default() }
}

/// What the device's other deployments wait for, or no longer wait for, now that this one moved.
fn turn_to_others(
    held: &mut Held,
    known: &Known,
    moved: DeploymentId,
    ended: bool,
    hello: Option<Hello>,
    now: SystemTime,
) -> Vec<order::Telling> {
    let mut tellings = Vec::new();
    for id in held.beside(moved) {
        let waits = held.waits(id);
        let Some(row) = held.named(&known.device, id) else { continue };
        if waits && row.next_send_at.is_some() {
            row.change().next_send_at = None;
        } else if !waits && ended {
            tellings.extend(plan(row, known, hello, now));
        }
    }
    tellings
}

/// The deployment moves to `state`, or stays there with new numbers; `go` is granted if it may be.
fn accept(
    row: &mut Row,
    known: &Known,
    state: State,
    go: bool,
    report: &Report,
    hello: Option<Hello>,
    now: SystemTime,
) -> Answer {
    let mut answer = Answer::default();
    let deployment = row.change();
    answer.step = Some(Step {
        trace: deployment.trace.clone(),
        device: deployment.device,
        state,
        reason: report.reason.clone(),
    });
    // Rollouts will ask here whether they are paused; a single deployment goes at once.
    let granted = if state == State::Ready && go { state.next(Event::Go).ok() } else { None };
    deployment.state = granted.unwrap_or(state);
    deployment.reason.clone_from(&report.reason);
    deployment.bytes_done = report.bytes_done;
    deployment.attempts = report.attempts;
    deployment.latest = report.moment;
    deployment.updated_at = now;
    if deployment.state.is_final() {
        metrics::counter!("ota_results_total", "state" => deployment.state.as_str(), "reason" => report.reason.clone())
            .increment(1);
        answer.acknowledge = Some(report.moment);
    }
    // Fetching devices know what they are to do: they are told again by the sweep or at their next hello.
    if matches!(deployment.state, State::Granted | State::Confirmed) {
        answer.tellings.extend(plan(row, known, hello, now));
    } else {
        deployment.sends = 0;
        deployment.next_send_at = None;
    }
    answer
}

/// A report that was taken before, or came too late: nothing changes, but it is answered.
fn repeated(row: &mut Row, known: &Known, report: &Report, hello: Option<Hello>, now: SystemTime) -> Answer {
    let mut answer = Answer::default();
    if row.state.is_final() && report.phase.is_result() {
        answer.acknowledge = Some(report.moment);
        if row.state == State::Cancelled && !row.stopped {
            // It has heard.
            let deployment = row.change();
            deployment.stopped = true;
            deployment.next_send_at = None;
        }
    } else if row.state == State::Granted && report.phase == Phase::Ready && report.moment == row.latest {
        // It still waits: `go` was lost.
        answer.tellings.extend(plan(row, known, hello, now));
    }
    answer
}

fn plan(row: &mut Row, known: &Known, hello: Option<Hello>, now: SystemTime) -> Option<order::Telling> {
    let director = hello.and_then(|hello| known.director(hello));
    order::tell(row.change(), hello, director, Occasion::News, now)
}

/// Something a device said that cannot be true.
pub(super) fn count_lie(reason: &'static str) {
    metrics::counter!("ota_reports_refused_total", "reason" => reason).increment(1);
}
