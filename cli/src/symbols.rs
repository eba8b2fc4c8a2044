//! ELF files of bundles on this machine: beside a bundle file, and in a cache of what was fetched.
//!
//! A file of the cache is named by its digest, which is checked whenever it is read: what is damaged there is fetched again.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use proto::ota::v1::GetSymbolsRequest;
use tonic::Code;
use wire::Digest;
use wire::limits::SYMBOLS_BYTES_MAX;

use crate::args::Global;
use crate::session::Session;

/// Files of the cache; the oldest go.
const CACHE_FILES_MAX: usize = 32;

/// Where `bundle create` leaves the ELF file of a bundle.
pub(crate) fn beside(bundle: &Path) -> PathBuf {
    let mut path = bundle.as_os_str().to_owned();
    path.push(".elf");
    path.into()
}

/// Where the cache has the ELF file with this digest.
pub(crate) fn cached(global: &Global, digest: Digest) -> Result<PathBuf> {
    Ok(folder(global)?.join(format!("{digest}.elf")))
}

fn folder(global: &Global) -> Result<PathBuf> {
    Ok(global.cache()?.join("symbols"))
}

/// The ELF file of the bundle with this manifest digest; none if nobody sent it, or the bundle was deleted.
pub(crate) async fn fetch(
    global: &Global,
    session: &Session,
    manifest_digest: &str,
) -> Result<Option<Vec<u8>>> {
    let request = GetSymbolsRequest { parent: session.tenant(), manifest_digest: manifest_digest.to_owned() };
    let mut stream = match session.bundles().await?.get_symbols(request).await {
        Err(status) if status.code() == Code::NotFound => return Ok(None),
        other => other?.into_inner(),
    };
    let first = stream.message().await?.context("the server sent nothing")?;
    let digest: Digest = first.digest.parse().ok().context("the server named no digest")?;
    let size = usize::try_from(first.size).unwrap_or(usize::MAX);
    ensure!(size <= SYMBOLS_BYTES_MAX as usize, "the server announced {} bytes", first.size);
    let (folder, cached) = (folder(global)?, cached(global, digest)?);
    if let Some(bytes) = std::fs::read(&cached).ok().filter(|bytes| Digest::of(bytes) == digest) {
        return Ok(Some(bytes));
    }
    let mut bytes = first.data.to_vec();
    while let Some(next) = stream.message().await? {
        ensure!(bytes.len() + next.data.len() <= size, "the server sent more than it announced");
        bytes.extend_from_slice(&next.data);
    }
    ensure!(Digest::of(&bytes) == digest, "what came is not what its digest names");
    if let Err(error) = keep(&folder, &cached, &bytes) {
        eprintln!("warning: the ELF file is not kept for the next time: {error:#}");
    }
    Ok(Some(bytes))
}

fn keep(folder: &Path, path: &Path, bytes: &[u8]) -> Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    // Beside it first: nobody reads half of it. It holds the names of sources, which are nobody else's.
    crate::keyfile::write_private(path, bytes, true)?;
    let mut files: Vec<_> = std::fs::read_dir(folder)?
        .flatten()
        .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
        .collect();
    files.sort();
    let excess = files.len().saturating_sub(CACHE_FILES_MAX);
    files.iter().take(excess).try_for_each(|(_, path)| std::fs::remove_file(path))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_keeps_the_newest_files() {
        let folder = tempfile::tempdir().unwrap();
        for n in 0..CACHE_FILES_MAX + 3 {
            keep(folder.path(), &folder.path().join(format!("{n}.elf")), b"x").unwrap();
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), CACHE_FILES_MAX);
        assert_eq!(beside(Path::new("a/app-1.0.hfb")), Path::new("a/app-1.0.hfb.elf"));
    }
}
