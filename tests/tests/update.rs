//! The main job, whole: real services, the real CLI, a real board process. Nothing here is scripted or mocked.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use dev::{Broker, Options, Part, Service};
use scenarios::world::{PATIENCE, World};
use serde_json::Value;

/// Says it is healthy and goes on.
const GOOD: &str = "#!holdfast-script\nlog good starts\nhealthy\nlog all is well\nwork 200\nrepeat\n";
/// Never says so.
const NEVER_HEALTHY: &str = "#!holdfast-script\nlog bad starts\nwork 200\nrepeat\n";
const CRASHES: &str = "#!holdfast-script\nlog about to crash\nwork 20\ncrash\n";
const HANGS: &str = "#!holdfast-script\nlog about to hang\nhang\n";
/// Short periods, so that a trial takes seconds.
const QUICK: [&str; 4] = ["--trial", "4s", "--stable", "0s"];

fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// (version, status) of the application slot that runs.
fn running(device: &Value) -> Option<(String, String)> {
    let slots = device.get("slots")?.as_array()?;
    let slot = slots.iter().find(|s| text(s, "component") == "app" && s["running"] == true)?;
    Some((text(slot, "version").to_owned(), text(slot, "status").to_owned()))
}

fn runs(device: &Value, version: &str) -> bool {
    running(device).is_some_and(|(now, status)| now == version && status == "confirmed")
}

#[tokio::test]
async fn a_device_enrols_updates_and_takes_back_a_bad_update() -> Result<()> {
    main_job(&World::start().await?).await
}

#[tokio::test]
async fn the_main_job_is_done_through_a_mosquitto_under_the_generated_rules() -> Result<()> {
    main_job(&World::start_with(Options::all().broker(Broker::Mosquitto)).await?).await
}

async fn main_job(world: &World) -> Result<()> {
    let provision = world.provision("claim", 1).await?;
    let _board = world.board(&provision, "board", &[])?;
    let device = world.devices(1, |d| text(d, "presence") == "PRESENCE_ONLINE").await?.remove(0);

    let good = world.bundle(GOOD, "1.0.0", 1, &QUICK).await?;
    ensure!(world.deploy(&device, &good).await? == ("STATE_CONFIRMED".into(), String::new()));
    world.devices(1, |d| runs(d, "1.0.0") && d["app_floor"] == 1).await?;

    for (version, counter, script, reason) in [
        ("2.0.0", 2, NEVER_HEALTHY, "never_healthy"),
        ("3.0.0", 3, CRASHES, "crashed"),
        ("4.0.0", 4, HANGS, "hung"),
    ] {
        let bad = world.bundle(script, version, counter, &QUICK).await?;
        let end = world.deploy(&device, &bad).await?;
        ensure!(end == ("STATE_REVERTED".into(), reason.into()), "{version} ended {end:?}");
        world.devices(1, |d| runs(d, "1.0.0")).await?;
    }
    let device = world.one(&["device", "show", &device]).await?;
    ensure!(device["app_floor"] == 1, "a bad version raised the floor: {device}");

    let records = world.json(&["logs", text(&device, "name")]).await?;
    for line in ["good starts", "all is well", "bad starts", "about to crash", "about to hang"] {
        ensure!(
            records.iter().any(|record| text(record, "text").contains(line)),
            "`{line}` is not in the log"
        );
    }
    ensure!(
        records.iter().all(|record| record["gap_before"].as_i64().unwrap_or(0) == 0),
        "records were lost"
    );
    Ok(())
}

#[tokio::test]
async fn a_bundle_below_the_floor_or_for_another_board_is_refused_with_its_reason() -> Result<()> {
    let world = World::start().await?;
    let provision = world.provision("claim", 1).await?;
    let _board = world.board(&provision, "board", &[])?;
    let device = world.devices(1, |_| true).await?.remove(0);
    let second = world.bundle(GOOD, "2.0.0", 2, &QUICK).await?;
    ensure!(world.deploy(&device, &second).await?.0 == "STATE_CONFIRMED");
    world.devices(1, |d| d["app_floor"] == 2).await?;

    let first = world.bundle("#!holdfast-script\nhealthy\nwork 300\nrepeat\n", "1.0.0", 1, &QUICK).await?;
    let refused = world.try_cli(&["deploy", &device, &first]).await?;
    ensure!(refused.code == 6 || refused.code == 7, "below the floor: {refused:?}");
    ensure!(refused.stderr.contains("floor"), "{}", refused.stderr);
    world.devices(1, |d| runs(d, "2.0.0")).await?;

    let image = world.path("other.image");
    std::fs::write(&image, GOOD)?;
    let (file, key) = (world.path("other.hfb"), world.path("keys/release.pem"));
    let path = scenarios::world::text;
    let mut create = vec!["bundle", "create", "--board", "an505", "--version", "9.0.0", "--counter", "9"];
    create.extend(["--image", path(&image)?, "--key", path(&key)?, "--out", path(&file)?]);
    world.cli(&create).await?;
    let other = world.one(&["bundle", "upload", path(&file)?]).await?;
    let refused = world.try_cli(&["deploy", &device, text(&other, "name")]).await?;
    ensure!(refused.code == 6 && refused.stderr.contains("board"), "{refused:?}");
    Ok(())
}

#[tokio::test]
async fn fifty_boards_enrol_on_one_claim_at_once_and_none_gets_anothers_identity() -> Result<()> {
    let world = World::start().await?;
    let provision = world.provision("claim", 50).await?;
    let mut boards = world.board(&provision, "boards", &["--count", "50"])?;
    let enrolled = boards.event("enrolled", 50).await?;
    let ids: std::collections::BTreeSet<&str> = enrolled.iter().map(|event| text(event, "device")).collect();
    ensure!(ids.len() == 50, "{} different identities", ids.len());
    let devices = world.devices(50, |d| text(d, "presence") == "PRESENCE_ONLINE").await?;
    for event in &enrolled {
        let name = devices.iter().find(|name| name.ends_with(text(event, "device")));
        let device =
            world.one(&["device", "show", name.context("an identity the registry does not know")?]).await?;
        ensure!(text(&device, "hardware_id") == text(event, "hardware_id"), "{event} is {device}");
    }
    // The claim is used up: one more board is refused, and says why.
    let mut late = world.board(&provision, "late", &["--hardware-id", "late"])?;
    let refused = late.event("refused", 1).await?;
    ensure!(!refused.is_empty());
    Ok(())
}

#[tokio::test]
async fn a_board_with_a_victims_hardware_id_waits_for_an_operator() -> Result<()> {
    let world = World::start().await?;
    let provision = world.provision("claim", 5).await?;
    let _victim = world.board(&provision, "victim", &["--hardware-id", "board-1"])?;
    let victim = world.devices(1, |d| text(d, "presence") == "PRESENCE_ONLINE").await?.remove(0);

    let mut thief = world.board(&provision, "thief", &["--hardware-id", "board-1"])?;
    thief.event("pending", 1).await?;
    let pending = world.json(&["device", "pending"]).await?;
    ensure!(pending.len() == 1 && text(&pending[0], "device") == victim, "{pending:?}");
    let device = world.one(&["device", "show", &victim]).await?;
    ensure!(device.get("revoke_time").is_none_or(Value::is_null), "the victim was revoked");
    ensure!(world.json(&["device", "list"]).await?.len() == 1, "a second device appeared");
    Ok(())
}

/// A device is revoked while `away` does not run.
async fn revoked(away: Option<Part>) -> Result<()> {
    let world = World::start().await?;
    let provision = world.provision("claim", 1).await?;
    let mut board = world.board(&provision, "board", &[])?;
    let device = world.devices(1, |d| text(d, "presence") == "PRESENCE_ONLINE").await?.remove(0);
    if let Some(part) = away {
        world.stack.stop(part).await?;
    }
    world.cli(&["device", "revoke", &device]).await?;
    board.event("disconnected", 1).await?;
    board.event("refused", 1).await?;
    Ok(())
}

#[tokio::test]
async fn a_revoked_device_is_disconnected_and_cannot_come_back() -> Result<()> {
    revoked(None).await
}

#[tokio::test]
async fn a_revoked_device_is_disconnected_also_while_redis_is_away() -> Result<()> {
    revoked(Some(Part::Redis)).await
}

#[tokio::test]
async fn behind_a_mosquitto_a_revoked_device_is_disconnected_and_ignored_when_it_comes_back() -> Result<()> {
    let world = World::start_with(Options::all().broker(Broker::Mosquitto)).await?;
    let provision = world.provision("claim", 2).await?;
    let mut board = world.board(&provision, "board", &[])?;
    let device = world.devices(1, |d| text(d, "presence") == "PRESENCE_ONLINE").await?.remove(0);
    board.event("connected", 1).await?;
    world.cli(&["device", "revoke", &device]).await?;
    board.event("disconnected", 1).await?;
    let last_hello = world.one(&["device", "show", &device]).await?["last_hello_time"].clone();

    // mosquitto lets it in again; its hello is before that of a board that comes later.
    board.event("connected", 2).await?;
    let _other = world.board(&provision, "other", &[])?;
    world.devices(1, |d| text(d, "presence") == "PRESENCE_ONLINE" && text(d, "name") != device).await?;
    let revoked = world.one(&["device", "show", &device]).await?;
    ensure!(revoked["last_hello_time"] == last_hello, "a revoked device was heard: {revoked}");
    ensure!(text(&revoked, "presence") != "PRESENCE_ONLINE", "a revoked device is online: {revoked}");
    Ok(())
}

/// An update during which one part after the other is stopped and started again.
async fn under_way(part: Part) -> Result<()> {
    let world = World::start().await?;
    let provision = world.provision("claim", 1).await?;
    let _board = world.board(&provision, "board", &[])?;
    let device = world.devices(1, |d| text(d, "presence") == "PRESENCE_ONLINE").await?.remove(0);
    let large = format!("{GOOD}{}", "# padding\n".repeat(40_000));
    let bundle = world.bundle(&large, "1.0.0", 1, &QUICK).await?;
    let created = world.one(&["deploy", &device, &bundle, "--no-wait"]).await?;
    world.stack.stop(part).await?;
    world.stack.start_service(part).await?;
    let deployment = scenarios::world::name(&created)?;
    let ended = async {
        loop {
            // The watch itself may be cut by the outage; the deployment must not be.
            if let Ok(end) = world.ended(&deployment).await
                && text(&end, "state") == "STATE_CONFIRMED"
            {
                return Ok(());
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE + Duration::from_secs(60), ended)
        .await
        .with_context(|| format!("the update did not survive a restart of {part}"))?
}

#[tokio::test]
async fn an_update_survives_a_restart_of_postgres() -> Result<()> {
    under_way(Part::Postgres).await
}

#[tokio::test]
async fn an_update_survives_a_restart_of_redis() -> Result<()> {
    under_way(Part::Redis).await
}

#[tokio::test]
async fn an_update_survives_a_restart_of_the_object_store() -> Result<()> {
    under_way(Part::S3).await
}

#[tokio::test]
async fn an_update_survives_a_restart_of_the_broker() -> Result<()> {
    under_way(Service::Broker.into()).await
}

#[tokio::test]
async fn an_update_survives_a_restart_of_svc_ota() -> Result<()> {
    under_way(Service::Ota.into()).await
}

#[tokio::test]
async fn an_update_survives_a_restart_of_svc_registry() -> Result<()> {
    under_way(Service::Registry.into()).await
}

#[tokio::test]
async fn a_board_that_loses_power_under_way_goes_on_and_confirms() -> Result<()> {
    let world = World::start().await?;
    let provision = world.provision("claim", 1).await?;
    let mut board = world.board(&provision, "board", &[])?;
    let device = world.devices(1, |d| text(d, "presence") == "PRESENCE_ONLINE").await?.remove(0);
    let large = format!("{GOOD}{}", "# padding\n".repeat(40_000));
    let bundle = world.bundle(&large, "1.0.0", 1, &QUICK).await?;
    let created = world.one(&["deploy", &device, &bundle, "--no-wait"]).await?;
    for state in ["fetching", "trial"] {
        wait_for_state(&mut board, state).await?;
        board.cut_power().await?;
        board = world.board(&provision, "board", &[])?;
    }
    let end = world.ended(&scenarios::world::name(&created)?).await?;
    ensure!(text(&end, "state") == "STATE_CONFIRMED", "{end}");
    Ok(())
}

async fn wait_for_state(board: &mut scenarios::world::Board, state: &str) -> Result<()> {
    let mut count = 1;
    loop {
        let events = board.event("update", count).await?;
        if events.iter().any(|event| text(event, "state") == state) {
            return Ok(());
        }
        count = events.len() + 1;
    }
}

#[tokio::test]
async fn every_fifth_message_lost_costs_time_but_never_the_update_or_a_log_line() -> Result<()> {
    let (world, lost) = World::start_lossy(5).await?;
    let provision = world.provision("claim", 1).await?;
    let _board = world.board(&provision, "board", &[])?;
    let device = world.devices(1, |d| text(d, "presence") == "PRESENCE_ONLINE").await?.remove(0);
    let large = format!("{GOOD}{}", "# padding\n".repeat(40_000));
    let bundle = world.bundle(&large, "1.0.0", 1, &QUICK).await?;
    ensure!(world.deploy(&device, &bundle).await?.0 == "STATE_CONFIRMED");
    let good = async {
        loop {
            let records = world.json(&["logs", &device]).await?;
            if records.iter().any(|record| text(record, "text").contains("all is well")) {
                return Ok::<_, anyhow::Error>(records);
            }
        }
    };
    let records = tokio::time::timeout(PATIENCE, good).await.context("the log does not arrive")??;
    ensure!(
        records.iter().all(|record| record["gap_before"].as_i64().unwrap_or(0) == 0),
        "records were lost"
    );
    let lost: u64 = lost.iter().map(|count| count.load(std::sync::atomic::Ordering::Relaxed)).sum();
    ensure!(lost > 5, "only {lost} messages were lost: the test proves little");
    Ok(())
}

#[tokio::test]
async fn a_clock_at_1970_or_twenty_years_ahead_changes_nothing() -> Result<()> {
    let world = World::start().await?;
    let provision = world.provision("claim", 2).await?;
    let _old = world.board(&provision, "old", &["--hardware-id", "old", "--clock", "0"])?;
    let _new = world.board(&provision, "new", &["--hardware-id", "new", "--clock", "2426000000"])?;
    let devices = world.devices(2, |d| text(d, "presence") == "PRESENCE_ONLINE").await?;
    let bundle = world.bundle(GOOD, "1.0.0", 1, &QUICK).await?;
    for device in devices {
        ensure!(world.deploy(&device, &bundle).await?.0 == "STATE_CONFIRMED");
    }
    Ok(())
}

#[tokio::test]
async fn a_board_that_lay_in_a_warehouse_renews_with_its_birth_certificate() -> Result<()> {
    // Certificates of seconds stand for years: what counts is that the leaf has expired and the claim is used up.
    let options = dev::Options::all().env(Service::Registry, "HOLDFAST_DEVICE_CERTIFICATE_S", "3");
    let world = World::start_with(options).await?;
    let provision = world.provision("claim", 1).await?;
    let mut board = world.board(&provision, "board", &[])?;
    let first = board.event("enrolled", 1).await?.remove(0);
    board.event("connected", 1).await?;
    let renewed = async {
        loop {
            board.cut_power().await?;
            board = world.board(&provision, "board", &[])?;
            board.event("connected", 1).await?;
            if let Some(event) = board.said().iter().find(|event| text(event, "event") == "enrolled") {
                return Ok::<_, anyhow::Error>(event.clone());
            }
        }
    };
    let second = tokio::time::timeout(PATIENCE, renewed).await.context("never renewed")??;
    ensure!(text(&first, "device") == text(&second, "device"), "it became another device");
    ensure!(world.json(&["device", "list"]).await?.len() == 1);
    Ok(())
}
