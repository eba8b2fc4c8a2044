//! A board whose journal is lost counts its boots from a lower number, and is heard all the same.

use anyhow::{Context, Result, ensure};
use prost::Message;
use proto::device::v1::{BootId, UpdateState};
use proto::ota::v1::Deployment;
use proto::ota::v1::deployment::State;
use proto::registry::v1::device_service_client::DeviceServiceClient;
use proto::registry::v1::{Device as Shown, GetDeviceRequest, Presence};
use wire::Digest;
use wire::directive::Order;

use crate::deploy::{Scene, greeted};
use crate::device::{Device, target};

const BEFORE: BootId = BootId { counter: 40, random: 1 };

/// A device whose boot 40 is proved, and that has a deployment at hand which it said is verified.
async fn at_boot_40() -> Result<(Scene, Deployment)> {
    let mut scene = Scene::set().await?;
    scene.device.starts_as(BEFORE);
    scene.device.proves_itself().await.context("boot 40")?;
    greeted(&mut scene.device).await?;
    let deployment = scene.deploy().await?;
    let about = target(&scene.device.directive().await?.order)?;
    scene.device.say_state(&about, UpdateState::Fetching).await?;
    scene.device.say_state(&about, UpdateState::Verified).await?;
    scene.becomes(&deployment, State::Verified).await?;
    Ok((scene, deployment))
}

async fn shown(scene: &Scene) -> Result<Shown> {
    let channel = scene.tenant.person.client(&scene.stack, dev::Service::Registry).await?;
    let request = GetDeviceRequest { name: scene.device.name.clone() };
    Ok(DeviceServiceClient::new(channel).get_device(request).await?.into_inner())
}

async fn update(device: &mut Device, scene_layer: &[u8]) -> Result<()> {
    let about = loop {
        if let Order::Install(about) = device.directive().await?.order {
            break about;
        }
    };
    device.say_state(&about, UpdateState::Fetching).await?;
    device.fetch(Digest::of(scene_layer), scene_layer.len()).await?;
    device.say_state(&about, UpdateState::Ready).await?;
    while !matches!(device.directive().await?.order, Order::Go(_)) {}
    device.say_state(&about, UpdateState::Trial).await?;
    let confirmed = device.say_state(&about, UpdateState::Confirmed).await?;
    ensure!(device.acknowledged().await?.sequence == confirmed.sequence);
    Ok(())
}

#[tokio::test]
async fn a_board_that_lost_its_journal_is_asked_to_prove_itself_and_updated_and_shown() -> Result<()> {
    let (mut scene, deployment) = at_boot_40().await?;
    // A hello there is something to answer about is kept in Postgres.
    greeted(&mut scene.device).await?;
    comes_back_as_3(&mut scene, &deployment).await?;

    // The boots after it are lower still than what was.
    scene.device.reboot();
    scene.device.microvisor = "0.3.0".into();
    scene.device.proves_itself().await.context("boot 4")?;
    greeted(&mut scene.device).await?;
    ensure!(shown(&scene).await?.microvisor_version == "0.3.0");
    Ok(())
}

#[tokio::test]
async fn reports_of_a_board_that_lost_its_journal_count_also_where_only_they_were_newer() -> Result<()> {
    let (mut scene, deployment) = at_boot_40().await?;
    comes_back_as_3(&mut scene, &deployment).await
}

async fn comes_back_as_3(scene: &mut Scene, deployment: &Deployment) -> Result<()> {
    let late = scene.device.hello();
    scene.device.starts_as(BootId { counter: 3, random: 2 });
    scene.device.microvisor = "0.2.0".into();
    scene.device.say_hello().await?;
    // It would say nothing for a quarter of an hour.
    scene.device.asked_again().await.context("asked again")?;
    scene.device.proves_itself().await.context("boot 3")?;
    greeted(&mut scene.device).await?;
    let layer = scene.layer.clone();
    update(&mut scene.device, &layer).await?;
    scene.becomes(deployment, State::Confirmed).await?;
    let now = shown(scene).await?;
    ensure!(now.microvisor_version == "0.2.0" && now.presence() == Presence::Online, "{now:?}");

    // What boot 40 said comes once more, late.
    scene.device.publish("hello", late.encode_to_vec()).await?;
    greeted(&mut scene.device).await?;
    ensure!(shown(scene).await?.microvisor_version == "0.2.0");
    let linked = scene.stack.sql("SELECT boot_count FROM ota.device_links")?;
    ensure!(linked.trim() == "3", "{linked}");
    Ok(())
}

#[tokio::test]
async fn a_quiet_board_that_lost_its_journal_is_directed_under_its_own_nonce() -> Result<()> {
    let mut scene = Scene::set().await?;
    // Nothing to answer or record: these hellos are remembered in Redis alone.
    for counter in 40..60 {
        scene.device.starts_as(BootId { counter, random: counter.into() });
        scene.device.proves_itself().await?;
    }
    scene.device.starts_as(BootId { counter: 41, random: 1 });
    scene.device.proves_itself().await?;
    greeted(&mut scene.device).await?;
    scene.deploy().await?;
    let layer = scene.layer.clone();
    update(&mut scene.device, &layer).await
}
