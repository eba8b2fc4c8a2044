//! The cargo calls: which packages are built together, and what comes out.
//!
//! Firmware is built in calls of its own: a workspace-wide build unifies features and would hand the `no_std` core the
//! standard library of its neighbours (STYLE, "Lints").

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use tokio::process::Command;

/// Each of these in a call of its own. The host board is a Linux program and shares everything with the rest.
pub(crate) const FIRMWARE: [&str; 3] = ["gateway-core", "abi", "gateway-link"];

/// What an installation consists of.
const BINARIES: [&str; 8] = [
    "svc-registry",
    "svc-broker",
    "svc-ota",
    "svc-logs",
    "svc-debug-relay",
    "board-host",
    "holdfast",
    "dev-s3",
];

/// A group of packages built in one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Group {
    Firmware(&'static str),
    Rest,
}

impl Group {
    pub(crate) fn all() -> impl Iterator<Item = Group> {
        FIRMWARE.into_iter().map(Group::Firmware).chain([Group::Rest])
    }

    /// The flags that select its packages.
    pub(crate) fn selection(self) -> Vec<&'static str> {
        match self {
            Group::Firmware(package) => vec!["--package", package],
            Group::Rest => {
                let mut flags = vec!["--workspace"];
                flags.extend(FIRMWARE.iter().flat_map(|package| ["--exclude", package]));
                flags
            }
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Group::Firmware(package) => package,
            Group::Rest => "workspace",
        }
    }
}

/// A test program that was built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TestProgram {
    pub(crate) package: String,
    /// The name of an integration test's file; none for the unit tests of a library or binary.
    pub(crate) file: Option<String>,
    pub(crate) program: PathBuf,
    pub(crate) dir: PathBuf,
}

impl TestProgram {
    /// What its tests' names start with: `package` or `package::file`.
    pub(crate) fn prefix(&self) -> String {
        match &self.file {
            Some(file) => format!("{}::{file}", self.package),
            None => self.package.clone(),
        }
    }
}

/// Builds every binary of an installation, the command line and the host board.
pub(crate) async fn build_installation(release: bool) -> Result<()> {
    let profile: &[&str] = if release { &["--release"] } else { &[] };
    let mut flags = vec!["build", "--quiet"];
    flags.extend(profile);
    flags.extend(BINARIES.iter().flat_map(|name| ["--bin", name]));
    cargo(&flags).await
}

/// Builds the command line, with which a factory makes boards too.
pub(crate) async fn build_cli() -> Result<()> {
    cargo(&["build", "--quiet", "--package", "holdfast", "--bin", "holdfast"]).await
}

/// The programs `tests/src/bin/{prefix}NAME.rs` there are, or the one asked for, by NAME.
pub(crate) fn programs(prefix: &str, asked: Option<&str>) -> Result<Vec<String>> {
    let dir = dev::root().join("tests/src/bin");
    let mut names: Vec<String> = std::fs::read_dir(&dir)
        .with_context(|| format!("reading {}", dir.display()))?
        .flatten()
        .filter_map(|entry| {
            Some(entry.file_name().to_str()?.strip_prefix(prefix)?.strip_suffix(".rs")?.to_owned())
        })
        .filter(|name| asked.is_none_or(|asked| asked == name))
        .collect();
    names.sort();
    if names.is_empty() {
        bail!("there is no {}/{prefix}{}.rs", dir.display(), asked.unwrap_or("*"));
    }
    Ok(names)
}

/// Builds all targets of a group, tests included, and tells where the test programs are.
pub(crate) async fn build_all_targets(group: Group, package: Option<&str>) -> Result<Vec<TestProgram>> {
    let mut flags = vec!["build", "--all-targets", "--message-format=json-render-diagnostics"];
    match package {
        Some(package) => flags.extend(["--package", package]),
        None => flags.extend(group.selection()),
    }
    let output = command(&flags).stdout(Stdio::piped()).spawn()?.wait_with_output().await?;
    if !output.status.success() {
        bail!("cargo {} failed", flags.join(" "));
    }
    let messages = String::from_utf8(output.stdout)?;
    messages.lines().filter_map(|line| test_program(line).transpose()).collect()
}

/// Runs cargo in the root with our output; an error names the call.
pub(crate) async fn cargo(flags: &[&str]) -> Result<()> {
    let status = command(flags).status().await.context("starting cargo")?;
    if !status.success() {
        bail!("cargo {} failed ({status})", flags.join(" "));
    }
    Ok(())
}

/// A call of the cargo that runs us, so that a toolchain chosen with `cargo +…` is kept.
pub(crate) fn command(flags: &[&str]) -> Command {
    command_of(&std::env::var_os("CARGO").map_or_else(|| "cargo".into(), PathBuf::from), flags)
}

/// A call of another cargo.
pub(crate) fn command_of(cargo: &Path, flags: &[&str]) -> Command {
    let mut command = Command::new(cargo);
    command.args(flags).current_dir(dev::root()).kill_on_drop(true);
    // `cargo run` sets these for us; handing them on would make every build script see a change.
    for (key, _) in std::env::vars_os() {
        if key.to_string_lossy().starts_with("CARGO_PKG_")
            || key == "CARGO_MANIFEST_DIR"
            || key == "CARGO_MANIFEST_PATH"
        {
            command.env_remove(key);
        }
    }
    command
}

#[derive(Deserialize)]
struct Message {
    reason: String,
    package_id: Option<String>,
    manifest_path: Option<PathBuf>,
    target: Option<Target>,
    profile: Option<Profile>,
    executable: Option<PathBuf>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
}

#[derive(Deserialize)]
struct Profile {
    test: bool,
}

/// One line of `--message-format=json`: a test program, or nothing of interest.
fn test_program(line: &str) -> Result<Option<TestProgram>> {
    if !line.starts_with('{') {
        return Ok(None);
    }
    let message: Message = serde_json::from_str(line).context("reading cargo's messages")?;
    let (Some(target), Some(program), Some(manifest)) =
        (message.target, message.executable, message.manifest_path)
    else {
        return Ok(None);
    };
    if message.reason != "compiler-artifact" || !message.profile.is_some_and(|p| p.test) {
        return Ok(None);
    }
    let dir = manifest.parent().context("a manifest without a folder")?.to_path_buf();
    let package = package_name(&message.package_id.unwrap_or_default(), &dir);
    let file = target.kind.iter().any(|kind| kind == "test").then_some(target.name);
    Ok(Some(TestProgram { package, file, program, dir }))
}

/// The name in a package id: `path+file:///…/wire#0.1.0`, or `path+file:///…/core#gateway-core@0.1.0` when the folder differs.
fn package_name(id: &str, dir: &Path) -> String {
    let fragment = id.rsplit('#').next().unwrap_or_default();
    match fragment.split_once('@') {
        Some((name, _)) => name.to_owned(),
        None => dir.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_program_is_found_in_cargos_messages() {
        let line = r##"{"reason":"compiler-artifact","package_id":"path+file:///x/gateway-firmware/core#gateway-core@0.1.0",
            "manifest_path":"/x/gateway-firmware/core/Cargo.toml","target":{"kind":["test"],"name":"cut"},
            "profile":{"test":true},"executable":"/x/target/debug/deps/cut-1"}"##;
        let found = test_program(&line.replace('\n', "")).expect("a message").expect("a test");
        assert_eq!(found.prefix(), "gateway-core::cut");
        let unit = line
            .replace("gateway-firmware/core#gateway-core@0.1.0", "wire#0.1.0")
            .replace("\"test\"]", "\"lib\"]");
        let unit = unit.replace("/x/gateway-firmware/core/Cargo.toml", "/x/wire/Cargo.toml");
        assert_eq!(test_program(&unit).expect("a message").expect("a test").prefix(), "wire");
        assert_eq!(test_program(r#"{"reason":"build-finished","success":true}"#).expect("a message"), None);
        assert_eq!(test_program("not json").expect("ignored"), None);
    }
}
