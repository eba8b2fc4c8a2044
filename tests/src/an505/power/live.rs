//! Power that fails in the middle of an update, again and again, while the services go on: each time the device is online again, and
//! in the end it runs the new version, confirmed.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use dev::qemu::Board;

use super::class::{Class, Part};
use super::operation::{Mode, Operation};
use super::record::{Recorder, read};
use super::story::STAGES;
use crate::an505::board::runs;
use crate::broker::random::Random;
use crate::world::{PATIENCE, World, name};

/// An operation of an update's that is to be cut.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    pub part: Part,
    pub erases: bool,
    pub mode: Mode,
}

/// The cuts of one update of the application into its second slot, in the order in which it comes to them: the journal takes it up,
/// the envelope and the area are filled, the journal switches to it and counts its start, and the floor rises when it is confirmed.
pub fn of_an_application() -> Vec<Wanted> {
    let wanted = |part, erases, mode| Wanted { part, erases, mode };
    vec![
        wanted(Part::Journal(0), false, Mode::Bits),
        wanted(Part::AppEnvelope(1), true, Mode::Half),
        wanted(Part::AppEnvelope(1), false, Mode::Bits),
        wanted(Part::AppArea(1), true, Mode::Bits),
        wanted(Part::AppArea(1), false, Mode::Half),
        wanted(Part::Journal(0), false, Mode::NotDone),
        wanted(Part::Journal(0), false, Mode::Half),
        wanted(Part::Counter, false, Mode::Bits),
    ]
}

impl Wanted {
    fn is(&self, operation: &Operation) -> Result<bool> {
        let class = Class::of(operation)?;
        // A repair moves the journal from one bank to the other, and so does a full one.
        let same = match (self.part, class.part) {
            (Part::Journal(_), Part::Journal(_)) | (Part::BankHeader(_), Part::BankHeader(_)) => true,
            (wanted, part) => wanted == part,
        };
        Ok(same && class.erases == self.erases)
    }
}

/// Deploys, and lets the power fail at each of these in turn; the device is online between them. It ends confirmed.
pub async fn cut_under_way(
    world: &World,
    flash: &Path,
    device: &str,
    bundle: (&str, &str, u64),
    cuts: &[Wanted],
    seed: u64,
) -> Result<()> {
    let (bundle, version, floor) = bundle;
    let deployment = name(&world.one(&["deploy", device, bundle, "--no-wait"]).await?)?;
    for (index, wanted) in cuts.iter().enumerate() {
        let board = world.machine(flash)?.halted().start().await?;
        let mut random = Random::new(seed, index as u64);
        let reached = tokio::time::timeout(PATIENCE, reach(&board, flash, wanted)).await;
        let operation =
            reached.with_context(|| format!("no {wanted:?} came")).flatten().with_context(|| board.tail())?;
        board.cut_power().await?;
        tear(flash, &operation, wanted.mode, &mut random)?;
    }
    let board = world.machine(flash)?.start().await?;
    let scenario = async {
        let ended = world.ended(&deployment).await?;
        ensure!(ended["state"] == "STATE_CONFIRMED", "after {} cuts it ended {ended}", cuts.len());
        world.devices(1, |device| runs(device, version) && device["app_floor"] == floor).await
    };
    let devices = world.undisturbed(&board, scenario).await?;
    ensure!(devices == [device], "the device is another: {devices:?}");
    board.cut_power().await
}

/// The board is online and comes to such an operation, which is not done yet.
async fn reach(board: &Board, flash: &Path, wanted: &Wanted) -> Result<Operation> {
    let mut recorder = Recorder::attach(board, flash, &STAGES, 0).await?;
    recorder.until(board.console().line(": connected", PATIENCE)).await?;
    loop {
        let operation = recorder.next().await?;
        if wanted.is(operation)? {
            return Ok(operation.clone());
        }
    }
}

/// Leaves what the power leaves of an operation that was not done.
fn tear(flash: &Path, operation: &Operation, mode: Mode, random: &mut Random) -> Result<()> {
    let file = File::options().read(true).write(true).open(flash)?;
    let mut image = read(&file)?;
    operation.tear(&mut image, mode, random)?;
    file.write_all_at(&image[operation.range()], operation.at.into()).context("writing the flash")
}
