//! A script through the whole path, and by QEMU's own server, on one and the same start of a board; and what only `holdfast debug` has.

use anyhow::{Context, Result, ensure};
use dev::firmware::Image;
use dev::qemu::Board;
use scenarios::an505::patient::{HELD, Patient};
use scenarios::world::text;
use serde_json::Value;

use crate::suite::{Do, examine};
use crate::{c, embassy, ours, rust};

/// What may differ, and why: an application's file, and the number of a step.
const DIFFERENCES: &str = include_str!("differences.txt");

/// What is said of an application by either server.
type Answers = Vec<(String, Value)>;

#[tokio::test]
async fn gdb_says_the_same_through_relay_and_broker_as_at_the_emulator_of_c() -> Result<()> {
    compared(Image::Patient, c::SCRIPT, &ours::C, 110).await
}

#[tokio::test]
async fn gdb_says_the_same_through_relay_and_broker_as_at_the_emulator_of_rust() -> Result<()> {
    compared(Image::PatientRust, rust::SCRIPT, &ours::RUST, 90).await
}

#[tokio::test]
async fn gdb_says_the_same_through_relay_and_broker_as_at_the_emulator_of_embassy() -> Result<()> {
    compared(Image::Embassy, embassy::SCRIPT, &ours::EMBASSY, 60).await
}

async fn compared(image: Image, script: &[Do], places: &ours::Places, at_least: usize) -> Result<()> {
    let patient = Patient::of(image, &format!("compared-{}", image.name()), &HELD).await?;
    let machine = patient.world.machine(&patient.flash)?.probed();
    let (board, device) = patient.switched_on(&machine).await?;
    let scenario = async {
        let ours = through_the_relay(&patient, &device, script).await.context("through the relay")?;
        ours::examine(&patient, &device, places).await.context("what only holdfast debug has")?;
        // Last: it stops the whole machine, and with it all that would have to answer.
        let theirs = at_the_emulator(&patient, &board, script).await.context("at the emulator")?;
        Ok((ours, theirs))
    };
    let (ours, theirs) = patient.world.undisturbed(&board, scenario).await?;
    board.cut_power().await?;
    ensure!(ours.len() == theirs.len() && ours.len() >= at_least, "{} and {}", ours.len(), theirs.len());
    let mut wrong = Vec::new();
    for ((asked, ours), (_, theirs)) in ours.iter().zip(&theirs) {
        if ours != theirs && !is_allowed(&image.name(), asked) {
            wrong.push(format!("{asked}\n  ours   {ours}\n  theirs {theirs}"));
        }
    }
    ensure!(wrong.is_empty(), "{} of {} answers differ:\n{}", wrong.len(), ours.len(), wrong.join("\n"));
    Ok(())
}

async fn through_the_relay(patient: &Patient, device: &str, script: &[Do]) -> Result<Answers> {
    let (debug, mut gdb) = patient.debugged(device, &[]).await?;
    let answers = examine(&mut gdb, script).await?;
    gdb.quit().await?;
    debug.ended().await?;
    Ok(answers)
}

async fn at_the_emulator(patient: &Patient, board: &Board, script: &[Do]) -> Result<Answers> {
    let mut gdb = patient.gdb(text(&board.probe_socket())?).await?;
    let answers = examine(&mut gdb, script).await?;
    gdb.quit().await?;
    Ok(answers)
}

/// A line is an application's name, the number of a step, and why its answers may differ.
fn is_allowed(application: &str, asked: &str) -> bool {
    let step = format!("{application} {}", asked.split(':').next().unwrap_or_default());
    DIFFERENCES.lines().any(|line| line.split(':').next() == Some(&step))
}
