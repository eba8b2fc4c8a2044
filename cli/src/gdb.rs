//! Which gdb there is, and how it is started.

use std::ffi::OsString;
use std::path::Path;

use anyhow::{Context as _, Result};
use tokio::process::Command;
use tokio::signal::unix::{SignalKind, signal};

use crate::failure::input;

/// What knows an M-profile Arm, in the order tried.
const PROGRAMS: [&str; 2] = ["gdb-multiarch", "arm-none-eabi-gdb"];
/// An ELF file can hold scripts for gdb to run; it comes from elsewhere, so they are not.
pub(crate) const SAFE: [&str; 2] = ["-iex", "set auto-load off"];

/// The first of these that starts.
pub(crate) fn find(asked: Option<&str>) -> Result<String> {
    let tries: Vec<&str> =
        asked.filter(|asked| !asked.is_empty()).map_or_else(|| PROGRAMS.to_vec(), |asked| vec![asked]);
    let starts = |program: &&&str| {
        let mut command = std::process::Command::new(program);
        let quiet =
            command.arg("--version").stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
        quiet.stdin(std::process::Stdio::null()).status().is_ok_and(|status| status.success())
    };
    let found = tries.iter().find(starts);
    found.map(|program| (*program).to_owned()).ok_or_else(|| {
        input(format!(
            "{} cannot be started: install gdb-multiarch, or name another gdb that knows Arm",
            tries.join(" and ")
        ))
    })
}

/// gdb with a core file until it ends.
pub(crate) async fn run(gdb: &str, elf: Option<&Path>, core: &Path, arguments: &[OsString]) -> Result<()> {
    // Ctrl-C is gdb's, which has the terminal with us: it is not to end this process.
    let _interrupts = signal(SignalKind::interrupt())?;
    let mut command = Command::new(gdb);
    command.args(SAFE).args(arguments);
    command.args(elf).arg("--core").arg(core);
    let status = command.status().await.with_context(|| format!("cannot start {gdb}"))?;
    anyhow::ensure!(status.success(), "{gdb} ended with {status}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gdb_that_is_not_there_is_named_with_what_to_do() {
        let error = find(Some("no-such-gdb")).unwrap_err().to_string();
        assert!(error.contains("no-such-gdb") && error.contains("install gdb-multiarch"), "{error}");
    }
}
