//! `cargo dev bench services`: calls a second of the methods that are called most beside an empty tonic service, what it costs to know who
//! calls, and pages of a fleet of a million.
//!
//! One private installation for all parts; the load comes from this process, which shares the machine with what it measures. Peer and
//! ours are measured in turn, the median counts. docs/performance.md says what the figures mean.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};
use scenarios::bench::services::calls::{self, Effort};
use scenarios::bench::services::{auth, empty, listing, relay};
use scenarios::world::World;

#[derive(Parser)]
struct Arguments {
    /// Devices of the fleet that is listed.
    #[arg(long, default_value_t = 1_000_000)]
    devices: usize,
    /// Calls under way at once.
    #[arg(long, default_value_t = 32)]
    callers: usize,
    /// Seconds of each measurement of calls.
    #[arg(long, default_value_t = 3)]
    seconds: u64,
    /// Measurements of each method, taken in turn.
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// Debug sessions that say nothing.
    #[arg(long, default_value_t = 1000)]
    idle_sessions: usize,
    /// Only these parts.
    #[arg(long)]
    only: Vec<Part>,
    /// Be the empty service, with the certificate in this folder.
    #[arg(long, hide = true)]
    serve_empty: Option<PathBuf>,
}

/// What is measured. The listing comes last: a million rows change what everything else costs; the relay has an installation of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    Auth,
    Calls,
    Relay,
    Listing,
}

const PARTS: [Part; 4] = [Part::Auth, Part::Calls, Part::Relay, Part::Listing];

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    if let Some(folder) = &arguments.serve_empty {
        return empty::serve(folder).await;
    }
    let world = World::start().await?;
    for part in PARTS {
        if arguments.only.is_empty() || arguments.only.contains(&part) {
            let measured = part.measure(&world, &arguments).await;
            if measured.is_err() {
                world.stack.keep_logs();
            }
            measured.with_context(|| format!("{part:?}"))?;
        }
    }
    Ok(())
}

impl Part {
    async fn measure(self, world: &World, arguments: &Arguments) -> Result<()> {
        let Arguments { devices, callers, runs, .. } = *arguments;
        let time = Duration::from_secs(arguments.seconds);
        match self {
            Part::Auth => auth::measure(world).await,
            Part::Calls => calls::measure(world, Effort { callers, time, runs }).await,
            Part::Relay => relay::run(arguments.idle_sessions).await,
            Part::Listing => listing::measure(world, devices).await,
        }
    }
}
