//! An application that ends by itself while it is debugged: gdb is told, and debugs on in the next start.

use anyhow::{Result, ensure};
use dev::firmware::Image;
use scenarios::an505::patient::Patient;
use scenarios::gdb::Gdb;

/// Ways it ends, and what ends it: a call of its own, a fault, and the microvisor, which finds that it hangs.
const ENDS: [&str; 3] = ["MODE_RESTART", "MODE_UNDEFINED", "MODE_MASKED"];
/// No fault is held.
const NOT_HELD: [&str; 4] = ["--trial", "60s", "--stable", "0s"];

#[tokio::test]
async fn gdb_is_told_of_a_crash_and_a_hang_and_debugs_on_in_the_next_start() -> Result<()> {
    let patient = Patient::of(Image::Patient, "restart", &NOT_HELD).await?;
    let (board, device) = patient.start().await?;
    let scenario = async {
        let (debug, mut gdb) = patient.debugged(&device, &[]).await?;
        for mode in ENDS {
            ended(&mut gdb, mode).await?;
        }
        gdb.quit().await?;
        debug.ended().await
    };
    patient.world.undisturbed(&board, scenario).await?;
    board.cut_power().await
}

async fn ended(gdb: &mut Gdb, mode: &str) -> Result<()> {
    // Planted before the end, it is met in the next start; and so is one that is planted then.
    gdb.mi("-break-insert -t main").await?;
    gdb.console(&format!("set var mode = {mode}")).await?;
    gdb.console("set var rounds = 1000000").await?;
    gdb.heard();
    let stop = gdb.until_stopped("-exec-continue").await?;
    ensure!(stop["frame"]["func"] == "main", "{mode}: {stop}");
    let told = gdb.heard();
    ensure!(told.contains("was started anew"), "{mode}: {told}");
    ensure!(gdb.value("rounds").await? == "0" && gdb.value("mode").await? == "MODE_WORK", "{mode}");
    gdb.mi("-break-insert -t leaf").await?;
    let stop = gdb.until_stopped("-exec-continue").await?;
    ensure!(stop["frame"]["func"] == "leaf", "{mode}: {stop}");
    Ok(())
}
