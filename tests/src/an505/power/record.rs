//! Every operation of one run, with its arguments, as the processor comes to it.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use dev::firmware::Image;
use dev::qemu::{Board, Probe};
use factory::{map, secure};

use super::USED_BYTES;
use super::class::Part;
use super::operation::{Cut, Operation, What};
use crate::broker::random::Random;

/// The two functions of `chip::flash`.
const PROGRAM: &str = "holdfast_flash_program";
const ERASE: &str = "holdfast_flash_erase";
/// Bytes by which a function is known again: another image may have other code at its address.
const CODE_BYTES: usize = 8;
/// Operations of one run, at most.
pub const OPERATIONS_MAX: usize = 100_000;

/// What one run did to the flash.
#[derive(Clone, Debug)]
pub struct Recording {
    /// The used flash before the run.
    pub base: Vec<u8>,
    pub operations: Vec<Operation>,
    /// What torn operations come from.
    pub seed: u64,
}

/// A run that is recorded. Its machine stands still at an operation, or goes on to the next.
#[derive(Debug)]
pub struct Recorder {
    probe: Probe,
    goes: bool,
    first_stage: Vec<u8>,
    functions: Vec<Function>,
    file: File,
    /// The flash as it follows from the operations before the last.
    image: Vec<u8>,
    /// All registers at the last operation.
    registers: [u32; 16],
    recording: Recording,
}

#[derive(Debug)]
struct Function {
    at: u32,
    code: Vec<u8>,
    erases: bool,
}

impl Recording {
    /// The used flash, had the power failed at this cut.
    pub fn image(&self, cut: Cut) -> Result<Vec<u8>> {
        let (before, rest) = self.operations.split_at_checked(cut.operation).context("no such operation")?;
        let mut image = self.base.clone();
        before.iter().try_for_each(|operation| operation.apply(&mut image))?;
        if let Some(operation) = rest.first() {
            let mut random = Random::new(self.seed, cut.operation as u64);
            operation.tear(&mut image, cut.mode, &mut random)?;
        }
        Ok(image)
    }
}

impl Recorder {
    /// Begins with a machine that was started `halted`, whose stages are these images.
    pub async fn attach(board: &Board, flash: &Path, stages: &[Image], seed: u64) -> Result<Recorder> {
        let mut probe = board.probe().await?;
        let mut functions = Vec::new();
        for stage in stages {
            for (name, erases) in [(PROGRAM, false), (ERASE, true)] {
                let at = stage.function(name)?;
                let code = stage.code(at, CODE_BYTES)?;
                if !functions.iter().any(|known: &Function| known.at == at) {
                    probe.stop_at(at).await?;
                }
                functions.push(Function { at, code, erases });
            }
        }
        let file = File::open(flash).with_context(|| format!("opening {}", flash.display()))?;
        let base = read(&file)?;
        let recording = Recording { base: base.clone(), operations: Vec::new(), seed };
        // As it was loaded, before its first instruction.
        let first_stage = probe.read(secure::BOOT_AT, Image::Boot.footprint()?.flash_bytes as usize).await?;
        let registers = [0; 16];
        Ok(Recorder { probe, goes: false, first_stage, functions, file, image: base, registers, recording })
    }

    /// Lets the machine go on to its next operation, which is not done yet when this returns.
    pub async fn next(&mut self) -> Result<&Operation> {
        loop {
            self.go().await?;
            self.probe.stopped().await?;
            self.goes = false;
            if self.look().await? {
                return self.recording.operations.last().context("one was found");
            }
        }
    }

    /// Lets the machine go on, past every operation, until it is said that this is all. It goes on then.
    pub async fn until(&mut self, enough: impl Future) -> Result<()> {
        let mut enough = std::pin::pin!(enough);
        loop {
            self.go().await?;
            tokio::select! {
                biased;
                stopped = self.probe.stopped() => stopped?,
                _ = &mut enough => return Ok(()),
            }
            self.goes = false;
            self.look().await?;
        }
    }

    /// The recording, of a machine that goes on no more: its power is off.
    pub fn end(mut self) -> Result<Recording> {
        let last = self.recording.operations.last().cloned();
        // The power may have gone in the middle of the last.
        self.verify(&last.as_ref().map_or(0..0, Operation::range))?;
        self.image.clear();
        Ok(self.recording)
    }

    /// The recording up to now.
    pub fn recording(&self) -> &Recording {
        &self.recording
    }

    async fn go(&mut self) -> Result<()> {
        if !self.goes {
            self.probe.go().await?;
            self.goes = true;
        }
        Ok(())
    }

    /// What the processor is about to do, if it stands where flash is changed.
    async fn look(&mut self) -> Result<bool> {
        let registers = self.probe.registers().await?;
        let at = registers[15];
        let code = self.probe.read(at, CODE_BYTES).await?;
        // An image that is not the one whose function this is has something else here.
        let Some(function) = self.functions.iter().find(|it| it.at == at && it.code == code) else {
            return Ok(false);
        };
        // An interrupt came between the stop and the function, which begins again: it is the same call, and nothing is done yet.
        if registers == self.registers && read(&self.file)? == self.image {
            return Ok(false);
        }
        self.registers = registers;
        let [to, from, bytes, ..] = registers;
        let what = match function.erases {
            true => What::Erase,
            false => What::Program(self.probe.read(from, bytes as usize).await?),
        };
        let operation = Operation { at: to.checked_sub(map::AT).context("not in the flash")?, what };
        ensure!(operation.range().end <= USED_BYTES, "{to:#x} is beyond what is ever used");
        let part = Part::of(operation.at)?;
        ensure!(!matches!(part, Part::Provisioning | Part::Gap), "nobody may change {to:#x}: {part:?}");
        if !part.is_data() {
            let first_stage = self.probe.read(secure::BOOT_AT, self.first_stage.len()).await?;
            ensure!(first_stage == self.first_stage, "the first stage is not what it was");
        }
        if let Some(last) = self.recording.operations.last() {
            last.apply(&mut self.image)?;
        }
        self.verify(&(0..0))?;
        ensure!(self.recording.operations.len() < OPERATIONS_MAX, "more than {OPERATIONS_MAX} operations");
        self.recording.operations.push(operation);
        Ok(true)
    }

    /// The file is what follows from the operations, but for these cells.
    fn verify(&self, but: &Range<usize>) -> Result<()> {
        let found = read(&self.file)?;
        if found == self.image {
            return Ok(());
        }
        match (0..USED_BYTES).find(|at| found[*at] != self.image[*at] && !but.contains(at)) {
            None => Ok(()),
            Some(at) => bail!("something else changed the flash, at {at:#x}"),
        }
    }
}

/// The used flash of a file.
pub fn read(file: &File) -> Result<Vec<u8>> {
    let mut bytes = vec![0; USED_BYTES];
    file.read_exact_at(&mut bytes, 0).context("reading the flash")?;
    Ok(bytes)
}
