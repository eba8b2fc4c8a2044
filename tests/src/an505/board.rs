//! A world's emulated boards: their flash, their applications, their power.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use dev::factory::Parts;
use dev::firmware::Image;
use dev::qemu::{BOARD, Board, Machine};
use serde_json::Value;

use crate::world::{World, name, text};

impl World {
    /// A board from the factory, on a claim of its own: the file of its flash.
    pub async fn flash(&self, hardware_id: &str) -> Result<PathBuf> {
        self.flash_of(hardware_id, true).await
    }

    /// The same, but it has to ask DNS where this machine is.
    pub async fn flash_without_hosts(&self, hardware_id: &str) -> Result<PathBuf> {
        self.flash_of(hardware_id, false).await
    }

    /// A board that comes with applications, each a bundle file: what runs first, and what tests the hardware before that.
    pub async fn flash_with(
        &self,
        hardware_id: &str,
        app: Option<PathBuf>,
        test: Option<PathBuf>,
    ) -> Result<PathBuf> {
        self.make(hardware_id, true, app, test).await
    }

    async fn flash_of(&self, hardware_id: &str, knows_host: bool) -> Result<PathBuf> {
        self.make(hardware_id, knows_host, None, None).await
    }

    async fn make(
        &self,
        hardware_id: &str,
        knows_host: bool,
        app: Option<PathBuf>,
        test: Option<PathBuf>,
    ) -> Result<PathBuf> {
        let claim = self.path(&format!("{hardware_id}.claim"));
        let create =
            ["claim", "create", "--devices", "1", "--ttl", "1h", "--board", BOARD, "--out", text(&claim)?];
        self.cli(&create).await?;
        let parts = Parts {
            provision: claim.join("provision.json"),
            release_key: self.path("keys/release.pem"),
            hardware_id: hardware_id.to_owned(),
            app,
            test,
            knows_host,
        };
        let flash = self.path(&format!("{hardware_id}.flash"));
        parts.flash(async |words: &[&str]| self.cli(words).await, &flash).await?;
        Ok(flash)
    }

    /// A machine with this flash; what it says is kept with the world's logs.
    pub fn machine(&self, flash: &Path) -> Result<Machine> {
        let name = flash.file_stem().and_then(|stem| stem.to_str()).unwrap_or("board");
        Ok(Machine::new(name, Image::Boot.built()?, flash, self.stack.dir().join("logs")))
    }

    /// What a scenario does with a board that nothing may reset; an error quotes its consoles.
    pub async fn undisturbed<T>(
        &self,
        board: &Board,
        scenario: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let outcome = tokio::select! {
            outcome = scenario => outcome,
            reset = board.reset_seen(1, Duration::MAX) => reset.and(Err(anyhow!("the board was reset"))),
        };
        if outcome.is_err() {
            self.stack.keep_logs();
        }
        outcome.with_context(|| board.tail())
    }

    /// Makes a bundle of an application for it and uploads it; its resource name.
    pub async fn app(&self, image: Image, version: &str, counter: u64, extra: &[&str]) -> Result<String> {
        let file = self.app_file(&image.built()?, version, counter, extra).await?;
        name(&self.one(&["bundle", "upload", text(&file)?]).await?)
    }

    /// Makes a bundle of whatever image for it.
    pub async fn app_file(
        &self,
        image: &Path,
        version: &str,
        counter: u64,
        extra: &[&str],
    ) -> Result<PathBuf> {
        self.signed_file(&self.path("keys/release.pem"), image, version, counter, extra).await
    }

    /// Makes a bundle of whatever image for it, signed by this key.
    pub async fn signed_file(
        &self,
        key: &Path,
        image: &Path,
        version: &str,
        counter: u64,
        extra: &[&str],
    ) -> Result<PathBuf> {
        let file = self.path(&format!("an505-{version}.hfb"));
        let counter = counter.to_string();
        let mut create =
            vec!["bundle", "create", "--board", BOARD, "--version", version, "--counter", &counter];
        create.extend(["--image", text(image)?, "--key", text(key)?, "--out", text(&file)?]);
        create.extend_from_slice(extra);
        self.cli(&create).await?;
        Ok(file)
    }
}

/// Whether a device as the API shows it runs this version of its application, confirmed.
pub fn runs(device: &Value, version: &str) -> bool {
    runs_confirmed(device, "app", version)
}

/// The same of its microvisor.
pub fn runs_microvisor(device: &Value, version: &str) -> bool {
    runs_confirmed(device, "microvisor", version) && device["microvisor_version"] == version
}

fn runs_confirmed(device: &Value, component: &str, version: &str) -> bool {
    let slots = device["slots"].as_array().map(Vec::as_slice).unwrap_or_default();
    let running = slots.iter().find(|slot| slot["component"] == component && slot["running"] == true);
    running.is_some_and(|slot| slot["version"] == version && slot["status"] == "confirmed")
}

/// Whether a device as the API shows it is online.
pub fn is_online(device: &Value) -> bool {
    device["presence"] == "PRESENCE_ONLINE"
}
