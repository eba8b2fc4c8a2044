//! Which gdb there is, and how it is started.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use tokio::process::Command;
use tokio::signal::unix::{SignalKind, signal};

use crate::failure::input;

/// Those that know an Arm processor, the better known first.
const NAMES: [&str; 2] = ["gdb-multiarch", "arm-none-eabi-gdb"];
/// An ELF file can hold scripts for gdb to run; it comes from elsewhere, so they are not.
const SAFE: [&str; 2] = ["-iex", "set auto-load off"];

/// The gdb that was asked for, or the first of those known that is in PATH.
pub(crate) fn find(asked: Option<&Path>) -> Result<PathBuf> {
    if let Some(asked) = asked {
        return Ok(asked.to_owned());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    found(&path).ok_or_else(|| {
        input(format!("no gdb for Arm is in PATH ({}); install one, or name it with --gdb", NAMES.join(", ")))
    })
}

fn found(path: &OsStr) -> Option<PathBuf> {
    let folders: Vec<_> = std::env::split_paths(path).collect();
    let in_folder = |name| folders.iter().map(move |folder| folder.join(name)).find(|file| file.is_file());
    NAMES.into_iter().find_map(in_folder)
}

/// gdb with a core file until it ends.
pub(crate) async fn run(gdb: &Path, elf: Option<&Path>, core: &Path, arguments: &[OsString]) -> Result<()> {
    // Ctrl-C is gdb's, which has the terminal with us: it is not to end this process.
    let _interrupts = signal(SignalKind::interrupt())?;
    let mut command = Command::new(gdb);
    command.args(SAFE).args(arguments);
    command.args(elf).arg("--core").arg(core);
    let status = command.status().await.with_context(|| format!("cannot start {}", gdb.display()))?;
    anyhow::ensure!(status.success(), "{} ended with {status}", gdb.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_that_is_in_the_path_is_taken() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let path = std::env::join_paths([one.path(), two.path()]).unwrap();
        assert_eq!(found(&path), None);
        std::fs::write(one.path().join(NAMES[1]), "").unwrap();
        assert_eq!(found(&path), Some(one.path().join(NAMES[1])));
        std::fs::write(two.path().join(NAMES[0]), "").unwrap();
        assert_eq!(found(&path), Some(two.path().join(NAMES[0])));
        assert_eq!(find(Some(Path::new("own"))).unwrap(), Path::new("own"));
    }
}
