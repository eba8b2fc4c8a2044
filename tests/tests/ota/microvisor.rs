//! Deployments of a microvisor, and of an application beside one: the trial's answer, the floor, whose turn it is.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use proto::device::v1::{Slot, SlotStatus, UpdateReason, UpdateState};
use proto::ota::v1::deployment::State;
use proto::ota::v1::{Bundle, Deployment};
use tonic::Code;
use wire::directive::{Order, Target};
use wire::limits::MICROVISOR_TRIAL_S_MAX;
use wire::manifest::{Component, Version};
use wire::sign::ReleaseKeySpec;

use crate::deploy::Scene;
use crate::device::{Device, Heard, target};
use crate::tenant::*;

/// More hellos than a device is told anything without an answer.
const HELLOS: usize = 10;

/// A microvisor's bundle, uploaded.
async fn microvisor(scene: &Scene, version: &str, counter: u64) -> Result<Bundle> {
    tried_for(scene, version, counter, 60).await
}

async fn tried_for(scene: &Scene, version: &str, counter: u64, trial_s: u32) -> Result<Bundle> {
    let layer = noise(counter, 50_000);
    let mut spec = spec(version, &[&layer]);
    (spec.component, spec.security_counter, spec.update.trial_s) = (Component::Microvisor, counter, trial_s);
    scene.tenant.upload(&scene.stack, &spec).await
}

/// An application's bundle that needs this microvisor.
async fn needing(scene: &Scene, minor: u16) -> Result<Bundle> {
    let layer = noise(77, 10_000);
    let mut spec = spec("5.0.0", &[&layer]);
    spec.microvisor_min = Version { major: 1, minor, patch: 0 };
    scene.tenant.upload(&scene.stack, &spec).await
}

fn slot(about: &Target, status: SlotStatus, running: bool) -> Slot {
    Slot { component: "microvisor".into(), ..Device::slot(about.manifest, status, running) }
}

/// Says hello, and gives the first install directive that comes in answer. What was called off is told again, too.
async fn told(device: &mut Device) -> Result<Target> {
    device.say_hello().await?;
    loop {
        if let Heard { order: Order::Install(about), .. } = device.directive().await? {
            return Ok(about);
        }
    }
}

/// As a device goes through an installation it was told to make, up to the start of the trial.
async fn tried(scene: &mut Scene, deployment: &Deployment, about: &Target) -> Result<()> {
    scene.device.say_state(about, UpdateState::Fetching).await?;
    scene.device.say_state(about, UpdateState::Ready).await?;
    while !matches!(scene.device.directive().await?.order, Order::Go(of) if of == *about) {}
    scene.device.say_state(about, UpdateState::Installing).await?;
    scene.becomes(deployment, State::Installing).await?;
    scene.device.reboot();
    scene.device.slots = vec![slot(about, SlotStatus::Trial, true)];
    Ok(())
}

async fn heard_of(scene: &mut Scene) -> Result<()> {
    scene.device.microvisor = "1.0.0".into();
    scene.device.say_hello().await?;
    scene.device.time().await.map(drop)
}

fn now_s() -> Result<u64> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs())
}

#[tokio::test]
async fn a_microvisor_on_trial_is_answered_at_every_hello_and_confirmed_its_floor_is_raised() -> Result<()> {
    let mut scene = Scene::set().await?;
    let bundle = microvisor(&scene, "1.1.0", 7).await?;
    let deployment = scene.deploy_bundle(&bundle.name).await?;
    let about = target(&scene.device.directive().await?.order)?;
    assert_eq!(about.component, Component::Microvisor);
    tried(&mut scene, &deployment, &about).await?;

    // Its own time is as good as ours: another device would hear nothing.
    scene.device.time_bound_s = now_s()? + 10;
    for _ in 0..HELLOS {
        scene.device.say_hello().await?;
        scene.device.time().await?;
    }
    scene.device.say_state(&about, UpdateState::Trial).await?;
    let result = scene.device.say_state(&about, UpdateState::Confirmed).await?;
    assert_eq!(scene.device.acknowledged().await?.sequence, result.sequence);

    scene.device.slots = vec![slot(&about, SlotStatus::Confirmed, true)];
    scene.device.say_hello().await?;
    while scene.device.directive().await?.order != Order::Commit(about, 7) {}
    assert!(!scene.get(&deployment).await?.committed, "nobody said that it arrived");
    // The application's floor is another one.
    scene.device.app_floor = 7;
    scene.device.say_hello().await?;
    while scene.device.directive().await?.order != Order::Commit(about, 7) {}
    assert!(!scene.get(&deployment).await?.committed);
    scene.device.microvisor_floor = 7;
    scene.device.say_hello().await?;
    let client = scene.deployments.clone();
    eventually("committed", async || {
        let request = proto::ota::v1::GetDeploymentRequest { name: deployment.name.clone() };
        ensure!(client.clone().get_deployment(request).await?.into_inner().committed);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_microvisor_that_was_taken_back_says_whether_it_failed_or_nobody_knows() -> Result<()> {
    let mut scene = Scene::set().await?;
    let reasons = [(UpdateReason::Inconclusive, "inconclusive"), (UpdateReason::Failed, "failed")];
    for (counter, (reason, text)) in (1..).zip(reasons) {
        let bundle = microvisor(&scene, "1.1.0", counter).await?;
        let deployment = scene.deploy_bundle(&bundle.name).await?;
        let about = target(&scene.device.directive().await?.order)?;
        tried(&mut scene, &deployment, &about).await?;
        let mut result = scene.device.report(&about, UpdateState::Reverted);
        (result.reason, result.attempts) = (reason.into(), 3);
        scene.device.reboot();
        scene.device.slots = vec![slot(&about, SlotStatus::Rejected, false)];
        scene.device.result = Some(result);
        scene.device.say_hello().await?;
        let ended = scene.becomes(&deployment, State::Reverted).await?;
        assert_eq!((ended.reason.as_str(), ended.attempts), (text, 3));
        scene.device.acknowledged().await?;
        scene.device.result = None;
    }
    Ok(())
}

#[tokio::test]
async fn an_application_waits_for_the_microvisor_it_needs_and_without_one_it_is_refused() -> Result<()> {
    let mut scene = Scene::set().await?;
    heard_of(&mut scene).await?;
    let app = needing(&scene, 1).await?;
    let status = scene.deploy_bundle(&app.name).await.expect_err("it is refused");
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert_eq!(kit::status::reason(&status).as_deref(), Some("MICROVISOR_TOO_OLD"));
    let versions = ["needed", "running"].map(|key| detail(&status, key));
    assert_eq!(versions, [Some("1.1.0".into()), Some("1.0.0".into())]);
    // A microvisor that is too old as well helps nothing; nor does one that was called off.
    let older = microvisor(&scene, "1.0.9", 3).await?;
    let older = scene.deploy_bundle(&older.name).await?;
    assert_eq!(refusal(scene.deploy_bundle(&app.name).await).1, "MICROVISOR_TOO_OLD");
    scene.cancel(&older).await?;
    assert_eq!(refusal(scene.deploy_bundle(&app.name).await).1, "MICROVISOR_TOO_OLD");
    // What runs on what there is may be deployed.
    let runs = needing(&scene, 0).await?;
    let runs = scene.deploy_bundle(&runs.name).await?;
    scene.cancel(&runs).await?;

    let bundle = microvisor(&scene, "1.1.0", 4).await?;
    let first = scene.deploy_bundle(&bundle.name).await?;
    let second = scene.deploy_bundle(&app.name).await?;
    let [first_id, second_id] = [id(&first)?, id(&second)?];
    for _ in 0..HELLOS {
        assert_eq!(told(&mut scene.device).await?.deployment.to_string(), first_id);
    }
    let sends = format!("SELECT sends FROM ota.deployments WHERE deployment_id = '{second_id}'");
    assert_eq!(scene.stack.sql(&sends)?.trim(), "0", "nothing was told of it in vain");

    let about = told(&mut scene.device).await?;
    tried(&mut scene, &first, &about).await?;
    scene.device.microvisor = "1.1.0".into();
    scene.device.say_hello().await?;
    scene.device.time().await?;
    scene.device.say_state(&about, UpdateState::Confirmed).await?;
    // The end of the one is the beginning of the other, at once.
    let next = loop {
        if let Order::Install(next) = scene.device.directive().await?.order
            && next.component == Component::App
        {
            break next;
        }
    };
    assert_eq!(next.deployment.to_string(), second_id);
    scene.device.say_state(&next, UpdateState::Fetching).await?;
    scene.becomes(&second, State::Fetching).await.map(drop)
}

#[tokio::test]
async fn an_application_whose_microvisor_was_taken_back_is_told_and_refused_by_the_device() -> Result<()> {
    let mut scene = Scene::set().await?;
    heard_of(&mut scene).await?;
    let (bundle, app) = (microvisor(&scene, "1.1.0", 4).await?, needing(&scene, 1).await?);
    let first = scene.deploy_bundle(&bundle.name).await?;
    let second = scene.deploy_bundle(&app.name).await?;
    let about = target(&scene.device.directive().await?.order)?;
    tried(&mut scene, &first, &about).await?;
    let mut result = scene.device.report(&about, UpdateState::Reverted);
    result.reason = UpdateReason::Inconclusive.into();
    scene.device.reboot();
    scene.device.slots = vec![slot(&about, SlotStatus::Rejected, false)];
    scene.device.result = Some(result);
    scene.device.say_hello().await?;
    scene.becomes(&first, State::Reverted).await?;
    let next = target(&scene.device.directive().await?.order)?;
    assert_eq!(next.deployment.to_string(), id(&second)?);
    let mut refused = scene.device.report(&next, UpdateState::Refused);
    refused.reason = UpdateReason::MicrovisorTooOld.into();
    scene.device.say(&refused).await?;
    let ended = scene.becomes(&second, State::Refused).await?;
    assert_eq!(ended.reason, "microvisor_too_old");
    Ok(())
}

#[tokio::test]
async fn an_application_under_way_is_finished_first_and_what_takes_its_place_keeps_its_turn() -> Result<()> {
    let mut scene = Scene::set().await?;
    let app = scene.deploy().await?;
    let about = target(&scene.device.directive().await?.order)?;
    scene.device.say_state(&about, UpdateState::Fetching).await?;
    scene.becomes(&app, State::Fetching).await?;
    let bundle = microvisor(&scene, "1.1.0", 4).await?;
    let waiting = scene.deploy_bundle(&bundle.name).await?;
    for _ in 0..HELLOS {
        assert_eq!(told(&mut scene.device).await?.deployment, about.deployment);
    }
    let other = needing(&scene, 0).await?;
    let other = scene.deploy_bundle(&other.name).await?;
    scene.becomes(&app, State::Superseded).await?;
    assert_eq!(told(&mut scene.device).await?.deployment.to_string(), id(&other)?);
    // Called off, it makes room at once.
    scene.cancel(&other).await?;
    let next = loop {
        if let Order::Install(next) = scene.device.directive().await?.order
            && next.component == Component::Microvisor
        {
            break next;
        }
    };
    assert_eq!(next.deployment.to_string(), id(&waiting)?);
    Ok(())
}

#[tokio::test]
async fn a_release_key_for_applications_signs_no_microvisor_and_a_microvisor_has_a_version() -> Result<()> {
    let scene = Scene::set().await?;
    let mut keyset = scene.tenant.keyset(2);
    let [release] = keyset.release_keys.as_mut_slice() else { bail!("one release key") };
    *release = ReleaseKeySpec { component: Some(Component::App), ..release.clone() };
    let refused = async |version: &str| {
        let status = microvisor(&scene, version, 4).await.expect_err("it is refused");
        let status = status.downcast::<tonic::Status>().context("a status")?;
        anyhow::Ok(detail(&status, "refusal"))
    };
    assert_eq!(refused("next").await?.as_deref(), Some("microvisor_version"));
    scene.tenant.publish(&scene.stack, &keyset).await?;
    assert_eq!(refused("1.1.0").await?.as_deref(), Some("key_scope"));
    needing(&scene, 0).await.map(drop)
}

#[tokio::test]
async fn a_microvisor_whose_trial_would_last_longer_than_a_day_is_refused_at_upload() -> Result<()> {
    let scene = Scene::set().await?;
    tried_for(&scene, "1.1.0", 4, MICROVISOR_TRIAL_S_MAX).await?;
    let longer = tried_for(&scene, "1.1.0", 5, MICROVISOR_TRIAL_S_MAX + 1).await.expect_err("it is refused");
    let status = longer.downcast::<tonic::Status>().context("a status")?;
    ensure!(detail(&status, "refusal").as_deref() == Some("microvisor_trial"), "{status}");
    Ok(())
}

/// The last part of its name.
fn id(deployment: &Deployment) -> Result<String> {
    Ok(deployment.name.rsplit('/').next().context("a name")?.to_owned())
}
