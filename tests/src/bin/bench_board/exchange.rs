//! What a start costs, and an exchange of the microvisor: by the lines of the board's consoles, as they arrive here.

use std::collections::BTreeMap;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use dev::firmware::{Image, Misbehaviour, misbehaving};
use dev::qemu::{Board, Line};
use scenarios::an505::power::operation::What;
use scenarios::an505::power::record::Recording;
use scenarios::an505::power::story;
use scenarios::world::{World, name};

use super::{SAID_MAX, report};

/// The first line of the first stage, and of the microvisor's supervisor once it has read who it is.
const FIRST_STAGE: &str = " after power_on";
const SUPERVISOR: &str = "us: an505 ";
const ONLINE: &str = ": connected";
/// A microvisor that is another one in most of its blocks, and does nothing wrong: it connects as soon as it can.
const OTHER: Misbehaviour = Misbehaviour::Online { from_ms: Some(0) };
const ANSWERED: [&str; 2] = ["--trial", "60s"];

/// From the decision to install an application to its start: the journal, the copy to where it runs, the measuring.
pub(super) async fn installed(board: &Board) -> Result<()> {
    let console = board.console();
    let begun = console.line("update: Installing", SAID_MAX).await?;
    let runs = console.line_after(begun.number, "AppStarted", SAID_MAX).await?;
    report("install_256k_ms", (at_us(&runs)? - at_us(&begun)?) / 1000.0);
    Ok(())
}

/// When it was said, by the board's clock.
fn at_us(line: &Line) -> Result<f64> {
    let us = line.text.split_whitespace().nth(1).and_then(|us| us.parse().ok());
    us.with_context(|| format!("no time in {}", line.text))
}

/// An exchange, from the command to the confirmation, and the part of it in which the board is not there.
pub(super) async fn microvisor(world: &World, board: &Board, device: &str) -> Result<()> {
    let bundle = world.misbehaving(OTHER, "1.1.0", 2, &ANSWERED).await?;
    let (from, directed) = (board.console().count(), Instant::now());
    let (state, reason) = world.deploy(device, &bundle).await?;
    ensure!(state == "STATE_CONFIRMED", "the microvisor ended {state}, {reason}");
    report("microvisor_update_ms", directed.elapsed().as_secs_f64() * 1000.0);
    let begun = board.console().line_after(from, "update: Installing", SAID_MAX).await?;
    let runs = board.console().line_after(begun.number, SUPERVISOR, SAID_MAX).await?;
    let online = board.console().line_after(runs.number, ONLINE, SAID_MAX).await?;
    report("microvisor_install_ms", between(&begun, &runs));
    report("microvisor_away_ms", between(&begun, &online));
    Ok(())
}

/// From the first stage's first line: cold, and after the power was cut in the middle of an exchange.
pub(super) async fn boots(world: &World, device: &str, start: impl AsyncFn() -> Result<Board>) -> Result<()> {
    let board = start().await?;
    boot(&board, "boot_ms", "boot_online_ms").await?;
    let bundle = world.misbehaving(OTHER, "1.2.0", 3, &ANSWERED).await?;
    let deployment = name(&world.one(&["deploy", device, &bundle, "--no-wait"]).await?)?;
    board.console().line("update: Fetching", SAID_MAX).await?;
    board.cut_power().await?;
    let board = start().await?;
    boot(&board, "boot_after_cut_ms", "boot_after_cut_online_ms").await?;
    let ended = world.ended(&deployment).await?;
    ensure!(ended["state"] == "STATE_CONFIRMED", "{ended}");
    board.cut_power().await
}

/// What an update does to the flash, from the start of the board to the floor that rises at its end: counted where it is changed, by the two
/// functions that do, on a board that is stopped at each call of them.
pub(super) async fn flash(world: &World) -> Result<()> {
    let flash = world.flash("counted").await?;
    let device = story::first_version(world, &flash).await?;
    let bundle = super::update(world, "2.0.0", 2).await?;
    let (stages, both) = (story::STAGES, [Image::Boot, Image::Microvisor, Image::Trial]);
    let deployed = async |bundle: &str| {
        let deployment = name(&world.one(&["deploy", &device, bundle, "--no-wait"]).await?)?;
        let ended = world.ended(&deployment).await?;
        ensure!(ended["state"] == "STATE_CONFIRMED", "{ended}");
        while world.one(&["deployment", "show", &deployment]).await?["committed"] != true {}
        Ok(())
    };
    let recording = story::recorded(world, &flash, &stages, 0, deployed(&bundle)).await?;
    count("update_256k", &recording, super::UPDATE_BYTES);
    let bundle = world.misbehaving(OTHER, "1.1.0", 2, &ANSWERED).await?;
    let recording = story::recorded(world, &flash, &both, 0, deployed(&bundle)).await?;
    count("microvisor_update", &recording, misbehaving(OTHER)?.len());
    Ok(())
}

fn count(what: &str, recording: &Recording, image_bytes: usize) {
    let mut erases = BTreeMap::<u32, u32>::new();
    let mut written = 0;
    for operation in &recording.operations {
        match &operation.what {
            What::Erase => *erases.entry(operation.at).or_default() += 1,
            What::Program(bytes) => written += bytes.len(),
        }
    }
    report(&format!("{what}_flash_bytes_per_byte"), written as f64 / image_bytes as f64);
    report(&format!("{what}_erases"), f64::from(erases.values().sum::<u32>()));
    report(&format!("{what}_erases_of_one_sector"), f64::from(erases.values().max().copied().unwrap_or(0)));
}

async fn boot(board: &Board, runs: &str, online: &str) -> Result<()> {
    let console = board.console();
    let first = console.line(FIRST_STAGE, SAID_MAX).await?;
    for (metric, text) in [(runs, SUPERVISOR), (online, ONLINE)] {
        let line = console.line_after(first.number, text, SAID_MAX).await.context(metric.to_owned())?;
        report(metric, between(&first, &line));
    }
    Ok(())
}

fn between(from: &Line, to: &Line) -> f64 {
    to.at.duration_since(from.at).as_secs_f64() * 1000.0
}
