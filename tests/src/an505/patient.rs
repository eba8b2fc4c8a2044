//! A board that runs `apps/patient`, and a gdb that is connected to it.

use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use dev::firmware::Image;
use dev::qemu::Board;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Child;
use tokio::time::timeout;

use crate::an505::board::is_online;
use crate::gdb::Gdb;
use crate::world::{PATIENCE, World, text};

/// Where its sources are: they are named from there.
const SOURCES: &str = "gateway-firmware/apps/patient";

/// A board from the factory that runs the patient, with its developer's debug key.
#[derive(Debug)]
pub struct Patient {
    pub world: World,
    pub flash: PathBuf,
}

/// `holdfast debug`, and the port it gave.
#[derive(Debug)]
pub struct Debug {
    child: Child,
    pub port: u16,
}

impl Patient {
    pub async fn new(hardware_id: &str) -> Result<Patient> {
        Patient::with(hardware_id, &[]).await
    }

    /// The same with more of a bundle's options.
    pub async fn with(hardware_id: &str, options: &[&str]) -> Result<Patient> {
        let world = World::start().await?;
        world.cli(&["debug", "key", "create"]).await?;
        let key = world.cli(&["debug", "key", "show"]).await?;
        let extra = ["--trial", "60s", "--stable", "0s", "--debug-hold", "60s", "--debug-key", key.trim()];
        let image = Image::Patient.built()?;
        let bundle = world.app_file(&image, "1.0.0", 1, &[&extra, options].concat()).await?;
        world.cli(&["bundle", "upload", text(&bundle)?]).await?;
        let flash = world.flash_with(hardware_id, Some(bundle), None).await?;
        Ok(Patient { world, flash })
    }

    /// The board, switched on; its device, online.
    pub async fn start(&self) -> Result<(Board, String)> {
        let board = self.world.machine(&self.flash)?.start().await?;
        let device = self.world.devices(1, is_online).await?.remove(0);
        Ok((board, device))
    }

    /// A context of the command line's that reaches the relay by another address.
    pub async fn context(&self, name: &str, relay: &str) -> Result<()> {
        let shown = self.world.one(&["context", "show"]).await?;
        let field = |name: &str| shown[name].as_str().with_context(|| format!("no {name}: {shown}"));
        let mut add = vec!["context", "add", name, "--debug", relay];
        for (option, of) in [
            ("--registry", "registry"),
            ("--ota", "ota"),
            ("--logs", "logs"),
            ("--ca", "ca"),
            ("--key", "key"),
            ("--key-file", "key_file"),
        ] {
            add.extend([option, field(of)?]);
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
    pub async fn ended(mut self) -> Result<()> {
        let status = timeout(PATIENCE, self.child.wait()).await.context("holdfast debug does not end")??;
        ensure!(status.success(), "holdfast debug: {status}");
        Ok(())
    }
}

/// A gdb with the patient's program, connected to a server.
pub async fn connected(server: &str) -> Result<Gdb> {
    let mut gdb = Gdb::start(&Image::Patient.built()?).await?;
    let sources: PathBuf = dev::root().join(SOURCES);
    gdb.mi(&format!("-environment-directory {}", text(&sources)?)).await?;
    gdb.mi(&format!("-target-select remote {server}")).await?;
    // It is halted by that.
    gdb.stopped().await?;
    Ok(gdb)
}
