//! `cargo dev soak`: each soak is a program `tests/src/bin/soak_NAME.rs` that runs for as long as asked, and fails when
//! what it promises to hold does not.

use anyhow::{Context, Result, bail};
use tokio::process::Command;

use crate::command::cargo::{build_installation, cargo, programs};
use crate::command::firmware;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Only this soak.
    name: Option<String>,
    /// Build with optimisation.
    #[arg(long)]
    release: bool,
    /// For the soak itself, such as `--connections 50000 --seed 7`; `--help` after its name says which there are.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

/// The one that needs boards.
const OF_BOARDS: &str = "power";

impl Arguments {
    /// This soak, as it is without arguments.
    pub(crate) fn of(name: &str) -> Arguments {
        Arguments { name: Some(name.to_owned()), release: false, arguments: Vec::new() }
    }
}

pub(crate) async fn run(arguments: &Arguments) -> Result<()> {
    let names = programs("soak_", arguments.name.as_deref())?;
    build_installation(arguments.release).await?;
    if names.iter().any(|name| name == OF_BOARDS) {
        firmware::run(&firmware::Arguments::first()).await?;
    }
    for name in names {
        run_one(&format!("soak_{name}"), arguments).await?;
    }
    Ok(())
}

async fn run_one(binary: &str, arguments: &Arguments) -> Result<()> {
    let mut flags = vec!["build", "--quiet", "--package", "scenarios", "--bin", binary];
    flags.extend(arguments.release.then_some("--release"));
    cargo(&flags).await?;
    let profile = if arguments.release { "release" } else { "debug" };
    let program = dev::binary_dir()?.with_file_name(profile).join(binary);
    let mut command = Command::new(&program);
    command.args(&arguments.arguments).current_dir(dev::root()).kill_on_drop(true);
    let status = command.status().await.with_context(|| format!("starting {}", program.display()))?;
    if !status.success() {
        bail!("{binary} failed ({status})");
    }
    Ok(())
}
