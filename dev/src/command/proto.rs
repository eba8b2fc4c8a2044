//! `cargo dev proto`: hold the .proto files to their rules and to what was promised, or promise what they say now.
//!
//! The tests of this package check the same; here it takes a second, and a break that is meant is put on record.

use anyhow::{Result, bail};
use dev::protos;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Clone, Copy, Debug, clap::Subcommand)]
enum What {
    /// Lint, and compare with the baseline; exit 1 with every finding.
    Check,
    /// Make the files as they are the baseline that later changes are compared with.
    Baseline,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let (folder, baseline) = (protos::folder(), protos::baseline());
    let mut found = protos::lint(&folder)?;
    match arguments.what {
        What::Check => found.extend(protos::breaking(&folder, &baseline)?),
        What::Baseline if found.is_empty() => protos::renew(&folder, &baseline)?,
        What::Baseline => {}
    }
    if !found.is_empty() {
        bail!("{} findings:\n{}", found.len(), found.join("\n"));
    }
    match arguments.what {
        What::Check => println!("the .proto files keep their rules and what was promised"),
        What::Baseline => println!("{} is the baseline: commit it", baseline.display()),
    }
    Ok(())
}
