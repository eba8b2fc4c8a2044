//! Boards as a factory makes them, offline, by the command line: with a test of their hardware, and what runs after it.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use dev::firmware::Image;
use dev::qemu::{Board, HOST_IP};
use scenarios::an505::board::{is_online, runs};
use scenarios::world::{PATIENCE, World, text};
use serde_json::Value;

/// Short periods, so that a trial takes seconds.
const QUICK: [&str; 4] = ["--trial", "8s", "--stable", "1s"];

/// A board that this tests, and that then runs version 1.0.0.
async fn made(world: &World, hardware_id: &str, test: Image) -> Result<PathBuf> {
    let app = world.app_file(&Image::First("1.0.0").built()?, "1.0.0", 1, &QUICK).await?;
    let test = world.app_file(&test.built()?, "0.1.0", 1, &[]).await?;
    let flash = world.flash_with(hardware_id, Some(app), Some(test)).await?;
    ensure!(store(world, &flash).await?["stage"] == "testing");
    Ok(flash)
}

/// What the command line sees in a flash's store.
async fn store(world: &World, flash: &Path) -> Result<Value> {
    Ok(world.one(&["factory", "inspect", text(flash)?]).await?["store"].take())
}

async fn says(board: &Board, line: &str) -> Result<()> {
    board.console().line(line, PATIENCE).await.map(drop)
}

#[tokio::test]
async fn a_board_tests_itself_and_then_runs_what_it_was_made_with() -> Result<()> {
    let world = World::start().await?;
    let flash = made(&world, "tested", Image::FactoryTest).await?;
    let board = world.machine(&flash)?.start().await?;
    world.undisturbed(&board, passes(&world, &board)).await?;
    board.cut_power().await?;
    ensure!(store(&world, &flash).await?["stage"] == "production");

    let board = world.machine(&flash)?.start().await?;
    let again = async {
        board.app().line("first 2.0.0 starts", PATIENCE).await?;
        let tested = board.console().lines().iter().any(|line| line.text.contains("being tested"));
        ensure!(!tested, "a product is tested again");
        Ok(())
    };
    world.undisturbed(&board, again).await?;
    board.cut_power().await
}

async fn passes(world: &World, board: &Board) -> Result<()> {
    for line in [
        "being tested: no network",
        "test: ram good: 393216 bytes, 0 wrong words",
        "test: timers good",
        "test: uart good",
        "test: calls good: 10 of 10",
        "test passed: in production",
    ] {
        says(board, line).await?;
    }
    board.app().line("first 1.0.0 starts", PATIENCE).await?;
    // It enrols now, and says what it runs; nobody ever told it to.
    let device = world.devices(1, |device| is_online(device) && runs(device, "1.0.0")).await?.remove(0);
    let deployments = world.json(&["deployment", "list", "--device", &device]).await?;
    ensure!(deployments.is_empty(), "{deployments:?}");
    // The update takes the slot of the test.
    let second = world.app(Image::First("2.0.0"), "2.0.0", 2, &QUICK).await?;
    ensure!(world.deploy(&device, &second).await? == ("STATE_CONFIRMED".into(), String::new()));
    world.devices(1, |device| runs(device, "2.0.0")).await?;
    Ok(())
}

#[tokio::test]
async fn a_board_that_fails_its_test_says_so_and_stays_locked() -> Result<()> {
    let world = World::start().await?;
    let flash = made(&world, "failed", Image::FactoryTestFails("7")).await?;
    for start in 0..3 {
        let board = world.machine(&flash)?.start().await?;
        says(&board, "test failed with 7: locked").await.with_context(|| format!("start {start}"))?;
        let ran = board.app().lines().iter().any(|line| line.text.contains("first"));
        ensure!(!ran, "the application of production runs");
        board.cut_power().await?;
        let seen = store(&world, &flash).await?;
        ensure!(seen["stage"] == "failed" && seen["test_status"] == 7, "{seen}");
    }
    ensure!(world.json(&["device", "list"]).await?.is_empty(), "it enrolled");

    // Made anew it is a board like any other.
    let given = |name: &str| world.path("failed.claim").join(name);
    let (provision, keyset, microvisor) = (given("provision.json"), given("keyset"), given("microvisor.hfb"));
    let (app, host) = (world.path("an505-1.0.0.hfb"), format!("localhost={HOST_IP}"));
    let mut anew = vec!["factory", "image", "--provision", text(&provision)?, "--keyset", text(&keyset)?];
    anew.extend(["--microvisor", text(&microvisor)?, "--app", text(&app)?, "--hardware-id", "failed"]);
    anew.extend(["--host", &host, "--out", text(&flash)?]);
    refuses(&world, &anew, "is there already").await?;
    anew.push("--force");
    world.cli(&anew).await?;
    let board = world.machine(&flash)?.start().await?;
    let online = async { world.devices(1, |device| is_online(device) && runs(device, "1.0.0")).await };
    world.undisturbed(&board, online).await?;
    board.cut_power().await
}

#[tokio::test]
async fn a_test_whose_power_is_cut_runs_again_and_the_board_stays_offline() -> Result<()> {
    let world = World::start().await?;
    let flash = made(&world, "cut", Image::FactoryTestEndless).await?;
    for _ in 0..2 {
        let board = world.machine(&flash)?.start().await?;
        says(&board, "test: waits for a part that does not answer").await?;
        board.cut_power().await?;
        ensure!(store(&world, &flash).await?["stage"] == "testing");
    }
    ensure!(world.json(&["device", "list"]).await?.is_empty(), "it enrolled");
    Ok(())
}

#[tokio::test]
async fn a_run_of_boards_is_made_at_once_and_what_a_board_would_refuse_is_not() -> Result<()> {
    let world = World::start().await?;
    let (out, list, folder) = (world.path("one.flash"), world.path("ids"), world.path("run"));
    let app = world.app_file(&Image::First("1.0.0").built()?, "1.0.0", 1, &QUICK).await?;
    // It leaves the claim, the keyset and the microvisor's bundle, all of which a factory is given.
    world.flash("inputs").await?;
    let claim = world.path("inputs.claim");
    let file = |name: &str| claim.join(name);
    let (provision, keyset, microvisor) = (file("provision.json"), file("keyset"), file("microvisor.hfb"));
    let mut common = vec!["factory", "image", "--provision", text(&provision)?, "--keyset", text(&keyset)?];
    common.extend(["--microvisor", text(&microvisor)?]);

    std::fs::write(&list, "lamp-1\nlamp-2\nlamp-3\n")?;
    let run =
        [&common[..], &["--app", text(&app)?, "--hardware-ids", text(&list)?, "--out-dir", text(&folder)?]]
            .concat();
    ensure!(world.json(&run).await?.len() == 3);
    for id in ["lamp-1", "lamp-2", "lamp-3"] {
        let flash = folder.join(format!("{id}.flash"));
        let seen = world.one(&["factory", "inspect", text(&flash)?]).await?;
        ensure!(seen["provision"]["hardware_id"] == id && seen["slots"]["a"]["verdict"] == "runs", "{seen}");
        ensure!(seen["store"]["applications"][0]["version"] == "1.0.0", "{seen}");
    }
    refuses(&world, &run, "is there already").await?;

    let host = world.bundle_file(b"log hello\n", "1.0.1", 1, &[]).await?;
    let one = [&common[..], &["--hardware-id", "lamp-4", "--out", text(&out)?]].concat();
    for flag in ["--app", "--test"] {
        refuses(&world, &[&one[..], &[flag, text(&host)?]].concat(), "it is for another board").await?;
    }
    let long = "x".repeat(65);
    let named = [&common[..], &["--hardware-id", &long, "--out", text(&out)?]].concat();
    refuses(&world, &named, "1 to 64 visible ASCII characters").await?;
    ensure!(!out.exists(), "a refused board was written");
    Ok(())
}

/// The command line refuses this input, and says why.
async fn refuses(world: &World, command: &[&str], why: &str) -> Result<()> {
    let output = world.try_cli(command).await?;
    ensure!(output.code == 6 && output.stderr.contains(why), "{output:?}");
    Ok(())
}
