//! What a start makes of a flash: a machine of its own, without a network and with a clock that follows its instructions, until an
//! application says that it runs.
//!
//! A start that runs nothing is an error that quotes the consoles; so is one that loses what a device is.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use dev::firmware::Image;
use dev::qemu::{Board, Machine, Net, Pace};
use factory::map;
use factory::memory::Region;
use gateway_core::boot::first::Record;
use gateway_core::counter::FlashCounter;
use gateway_core::ports::Counter as _;
use gateway_core::secret;
use gateway_core::store::{Key, Store};
use tempfile::TempDir;
use wire::Digest;

use super::record::{Recorder, Recording, read};

/// How long a start may take, however busy this machine is.
const SOON: Duration = Duration::from_secs(120);
/// No network to wait for: time passes as instructions do.
const PACE: Pace = Pace::Instructions { shift: 5, sleep: false };
/// The same clock runs ahead, to the watchdog's end, while a probe holds the processor. The wall's stands with it.
const PACE_PROBED: Pace = Pace::Wall;
/// What a microvisor or a first stage says that has nothing to run.
const NOTHING: [&str; 2] = ["NoApp", "nothing may run"];

/// What runs after a start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Running {
    /// The microvisor's slot and version, as the first stage says them.
    pub microvisor: String,
    /// It is on trial.
    pub microvisor_trial: bool,
    /// The version that the application says.
    pub app: String,
    /// The application is on trial.
    pub trial: bool,
}

/// What makes a device the device it is, read from a flash as the firmware reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Of the identity key.
    key: Option<Digest>,
    /// What enrolment gave.
    identity: Option<Vec<u8>>,
    keyset: Option<Vec<u8>>,
    provisioning: Digest,
    pub app_floor: u64,
    pub microvisor_floor: u64,
    pub boots: u32,
}

/// Starts machines.
#[derive(Debug)]
pub struct Judge {
    folder: TempDir,
    logs: PathBuf,
    boot: PathBuf,
    /// Of the device, before anything was cut.
    facts: Facts,
}

impl Facts {
    pub fn of(flash: &[u8]) -> Result<Facts> {
        let mut copy = flash.to_vec();
        // A first entry that is torn reads as lost: it says what no entry says, and the floor tells whether there was more.
        let (record, _) = Record::read(&mut region(&mut copy, map::BOOT_RECORD, map::BOOT_RECORD_BYTES)?);
        let mut counter = FlashCounter::new(region(&mut copy, map::COUNTER, map::COUNTER_BYTES)?);
        let app_floor = counter.value().ok().context("the counter is lost")?;
        let (key, health) = secret::read(&mut region(&mut copy, map::IDENTITY, map::IDENTITY_BYTES)?);
        ensure!(health != secret::Health::Lost, "the identity is lost");
        let provisioning = region_bytes(&copy, map::PROVISION, map::PROVISION_BYTES)?;
        let provisioning = Digest::of(provisioning);
        let mut flash = region(&mut copy, map::STORE, map::STORE_BYTES)?;
        let store = Store::mount(&mut flash, 0).ok().context("no journal can be mounted")?;
        let mut entry = |key: Key| {
            let mut into = vec![0; key.bytes_max()];
            let found = store.read(&mut flash, key, &mut into).ok().context("the journal cannot be read")?;
            anyhow::Ok(found.map(<[u8]>::to_vec))
        };
        let (identity, keyset, boots) = (entry(Key::Identity)?, entry(Key::Keyset)?, entry(Key::Boot)?);
        Ok(Facts {
            key: key.map(|key| Digest::of(&key)),
            identity,
            keyset,
            provisioning,
            app_floor,
            microvisor_floor: record.floor,
            boots: boots.and_then(|boots| boots.try_into().ok()).map_or(0, u32::from_le_bytes),
        })
    }

    /// Who it is and whom it believes are as they were; what only rises did not fall.
    pub fn ensure_kept(&self, later: &Facts) -> Result<()> {
        ensure!(self.key == later.key, "the identity key is another");
        ensure!(self.identity == later.identity, "what enrolment gave is not what it was");
        ensure!(self.keyset == later.keyset, "the keyset is another");
        ensure!(self.provisioning == later.provisioning, "the provisioning was changed");
        ensure!(self.app_floor <= later.app_floor, "the application's floor fell");
        ensure!(self.microvisor_floor <= later.microvisor_floor, "the microvisor's floor fell");
        ensure!(self.boots <= later.boots, "a boot was forgotten");
        Ok(())
    }
}

impl Judge {
    /// For flashes of a device whose flash this was.
    pub fn new(base: &[u8], logs: &Path) -> Result<Judge> {
        Ok(Judge {
            folder: tempfile::tempdir()?,
            logs: logs.to_owned(),
            boot: Image::Boot.built()?,
            facts: Facts::of(base)?,
        })
    }

    /// Starts this flash; what runs then.
    pub async fn start(&self, name: &str, flash: &[u8]) -> Result<Running> {
        let file = self.file(name, flash)?;
        let board = self.machine(name, &file).start().await?;
        let found = running(&board).await;
        self.end(board, &file, found).await
    }

    /// The same, recorded.
    pub async fn recorded(&self, name: &str, flash: &[u8], stages: &[Image], seed: u64) -> Result<Recording> {
        let file = self.file(name, flash)?;
        let board = self.machine(name, &file).pace(PACE_PROBED).halted().start().await?;
        let mut recorder = Recorder::attach(&board, &file, stages, seed).await?;
        let mut found = None;
        recorder.until(async { found = Some(running(&board).await) }).await?;
        let found = found.context("the run ended")?;
        self.end(board, &file, found).await?;
        recorder.end()
    }

    fn machine(&self, name: &str, file: &Path) -> Machine {
        Machine::new(name, &self.boot, file, &self.logs).net(Net::Unplugged).pace(PACE)
    }

    fn file(&self, name: &str, flash: &[u8]) -> Result<PathBuf> {
        let path = self.folder.path().join(format!("{name}.flash"));
        let file = File::create(&path).with_context(|| format!("making {}", path.display()))?;
        file.write_all_at(flash, 0).and_then(|()| file.set_len(map::BYTES.into()))?;
        Ok(path)
    }

    /// Power off; the flash goes, unless it is needed to find out why.
    async fn end(&self, board: Board, file: &Path, found: Result<Running>) -> Result<Running> {
        let tail = board.tail();
        board.cut_power().await?;
        let kept = || -> Result<()> {
            let flash = read(&File::open(file)?)?;
            self.facts.ensure_kept(&Facts::of(&flash)?)
        };
        let found = found.and_then(|found| kept().map(|()| found)).with_context(|| tail)?;
        std::fs::remove_file(file)?;
        Ok(found)
    }
}

fn region(flash: &mut [u8], at: u32, bytes: u32) -> Result<Region<'_>> {
    Region::new(flash, at, bytes).context("the file is too short")
}

fn region_bytes(flash: &[u8], at: u32, bytes: u32) -> Result<&[u8]> {
    flash.get(at as usize..(at + bytes) as usize).context("the file is too short")
}

/// What runs on a board that has just been started.
async fn running(board: &Board) -> Result<Running> {
    let console = board.console();
    let [no_app, no_microvisor] = NOTHING.map(|text| console.line(text, SOON));
    let (app, started, chosen) = tokio::select! {
        found = async {
            let app = board.app().line(" starts", SOON).await?;
            let started = console.line("AppStarted", SOON).await?;
            anyhow::Ok((app, started, console.line(" runs: version ", SOON).await?))
        } => found?,
        Ok(line) = no_app => bail!("nothing runs: {}", line.text),
        Ok(line) = no_microvisor => bail!("nothing runs: {}", line.text),
    };
    let app = app.text.strip_prefix("first ").and_then(|text| text.strip_suffix(" starts"));
    let microvisor = chosen.text.strip_prefix("boot: slot ").and_then(|text| text.split(", counter").next());
    Ok(Running {
        microvisor: microvisor.context("no slot")?.replace(" runs: version", ""),
        microvisor_trial: !chosen.text.contains("attempt 0,"),
        app: app.context("another application")?.to_owned(),
        trial: started.text.contains("trial: true"),
    })
}
