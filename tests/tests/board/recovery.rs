//! Nothing is left to run: the device comes online without an application, says so, and a deployment makes it whole again.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use dev::firmware::Image;
use scenarios::an505::board::{is_online, runs};
use scenarios::an505::flash::{spoil, store};
use scenarios::an505::log::Log;
use scenarios::world::World;
use serde_json::Value;

const QUICK: [&str; 4] = ["--trial", "20s", "--stable", "1s"];
const SOON: Duration = Duration::from_secs(60);
/// A byte of an area that every application has.
const IN_AREA: u32 = 1000;

#[tokio::test]
async fn a_device_without_any_whole_application_is_online_and_repaired_by_a_deployment() -> Result<()> {
    let world = World::start().await?;
    let flash = world.flash("recovery").await?;
    let board = world.machine(&flash)?.start().await?;
    let scenario = async {
        let device = world.devices(1, is_online).await?.remove(0);
        installed(&world, &device, "1.0.0", "1.0.0", 1).await?;
        installed(&world, &device, "2.0.0", "2.0.0", 2).await?;
        Ok(device)
    };
    let device = world.undisturbed(&board, scenario).await?;
    board.cut_power().await?;
    let mut log = Log::of(&world, &device);
    log.next_boot(&["first 2.0.0: 1 s"]).await?;

    // Both slots of the application, at once.
    for place in store()?.slots {
        spoil(&flash, place.area_at + IN_AREA)?;
    }
    let board = world.machine(&flash)?.start().await?;
    let scenario = async {
        board.console().line("NoApp", SOON).await?;
        log.next_boot(&["NoApp", "connected"]).await?;
        world.devices(1, |shown| is_online(shown) && runs_nothing(shown)).await?;
        // By a directive, like any update. What is damaged is not what the deployment before it installed.
        installed(&world, &device, "2.0.0", "2.0.1", 3).await?;
        board.app().line("first 2.0.0 starts", SOON).await.map(drop)
    };
    world.undisturbed(&board, scenario).await?;
    board.cut_power().await?;

    // It is there at the next start, too.
    let board = world.machine(&flash)?.start().await?;
    board.app().line("first 2.0.0 starts", SOON).await.with_context(|| board.tail())?;
    ensure!(world.devices(1, |shown| runs(shown, "2.0.1")).await? == [device]);
    board.cut_power().await
}

/// Deploys the application that says this version, under another one.
async fn installed(
    world: &World,
    device: &str,
    says: &'static str,
    version: &str,
    counter: u64,
) -> Result<()> {
    let bundle = world.app(Image::First(says), version, counter, &QUICK).await?;
    ensure!(world.deploy(device, &bundle).await? == ("STATE_CONFIRMED".into(), String::new()));
    world.devices(1, |shown| runs(shown, version)).await.map(drop)
}

fn runs_nothing(device: &Value) -> bool {
    let slots = device["slots"].as_array().map(Vec::as_slice).unwrap_or_default();
    slots.iter().all(|slot| slot["component"] != "app" || slot["running"] != true)
}
