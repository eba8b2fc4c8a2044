//! `holdfast-factory`: makes and reads the flash of an an505.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};
use factory::image::Spec;
use factory::inspect::inspect;
use factory::provision::{Host, Provision};
use serde_json::Value;

/// Makes and reads the flash of an an505.
#[derive(Debug, Parser)]
#[command(name = "holdfast-factory", version)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a flash file: provisioning, and a microvisor in slot A.
    Image(ImageArgs),
    /// Show what a flash file holds, but for secrets, and what the first stage would say to it.
    Inspect {
        file: PathBuf,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, clap::Args)]
struct ImageArgs {
    /// What `holdfast claim create --board an505 --out DIR` wrote.
    #[arg(long, value_name = "FILE")]
    provision: PathBuf,
    /// Names the board.
    #[arg(long, value_name = "ID")]
    hardware_id: String,
    /// The signed keyset that vouches for the microvisor.
    #[arg(long, value_name = "FILE")]
    keyset: PathBuf,
    /// Bundle file of the microvisor.
    #[arg(long, value_name = "BUNDLE")]
    microvisor: PathBuf,
    /// An address that the board takes for a name without asking DNS.
    #[arg(long, value_name = "NAME=IP")]
    host: Vec<Host>,
    /// Flash file to write.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

fn main() -> Result<()> {
    match Args::parse().command {
        Command::Image(args) => {
            make(&args)?;
            show(&args.out, args.json)
        }
        Command::Inspect { file, json } => show(&file, json),
    }
}

fn make(args: &ImageArgs) -> Result<()> {
    let read = |path: &Path| std::fs::read(path).with_context(|| format!("cannot read {}", path.display()));
    let spec = Spec {
        provision: &Provision::read(&args.provision)?,
        hardware_id: &args.hardware_id,
        hosts: &args.host,
        keyset: &read(&args.keyset)?,
        microvisor: &read(&args.microvisor)?,
    };
    spec.build()?.write(&args.out)
}

#[expect(clippy::print_stdout, reason = "what it was asked to show")]
fn show(path: &Path, as_json: bool) -> Result<()> {
    let value = inspect(path)?;
    if as_json {
        println!("{value}");
    } else {
        lines("", &value, &mut |name, value| println!("{name:<32} {value}"));
    }
    Ok(())
}

/// One line a value, named by its path.
fn lines(path: &str, value: &Value, each: &mut impl FnMut(&str, &Value)) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                lines(&path, value, each);
            }
        }
        _ => each(path, value),
    }
}
