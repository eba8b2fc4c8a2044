//! Writes what `holdfast factory image` wants for an image (raw, for the microvisor's address), signed by test keys:
//! `cargo run -p factory --example material -- IMAGE.bin DIR`.

#[path = "../tests/material/mod.rs"]
mod material;

use std::path::PathBuf;

use anyhow::{Context as _, Result};

fn main() -> Result<()> {
    let mut args = std::env::args_os().skip(1).map(PathBuf::from);
    let image = std::fs::read(args.next().context("IMAGE")?)?;
    let dir = args.next().context("DIR")?;
    std::fs::create_dir_all(&dir)?;
    std::fs::write(dir.join("provision.json"), material::provision_json())?;
    std::fs::write(dir.join("release.pem"), material::key(3).to_pkcs8_pem()?)?;
    std::fs::write(dir.join("keyset.cose"), material::keyset())?;
    std::fs::write(dir.join("microvisor.hfb"), material::bundle(&image, |_| {}))?;
    Ok(())
}
