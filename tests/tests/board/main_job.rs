//! The main scenario: a board enrols, takes an application and its successor, and takes a bad one back by itself.

use anyhow::{Result, ensure};
use dev::firmware::Image;
use scenarios::world::{World, name};
use serde_json::Value;

/// Short periods, so that a trial takes seconds.
const QUICK: [&str; 4] = ["--trial", "8s", "--stable", "1s"];

#[tokio::test]
async fn an_emulated_board_enrols_updates_and_takes_back_a_bad_update() -> Result<()> {
    let world = World::start().await?;
    let flash = world.flash("main-job").await?;
    let board = world.machine(&flash)?.start().await?;
    let outcome = main_job(&world).await;
    if outcome.is_err() {
        world.stack.keep_logs();
        eprintln!("{}", board.tail());
    }
    outcome?;
    ensure!(board.resets() <= 1, "it was reset {} times", board.resets());
    board.cut_power().await
}

async fn main_job(world: &World) -> Result<()> {
    let device = world.devices(1, |d| text(d, "presence") == "PRESENCE_ONLINE").await?.remove(0);
    let shown = world.one(&["device", "show", &device]).await?;
    ensure!(text(&shown, "board") == "an505" && text(&shown, "hardware_id") == "main-job", "{shown}");

    let first = world.app(Image::First("1.0.0"), "1.0.0", 1, &QUICK).await?;
    ensure!(world.deploy(&device, &first).await? == ("STATE_CONFIRMED".into(), String::new()));
    world.devices(1, |d| runs(d, "1.0.0")).await?;
    let second = world.app(Image::First("2.0.0"), "2.0.0", 2, &QUICK).await?;
    ensure!(world.deploy(&device, &second).await? == ("STATE_CONFIRMED".into(), String::new()));
    world.devices(1, |d| runs(d, "2.0.0") && d["app_floor"] == 2).await?;

    let unwell = world.app(Image::Unwell("3.0.0"), "3.0.0", 3, &QUICK).await?;
    let end = world.deploy(&device, &unwell).await?;
    ensure!(end == ("STATE_REVERTED".into(), "never_healthy".into()), "3.0.0 ended {end:?}");
    world.devices(1, |d| runs(d, "2.0.0") && d["app_floor"] == 2).await?;

    let records = world.json(&["logs", &device]).await?;
    for version in ["1.0.0", "2.0.0", "3.0.0"] {
        ensure!(
            records.iter().any(|record| text(record, "text").contains(version)),
            "{version} is not in the log"
        );
    }
    let gaps: i64 = records.iter().filter_map(|record| record["gap_before"].as_i64()).sum();
    ensure!(gaps == 0, "{gaps} records were lost");
    ensure!(name(&shown)? == device);
    Ok(())
}

fn runs(device: &Value, version: &str) -> bool {
    let slots = device["slots"].as_array().map(Vec::as_slice).unwrap_or_default();
    let running = slots.iter().find(|slot| text(slot, "component") == "app" && slot["running"] == true);
    running.is_some_and(|slot| text(slot, "version") == version && text(slot, "status") == "confirmed")
}

fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value[key].as_str().unwrap_or_default()
}
