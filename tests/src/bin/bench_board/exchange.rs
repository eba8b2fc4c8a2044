//! What a start costs, and an exchange of the microvisor: by the lines of the board's consoles, as they arrive here.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use dev::firmware::Misbehaviour;
use dev::qemu::{Board, Line};
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
    let runs = console.line_after(begun.number, "update: Trial", SAID_MAX).await?;
    report("install_256k_ms", between(&begun, &runs));
    Ok(())
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
