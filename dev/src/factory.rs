//! What a factory does for an emulated board before its first power on: a flash file with the claim, the roots it believes, and a
//! microvisor signed by the release key; and what is to run on it, if that is said.
//!
//! It runs what a factory runs: `holdfast`.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::firmware::Image;
use crate::qemu;

/// The version of the microvisor that a board starts with.
const MICROVISOR_VERSION: &str = env!("CARGO_PKG_VERSION");
/// Its security counter.
const MICROVISOR_COUNTER: &str = "1";

/// What one board is made from.
#[derive(Clone, Debug)]
pub struct Parts {
    /// What `holdfast claim create --board an505` wrote.
    pub provision: PathBuf,
    /// The release key that signs the microvisor; the tenant's first keyset names it.
    pub release_key: PathBuf,
    /// The name the board is made with.
    pub hardware_id: String,
    /// Bundle file of what runs from the first start on.
    pub app: Option<PathBuf>,
    /// Bundle file of what tests the hardware before that.
    pub test: Option<PathBuf>,
    /// It knows this machine, which brokers' certificates call `localhost`; otherwise it has to ask DNS.
    pub knows_host: bool,
}

impl Parts {
    /// Makes the flash file, with `holdfast` run by the caller in its own way. What it takes for that lies beside the provisioning.
    pub async fn flash(&self, holdfast: impl AsyncFn(&[&str]) -> Result<String>, flash: &Path) -> Result<()> {
        let beside = |name: &str| self.provision.with_file_name(name);
        let (keyset, bundle) = (beside("keyset"), beside("microvisor.hfb"));
        for old in [&keyset, &bundle] {
            if old.exists() {
                std::fs::remove_file(old).with_context(|| format!("removing {}", old.display()))?;
            }
        }
        // Devices know the roots of the first keyset; what vouches for the first microvisor is that keyset.
        holdfast(&["keyset", "show", "1", "--out", text(&keyset)?]).await?;
        let microvisor = Image::Microvisor.built()?;
        let mut create = vec!["bundle", "create", "--component", "microvisor", "--board", qemu::BOARD];
        create.extend(["--version", MICROVISOR_VERSION, "--counter", MICROVISOR_COUNTER]);
        create.extend([
            "--image",
            text(&microvisor)?,
            "--key",
            text(&self.release_key)?,
            "--out",
            text(&bundle)?,
        ]);
        holdfast(&create).await?;

        let host = format!("localhost={}", qemu::HOST_IP);
        let mut image = vec!["factory", "image", "--provision", text(&self.provision)?];
        image.extend(["--hardware-id", &self.hardware_id, "--keyset", text(&keyset)?]);
        image.extend(["--microvisor", text(&bundle)?, "--out", text(flash)?, "--force"]);
        for (flag, file) in [("--app", &self.app), ("--test", &self.test)] {
            if let Some(file) = file {
                image.extend([flag, text(file)?]);
            }
        }
        if self.knows_host {
            image.extend(["--host", &host]);
        }
        holdfast(&image).await?;
        Ok(())
    }
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().with_context(|| format!("{} is not UTF-8", path.display()))
}
