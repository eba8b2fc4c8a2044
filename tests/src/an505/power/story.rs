//! Updates that are recorded: each of them a real one, of a real device, by the services.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use dev::firmware::Image;
use factory::{map, secure};
use serde_json::Value;
use tokio::sync::oneshot;

use super::record::{Recorder, Recording, read};
use crate::an505::board::{is_online, runs, runs_microvisor};
use crate::an505::flash::fill_journal;
use crate::broker::random::Random;
use crate::world::{PATIENCE, World, name, text};

/// Stages that every run has.
pub const STAGES: [Image; 2] = [Image::Boot, Image::Microvisor];
/// Periods of a trial: seconds.
pub const QUICK: [&str; 4] = ["--trial", "20s", "--stable", "1s"];

/// The version of the other microvisor.
const NEW_MICROVISOR: &str = "1.1.0";

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

/// Blocks behind the application itself, so that an update has a body: some are the same in both versions.
const BLOCKS_SAME: usize = 2;
const BLOCKS_OTHER: usize = 6;
const BLOCK_BYTES: usize = wire::limits::BLOCK_BYTES;
/// Bytes left in the journal's bank when an update begins: it moves to the other one in the middle of it.
const JOURNAL_LEFT_BYTES: u32 = 512;
/// Time for a good microvisor to be answered in, on a machine that has much else to do.
const ANSWERED: [&str; 2] = ["--trial", "60s"];

/// `apps/first` of this version with a body, uploaded; its bundle.
pub async fn application(world: &World, version: &'static str, counter: u64) -> Result<String> {
    let mut image = Image::First(version).flat()?;
    image.resize(image.len().next_multiple_of(BLOCK_BYTES), 0xff);
    let (mut same, mut other) = (Random::new(0, 0), Random::new(0, counter));
    image.extend((0..BLOCKS_SAME * BLOCK_BYTES).map(|_| same.number() as u8));
    image.extend((0..BLOCKS_OTHER * BLOCK_BYTES).map(|_| other.number() as u8));
    let path = world.path(&format!("first-{version}.image"));
    std::fs::write(&path, image)?;
    let file = world.app_file(&path, version, counter, &QUICK).await?;
    name(&world.one(&["bundle", "upload", text(&file)?]).await?)
}

/// A device that has 1.0.0 confirmed, without power; its name.
pub async fn first_version(world: &World, flash: &Path) -> Result<String> {
    let bundle = application(world, "1.0.0", 1).await?;
    let board = world.machine(flash)?.start().await?;
    let scenario = async {
        let device = world.devices(1, is_online).await?.remove(0);
        ensure!(world.deploy(&device, &bundle).await? == ("STATE_CONFIRMED".into(), String::new()));
        // Its floor rises by the server's word, which comes after the confirmation.
        world.devices(1, |device| runs(device, "1.0.0") && device["app_floor"] == 1).await?;
        Ok(device)
    };
    let device = world.undisturbed(&board, scenario).await?;
    board.cut_power().await?;
    fill_journal(flash, JOURNAL_LEFT_BYTES)?;
    Ok(device)
}

/// 1.0.0 is confirmed; 2.0.0 is fetched, tried and confirmed, and the floor rises: from the start of the board on.
pub async fn of_the_application(world: &World, flash: &Path, seed: u64) -> Result<Story> {
    let device = first_version(world, flash).await?;
    let bundle = application(world, "2.0.0", 2).await?;
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

/// The factory's microvisor is confirmed; another version of it is fetched into slot B, tried by the first stage and confirmed by the
/// server, and the record's floor rises. The application stays what it was.
pub async fn of_the_microvisor(world: &World, flash: &Path, seed: u64) -> Result<Story> {
    let device = first_version(world, flash).await?;
    let bundle = world.microvisor(NEW_MICROVISOR, 2, &ANSWERED).await?;
    let old = microvisor(flash, "a")?;
    // A factory puts the same image there, of which no block would have to be written.
    let other = vec![0x5a; secure::MICROVISOR_BYTES as usize];
    let slot_b = u64::from(map::SLOTS[1] + map::SLOT_IMAGE);
    File::options().write(true).open(flash)?.write_all_at(&other, slot_b)?;
    let recording = recorded(world, flash, &STAGES, seed, async {
        let deployment = name(&world.one(&["deploy", &device, &bundle, "--no-wait"]).await?)?;
        let ended = world.ended(&deployment).await?;
        ensure!(ended["state"] == "STATE_CONFIRMED", "it ended {ended}");
        let runs_both = |device: &Value| runs_microvisor(device, NEW_MICROVISOR) && runs(device, "1.0.0");
        world.devices(1, runs_both).await?;
        tokio::time::timeout(PATIENCE, committed(world, &deployment)).await.context("no floor was raised")?
    });
    Ok(Story {
        name: "an update of the microvisor",
        recording: recording.await?,
        stages: STAGES.to_vec(),
        apps: vec!["1.0.0".to_owned()],
        microvisors: vec![old, microvisor(flash, "b")?],
    })
}

/// Waits until the device has raised its floor.
async fn committed(world: &World, deployment: &str) -> Result<()> {
    while world.one(&["deployment", "show", deployment]).await?["committed"] != true {}
    Ok(())
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
