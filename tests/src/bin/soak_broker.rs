//! `cargo dev soak broker`: conversations no client should have, for as long as asked; `scenarios::broker::fuzz` says
//! what must hold meanwhile.
//!
//! After a failure each suspect is played again, alone, to tell which of them fails by itself; `--seed S --first N
//! --connections 1` is that one.

#![expect(clippy::print_stdout, reason = "a command-line tool")]

use std::time::Instant;

use anyhow::Result;
use clap::Parser;
use scenarios::broker::fuzz::{self, Plan, Suspects};
use scenarios::broker::rig::Rig;
use tokio::sync::watch;

/// A line of progress for so many conversations.
const PROGRESS_PERIOD: u64 = 1_000;

#[derive(Debug, Parser)]
#[command(name = "cargo dev soak broker", max_term_width = 110)]
struct Arguments {
    #[arg(long, default_value_t = 50_000)]
    connections: u64,
    /// Decimal, or hexadecimal with `0x`; another one each time unless given.
    #[arg(long, value_parser = seed)]
    seed: Option<u64>,
    /// The number of the first conversation.
    #[arg(long, default_value_t = 0)]
    first: u64,
    /// Conversations at once.
    #[arg(long, default_value_t = 16)]
    workers: u64,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let seed = arguments.seed.unwrap_or_else(|| u64::from(std::process::id()) << 32 | clock());
    let Arguments { first, connections, workers, .. } = arguments;
    println!("seed {seed:#x}, conversations {first} to {}", first + connections);
    // What it says of each refusal is millions of lines.
    let rig = Rig::start_with(&[("LOG", "error")]).await;
    let (started, (ended, mut counted)) = (Instant::now(), watch::channel(0));
    let progress = tokio::spawn(async move {
        let mut said = 0;
        while counted.changed().await.is_ok() {
            let now = *counted.borrow_and_update();
            if now >= said + PROGRESS_PERIOD {
                said = now;
                println!("{now:>8} ended after {:.0} s", started.elapsed().as_secs_f64());
            }
        }
    });
    let played = fuzz::run(&rig, Plan { seed, first, connections, workers }, ended).await;
    progress.await?;
    let report = match played {
        Ok(report) => report,
        Err(error) => {
            if connections > 1 {
                narrow(&error).await;
            }
            return Err(error);
        }
    };
    let seconds = started.elapsed().as_secs_f64();
    println!("{connections} connections in {seconds:.0} s, {} let in, seed {seed:#x}", report.admitted);
    println!(
        "{} packets, {} messages judged, {} exchanges in order",
        report.packets, report.judged, report.turns
    );
    println!(
        "{} panics; memory {:.1} MiB before, {:.1} MiB after, {:.1} MiB at most",
        report.panics, report.rss_before_mib, report.rss_after_mib, report.rss_peak_mib
    );
    Ok(())
}

/// Says which suspects fail alone.
async fn narrow(error: &anyhow::Error) {
    let Some(Suspects { seed, numbers }) = error.downcast_ref() else { return };
    println!("failed; {} suspects are played alone", numbers.len());
    for first in numbers {
        let rig = Rig::start_with(&[("LOG", "error")]).await;
        let plan = Plan { seed: *seed, first: *first, connections: 1, workers: 1 };
        if let Err(error) = fuzz::run(&rig, plan, watch::Sender::new(0)).await {
            println!("fails alone: --seed {seed:#x} --first {first} --connections 1: {}", error.root_cause());
        }
    }
}

fn seed(text: &str) -> Result<u64, std::num::ParseIntError> {
    match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    }
}

/// Nanoseconds within the second.
fn clock() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::SystemTime::UNIX_EPOCH);
    now.map_or(0, |now| u64::from(now.subsec_nanos()))
}
