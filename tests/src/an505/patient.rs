//! A board that runs an application to be debugged, and a gdb that is connected to it.

use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};

use anyhow::{Context, Result, ensure};
use dev::firmware::Image;
use dev::qemu::{Board, Machine};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Child;
use tokio::time::timeout;

use crate::an505::board::is_online;
use crate::gdb::Gdb;
use crate::world::{PATIENCE, World, text};

/// Where the applications' sources are. Those in C name their files from the folder of the application.
const APPS: &str = "gateway-firmware/apps";
/// What the sources of applications in Rust are below, wherever they were built (`cargo dev firmware`).
const BUILT_IN: &str = "/holdfast";
/// What a bundle of one says: a trial in which a debugger may do as it likes, and faults that are held for it.
pub const HELD: [&str; 6] = ["--trial", "60s", "--stable", "0s", "--debug-hold", "60s"];

/// A board from the factory that runs an application, with its developer's debug key.
#[derive(Debug)]
pub struct Patient {
    pub world: World,
    pub flash: PathBuf,
    pub image: Image,
}

/// `holdfast debug`, and the port it gave.
#[derive(Debug)]
pub struct Debug {
    child: Child,
    pub port: u16,
}

impl Patient {
    /// Of `apps/patient`.
    pub async fn new(hardware_id: &str) -> Result<Patient> {
        Patient::of(Image::Patient, hardware_id, &HELD).await
    }

    /// Of this application, whose bundle says this besides the key.
    pub async fn of(image: Image, hardware_id: &str, extra: &[&str]) -> Result<Patient> {
        let world = World::start().await?;
        world.cli(&["debug", "key", "create"]).await?;
        let key = world.cli(&["debug", "key", "show"]).await?;
        let extra = [extra, &["--debug-key", key.trim()]].concat();
        let bundle = world.app_file(&image.built()?, "1.0.0", 1, &extra).await?;
        world.cli(&["bundle", "upload", text(&bundle)?]).await?;
        let flash = world.flash_with(hardware_id, Some(bundle), None).await?;
        Ok(Patient { world, flash, image })
    }

    /// The board, switched on; its device, online.
    pub async fn start(&self) -> Result<(Board, String)> {
        self.switched_on(&self.world.machine(&self.flash)?).await
    }

    /// The same of a machine with this flash.
    pub async fn switched_on(&self, machine: &Machine) -> Result<(Board, String)> {
        let board = machine.start().await?;
        let device = self.world.devices(1, is_online).await?.remove(0);
        Ok((board, device))
    }

    /// A gdb with the application's program, connected to a server.
    pub async fn gdb(&self, server: &str) -> Result<Gdb> {
        self.gdb_by("remote", server).await
    }

    /// The same by this kind of target.
    pub async fn gdb_by(&self, target: &str, server: &str) -> Result<Gdb> {
        connected_to(self.image, target, server).await
    }

    /// `holdfast debug` with these arguments, and a gdb that is connected to it.
    pub async fn debugged(&self, device: &str, extra: &[&str]) -> Result<(Debug, Gdb)> {
        let debug = self.debug(device, extra).await?;
        let mut gdb = self.gdb(&format!("127.0.0.1:{}", debug.port)).await?;
        // What comes back after a lost connection takes longer than gdb waits by itself.
        gdb.console("set remotetimeout 60").await?;
        Ok((debug, gdb))
    }

    /// A context of the command line's that reaches the relay by another address.
    pub async fn context(&self, name: &str, relay: &str) -> Result<()> {
        self.context_of(name, Some(relay), None).await
    }

    /// A context of the command line's like the current one, but for the relay's address, or for who signs in: a key's name and its file.
    pub async fn context_of(&self, name: &str, relay: Option<&str>, who: Option<(&str, &str)>) -> Result<()> {
        let shown = self.world.one(&["context", "show"]).await?;
        let field = |name: &str| shown[name].as_str().with_context(|| format!("no {name}: {shown}"));
        let mut add = vec!["context", "add", name];
        for (option, of, instead) in [
            ("--registry", "registry", None),
            ("--ota", "ota", None),
            ("--logs", "logs", None),
            ("--ca", "ca", None),
            ("--debug", "debug", relay),
            ("--key", "key", who.map(|(key, _)| key)),
            ("--key-file", "key_file", who.map(|(_, file)| file)),
        ] {
            add.extend([option, instead.map_or_else(|| field(of), Ok)?]);
        }
        self.world.cli(&add).await.map(drop)
    }

    /// `holdfast debug` with these arguments, once it listens.
    pub async fn debug(&self, device: &str, extra: &[&str]) -> Result<Debug> {
        let args = [&["debug", device, "--json"][..], extra].concat();
        let mut child = self.world.command(&args)?.stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn()?;
        let mut lines = BufReader::new(child.stdout.take().context("no stdout")?).lines();
        let line = timeout(PATIENCE, lines.next_line()).await.context("holdfast debug does not listen")??;
        let first: Value = serde_json::from_str(&line.context("holdfast debug ended")?)?;
        let port = first["port"].as_u64().with_context(|| format!("no port: {first}"))?;
        Ok(Debug { child, port: u16::try_from(port)? })
    }
}

impl Debug {
    /// Its process, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Once gdb has left.
    pub async fn ended(self) -> Result<()> {
        let status = self.end().await?;
        ensure!(status.success(), "holdfast debug: {status}");
        Ok(())
    }

    /// Once it has ended, however.
    pub async fn end(mut self) -> Result<ExitStatus> {
        Ok(timeout(PATIENCE, self.child.wait()).await.context("holdfast debug does not end")??)
    }
}

/// A gdb with the program of `apps/patient`, connected to a server.
pub async fn connected(server: &str) -> Result<Gdb> {
    connected_to(Image::Patient, "remote", server).await
}

async fn connected_to(image: Image, target: &str, server: &str) -> Result<Gdb> {
    let mut gdb = Gdb::start(&image.built()?).await?;
    let sources = dev::root().join(APPS).join(image.name());
    gdb.mi(&format!("-environment-directory {}", text(&sources)?)).await?;
    gdb.console(&format!("set substitute-path {BUILT_IN} {}", text(dev::root())?)).await?;
    gdb.mi(&format!("-target-select {target} {server}")).await?;
    // It is halted by that.
    gdb.stopped().await?;
    Ok(gdb)
}
