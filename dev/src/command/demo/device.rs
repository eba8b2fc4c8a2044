//! The device of the demonstration: an emulated Cortex-M33, or where that cannot be had the same core as a Linux process; and the
//! applications each is given.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, ensure};
use dev::factory::Parts;
use dev::firmware::Image;
use dev::qemu::{self, Machine};
use dev::{Process, Signal, Spec, Stack};

use crate::command::cli::Cli;
use crate::command::{firmware, setup};

/// How long a device may take to end.
const STOP_MAX: Duration = Duration::from_secs(20);
/// The name the emulated board is made with.
const HARDWARE_ID: &str = "qemu-demo";

const WORKS: &str = "log all is well\nwork 1000\nlog still here\nwork 1000\nrepeat\n";
const UNWELL: &str =
    "log it will never say that it works\nwork 1000\nlog still not healthy\nwork 1000\nrepeat\n";

/// Which board it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Kind {
    /// QEMU's mps2-an505: first stage, microvisor and application, each an image of its own.
    An505,
    /// The core as a Linux process.
    Host,
}

impl Kind {
    /// The emulated board where this machine has what it takes.
    pub(crate) async fn choose() -> Kind {
        match setup::lacking_for_board().await.as_slice() {
            [] => Kind::An505,
            packages => {
                println!("the host board is shown: the emulated one needs {}", packages.join(" "));
                Kind::Host
            }
        }
    }

    /// Builds what it consists of.
    pub(crate) async fn build(self) -> Result<()> {
        if self == Kind::An505 {
            firmware::run(&firmware::Arguments::first()).await?;
        }
        Ok(())
    }

    /// As manifests name it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::An505 => qemu::BOARD,
            Kind::Host => "host",
        }
    }

    /// The image of an application of this version, which works or never says so.
    pub(crate) fn application(self, home: &Path, version: &'static str, works: bool) -> Result<PathBuf> {
        match (self, works) {
            (Kind::An505, true) => Image::First(version).built(),
            (Kind::An505, false) => Image::Unwell(version).built(),
            (Kind::Host, works) => {
                let (healthy, rest) = if works { ("healthy\n", WORKS) } else { ("", UNWELL) };
                let file = home.join(format!("app-{version}.img"));
                std::fs::write(
                    &file,
                    format!("#!holdfast-script\nlog version {version} starts\n{healthy}{rest}"),
                )?;
                Ok(file)
            }
        }
    }

    /// Its factory puts a first application into it.
    pub(crate) fn comes_with_an_application(self) -> bool {
        self == Kind::An505
    }

    /// Power on, with the claim in `claim/` of the command line's home, and the application it comes with.
    pub(crate) async fn start(self, stack: &Stack, cli: &Cli, app: Option<PathBuf>) -> Result<Device> {
        let (provision, logs) = (cli.home.join("claim/provision.json"), stack.dir().join("logs"));
        if self == Kind::Host {
            let spec = Spec::new("board-host", dev::binary("board-host")?, logs.join("board-host.log"))
                .arg("--provision")
                .arg(provision)
                .arg("--state")
                .arg(cli.home.join("device"))
                .arg("--json");
            return Ok(Device::Host(Process::spawn(spec)?));
        }
        let parts = Parts {
            provision,
            release_key: cli.home.join("keys/release.pem"),
            hardware_id: HARDWARE_ID.to_owned(),
            app,
            test: None,
            knows_host: true,
        };
        let flash = cli.home.join("flash");
        parts.flash(async |words: &[&str]| cli.run(words).await, &flash).await?;
        let board = Machine::new("board", Image::Boot.built()?, &flash, logs).start().await?;
        Ok(Device::An505(board))
    }
}

/// A device with power.
#[derive(Debug)]
pub(crate) enum Device {
    Host(Process),
    An505(qemu::Board),
}

impl Device {
    /// An error with its last words when it has ended.
    pub(crate) fn must_run(&self) -> Result<()> {
        let process = match self {
            Device::Host(process) => process,
            Device::An505(board) => board.process(),
        };
        ensure!(process.running(), "the device ended\n{}", self.tail());
        Ok(())
    }

    /// What it said last.
    pub(crate) fn tail(&self) -> String {
        match self {
            Device::Host(process) => process.tail(),
            Device::An505(board) => board.tail(),
        }
    }

    /// Power off.
    pub(crate) async fn stop(self) -> Result<()> {
        match self {
            Device::Host(process) => process.stop(Signal::Terminate, STOP_MAX).await.map(drop),
            Device::An505(board) => board.cut_power().await,
        }
    }
}
