//! An application that crashes, as its developer reads it afterwards: the lines of its program, and what the next run is told.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use dev::firmware::Image;
use dev::qemu::Board;
use scenarios::an505::board::is_online;
use scenarios::an505::patient::{HELD, Patient, connected};
use scenarios::an505::wire::{Counts, Network, Weather, Wire};
use scenarios::world::{PATIENCE, World, name};

const QUICK: [&str; 4] = ["--trial", "20s", "--stable", "0s"];
/// Executes what is no instruction, once it got its word.
const CRASHES: &str = "undefined";
/// `MV_WAKEREASON_APPLICATIONCRASH`.
const WOKEN_BY_CRASH: &str = "woken by 8";

#[tokio::test]
async fn a_crash_is_reported_with_its_registers_and_shown_with_the_lines_of_its_program() -> Result<()> {
    let world = World::start().await?;
    let flash = world.flash("crash").await?;
    let board = world.machine(&flash)?.start().await?;
    world.undisturbed(&board, crash_and_read(&world, &board)).await?;
    board.cut_power().await
}

async fn crash_and_read(world: &World, board: &Board) -> Result<()> {
    let device = world.devices(1, is_online).await?.remove(0);
    let bundle = world.app(Image::Hostile(CRASHES), "1.0.0", 1, &QUICK).await?;
    let end = world.deploy(&device, &bundle).await?;
    ensure!(end == ("STATE_CONFIRMED".into(), String::new()), "{end:?}");

    board.app().line(&format!("hostile {CRASHES} ready"), PATIENCE).await?;
    board.app().send(&[CRASHES.bytes().fold(0, u8::wrapping_add)]).await?;
    board.app().line(WOKEN_BY_CRASH, PATIENCE).await?;

    let listed = world.first_crash(&device).await?;
    ensure!(listed["kind"] == "usage" && listed["version"] == "1.0.0", "{listed}");
    let shown = world.one(&["crash", "show", &name(&listed)?]).await?;
    let known = shown["crash"]["registers"].as_object().context("no registers")?;
    ensure!(known.len() == 17, "{known:?}");
    let faults = shown["faults"].to_string();
    ensure!(faults.contains("UNDEFINSTR"), "{faults}");
    let functions = shown["backtrace"].to_string();
    for function in ["attack", "undefined::main"] {
        ensure!(functions.contains(function), "{function} is not in {functions}");
    }
    in_gdb(world, &name(&listed)?, &known["pc"]).await
}

/// The same in gdb, by a core file: where it was, and what called that.
async fn in_gdb(world: &World, crash: &str, pc: &serde_json::Value) -> Result<()> {
    let batch = ["--", "-nx", "-batch", "-ex", "info registers pc", "-ex", "bt", "-ex", "x/4xw $sp"];
    let said = world.cli(&[&["crash", "gdb", crash][..], &batch].concat()).await?;
    let pc = pc.as_u64().context("pc is no number")?;
    let wanted = [&format!("{pc:#x}"), "SIGILL", "#0 ", "attack", "#1 ", "undefined::main"]
        .map(|part| part.to_owned());
    for part in wanted {
        ensure!(said.contains(&part), "gdb does not say {part}: {said}");
    }
    ensure!(!said.contains("Cannot access memory"), "{said}");
    let out = world.path("crash.core");
    let out = out.to_str().context("a path that is text")?;
    world.cli(&["crash", "gdb", crash, "--out", out]).await?;
    let again = world.try_cli(&["crash", "gdb", crash, "--out", out]).await?;
    ensure!(again.code != 0, "a core file was written over");
    Ok(())
}

/// Frames of an upload after which the connection is cut: some of it is stored then, and most is not.
const CUT_AFTER: u64 = 24;
/// An upload that leaves time to cut it.
const SLOW: Weather = Weather { late: 1000, late_by_max: Duration::from_millis(20), ..Weather::FAIR };

/// The connection is cut in the middle of an upload, and the power after that: what is kept of the crash is sent all the same, each byte once.
#[tokio::test]
async fn memory_of_a_crash_outlasts_the_network_and_the_power_and_opens_in_gdb_with_its_globals() -> Result<()>
{
    let patient =
        Patient::of(Image::Patient, "memory", &[&HELD[..], &["--crash-memory", "64K"]].concat()).await?;
    let world = &patient.world;
    let wire = Wire::new(8, Network::default())?;
    let board = world.machine(&patient.flash)?.net(wire.net()).start().await?;
    let crash = world.undisturbed(&board, crash_and_cut(&patient, &wire)).await?;
    board.cut_power().await?;
    wire.set_weather(Weather::FAIR);
    let board = world.machine(&patient.flash)?.net(wire.net()).start().await?;
    world.undisturbed(&board, globals_in_gdb(world, &crash)).await?;
    board.cut_power().await
}

/// Kilobytes stored of the only crash's memory, and of how many.
async fn stored(world: &World) -> Result<(u64, u64)> {
    let listed = world.json(&["crash", "list"]).await?;
    let number = |field: &str| match listed.first().map(|crash| &crash[field]) {
        // A zero is not said.
        None | Some(serde_json::Value::Null) => Ok(0),
        Some(number) => number.as_u64().with_context(|| format!("{field} is {number}")),
    };
    Ok((number("memory_stored_bytes")?, number("memory_bytes")?))
}

async fn crash_and_cut(patient: &Patient, wire: &Wire) -> Result<String> {
    let world = &patient.world;
    let device = world.devices(1, is_online).await?.remove(0);
    let debug = patient.debug(&device, &[]).await?;
    let mut gdb = connected(&format!("127.0.0.1:{}", debug.port)).await?;
    for command in ["set remotetimeout 60", "set var added = 4711", "set var mode = MODE_UNDEFINED"] {
        gdb.console(command).await?;
    }
    wire.set_weather(SLOW);
    gdb.console("detach").await?;
    gdb.quit().await?;
    debug.ended().await?;
    let listed = world.first_crash(&device).await?;
    let before = Counts::read(&wire.counts().up);
    while Counts::read(&wire.counts().up) < before + CUT_AFTER {
        tokio::task::yield_now().await;
    }
    wire.set_weather(Weather::CUT);
    let (stored, total) = stored(world).await?;
    ensure!(total == 64 * 1024 && stored > 0 && stored < total, "cut at {stored} of {total}");
    // What there is opens too, and says that it is not all.
    let crash = name(&listed)?;
    let out = world.path("some.core");
    let out = out.to_str().context("a path that is text")?;
    let some = world.try_cli(&["crash", "gdb", &crash, "--out", out]).await?;
    ensure!(some.code == 0 && some.stderr.contains("of 64.0 KiB"), "{}", some.stderr);
    Ok(crash)
}

async fn globals_in_gdb(world: &World, crash: &str) -> Result<()> {
    let whole = async {
        while stored(world).await? != (64 * 1024, 64 * 1024) {}
        anyhow::Ok(())
    };
    tokio::time::timeout(PATIENCE, whole).await.context("its memory never came")??;
    let shown = world.cli(&["crash", "show", crash]).await?;
    ensure!(shown.contains("64.0 of 64.0 KiB stored"), "{shown}");
    let asks = [
        "print mode",
        "print added",
        "print links[1].sample.value",
        "print links[1].next == &links[2]",
        "bt",
    ];
    let asks: Vec<_> = asks.iter().flat_map(|ask| ["-ex", ask]).collect();
    let said = world.cli(&[&["crash", "gdb", crash, "--", "-nx", "-batch"][..], &asks].concat()).await?;
    for part in ["SIGILL", "= MODE_UNDEFINED", "= 4711", "= 50", "= 1", "behave", "main"] {
        ensure!(said.contains(part), "gdb does not say {part}: {said}");
    }
    ensure!(!said.contains("Cannot access memory"), "{said}");
    Ok(())
}
