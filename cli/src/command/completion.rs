//! `holdfast completion`: scripts for shells.

use anyhow::Result;
use clap::CommandFactory;

/// Print a completion script.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  holdfast completion bash > /etc/bash_completion.d/holdfast")]
pub(crate) struct Args {
    #[arg(value_enum)]
    shell: clap_complete::Shell,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut crate::args::Args::command(), "holdfast", &mut script);
    crate::output::line(String::from_utf8_lossy(&script).trim_end())
}
