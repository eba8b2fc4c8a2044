//! One developer debugs, four look on, and what was done is told afterwards.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use scenarios::an505::patient::{Debug, Patient};
use scenarios::gdb::Gdb;
use scenarios::world::{PATIENCE, text};
use serde_json::Value;

/// Sessions of watchers that a device has at most (docs/debugging.md).
const WATCHERS_MAX: usize = 4;
/// How a command ends that cannot be done as things are (docs/cli.md).
const NOT_NOW: i32 = 6;
/// What the writer writes.
const WRITTEN: u32 = 70_000;

/// Whether an event is the one.
type Is<'a> = &'a dyn Fn(&Value) -> bool;

#[tokio::test]
async fn watchers_see_what_the_writer_sees_and_a_transcript_tells_it() -> Result<()> {
    let patient = Patient::new("watched").await?;
    let (board, device) = patient.start().await?;
    let scenario = async {
        let transcript = patient.world.path("session.hft");
        let record = format!("--record={}", text(&transcript)?);
        let (looking, mut watcher) = patient.debugged(&device, &["--watch"]).await?;
        it_runs(&mut watcher).await?;
        let (debug, mut writer) = patient.debugged(&device, &[&record]).await?;
        the_same_stop(&mut writer, &mut watcher).await?;
        nothing_is_changed(&mut writer, &mut watcher).await?;
        four_at_once(&patient, &device, &mut writer).await?;
        writer.quit().await?;
        debug.ended().await?;
        it_runs(&mut watcher).await?;
        watcher.quit().await?;
        looking.ended().await?;
        told(&patient, &transcript).await
    };
    patient.world.undisturbed(&board, scenario).await?;
    board.cut_power().await
}

/// Nobody holds it: what is read changes, and registers are nobody's to know.
async fn it_runs(gdb: &mut Gdb) -> Result<()> {
    let before = number(gdb, "rounds").await?;
    let changes = async {
        while number(gdb, "rounds").await? == before {}
        anyhow::Ok(())
    };
    tokio::time::timeout(PATIENCE, changes).await.context("it stands")??;
    gdb.console("maintenance flush register-cache").await?;
    let r0 = gdb.value("$r0").await?;
    ensure!(r0 == "<unavailable>", "{r0}");
    Ok(())
}

async fn number(gdb: &mut Gdb, expression: &str) -> Result<u32> {
    Ok(gdb.value(expression).await?.parse()?)
}

/// Of the writer's breakpoint, for whoever waits for one.
async fn the_same_stop(writer: &mut Gdb, watcher: &mut Gdb) -> Result<()> {
    // It stands since the writer has come.
    let halted = watcher.until_stopped("-exec-continue").await?;
    let pc = writer.value("$pc").await?;
    ensure!(watcher.value("$pc").await? == pc, "{halted}, and the writer at {pc}");
    writer.mi("-break-insert -t work").await?;
    watcher.mi("-exec-continue").await?;
    let stop = writer.until_stopped("-exec-continue").await?;
    let seen = watcher.stopped().await?;
    ensure!(stop["frame"]["func"] == "work", "{stop}");
    for field in ["func", "addr", "line"] {
        ensure!(seen["frame"][field] == stop["frame"][field], "{seen} is not {stop}");
    }
    for read in ["rounds", "links", "table", "$sp", "$lr", "$xpsr"] {
        let (theirs, ours) = (watcher.value(read).await?, writer.value(read).await?);
        ensure!(theirs == ours, "{read}: {theirs} is not {ours}");
    }
    let (theirs, ours) = (watcher.console("backtrace").await?, writer.console("backtrace").await?);
    ensure!(theirs == ours, "{theirs} is not {ours}");
    Ok(())
}

/// By a watcher; by the writer it is.
async fn nothing_is_changed(writer: &mut Gdb, watcher: &mut Gdb) -> Result<()> {
    for (expression, command) in [("rounds", "set var rounds = 5"), ("$r0", "set var $r0 = 5")] {
        let before = writer.value(expression).await?;
        watcher.refused(command).await?;
        writer.console("maintenance flush register-cache").await?;
        let after = writer.value(expression).await?;
        ensure!(before == after, "{command}: {before}, then {after}");
    }
    let leaf = number(watcher, "(unsigned)&leaf & ~1").await?;
    let refused = watcher.console(&format!("maintenance packet Z0,{leaf:x},2")).await?;
    ensure!(refused.contains("E1e"), "{refused}");
    // The writer goes by there, and is not halted by it.
    writer.mi("-break-insert -t walked").await?;
    let stop = writer.until_stopped("-exec-continue").await?;
    ensure!(stop["frame"]["func"] == "walked", "{stop}");
    writer.console(&format!("set var rounds = {WRITTEN}")).await?;
    let seen = watcher.until_stopped("-exec-continue").await?;
    ensure!(seen["frame"]["func"] == "walked", "{seen}");
    ensure!(number(watcher, "rounds").await? == WRITTEN);
    Ok(())
}

/// And no fifth; the one who debugs notices none of them.
async fn four_at_once(patient: &Patient, device: &str, writer: &mut Gdb) -> Result<()> {
    let pc = writer.value("$pc").await?;
    let mut others: Vec<(Debug, Gdb)> = Vec::new();
    while others.len() + 1 < WATCHERS_MAX {
        let (debug, mut gdb) = patient.debugged(device, &["--watch"]).await?;
        ensure!(gdb.value("$pc").await? == pc, "it stands there when they come");
        others.push((debug, gdb));
    }
    let tried = patient.world.try_cli(&["debug", device, "--watch"]).await?;
    let is_told = tried.stderr.contains("has 4 open debug sessions of watchers: close one");
    ensure!(tried.code == NOT_NOW && is_told, "{tried:?}");
    let sessions =
        patient.world.json(&["debug-session", "list", "--state", "open", "--device", device]).await?;
    let of = |role: &str| sessions.iter().filter(|session| session["role"] == role).count();
    ensure!((of("ROLE_WRITER"), of("ROLE_WATCHER")) == (1, WATCHERS_MAX), "{sessions:?}");
    let listed = patient.world.cli(&["debug-session", "list", "--state", "open", "--device", device]).await?;
    ensure!(listed.matches(" watcher ").count() == WATCHERS_MAX, "{listed}");
    while !others.is_empty() {
        for (_, gdb) in &mut others {
            gdb.mi("-exec-continue").await?;
        }
        let stepped = writer.until_stopped("-exec-step-instruction").await?;
        for (_, gdb) in &mut others {
            let seen = gdb.stopped().await?;
            ensure!(seen["frame"]["addr"] == stepped["frame"]["addr"], "{seen} is not {stepped}");
        }
        let pc = writer.value("$pc").await?;
        let (debug, gdb) = others.pop().context("nobody is left")?;
        gdb.quit().await?;
        debug.ended().await?;
        writer.console("maintenance flush register-cache").await?;
        ensure!(writer.value("$pc").await? == pc, "it went on when a watcher left");
    }
    Ok(())
}

/// In its order, with places and bytes.
async fn told(patient: &Patient, transcript: &Path) -> Result<()> {
    let elf = patient.image.built()?;
    let replay = ["debug", "replay", text(transcript)?, "--data", "--elf", text(&elf)?];
    let events = patient.world.json(&replay).await?;
    let mut rest = events.iter();
    let awaited: [(&str, Is); 7] = [
        ("begin", &|event| event["device"].is_string() && event["role"] == "writer"),
        ("target", &|event| event["board"] == "an505"),
        ("gdb_came", &|_| true),
        ("stop", &|event| {
            event["reason"] == "DEBUG_STOP_REASON_BREAKPOINT" && event["places"][0]["function"] == "work"
        }),
        ("write", &|event| event["address"].is_u64() && event["data"] == hex::encode(WRITTEN.to_le_bytes())),
        ("gdb_left", &|_| true),
        ("end", &|event| event["reason"] == ""),
    ];
    for (name, is_right) in awaited {
        let found = rest.any(|event| event["event"] == name && is_right(event));
        ensure!(found, "no {name} in its place: {events:#?}");
    }
    Ok(())
}
