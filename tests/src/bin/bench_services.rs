//! `cargo dev bench services`: the gRPC services beside bare ones. docs/performance.md says what the figures mean.

use anyhow::Result;
use clap::Parser;
use scenarios::bench::figure::Figures;
use scenarios::bench::relay;

const FIGURES: Figures = Figures("services");

#[derive(Parser)]
struct Arguments {
    /// Debug sessions that say nothing.
    #[arg(long, default_value_t = 1000)]
    idle_sessions: usize,
}

#[tokio::main]
async fn main() -> Result<()> {
    kit::start("bench-services");
    let arguments = Arguments::parse();
    relay::run(FIGURES, arguments.idle_sessions).await
}
