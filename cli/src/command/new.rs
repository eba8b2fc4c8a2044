//! `holdfast new`: a project that builds, is bundled and deployed by `holdfast run`. Asks no server.
//!
//! The SDK is vendored into it, as of this program's build: a project needs nothing else of ours, and nothing of a package registry.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::{Subcommand, ValueEnum};

use crate::args::Global;
use crate::failure::input;
use crate::output;
use crate::signer::{SIGNER_HELP, SignerRef};

/// Bytes of a name: with a version it is the name of a file.
const NAME_BYTES_MAX: usize = 32;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make a folder with an application that logs and says that it works.
    ///
    /// It is self-contained: the SDK lies in its `sdk` folder. C needs make and arm-none-eabi-gcc, Rust its target
    /// thumbv8m.main-none-eabi.
    #[command(
        after_help = "Examples:\n  holdfast new app sensor --lang c --key keys/release.pem\n  cd sensor && holdfast run"
    )]
    App(App),
}

#[derive(Debug, clap::Args)]
pub(crate) struct App {
    /// Name of the application and of its folder: lower-case letters, digits and hyphens.
    name: String,
    #[arg(long, value_enum)]
    lang: Lang,
    /// Folder to make instead of one named like the application.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    #[arg(long, value_name = "SIGNER", default_value = "keys/release.pem", help = format!("Release key that `holdfast run` signs with, which need not exist yet: {SIGNER_HELP}"))]
    key: SignerRef,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Lang {
    C,
    Rust,
}

/// A file of a project: where, and what.
type File = (&'static str, &'static str);

macro_rules! sdk {
    ($into:literal, $from:literal: $($name:literal)*) => {
        &[$((concat!($into, $name), include_str!(concat!("../../../gateway-firmware/", $from, $name)))),*]
    };
}

const C_SDK: &[File] = sdk!("sdk/", "sdk/c/":
    "holdfast.h" "holdfast_later.h" "mv_syscalls.h" "holdfast_calls.S" "holdfast_start.S" "holdfast_memory.c" "holdfast.ld"
    "holdfast.mk");
const RUST_SDK: &[File] = sdk!("sdk/holdfast/", "sdk/rust/":
    "build.rs" "holdfast.ld" "src/lib.rs" "src/board.rs" "src/calls.rs" "src/network.rs" "src/notifications.rs" "src/raw.rs"
    "src/ring.rs" "src/start.rs");
const ABI: &[File] = sdk!("sdk/abi/", "abi/":
    "src/call.rs" "src/handle.rs" "src/lent.rs" "src/lib.rs" "src/listener.rs" "src/memory.rs" "src/notification.rs" "src/status.rs" "src/structures.rs" "src/table.rs" "src/telemetry.rs" "src/turn.rs");

const C: &[File] = &[
    ("Makefile", include_str!("../../templates/c/Makefile")),
    ("main.c", include_str!("../../templates/c/main.c")),
    ("README.md", include_str!("../../templates/README.md")),
    (".gitignore", "/build\n/.holdfast\n"),
];
const RUST: &[File] = &[
    ("Cargo.toml", include_str!("../../templates/rust/project.toml")),
    ("build.rs", include_str!("../../templates/rust/build.rs")),
    (".cargo/config.toml", include_str!("../../templates/rust/config.toml")),
    ("src/main.rs", include_str!("../../templates/rust/main.rs")),
    ("sdk/holdfast/Cargo.toml", include_str!("../../templates/rust/sdk.toml")),
    ("sdk/abi/Cargo.toml", include_str!("../../templates/rust/abi.toml")),
    ("README.md", include_str!("../../templates/README.md")),
    (".gitignore", "/target\n/.holdfast\n"),
];
const PROJECT: File = (crate::project::FILE, include_str!("../../templates/holdfast.toml"));

impl Lang {
    fn files(self) -> impl Iterator<Item = &'static File> {
        let parts: [&[File]; 3] = match self {
            Lang::C => [C, C_SDK, &[]],
            Lang::Rust => [RUST, RUST_SDK, ABI],
        };
        parts.into_iter().flatten()
    }

    fn build(self) -> &'static str {
        match self {
            Lang::C => "make --silent",
            // Where `elf` says, whatever CARGO_TARGET_DIR and configurations of folders above say: else what an older build left is taken.
            Lang::Rust => "cargo build --release --quiet --target-dir target",
        }
    }

    fn elf(self) -> &'static str {
        match self {
            Lang::C => "build/@NAME@.elf",
            Lang::Rust => "target/thumbv8m.main-none-eabi/release/@NAME@",
        }
    }
}

pub(crate) fn run(global: &Global, command: &Command) -> Result<()> {
    let Command::App(app) = command;
    check(&app.name)?;
    let folder = app.dir.clone().unwrap_or_else(|| PathBuf::from(&app.name));
    if std::fs::read_dir(&folder).is_ok_and(|mut entries| entries.next().is_some()) || folder.is_file() {
        return Err(input(format!("{} is there already, and not empty", folder.display())));
    }
    for (place, text) in app.lang.files() {
        write(&folder.join(place), &text.replace("@NAME@", &app.name))?;
    }
    let (place, text) = PROJECT;
    let key = signer(&app.key)?;
    let text = text.replace("@BUILD@", app.lang.build()).replace("@ELF@", app.lang.elf());
    write(&folder.join(place), &text.replace("@NAME@", &app.name).replace("@KEY@", &quoted(&key)))?;
    if global.json {
        let made = serde_json::json!({ "name": app.name, "dir": folder, "key": key });
        return output::line(&made.to_string());
    }
    output::line(&format!("made {}: `cd {0} && holdfast run` builds it and deploys it", folder.display()))
}

/// The signer as it is named from any folder.
fn signer(signer: &SignerRef) -> Result<String> {
    let absolute = |path: &Path| -> Result<String> {
        let path = std::path::absolute(path).context("cannot tell where the key is")?;
        Ok(path.to_str().context("the key's path is not UTF-8")?.to_owned())
    };
    match signer {
        SignerRef::File(file) => absolute(file),
        SignerRef::Command { public, command } => Ok(format!("exec:{}:{command}", absolute(public)?)),
    }
}

/// As TOML writes it, whatever is in it.
fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

fn write(file: &Path, text: &str) -> Result<()> {
    let folder = file.parent().context("a file has a folder")?;
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    std::fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
}

/// A name of a crate, a file and a make target alike.
fn check(name: &str) -> Result<()> {
    let plain = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    let begins = name.starts_with(|first: char| first.is_ascii_lowercase()) && !name.ends_with('-');
    // The SDK's own crates.
    if !plain || !begins || name.len() > NAME_BYTES_MAX || ["holdfast", "abi", "core", "test"].contains(&name)
    {
        return Err(input(format!(
            "`{name}` is no name for an application: lower-case letters, digits and hyphens, a letter first, at most {NAME_BYTES_MAX}, \
             and none of holdfast, abi, core, test"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Files below `folder`, from it.
    fn below(folder: &Path) -> Vec<PathBuf> {
        let mut files = Vec::new();
        let mut folders = vec![folder.to_owned()];
        while let Some(next) = folders.pop() {
            for entry in std::fs::read_dir(next).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path)
                } else {
                    files.push(path.strip_prefix(folder).unwrap().into())
                }
            }
        }
        files.sort();
        files
    }

    #[test]
    fn a_project_gets_every_file_of_the_sdk() {
        let firmware = Path::new(env!("CARGO_MANIFEST_DIR")).join("../gateway-firmware");
        for (part, from, into) in
            [(C_SDK, "sdk/c", "sdk"), (RUST_SDK, "sdk/rust", "sdk/holdfast"), (ABI, "abi", "sdk/abi")]
        {
            let mut given: Vec<PathBuf> =
                part.iter().map(|(place, _)| Path::new(place).strip_prefix(into).unwrap().into()).collect();
            given.sort();
            let mut there = below(&firmware.join(from));
            // A manifest of its own, and no tests.
            there.retain(|file| file != Path::new("Cargo.toml") && !file.starts_with("tests"));
            assert_eq!(given, there, "{from}");
        }
    }

    #[test]
    fn the_key_stands_in_a_project_whatever_it_is() {
        for key in ["/keys/release.pem", "/k\"e\\y.pem", "exec:/pub.pem:sign --pin \"1 2\""] {
            let folder = tempfile::tempdir().unwrap();
            let (place, text) = PROJECT;
            std::fs::write(folder.path().join(place), text.replace("@KEY@", &quoted(key))).unwrap();
            crate::project::Project::read(folder.path()).unwrap();
            assert_eq!(signer(&key.parse().unwrap()).unwrap(), key);
        }
    }

    #[test]
    fn names_are_good_for_a_crate_and_a_file() {
        for good in ["a", "sensor-2", "x0"] {
            check(good).unwrap();
        }
        for bad in ["", "A", "2a", "-a", "a-", "a b", "../a", "holdfast", &"a".repeat(NAME_BYTES_MAX + 1)] {
            assert!(check(bad).is_err(), "{bad}");
        }
    }
}
