//! Bundles of a world's microvisors, good ones and such that misbehave.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use dev::firmware::{Image, Misbehaviour, misbehaving};

use crate::world::{World, name, text};

impl World {
    /// Makes a bundle of a microvisor and uploads it; its resource name. Nothing but its version and counter tells it from the others.
    pub async fn microvisor(&self, version: &str, counter: u64, extra: &[&str]) -> Result<String> {
        let file = self.microvisor_file(&self.path("keys/release.pem"), version, counter, extra).await?;
        name(&self.one(&["bundle", "upload", text(&file)?]).await?)
    }

    /// The file of such a bundle, signed by this key.
    pub async fn microvisor_file(
        &self,
        key: &Path,
        version: &str,
        counter: u64,
        extra: &[&str],
    ) -> Result<PathBuf> {
        let extra = [&["--component", "microvisor"], extra].concat();
        self.signed_file(key, &Image::Microvisor.built()?, version, counter, &extra).await
    }

    /// Makes a bundle of a microvisor that misbehaves and uploads it.
    pub async fn misbehaving(
        &self,
        how: Misbehaviour,
        version: &str,
        counter: u64,
        extra: &[&str],
    ) -> Result<String> {
        let image = self.path(&format!("misbehaving-{version}"));
        std::fs::write(&image, misbehaving(how)?).context("writing an image")?;
        let extra = [&["--component", "microvisor"], extra].concat();
        let file = self.app_file(&image, version, counter, &extra).await?;
        name(&self.one(&["bundle", "upload", text(&file)?]).await?)
    }
}
