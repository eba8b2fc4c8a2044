//! Updates that are recorded: each of them a real one, of a real device, by the services.

use std::fs::File;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use dev::firmware::Image;
use serde_json::Value;
use tokio::sync::oneshot;

use super::record::{Recorder, Recording, read};
use crate::an505::board::{is_online, runs};
use crate::world::World;

/// Stages that every run has.
pub const STAGES: [Image; 2] = [Image::Boot, Image::Microvisor];
/// Periods of a trial: seconds.
pub const QUICK: [&str; 4] = ["--trial", "20s", "--stable", "1s"];

/// A recorded update.
#[derive(Debug)]
pub struct Story {
    pub name: &'static str,
    pub recording: Recording,
    /// Images whose functions change the flash in it.
    pub stages: Vec<Image>,
    /// What may run after a cut, applications and microvisors (slot and version): the old ones and the new ones.
    pub apps: Vec<String>,
    pub microvisors: Vec<String>,
}

/// A device that has 1.0.0 confirmed, without power; its name.
pub async fn first_version(world: &World, flash: &Path) -> Result<String> {
    let board = world.machine(flash)?.start().await?;
    let scenario = async {
        let device = world.devices(1, is_online).await?.remove(0);
        let bundle = world.app(Image::First("1.0.0"), "1.0.0", 1, &QUICK).await?;
        ensure!(world.deploy(&device, &bundle).await? == ("STATE_CONFIRMED".into(), String::new()));
        // Its floor rises by the server's word, which comes after the confirmation.
        world.devices(1, |device| runs(device, "1.0.0") && device["app_floor"] == 1).await?;
        Ok(device)
    };
    let device = world.undisturbed(&board, scenario).await?;
    board.cut_power().await?;
    Ok(device)
}

/// 1.0.0 is confirmed; 2.0.0 is fetched, tried and confirmed, and the floor rises: from the start of the board on.
pub async fn of_the_application(world: &World, flash: &Path, seed: u64) -> Result<Story> {
    let device = first_version(world, flash).await?;
    let bundle = world.app(Image::First("2.0.0"), "2.0.0", 2, &QUICK).await?;
    let recording = recorded(world, flash, &STAGES, seed, async {
        ensure!(world.deploy(&device, &bundle).await? == ("STATE_CONFIRMED".into(), String::new()));
        world.devices(1, |device| runs(device, "2.0.0") && device["app_floor"] == 2).await
    });
    Ok(Story {
        name: "an update of the application",
        recording: recording.await?,
        stages: STAGES.to_vec(),
        apps: ["1.0.0", "2.0.0"].map(str::to_owned).to_vec(),
        microvisors: vec![microvisor(flash, "a")?],
    })
}

/// Records a board from its start to the end of a scenario.
pub async fn recorded<T>(
    world: &World,
    flash: &Path,
    stages: &[Image],
    seed: u64,
    scenario: impl Future<Output = Result<T>>,
) -> Result<Recording> {
    let board = world.machine(flash)?.halted().start().await?;
    let mut recorder = Recorder::attach(&board, flash, stages, seed).await?;
    let (ended, enough) = oneshot::channel();
    let scenario = async {
        scenario.await?;
        // Whoever listened has failed already.
        let _ = ended.send(());
        Ok(())
    };
    tokio::try_join!(recorder.until(enough), scenario).with_context(|| board.tail())?;
    board.cut_power().await?;
    recorder.end()
}

/// A microvisor's slot and version, as the first stage would say them.
fn microvisor(flash: &Path, slot: &str) -> Result<String> {
    let said: Value =
        factory::inspect::describe(&read(&File::open(flash)?)?).context("the file is too short")?;
    let version = said.pointer(&format!("/slots/{slot}/manifest/version")).and_then(Value::as_str);
    Ok(format!("{slot} {}", version.context("no microvisor")?))
}
