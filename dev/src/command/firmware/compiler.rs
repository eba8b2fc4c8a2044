//! Which compiler builds for the Cortex-M33: rustup's, which has the target's `core` and `alloc` ready, or Debian's, which builds them
//! from its packaged sources.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use tokio::process::Command;

use crate::command::cargo;

pub(crate) const TARGET: &str = "thumbv8m.main-none-eabi";
/// What Debian's way needs: (file, package). The compiler has a package of its own because Debian's `rustc` is older.
pub(crate) const DEBIAN: &[(&str, &str)] = &[
    ("/usr/bin/rustc", "rustc-web"),
    ("/usr/bin/cargo", "cargo-web"),
    ("/usr/lib/rustlib/src/rust/library/core", "rust-web-src"),
    ("/usr/bin/ld.lld", "lld"),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Compiler {
    /// The toolchain that runs this, with its target for the board.
    Rustup,
    /// Debian's packages rustc-web, cargo-web, rust-web-src and lld.
    Debian,
}

impl Compiler {
    /// The one asked for, or the first that there is; makes rustup add its target.
    pub(crate) async fn choose(asked: Option<Compiler>) -> Result<Compiler> {
        let rustup = match asked {
            None | Some(Compiler::Rustup) => add_target().await,
            Some(Compiler::Debian) => Ok(()),
        };
        match (asked, rustup) {
            (None | Some(Compiler::Rustup), Ok(())) => Ok(Compiler::Rustup),
            (Some(Compiler::Rustup), Err(error)) => Err(error),
            (_, rustup) => {
                let missing = missing_packages();
                if missing.is_empty() {
                    return Ok(Compiler::Debian);
                }
                let why = rustup.err().map(|error| format!("{error:#}; ")).unwrap_or_default();
                bail!("{why}Debian's compiler lacks {}: run `cargo dev setup`", missing.join(" "))
            }
        }
    }

    /// A build in the board's workspace, without its last words.
    pub(crate) fn command(self, verb: &str, profile: &str) -> Command {
        let mut command = match self {
            Compiler::Rustup => cargo::command(&[verb]),
            Compiler::Debian => {
                let mut command = cargo::command_of(Path::new("/usr/bin/cargo"), &[verb]);
                // -Zbuild-std is for nightly compilers, and for whoever says so (the compiler's own bootstrap).
                command
                    .env("RUSTC_BOOTSTRAP", "1")
                    .env("RUSTC", "/usr/bin/rustc")
                    .env_remove("RUSTUP_TOOLCHAIN");
                command.arg("-Zbuild-std=core,alloc");
                command.args(["--config", &format!("target.{TARGET}.linker=\"ld.lld\"")]);
                command
            }
        };
        command.args(["--config", &remapped_paths()]);
        command.args(["--profile", profile, "--target", TARGET, "--target-dir"]).arg(self.target_dir());
        command.current_dir(workspace());
        command
    }

    /// Where its artefacts of a profile are.
    pub(crate) fn artefacts(self, profile: &str) -> PathBuf {
        self.target_dir().join(TARGET).join(profile)
    }

    /// Of two compilers, two: neither makes the other begin anew.
    fn target_dir(self) -> PathBuf {
        let target = workspace().join("target");
        match self {
            Compiler::Rustup => target,
            Compiler::Debian => target.join("debian"),
        }
    }
}

/// Where sources lie on this machine is no part of an image: it would make each machine's another one, and panics carry
/// it. What takes its place is a root, too: debuggers put relative paths behind the folder of the build.
fn remapped_paths() -> String {
    let cargo = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let cargo = cargo.or_else(|| std::env::home_dir().map(|home| home.join(".cargo")));
    // Sources of a registry are in a folder that is named after it.
    let registries = cargo.map(|cargo| cargo.join("registry/src"));
    let folders =
        registries.and_then(|folder| std::fs::read_dir(folder).ok()).into_iter().flatten().flatten();
    let flags: Vec<String> = folders
        .map(|folder| (folder.path(), "/registry"))
        .chain([(dev::root().to_owned(), "/holdfast")])
        .map(|(path, to)| format!("{:?}", format!("--remap-path-prefix={}={to}", path.display())))
        .collect();
    format!("target.{TARGET}.rustflags=[{}]", flags.join(", "))
}

/// The workspace of the board.
pub(crate) fn workspace() -> PathBuf {
    dev::root().join("gateway-firmware/boards/an505")
}

/// Packages that Debian's way lacks.
pub(crate) fn missing_packages() -> Vec<&'static str> {
    DEBIAN.iter().filter(|(file, _)| !Path::new(file).exists()).map(|(_, package)| *package).collect()
}

/// Whether the board can be built for without installing anything.
pub(crate) async fn is_there() -> bool {
    has_target().await || missing_packages().is_empty()
}

/// Makes sure that the running toolchain has the target.
pub(crate) async fn add_target() -> Result<()> {
    if has_target().await {
        return Ok(());
    }
    println!("$ rustup target add {TARGET}");
    let status = Command::new("rustup").args(["target", "add", TARGET]).status().await;
    let status = status.context("this toolchain cannot build for the board, and there is no rustup")?;
    if !status.success() {
        bail!("rustup target add {TARGET} failed ({status})");
    }
    Ok(())
}

async fn has_target() -> bool {
    // The compiler beside the cargo that runs us.
    let rustc = std::env::var_os("CARGO")
        .map_or_else(|| "rustc".into(), |it| PathBuf::from(it).with_file_name("rustc"));
    let mut command = Command::new(rustc);
    command.args(["--print", "target-libdir", "--target", TARGET]).stdin(Stdio::null());
    let Ok(output) = command.output().await else { return false };
    output.status.success() && Path::new(String::from_utf8_lossy(&output.stdout).trim()).is_dir()
}
