//! The script through the whole path, and by QEMU's own server.

use anyhow::{Context, Result, ensure};
use scenarios::an505::board::is_online;
use scenarios::world::text;
use serde_json::Value;

use crate::suite::{SCRIPT, examine};
use scenarios::an505::patient::{Patient, connected};

/// What may differ, by the number of the step, and why: `differences.txt`.
const DIFFERENCES: &str = include_str!("differences.txt");

#[tokio::test]
async fn gdb_says_the_same_through_relay_and_broker_as_at_the_emulator() -> Result<()> {
    let patient = Patient::new("compared").await?;
    let ours = through_the_relay(&patient).await.context("through the relay")?;
    let theirs = at_the_emulator(&patient).await.context("at the emulator")?;
    ensure!(ours.len() == theirs.len() && ours.len() >= 100, "{} and {} answers", ours.len(), theirs.len());
    let mut wrong = Vec::new();
    for ((asked, ours), (_, theirs)) in ours.iter().zip(&theirs) {
        if ours != theirs && !is_allowed(asked) {
            wrong.push(format!("{asked}\n  ours   {ours}\n  theirs {theirs}"));
        }
    }
    ensure!(wrong.is_empty(), "{} answers differ:\n{}", wrong.len(), wrong.join("\n"));
    Ok(())
}

async fn through_the_relay(patient: &Patient) -> Result<Vec<(String, Value)>> {
    let (board, device) = patient.start().await?;
    let answers = patient.world.undisturbed(&board, async {
        let debug = patient.debug(&device, &[]).await?;
        let mut gdb = connected(&format!("127.0.0.1:{}", debug.port)).await?;
        let answers = examine(&mut gdb, SCRIPT).await?;
        gdb.quit().await?;
        debug.ended().await?;
        Ok(answers)
    });
    let answers = answers.await?;
    board.cut_power().await?;
    Ok(answers)
}

async fn at_the_emulator(patient: &Patient) -> Result<Vec<(String, Value)>> {
    let board = patient.world.machine(&patient.flash)?.probed().start().await?;
    patient.world.devices(1, is_online).await?;
    let mut gdb = connected(text(&board.probe_socket())?).await?;
    let answers = examine(&mut gdb, SCRIPT).await;
    gdb.quit().await?;
    board.cut_power().await?;
    answers
}

/// A line is the number of a step, and why its answers may differ.
fn is_allowed(asked: &str) -> bool {
    let number = asked.split(':').next();
    DIFFERENCES.lines().filter(|line| !line.starts_with('#')).any(|line| line.split(':').next() == number)
}
