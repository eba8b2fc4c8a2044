//! `cargo dev soak power`, or `cargo dev test soak-power`: the power fails in every flash operation of every recorded update, in every
//! mode, and in every operation of some recoveries; `scenarios::an505::power` says how, and what must hold.

#![expect(clippy::print_stdout, reason = "a command-line tool")]

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use dev::firmware::Image;
use scenarios::an505::power::live;
use scenarios::an505::power::story::{self, Story};
use scenarios::an505::power::suite::{Plan, try_cuts};
use scenarios::world::World;
use wire::Digest;

#[derive(Debug, Parser)]
#[command(name = "cargo dev soak power", max_term_width = 110)]
struct Arguments {
    /// What is torn how, and which recoveries are cut, follows from it; another one each time unless given.
    #[arg(long)]
    seed: Option<u64>,
    /// Recoveries of which every operation is cut, too, in every mode.
    #[arg(long, default_value_t = 24)]
    recoveries: usize,
    /// Machines at once.
    #[arg(long, default_value_t = 2)]
    machines: usize,
    /// Operations on bodies of data that are cut: all unless given.
    #[arg(long)]
    data: Option<usize>,
    /// This part alone.
    #[arg(long)]
    only: Option<Part>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// An update of the application.
    Application,
    /// An update of the microvisor.
    Microvisor,
    /// One update, cut under way and followed online.
    Live,
}

#[tokio::main]
async fn main() -> Result<()> {
    let Arguments { seed, recoveries, machines, data, only } = Arguments::parse();
    let wanted = |part| only.is_none_or(|only| only == part);
    let seed = seed.unwrap_or_else(|| u64::from(std::process::id()) << 16 | 1);
    println!("seed {seed}");
    let plan = Plan { seed, all_modes: true, data, recoveries, machines };
    let first_stage = first_stage()?;
    let world = World::start().await?;

    if wanted(Part::Application) {
        let flash = world.flash("soak-application").await?;
        tried(&world, story::of_the_application(&world, &flash, seed).await?, plan).await?;
    }
    if wanted(Part::Microvisor) {
        let flash = world.flash("soak-microvisor").await?;
        tried(&world, story::of_the_microvisor(&world, &flash, seed).await?, plan).await?;
    }
    if wanted(Part::Live) {
        followed(&world, seed).await?;
    }
    ensure!(first_stage == self::first_stage()?, "the first stage is not what it was");
    println!("the first stage is what it was: {first_stage}");
    Ok(())
}

async fn followed(world: &World, seed: u64) -> Result<()> {
    let flash = world.flash("soak-live").await?;
    let device = story::first_version(world, &flash).await?;
    let bundle = story::application(world, "2.0.0", 2).await?;
    let (started, cuts) = (Instant::now(), live::of_an_application());
    live::cut_under_way(world, &flash, &device, (&bundle, "2.0.0", 2), &cuts, seed).await?;
    let (count, seconds) = (cuts.len(), started.elapsed().as_secs_f64());
    println!("one update cut {count} times under way, online after each, ended confirmed in {seconds:.0} s");
    Ok(())
}

async fn tried(world: &World, story: Story, plan: Plan) -> Result<()> {
    let (name, started) = (story.name, Instant::now());
    println!("\n{name}: {} operations", story.recording.operations.len());
    let counts = try_cuts(story, plan, &world.stack.dir().join("logs")).await.context(name)?;
    println!("{counts}\nin {:.0} s, seed {}", started.elapsed().as_secs_f64(), plan.seed);
    Ok(())
}

fn first_stage() -> Result<Digest> {
    Ok(Digest::of(&std::fs::read(Image::Boot.built()?)?))
}
