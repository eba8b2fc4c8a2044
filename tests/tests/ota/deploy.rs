//! Deployments from creation to the end, seen by the people who made them and by the device.

use anyhow::{Result, ensure};
use dev::{Options, Service, Stack};
use proto::device::v1::{BootId, SlotStatus, UpdateReason, UpdateState};
use proto::ota::v1::deployment::State;
use proto::ota::v1::deployment_service_client::DeploymentServiceClient;
use proto::ota::v1::{
    Bundle, CancelDeploymentRequest, CreateDeploymentRequest, DeleteBundleRequest, Deployment,
    GetDeploymentRequest, ListDeploymentsRequest, WatchDeploymentRequest,
};
use proto::registry::v1::RevokeDeviceRequest;
use proto::registry::v1::device_service_client::DeviceServiceClient;
use scenarios::client::Client;
use tonic::{Code, Status};
use wire::Digest;
use wire::directive::Order;
use wire::sign::{Signer, SoftKey};

use crate::device::{Device, target};
use crate::tenant::*;

/// A tenant with a bundle and a device that has said hello.
pub(crate) struct Scene {
    pub(crate) stack: Stack,
    pub(crate) tenant: Tenant,
    pub(crate) layer: Vec<u8>,
    pub(crate) bundle: Bundle,
    pub(crate) device: Device,
    pub(crate) deployments: DeploymentServiceClient<Client>,
}

impl Scene {
    pub(crate) async fn set() -> Result<Scene> {
        let stack =
            Stack::start(swift(Options::only([Service::Registry, Service::Broker, Service::Ota]))).await?;
        let tenant = first(&stack).await?;
        let layer = noise(1, 200_000);
        let bundle = tenant.upload(&stack, &spec("1.0.0", &[&layer])).await?;
        let mut device = Device::enroll(&stack, &tenant).await?;
        greeted(&mut device).await?;
        let deployments = DeploymentServiceClient::new(tenant.person.client(&stack, Service::Ota).await?);
        Ok(Scene { stack, tenant, layer, bundle, device, deployments })
    }

    pub(crate) async fn deploy(&mut self) -> Result<Deployment, Status> {
        self.deploy_bundle(&self.bundle.name.clone()).await
    }

    pub(crate) async fn deploy_bundle(&mut self, bundle: &str) -> Result<Deployment, Status> {
        let request = CreateDeploymentRequest {
            parent: self.tenant.person.tenant.clone(),
            device: self.device.name.clone(),
            bundle: bundle.into(),
            ..Default::default()
        };
        Ok(self.deployments.create_deployment(request).await?.into_inner())
    }

    pub(crate) async fn get(&mut self, deployment: &Deployment) -> Result<Deployment> {
        let request = GetDeploymentRequest { name: deployment.name.clone() };
        Ok(self.deployments.get_deployment(request).await?.into_inner())
    }

    /// Waits until the deployment is in this state.
    pub(crate) async fn becomes(&mut self, deployment: &Deployment, state: State) -> Result<Deployment> {
        let client = self.deployments.clone();
        eventually(&format!("{state:?}"), || {
            let (mut client, request) =
                (client.clone(), GetDeploymentRequest { name: deployment.name.clone() });
            async move {
                let found = client.get_deployment(request).await?.into_inner();
                ensure!(found.state() == state, "it is {:?}", found.state());
                Ok(found)
            }
        })
        .await
    }

    pub(crate) async fn cancel(&mut self, deployment: &Deployment) -> Result<Deployment, Status> {
        let request = CancelDeploymentRequest { name: deployment.name.clone(), ..Default::default() };
        Ok(self.deployments.cancel_deployment(request).await?.into_inner())
    }
}

/// Says hello until it is answered: a service that has just started may still be connecting.
pub(crate) async fn greeted(device: &mut Device) -> Result<()> {
    for _ in 0..20 {
        device.say_hello().await?;
        if tokio::time::timeout(std::time::Duration::from_secs(3), device.time())
            .await
            .is_ok_and(|t| t.is_ok())
        {
            return Ok(());
        }
    }
    anyhow::bail!("hello is not answered")
}

#[tokio::test]
async fn a_device_is_directed_fetches_waits_for_go_confirms_and_raises_its_floor() -> Result<()> {
    let mut scene = Scene::set().await?;
    let deployment = scene.deploy().await?;
    assert_eq!((deployment.state(), deployment.bytes_total), (State::Pending, 200_000));
    let watched = {
        let (mut client, name) = (scene.deployments.clone(), deployment.name.clone());
        tokio::spawn(async move {
            let mut stream = client
                .watch_deployment(WatchDeploymentRequest { name, ..Default::default() })
                .await?
                .into_inner();
            let mut states = Vec::new();
            while let Some(seen) = stream.message().await? {
                states.push(seen.deployment.unwrap_or_default().state());
            }
            Ok::<_, Status>(states)
        })
    };

    let heard = scene.device.directive().await?;
    let Order::Install(about) = heard.order else { anyhow::bail!("{:?}", heard.order) };
    assert_eq!(heard.envelope, scene.bundle.envelope);
    assert_eq!(format!("{}/deployments/{}", scene.tenant.person.tenant, about.deployment), deployment.name);
    assert_eq!(about.manifest.to_string(), scene.bundle.manifest_digest);

    scene.device.say_state(&about, UpdateState::Fetching).await?;
    let digest = Digest::of(&scene.layer);
    assert_eq!(scene.device.fetch(digest, scene.layer.len()).await?, scene.layer);
    let mut half = scene.device.report(&about, UpdateState::Fetching);
    (half.bytes_done, half.bytes_total) = (100_000, 200_000);
    scene.device.say(&half).await?;
    scene.device.say_state(&about, UpdateState::Verified).await?;
    scene.becomes(&deployment, State::Verified).await?;
    scene.device.say_state(&about, UpdateState::Ready).await?;
    let go = scene.device.directive().await?;
    assert_eq!((go.order, go.envelope.len()), (Order::Go(about), 0));

    // From here it can be neither called off nor replaced.
    assert_eq!(
        refusal(scene.cancel(&deployment).await),
        (Code::FailedPrecondition, "DEPLOYMENT_STARTED".into())
    );
    assert_eq!(refusal(scene.deploy().await), (Code::FailedPrecondition, "DEPLOYMENT_STARTED".into()));

    scene.device.say_state(&about, UpdateState::Installing).await?;
    scene.device.say_state(&about, UpdateState::Trial).await?;
    scene.becomes(&deployment, State::Trial).await?;
    let result = scene.device.say_state(&about, UpdateState::Confirmed).await?;
    let ack = scene.device.acknowledged().await?;
    assert_eq!((ack.boot, ack.sequence), (result.boot, result.sequence));
    let stored = scene.get(&deployment).await?;
    assert_eq!(
        (stored.state(), stored.committed),
        (State::Confirmed, false),
        "acknowledged after it was stored"
    );
    // The same again is acknowledged again and changes nothing.
    scene.device.say(&result).await?;
    assert_eq!(scene.device.acknowledged().await?.sequence, result.sequence);
    assert_eq!(scene.get(&deployment).await?, stored);

    let states = watched.await??;
    assert_eq!((states.first(), states.last()), (Some(&State::Pending), Some(&State::Confirmed)));

    scene.device.slots = vec![Device::slot(about.manifest, SlotStatus::Confirmed, true)];
    scene.device.say_hello().await?;
    let commit = scene.device.directive().await?;
    assert_eq!(commit.order, Order::Commit(about, 1));
    scene.device.app_floor = 1;
    scene.device.say_hello().await?;
    let client = scene.deployments.clone();
    eventually("committed", || {
        let (mut client, request) = (client.clone(), GetDeploymentRequest { name: deployment.name.clone() });
        async move {
            ensure!(client.get_deployment(request).await?.into_inner().committed);
            Ok(())
        }
    })
    .await?;

    // What a device holds confirmed is not deleted under it.
    let mut bundles = scene.tenant.bundles(&scene.stack).await?;
    let deleted = bundles
        .delete_bundle(DeleteBundleRequest { name: scene.bundle.name.clone(), ..Default::default() })
        .await;
    assert_eq!(refusal(deleted), (Code::FailedPrecondition, "BUNDLE_IN_USE".into()));
    Ok(())
}

#[tokio::test]
async fn a_result_comes_with_its_reason_and_may_come_late_in_a_hello() -> Result<()> {
    let mut scene = Scene::set().await?;
    for (state, reason, expected) in [
        (UpdateState::Refused, UpdateReason::BelowFloor, (State::Refused, "below_floor")),
        (UpdateState::Reverted, UpdateReason::NeverHealthy, (State::Reverted, "never_healthy")),
        (UpdateState::Confirmed, UpdateReason::AlreadyRunning, (State::Confirmed, "already_running")),
    ] {
        let deployment = scene.deploy().await?;
        let about = loop {
            let heard = target(&scene.device.directive().await?.order)?;
            if deployment.name.ends_with(&heard.deployment.to_string()) {
                break heard;
            }
        };
        if state == UpdateState::Reverted {
            scene.device.say_state(&about, UpdateState::Ready).await?;
            while !matches!(scene.device.directive().await?.order, Order::Go(_)) {}
        }
        let mut result = scene.device.report(&about, state);
        result.set_reason(reason);
        // The power fails before it is said; the next boot's hello carries it.
        scene.device.reboot();
        scene.device.result = Some(result.clone());
        scene.device.say_hello().await?;
        let ack = scene.device.acknowledged().await?;
        assert_eq!((ack.boot, ack.sequence), (result.boot, result.sequence));
        scene.device.result = None;
        let ended = scene.get(&deployment).await?;
        assert_eq!((ended.state(), ended.reason.as_str()), expected);
    }
    let parent = scene.tenant.person.tenant.clone();
    let (mut listed, mut page_token) = (Vec::new(), String::new());
    loop {
        let device = scene.device.name.clone();
        let request = ListDeploymentsRequest { parent: parent.clone(), page_size: 2, page_token, device };
        let page = scene.deployments.list_deployments(request).await?.into_inner();
        listed.extend(page.deployments.iter().map(Deployment::state));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(listed, [State::Confirmed, State::Reverted, State::Refused], "newest first");
    Ok(())
}

#[tokio::test]
async fn what_is_called_off_or_replaced_never_gets_go() -> Result<()> {
    let mut scene = Scene::set().await?;
    let cancelled = scene.deploy().await?;
    let about = target(&scene.device.directive().await?.order)?;
    scene.device.say_state(&about, UpdateState::Fetching).await?;
    scene.becomes(&cancelled, State::Fetching).await?;

    let mut bundles = scene.tenant.bundles(&scene.stack).await?;
    let request = DeleteBundleRequest { name: scene.bundle.name.clone(), ..Default::default() };
    let refused = refusal(bundles.delete_bundle(request).await);
    assert_eq!(
        refused,
        (Code::FailedPrecondition, "BUNDLE_IN_USE".into()),
        "an unfinished deployment needs it"
    );

    assert_eq!(scene.cancel(&cancelled).await?.state(), State::Cancelled);
    assert_eq!(scene.cancel(&cancelled).await?.state(), State::Cancelled, "again is no fault");
    assert_eq!(scene.device.directive().await?.order, Order::Cancel(about));
    // The device did not hear it and goes on: it is told again, never to go.
    scene.device.say_state(&about, UpdateState::Ready).await?;
    assert_eq!(scene.device.directive().await?.order, Order::Cancel(about));
    let mut dropped = scene.device.report(&about, UpdateState::Refused);
    dropped.set_reason(UpdateReason::Superseded);
    scene.device.say(&dropped).await?;
    assert_eq!(scene.device.acknowledged().await?.sequence, dropped.sequence);

    let older = scene.deploy().await?;
    let old = loop {
        let heard = scene.device.directive().await?.order;
        if matches!(heard, Order::Install(_)) {
            break target(&heard)?;
        }
    };
    let newer = scene.deploy().await?;
    assert_eq!(scene.get(&older).await?.state(), State::Superseded);
    let new = loop {
        let heard = target(&scene.device.directive().await?.order)?;
        if heard.deployment != old.deployment {
            break heard;
        }
    };
    // At work on the old one still: it is directed to the new one.
    scene.device.say_state(&old, UpdateState::Ready).await?;
    assert_eq!(scene.device.directive().await?.order, Order::Install(new));
    assert_eq!(scene.get(&newer).await?.state(), State::Pending);
    assert_eq!(refusal(scene.cancel(&older).await), (Code::FailedPrecondition, "DEPLOYMENT_OVER".into()));
    Ok(())
}

#[tokio::test]
async fn what_was_lost_is_said_again_and_always_answers_the_newest_hello() -> Result<()> {
    let mut scene = Scene::set().await?;
    let deployment = scene.deploy().await?;
    let about = target(&scene.device.directive().await?.order)?;
    // The first one was lost on the way, as far as the service knows.
    assert_eq!(scene.device.directive().await?.order, Order::Install(about));
    scene.device.say_state(&about, UpdateState::Ready).await?;
    assert_eq!(scene.device.directive().await?.order, Order::Go(about));
    assert_eq!(scene.device.directive().await?.order, Order::Go(about), "go is said again too");
    // `Device::directive` opens only what answers the newest hello.
    scene.device.say_hello().await?;
    assert_eq!(scene.device.directive().await?.order, Order::Go(about));

    // The board loses power before it began: what was granted is void, and granted again when it asks again.
    scene.device.reboot();
    scene.device.slots = vec![Device::slot(about.manifest, SlotStatus::Staged, false)];
    scene.device.say_hello().await?;
    scene.device.say_state(&about, UpdateState::Ready).await?;
    assert_eq!(scene.device.directive().await?.order, Order::Go(about));

    // It comes back with an empty store: it is directed anew.
    scene.device.reboot();
    scene.device.slots.clear();
    scene.device.say_hello().await?;
    let again = loop {
        let heard = scene.device.directive().await?;
        if let Order::Install(again) = heard.order {
            break again;
        }
    };
    assert_eq!(again, about);
    assert_eq!(scene.get(&deployment).await?.state(), State::Pending);
    Ok(())
}

#[tokio::test]
async fn a_deployment_that_cannot_be_is_refused_with_its_reason() -> Result<()> {
    let mut scene = Scene::set().await?;
    let layer = scene.layer.clone();
    let other = wire::sign::ManifestSpec { board: "other".into(), ..spec("1.0.0", &[&layer]) };
    let other = scene.tenant.upload(&scene.stack, &other).await?;
    let refused = scene.deploy_bundle(&other.name).await.expect_err("another board's");
    assert!(refused.message().contains("other") && refused.message().contains(BOARD), "{refused:?}");
    assert_eq!(refusal::<()>(Err(refused)), (Code::FailedPrecondition, "OTHER_BOARD".into()));
    let nothing = format!("{}/bundles/bn{}", scene.tenant.person.tenant, "0".repeat(32));
    assert_eq!(refusal(scene.deploy_bundle(&nothing).await).0, Code::NotFound);

    let stranger = another(&scene.stack, &scene.tenant.person, 2).await?;
    let theirs = stranger.upload(&scene.stack, &spec("1.0.0", &[&layer])).await?;
    assert_eq!(refusal(scene.deploy_bundle(&theirs.name).await).0, Code::NotFound);
    let mut deployments =
        DeploymentServiceClient::new(stranger.person.client(&scene.stack, Service::Ota).await?);
    let request = CreateDeploymentRequest {
        parent: stranger.person.tenant.clone(),
        device: scene.device.name.clone(),
        bundle: theirs.name,
        ..Default::default()
    };
    assert_eq!(refusal(deployments.create_deployment(request).await).0, Code::NotFound);

    // A keyset that names another director: no device would believe us.
    let mut keyset = scene.tenant.keyset(2);
    keyset.director_key = SoftKey::from_scalar(&[99; 32])?.public_key();
    scene.tenant.publish(&scene.stack, &keyset).await?;
    let refused = refusal(scene.deploy().await);
    assert_eq!(refused, (Code::FailedPrecondition, "DIRECTOR_KEY_NOT_IN_KEYSET".into()));
    scene.tenant.publish(&scene.stack, &scene.tenant.keyset(3)).await?;

    let mut devices =
        DeviceServiceClient::new(scene.tenant.person.client(&scene.stack, Service::Registry).await?);
    devices
        .revoke_device(RevokeDeviceRequest { name: scene.device.name.clone(), ..Default::default() })
        .await?;
    assert_eq!(refusal(scene.deploy().await), (Code::FailedPrecondition, "DEVICE_REVOKED".into()));
    Ok(())
}

#[tokio::test]
async fn a_revoked_device_keeps_no_deployment_open_and_no_bundle() -> Result<()> {
    let mut scene = Scene::set().await?;
    let deployment = scene.deploy().await?;
    let about = target(&scene.device.directive().await?.order)?;
    scene.device.slots = vec![Device::slot(about.manifest, SlotStatus::Confirmed, false)];
    scene.device.say_hello().await?;
    scene.device.say_state(&about, UpdateState::Ready).await?;
    while !matches!(scene.device.directive().await?.order, Order::Go(_)) {}

    let mut devices =
        DeviceServiceClient::new(scene.tenant.person.client(&scene.stack, Service::Registry).await?);
    devices
        .revoke_device(RevokeDeviceRequest { name: scene.device.name.clone(), ..Default::default() })
        .await?;
    let ended = scene.becomes(&deployment, State::Cancelled).await?;
    assert_eq!(ended.reason, "device_revoked");
    let bundles = scene.tenant.bundles(&scene.stack).await?;
    eventually("the bundle is free", async || {
        let request = DeleteBundleRequest { name: scene.bundle.name.clone(), ..Default::default() };
        Ok(bundles.clone().delete_bundle(request).await?)
    })
    .await?;
    objects_become(&scene.stack, &format!("{}/layers/", scene.tenant.person.tenant), 0).await
}

#[tokio::test]
async fn a_board_enrolled_anew_with_an_empty_flash_is_heard_from_its_first_boot() -> Result<()> {
    let mut scene = Scene::set().await?;
    scene.device.boot.counter = 9;
    greeted(&mut scene.device).await?;
    let deployment = scene.deploy().await?;
    let about = target(&scene.device.directive().await?.order)?;
    scene.device.say_state(&about, UpdateState::Fetching).await?;
    scene.becomes(&deployment, State::Fetching).await?;

    // What an approved enrolment with a new key does.
    let id = scene.device.id;
    scene.stack.sql(&format!(
        "UPDATE registry.devices SET key_digest = sha256('another key') WHERE device_id = '{id}'"
    ))?;
    scene.device.boot = BootId { counter: 1, random: 1 };
    greeted(&mut scene.device).await?;
    let again = target(&scene.device.directive().await?.order)?;
    assert_eq!(again, about);
    scene.device.sequence = 0;
    scene.device.say_state(&again, UpdateState::Fetching).await?;
    scene.device.say_state(&again, UpdateState::Verified).await?;
    scene.becomes(&deployment, State::Verified).await?;
    Ok(())
}
