//! `holdfast new`: a project that builds, is bundled and deployed by `holdfast run`. Asks no server.
//!
//! The SDK is vendored into it, as of this program's build: a project needs nothing else of ours, and nothing of a package registry.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::{Subcommand, ValueEnum};

use crate::args::Global;
use crate::failure::input;
use crate::output;

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
    /// Release key that `holdfast run` signs with: a file that need not exist yet.
    #[arg(long, value_name = "FILE", default_value = "keys/release.pem")]
    key: PathBuf,
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
    (".gitignore", "/build\n/.holdfast\n"),
];
const RUST: &[File] = &[
    ("Cargo.toml", include_str!("../../templates/rust/project.toml")),
    ("build.rs", include_str!("../../templates/rust/build.rs")),
    (".cargo/config.toml", include_str!("../../templates/rust/config.toml")),
    ("src/main.rs", include_str!("../../templates/rust/main.rs")),
    ("sdk/holdfast/Cargo.toml", include_str!("../../templates/rust/sdk.toml")),
    ("sdk/abi/Cargo.toml", include_str!("../../templates/rust/abi.toml")),
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
            Lang::Rust => "cargo build --release --quiet",
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
    let key = std::path::absolute(&app.key).context("cannot tell where the key is")?;
    let key =
        key.to_str().filter(|key| !key.contains(['"', '\\'])).context("the key's path is no plain text")?;
    let text = text.replace("@BUILD@", app.lang.build()).replace("@ELF@", app.lang.elf());
    write(&folder.join(place), &text.replace("@NAME@", &app.name).replace("@KEY@", key))?;
    if global.json {
        let made = serde_json::json!({ "name": app.name, "dir": folder, "key": key });
        return output::line(&made.to_string());
    }
    output::line(&format!("made {}: `cd {0} && holdfast run` builds it and deploys it", folder.display()))
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
