//! A world's emulated boards: their flash, their applications, their power.

use std::path::{Path, PathBuf};

use anyhow::Result;
use dev::factory::Parts;
use dev::firmware::Image;
use dev::qemu::{BOARD, Machine};

use crate::world::{World, name, text};

impl World {
    /// A board from the factory, on a claim of its own: the file of its flash.
    pub async fn flash(&self, hardware_id: &str) -> Result<PathBuf> {
        let claim = self.path(&format!("{hardware_id}.claim"));
        let create =
            ["claim", "create", "--devices", "1", "--ttl", "1h", "--board", BOARD, "--out", text(&claim)?];
        self.cli(&create).await?;
        let parts = Parts {
            provision: claim.join("provision.json"),
            release_key: self.path("keys/release.pem"),
            hardware_id: hardware_id.to_owned(),
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
        let (file, key) = (self.path(&format!("an505-{version}.hfb")), self.path("keys/release.pem"));
        let counter = counter.to_string();
        let mut create =
            vec!["bundle", "create", "--board", BOARD, "--version", version, "--counter", &counter];
        create.extend(["--image", text(image)?, "--key", text(&key)?, "--out", text(&file)?]);
        create.extend_from_slice(extra);
        self.cli(&create).await?;
        Ok(file)
    }
}
