//! A fleet that went on, and a database that went back: dumped at one time, restored after boards enrolled and were updated, keys
//! were rotated and floors rose. The fleet is commanded again.

use anyhow::{Context, Result, ensure};
use dev::{Options, Service};
use proto::device::v1::{SlotStatus, UpdateReason, UpdateState};
use proto::ota::v1::Deployment;
use proto::ota::v1::deployment::State;
use scenarios::world::{PATIENCE, World, name, text};
use serde_json::Value;
use wire::directive::{Order, Target};

use crate::device::Device;
use crate::played::Estate;
use crate::scene::*;

/// A backup from the middle of an update: the device confirmed it later, and has said so to a database that is gone.
async fn backup_during_trial(world: &World, device: &str, release: &str) -> Result<std::path::PathBuf> {
    let (image, file) = (world.path("1.0.0.image"), world.path("1.0.0.hfb"));
    std::fs::write(&image, GOOD)?;
    let mut create = vec!["bundle", "create", "--board", "host", "--version", "1.0.0", "--counter", "1"];
    create.extend(["--image", text(&image)?, "--key", release, "--out", text(&file)?]);
    // Long enough on trial to be dumped there.
    create.extend(["--trial", "60s", "--stable", "8s"]);
    world.cli(&create).await?;
    let bundle = name(&world.one(&["bundle", "upload", text(&file)?]).await?)?;
    let created = name(&world.one(&["deploy", device, &bundle, "--no-wait"]).await?)?;
    let on_trial = async {
        while field(&world.one(&["deployment", "show", &created]).await?, "state") != "STATE_TRIAL" {}
        anyhow::Ok(())
    };
    tokio::time::timeout(PATIENCE, on_trial).await.context("never on trial")??;
    let dump = world.path("backup.dump");
    world.stack.backup(&dump)?;
    ensure!(field(&world.ended(&created).await?, "state") == "STATE_CONFIRMED");
    Ok(dump)
}

async fn stop_services(world: &World) -> Result<()> {
    for service in [Service::DebugRelay, Service::Ota, Service::Logs, Service::Registry, Service::Broker] {
        world.stack.stop(service).await?;
    }
    Ok(())
}

async fn start_services(world: &World) -> Result<()> {
    for service in [Service::Registry, Service::Broker, Service::Ota, Service::Logs, Service::DebugRelay] {
        world.stack.start_service(service).await?;
    }
    Ok(())
}

fn versions(status: &Value) -> Vec<(u64, String)> {
    let rows = status["versions"].as_array().cloned().unwrap_or_default();
    rows.iter().map(|row| (row["version"].as_u64().unwrap_or(0), field(row, "standing").to_owned())).collect()
}

#[tokio::test]
async fn a_fleet_is_commanded_again_after_its_database_was_restored_from_an_old_backup() -> Result<()> {
    let options = Options::all().env(Service::Ota, "HOLDFAST_SWEEP_MS", "50");
    let world = World::start_with(options).await?;
    let (root, release) = (key(&world, "root.pem").await?, key(&world, "release.pem").await?);
    let new_release = key(&world, "new-release.pem").await?;
    let provision = world.provision("claim", 5).await?;
    let mut board = world.board(&provision, "board", &["--hardware-id", "early"])?;
    board.event("connected", 1).await?;
    let device = holds(&world, 1).await?;
    let dump = backup_during_trial(&world, &device, &release).await?;

    // All that happens after it.
    let late_args = ["--hardware-id", "late"];
    let mut late = world.board(&provision, "late", &late_args)?;
    let late_id = field(&late.event("enrolled", 1).await?[0], "device").to_owned();
    let two = uploaded(&world, &release, "2.0.0", 2).await?;
    ensure!(world.deploy(&device, &two).await?.0 == "STATE_CONFIRMED");
    world.devices(1, |it| it["app_floor"] == 2).await?;
    world.cli(&["keys", "rotate", "--release", &format!("{release}={new_release}"), "--sign", &root]).await?;
    world.cli(&["keys", "rotate", "--director", "--sign", &root]).await?;
    let files = [world.path("2.keyset"), world.path("3.keyset")];
    world.cli(&["keyset", "show", "2", "--out", text(&files[0])?]).await?;
    world.cli(&["keyset", "show", "3", "--out", text(&files[1])?]).await?;
    board.cut_power().await?;
    late.cut_power().await?;
    let early_args = ["--hardware-id", "early"];
    let board = world.board(&provision, "board", &early_args)?;
    let late = world.board(&provision, "late", &late_args)?;
    world.devices(2, |it| it["keyset_version"] == 3).await?;
    let three = uploaded(&world, &new_release, "3.0.0", 3).await?;
    ensure!(world.deploy(&device, &three).await?.0 == "STATE_CONFIRMED", "by the new director");
    world.devices(1, |it| it["app_floor"] == 3).await?;
    board.cut_power().await?;
    late.cut_power().await?;

    stop_services(&world).await?;
    world.stack.restore(&dump)?;
    let state = world.stack.sql("SELECT state FROM ota.deployments")?;
    ensure!(state.trim() == "trial", "the backup has {state}");
    start_services(&world).await?;

    // The known board is back; what it holds and the server does not is said.
    let board = world.board(&provision, "board", &early_args)?;
    world.devices(1, |it| it["keyset_version"] == 3 && runs(it, "3.0.0")).await?;
    let status = world.try_cli(&["keys", "status"]).await?;
    ensure!(status.stderr.contains("devices hold keyset 3, and the newest known here is 1"), "{status:?}");
    let status = world.one(&["keys", "status"]).await?;
    ensure!(versions(&status) == [(1, "newest".into()), (3, "not known here".into())], "{status}");
    ensure!(status["newest_held_by_devices"] == 3, "{status}");
    let log = std::fs::read_to_string(world.stack.log(Service::Registry))?;
    ensure!(log.contains("the device holds a keyset that is not known here"), "not in the registry's log");

    // The one that enrolled after it is nobody any more; its claim is good, and it is another device.
    let mut late = world.board(&provision, "late", &late_args)?;
    let again = field(&late.event("enrolled", 1).await?[0], "device").to_owned();
    ensure!(again != late_id, "an identity that the registry does not know came back");
    world.devices(2, |it| it["keyset_version"] == 3).await?;

    // The signed keysets again, in order; the last of them names a director whose private key is gone.
    let skipped = world.try_cli(&["keyset", "upload", text(&files[1])?]).await?;
    complains(&skipped, "the next keyset is version 2")?;
    for file in &files {
        world.cli(&["keyset", "upload", text(file)?]).await?;
    }
    let status = world.try_cli(&["keys", "status"]).await?;
    ensure!(status.stderr.contains("which svc-ota does not have"), "{status:?}");
    let four = uploaded(&world, &new_release, "4.0.0", 4).await?;
    let refused = world.try_cli(&["deploy", &device, &four]).await?;
    complains(&refused, "keys rotate --director")?;
    let rotated = world.cli(&["keys", "rotate", "--director", "--forget-old", "--sign", &root]).await?;
    ensure!(rotated.contains("1 older director keys deleted"), "the one the backup brought back: {rotated}");
    ensure!(world.cli(&["keys", "forget"]).await?.starts_with("0 older"), "there are more");
    let board = {
        board.cut_power().await?;
        world.board(&provision, "board", &early_args)?
    };
    world.devices(1, |it| it["keyset_version"] == 4 && name(it).is_ok_and(|it| it == device)).await?;

    // The deployment the backup had on trial is over: nothing of it is on the board any more, which would not go back to it.
    let deployments = world.json(&["deployment", "list", "--device", &device]).await?;
    let end = |it: &Value| (field(it, "state").to_owned(), field(it, "reason").to_owned());
    let refused = ("STATE_REFUSED".to_owned(), "below_floor".to_owned());
    ensure!(deployments.len() == 1 && end(&deployments[0]) == refused, "{deployments:?}");
    let end = world.deploy(&device, &four).await?;
    ensure!(end.0 == "STATE_CONFIRMED", "it ended {end:?}");
    world.devices(1, |it| it["app_floor"] == 4).await?;
    // The floor stayed the device's: what the backup still knows is below it.
    let below = uploaded(&world, &new_release, "3.5.0", 3).await?;
    ensure!(world.deploy(&device, &below).await? == ("STATE_REFUSED".into(), "below_floor".into()));

    late.cut_power().await?;
    let late = world.board(&provision, "late", &late_args)?;
    world.devices(2, |it| it["keyset_version"] == 4).await?;
    let late_device = world.devices(1, |it| name(it).is_ok_and(|it| it.ends_with(&again))).await?.remove(0);
    ensure!(world.deploy(&late_device, &four).await?.0 == "STATE_CONFIRMED");
    drop((board, late));
    Ok(())
}

/// A device that was granted `go` and is on trial, as far as the service knows.
async fn on_trial(estate: &mut Estate, version: &str, counter: u64) -> Result<(Deployment, Target)> {
    let deployment = estate.deploy(version, counter).await?;
    let about = installs(estate, &deployment).await?;
    estate.device.say_state(&about, UpdateState::Ready).await?;
    while !matches!(estate.device.directive().await?.order, Order::Go(_)) {}
    estate.device.say_state(&about, UpdateState::Trial).await?;
    estate.becomes(&deployment, State::Trial).await?;
    Ok((deployment, about))
}

#[tokio::test]
async fn a_deployment_that_a_backup_has_on_trial_ends_when_its_device_shows_that_it_was_confirmed_once()
-> Result<()> {
    let mut estate = Estate::set().await?;
    let director = estate.tenant.director;
    estate.obeys(1, director).await?;
    // Its result was acknowledged to it by a database that is gone: it will never say it again.
    let (first, about) = on_trial(&mut estate, "1.0.0", 1).await?;
    estate.device.slots = vec![Device::slot(about.manifest, SlotStatus::Trial, true)];
    estate.obeys(1, director).await?;
    estate.becomes(&first, State::Trial).await?;
    estate.device.slots = vec![Device::slot(about.manifest, SlotStatus::Confirmed, true)];
    estate.obeys(1, director).await?;
    estate.becomes(&first, State::Confirmed).await?;

    // Another one confirmed since, which the backup does not know either: a later boot shows it.
    let (second, about) = on_trial(&mut estate, "2.0.0", 2).await?;
    let newer = Device::slot(wire::Digest([7; 32]), SlotStatus::Confirmed, true);
    estate.device.slots = vec![newer, Device::slot(about.manifest, SlotStatus::Previous, false)];
    estate.obeys(1, director).await?;
    estate.becomes(&second, State::Trial).await?;
    estate.device.reboot();
    estate.obeys(1, director).await?;
    estate.becomes(&second, State::Confirmed).await
}

#[tokio::test]
async fn a_result_that_a_backup_cannot_know_is_forgotten_by_its_device_and_told_again() -> Result<()> {
    let mut estate = Estate::set().await?;
    let director = estate.tenant.director;
    estate.obeys(1, director).await?;
    // As the database that came back has it, nobody was granted anything; the result was on its way when it was lost.
    let deployment = estate.deploy("1.0.0", 1).await?;
    let about = installs(&mut estate, &deployment).await?;
    estate.device.reboot();
    estate.device.slots = vec![Device::slot(about.manifest, SlotStatus::Confirmed, true)];
    let result = estate.device.report(&about, UpdateState::Confirmed);
    estate.device.result = Some(result.clone());
    estate.device.say_hello().await?;
    ensure!(estate.device.acknowledged().await?.sequence == result.sequence);
    estate.device.result = None;
    // A device that holds no result of it answers the same directive with what it runs.
    ensure!(installs(&mut estate, &deployment).await? == about);
    let mut again = estate.device.report(&about, UpdateState::Confirmed);
    again.set_reason(UpdateReason::AlreadyRunning);
    estate.device.say(&again).await?;
    ensure!(estate.device.acknowledged().await?.sequence == again.sequence);
    estate.becomes(&deployment, State::Confirmed).await?;

    // One that was taken back is refused when it is told again.
    let deployment = estate.deploy("2.0.0", 2).await?;
    let about = installs(&mut estate, &deployment).await?;
    let mut result = estate.device.report(&about, UpdateState::Reverted);
    result.set_reason(UpdateReason::NeverHealthy);
    estate.device.say(&result).await?;
    ensure!(estate.device.acknowledged().await?.sequence == result.sequence);
    ensure!(installs(&mut estate, &deployment).await? == about);
    let mut again = estate.device.report(&about, UpdateState::Refused);
    again.set_reason(UpdateReason::RejectedBefore);
    estate.device.say(&again).await?;
    estate.becomes(&deployment, State::Refused).await
}

/// The next directive to install it.
async fn installs(estate: &mut Estate, deployment: &Deployment) -> Result<Target> {
    loop {
        if let Order::Install(about) = estate.device.directive().await?.order
            && deployment.name.ends_with(&about.deployment.to_string())
        {
            return Ok(about);
        }
    }
}
