//! A board that runs `apps/patient`, and a gdb that is connected to it.

use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use dev::firmware::Image;
use dev::qemu::Board;
use scenarios::an505::board::is_online;
use scenarios::gdb::Gdb;
use scenarios::world::{PATIENCE, World, text};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Child;
use tokio::time::timeout;

/// Where its sources are: they are named from there.
const SOURCES: &str = "gateway-firmware/apps/patient";

/// A board from the factory that runs the patient, with its developer's debug key.
pub(crate) struct Patient {
    pub(crate) world: World,
    pub(crate) flash: PathBuf,
}

/// `holdfast debug`, and the port it gave.
pub(crate) struct Debug {
    child: Child,
    pub(crate) port: u16,
}

impl Patient {
    pub(crate) async fn new(hardware_id: &str) -> Result<Patient> {
        let world = World::start().await?;
        world.cli(&["debug", "key", "create"]).await?;
        let key = world.cli(&["debug", "key", "show"]).await?;
        let extra = ["--trial", "60s", "--stable", "0s", "--debug-hold", "60s", "--debug-key", key.trim()];
        let image = Image::Patient.built()?;
        let bundle = world.app_file(&image, "1.0.0", 1, &extra).await?;
        world.cli(&["bundle", "upload", text(&bundle)?]).await?;
        let flash = world.flash_with(hardware_id, Some(bundle), None).await?;
        Ok(Patient { world, flash })
    }

    /// The board, switched on; its device, online.
    pub(crate) async fn start(&self) -> Result<(Board, String)> {
        let board = self.world.machine(&self.flash)?.start().await?;
        let device = self.world.devices(1, is_online).await?.remove(0);
        Ok((board, device))
    }

    /// `holdfast debug` with these arguments, once it listens.
    pub(crate) async fn debug(&self, device: &str, extra: &[&str]) -> Result<Debug> {
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
    /// Once gdb has left.
    pub(crate) async fn ended(mut self) -> Result<()> {
        let status = timeout(PATIENCE, self.child.wait()).await.context("holdfast debug does not end")??;
        ensure!(status.success(), "holdfast debug: {status}");
        Ok(())
    }
}

/// A gdb with the patient's program, connected to a server.
pub(crate) async fn connected(server: &str) -> Result<Gdb> {
    let mut gdb = Gdb::start(&Image::Patient.built()?).await?;
    let sources: PathBuf = dev::root().join(SOURCES);
    gdb.mi(&format!("-environment-directory {}", text(&sources)?)).await?;
    gdb.mi(&format!("-target-select remote {server}")).await?;
    // It is halted by that.
    gdb.stopped().await?;
    Ok(gdb)
}
