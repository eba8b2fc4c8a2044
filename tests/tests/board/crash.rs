//! An application that crashes, as its developer reads it afterwards: the lines of its program, and what the next run is told.

use anyhow::{Context, Result, ensure};
use dev::firmware::Image;
use dev::qemu::Board;
use scenarios::an505::board::is_online;
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
