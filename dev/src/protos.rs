//! The .proto files under the rules of proto/buf.yaml: their lint, and what clients in the field still rely on.
//!
//! proto/baseline.binpb is the API as it was promised last: a buf image (a `FileDescriptorSet`) without comments. A change that would
//! break a program made from it is refused until [`renew`] says that the break is meant.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::places;

/// What buf has to say against something; empty when it is content.
pub type Findings = Vec<String>;

/// Exit code of buf when it found something, as against being unable to look.
const FOUND: i32 = 100;

/// The folder with buf.yaml and all .proto files.
pub fn folder() -> PathBuf {
    places::root().join("proto")
}

/// The API as promised.
pub fn baseline() -> PathBuf {
    folder().join("baseline.binpb")
}

/// What the rules say against the files of a folder.
pub fn lint(folder: &Path) -> Result<Findings> {
    findings(folder, &[OsStr::new("lint")])
}

/// What a program made from the baseline could no longer rely on.
pub fn breaking(folder: &Path, baseline: &Path) -> Result<Findings> {
    findings(folder, &[OsStr::new("breaking"), OsStr::new("--against"), baseline.as_os_str()])
}

/// Makes the files of a folder the baseline.
pub fn renew(folder: &Path, baseline: &Path) -> Result<()> {
    let words = [OsStr::new("build"), OsStr::new("--exclude-source-info"), OsStr::new("-o")];
    let found = findings(folder, &[&words[..], &[baseline.as_os_str()]].concat())?;
    ensure!(found.is_empty(), "the .proto files do not compile:\n{}", found.join("\n"));
    Ok(())
}

fn findings(folder: &Path, words: &[&OsStr]) -> Result<Findings> {
    let program = places::buf()?;
    let mut command = Command::new(&program);
    // Its cache too lies in the one ignored folder. Nothing is fetched: buf.yaml names no dependency.
    command.args(words).current_dir(folder).env("BUF_CACHE_DIR", places::dot_dev().join("buf-cache"));
    let output =
        command.stdin(Stdio::null()).output().with_context(|| format!("starting {}", program.display()))?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let found = output.status.code() == Some(FOUND);
    ensure!(
        output.status.success() || (found && !said.is_empty()),
        "buf failed ({}): {}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(said.lines().map(str::to_owned).collect())
}
