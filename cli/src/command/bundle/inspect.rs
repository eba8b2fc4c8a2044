//! Reading a bundle file: what it says, and whether to believe it.

use std::path::Path;

use anyhow::{Context as _, Result};
use proto::registry::v1::GetKeysetRequest;
use wire::bundle::Bundle;
use wire::cose::P256;
use wire::manifest::{self, Confirm, Manifest};
use wire::{Digest, keyset};

use crate::args::Global;
use crate::failure::input;
use crate::image::ERASED;
use crate::output;
use crate::session::Session;

/// A bundle file in memory, checked against itself (every layer, block and the area), not yet against a key.
#[derive(Debug)]
pub(crate) struct BundleFile {
    bytes: Vec<u8>,
}

impl BundleFile {
    pub(crate) fn read(path: &Path) -> Result<BundleFile> {
        let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        Bundle::read(&bytes).map_err(|error| input(format!("{}: {error}", path.display())))?;
        Ok(BundleFile { bytes })
    }

    fn bundle(&self) -> Bundle<'_> {
        Bundle::read(&self.bytes).expect("it was read before")
    }

    pub(crate) fn envelope(&self) -> &[u8] {
        self.bundle().envelope
    }

    /// Lower-case hex of the manifest's digest.
    pub(crate) fn manifest_digest(&self) -> String {
        self.bundle().manifest.digest.to_string()
    }

    /// What the layers make of a device's flash, up to their end.
    pub(crate) fn image(&self) -> Vec<u8> {
        let bundle = self.bundle();
        let mut image = Vec::new();
        for layer in &bundle.manifest.layers {
            // Layers are in order and do not overlap: the file was read.
            image.resize(layer.destination as usize, ERASED);
            image.extend_from_slice(bundle.layer(&layer.digest).unwrap_or_default());
        }
        image
    }

    /// A layer by the lower-case hex of its digest.
    pub(crate) fn layer(&self, digest: &str) -> Option<&[u8]> {
        let digest = Digest(hex::decode(digest).ok()?.try_into().ok()?);
        self.bundle().layer(&digest)
    }
}

pub(super) fn inspect(global: &Global, path: &Path) -> Result<()> {
    let file = BundleFile::read(path)?;
    print(global, &file.bundle().manifest)
}

pub(super) async fn verify(global: &Global, path: &Path, keyset_file: Option<&Path>) -> Result<()> {
    let file = BundleFile::read(path)?;
    let signed = match keyset_file {
        Some(keyset) => std::fs::read(keyset).with_context(|| format!("cannot read {}", keyset.display()))?,
        None => newest_keyset(global).await?,
    };
    let keyset = keyset::read(&signed).context("the keyset is malformed")?;
    let manifest = manifest::open(file.envelope(), &keyset, &P256)
        .map_err(|error| input(format!("{}: {error} (keyset version {})", path.display(), keyset.version)))?;
    print(global, &manifest)
}

async fn newest_keyset(global: &Global) -> Result<Vec<u8>> {
    let session = Session::open(global).await?;
    let name = format!("{}/keysets/latest", session.tenant());
    Ok(session.keysets().await?.get_keyset(GetKeysetRequest { name }).await?.into_inner().signed.to_vec())
}

fn print(global: &Global, manifest: &Manifest<'_>) -> Result<()> {
    let digest = hex::encode(manifest.digest.0);
    let layers: Vec<_> =
        manifest.layers.iter().map(|l| (hex::encode(l.digest.0), l.bytes, l.destination)).collect();
    if global.json {
        let layers: Vec<_> = layers
            .iter()
            .map(|(digest, size, destination)| {
                serde_json::json!({ "digest": digest, "size": size, "destination": destination })
            })
            .collect();
        let value = serde_json::json!({
            "manifest_digest": digest, "component": manifest.component.name(), "board": manifest.board,
            "version": manifest.version, "security_counter": manifest.security_counter,
            "area_size": manifest.area_bytes, "layers": layers, "build_time_s": manifest.build_time_s,
            "crash_memory_bytes": manifest.crash.memory_bytes,
        });
        return output::line(&value.to_string());
    }
    let update = &manifest.update;
    let confirm = match update.confirm {
        Confirm::Healthy => "healthy",
        Confirm::Running => "running",
    };
    let mut fields = vec![
        ("manifest", digest),
        ("component", manifest.component.name().to_owned()),
        ("board", manifest.board.to_owned()),
        ("version", manifest.version.to_owned()),
        ("counter", manifest.security_counter.to_string()),
        ("area", format!("{} bytes", manifest.area_bytes)),
        (
            "trial",
            format!(
                "{confirm} within {} s, then up for {} s, {} starts",
                update.trial_s, update.stable_s, update.attempts_max
            ),
        ),
    ];
    let connectivity = manifest.connectivity;
    let connected = match connectivity.check_in_s {
        0 => "always".to_owned(),
        check_in_s => {
            format!("when needed and {} s after, and every {check_in_s} s at least", connectivity.grace_s)
        }
    };
    fields.push(("connected", connected));
    if manifest.crash.memory_bytes > 0 {
        let bytes = manifest.crash.memory_bytes;
        fields.push(("crash memory", format!("{bytes} bytes of a crash leave the device")));
    }
    fields.extend(
        layers.into_iter().map(|(digest, size, at)| ("layer", format!("{digest} {size} bytes at {at:#x}"))),
    );
    output::fields(&fields)
}
