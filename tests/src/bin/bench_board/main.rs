//! `cargo dev bench board`: the emulated board against the real services, beside the proof that came before it.
//!
//! What the firmware alone can know it says on its console, as `bench NAME VALUE`; the rest is measured from outside, from QEMU's
//! start. An emulator's times are of use beside other times of the same emulator. docs/performance.md says what the figures mean.

mod exchange;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use dev::firmware::{Image, bare_flash};
use dev::qemu::{Board, Machine, Net, Pace};
use scenarios::an505::board::is_online;
use scenarios::an505::log::Log;
use scenarios::bench::figure::Figures;
use scenarios::broker::random::Random;
use scenarios::world::{World, name, text};

const FIGURES: Figures = Figures("board");
/// Bytes of the application whose update is timed, incompressible but for the program.
const UPDATE_BYTES: usize = 256 * 1024;
/// So short a trial that the figure is the update's.
const QUICK: [&str; 4] = ["--trial", "10s", "--stable", "0s"];
/// What `log-lines` logs.
const LOG_LINES: usize = 500;
/// What begins a line of figures.
const MARK: &str = "bench ";
/// The figures that only the firmware knows; a missing one is an error.
const SAID: [&str; 3] = ["microvisor_ram_kib", "handshake_ms", "app_cpu_share"];
/// What is measured where every run is the same: without a network, the clock following the instructions.
const EXACT: Pace = Pace::Instructions { shift: EXACT_SHIFT, sleep: false };
const EXACT_SHIFT: u8 = 6;
/// Cycles of the board's clock a second.
const CLOCK_HZ: f64 = 20e6;
/// The commonest calls; the first is what any call costs.
const CALLS: [&str; 10] = [
    "mvNoOp",
    "mvGetMicroseconds",
    "mvGetWallTime",
    "mvGetSysClk",
    "mvGetDeviceId",
    "mvGetNetworkReasons",
    "mvGetWakeReason",
    "mvServerLog",
    "hfHealthy",
    "hfTelemetryPublish",
];
/// How long the firmware may take to say them all.
const SAID_MAX: Duration = Duration::from_secs(60);
/// Figures of the proof with the same TLS stack, measured the same way on the same emulator.
const PROOF: [(&str, f64); 5] = [
    ("boot_flash_kib", 21.9),
    ("microvisor_flash_kib", 322.0),
    ("microvisor_ram_kib", 49.0),
    ("handshake_ms", 186.0),
    ("app_pause_max_us", 4000.0),
];

#[derive(Parser)]
struct Arguments {
    /// Let the board's clock follow its instructions: nanoseconds of one as a power of two.
    #[arg(long, value_name = "SHIFT")]
    icount: Option<u8>,
    /// Print what the firmware said, too.
    #[arg(long)]
    verbose: bool,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let world = World::start().await?;
    let run = run(&world, &arguments).await;
    if run.is_err() {
        world.stack.keep_logs();
    }
    run
}

async fn run(world: &World, arguments: &Arguments) -> Result<()> {
    for (metric, image) in [("boot_flash_kib", Image::Boot), ("microvisor_flash_kib", Image::Microvisor)] {
        let bytes = image.footprint()?.flash_bytes;
        report(metric, f64::from(bytes) / 1024.0);
    }
    exact(world).await?;
    let flash = world.flash("bench").await?;
    let pace = match arguments.icount {
        Some(shift) => Pace::Instructions { shift, sleep: true },
        None => Pace::Wall,
    };
    let started = Instant::now();
    let board = world.machine(&flash)?.pace(pace).start().await?;
    let measured = measure(world, &board, started).await;
    if arguments.verbose || measured.is_err() {
        eprintln!("{}", board.tail());
    }
    let device = measured?;
    board.cut_power().await?;
    let start = async || world.machine(&flash)?.pace(pace).start().await;
    exchange::boots(world, &device, start).await?;
    exchange::flash(world).await
}

/// The device that it becomes.
async fn measure(world: &World, board: &Board, started: Instant) -> Result<String> {
    let device = world.devices(1, is_online).await?.remove(0);
    report("online_ms", millis(started));

    let bundle = update(world, "1.0.0", 1).await?;
    let directed = Instant::now();
    let (state, reason) = world.deploy(&device, &bundle).await?;
    ensure!(state == "STATE_CONFIRMED", "the update ended {state}, {reason}");
    report("update_256k_ms", millis(directed));
    exchange::installed(board).await?;

    log_lines(world, board, &device).await?;

    let said = said(board).await?;
    for metric in SAID {
        report(metric, *said.get(metric).context("the firmware said it a moment ago")?);
    }
    exchange::microvisor(world, board, &device).await?;
    Ok(device)
}

/// The bundle of an application of [`UPDATE_BYTES`].
async fn update(world: &World, version: &str, counter: u64) -> Result<String> {
    let mut image = Image::First("1.0.0").flat()?;
    ensure!(image.len() < UPDATE_BYTES, "the application is larger than the update that is timed");
    let mut noise = Random::new(counter, 0);
    image.resize_with(UPDATE_BYTES, || noise.number() as u8);
    let file = world.path("update.image");
    std::fs::write(&file, image)?;
    let bundle = world.app_file(&file, version, counter, &QUICK).await?;
    name(&world.one(&["bundle", "upload", text(&bundle)?]).await?)
}

/// Lines that an application logs until the last is at svc-logs, none missing.
async fn log_lines(world: &World, board: &Board, device: &str) -> Result<()> {
    let bundle = world.app(Image::Hostile("log-lines"), "2.0.0", 2, &QUICK).await?;
    let (state, reason) = world.deploy(device, &bundle).await?;
    ensure!(state == "STATE_CONFIRMED", "the lines' update ended {state}, {reason}");
    let begun = board.app().line("log-lines begins", SAID_MAX).await?;
    let last = format!("line {LOG_LINES} of {LOG_LINES}");
    let boot = Log::of(world, device).next_boot(&[&last]).await?;
    let arrived = boot.texts.iter().filter(|text| text.starts_with("line ")).count();
    ensure!(arrived == LOG_LINES, "{arrived} of {LOG_LINES} lines arrived");
    report("log_lines_per_s", LOG_LINES as f64 / begun.at.elapsed().as_secs_f64());
    Ok(())
}

/// What a call costs, and how long an application beside a supervisor that computes is kept from the core.
async fn exact(world: &World) -> Result<()> {
    let start = async |application: Image, name: &str| {
        let flash = world.path(name);
        bare_flash(application, &flash)?;
        let machine = Machine::new(name, Image::Walls.built()?, flash, world.path("logs"));
        machine.vectors(Image::Walls.vectors()?).pace(EXACT).net(Net::Unplugged).start().await
    };
    let board = start(Image::Hostile("measure"), "exact-calls").await?;
    for call in CALLS {
        let line = board.app().line(&format!("measure {call} takes "), SAID_MAX).await?;
        ensure!(number_after(&line.text, "answers ")? == 0.0, "{}", line.text);
        let cycles = number_after(&line.text, " takes ")?;
        let instructions = cycles * 1e9 / CLOCK_HZ / f64::from(1_u32 << EXACT_SHIFT);
        if call == CALLS[0] {
            report("syscall_instructions", instructions);
        } else {
            report(&format!("{call}_instructions"), instructions);
        }
    }
    let waited = board.app().line("a notification waits ", SAID_MAX).await?;
    let cycles = number_after(&waited.text, "a notification waits ")?;
    report("notification_latency_us", cycles * 1e6 / CLOCK_HZ);
    board.cut_power().await?;
    let board = start(Image::First("1.0.0"), "exact-first").await?;
    let waited = board.app().line("the longest wait ", SAID_MAX).await?;
    report("ns_irq_wait_max_us", number_after(&waited.text, "the longest wait ")?);
    let shared = board.console().line("app_pause_max_us: ", 3 * SAID_MAX).await?;
    report("app_pause_max_us", number_after(&shared.text, "app_pause_max_us: ")?);
    board.cut_power().await
}

fn number_after(line: &str, text: &str) -> Result<f64> {
    let after = line.split(text).nth(1).unwrap_or_default();
    let digits = after.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default();
    digits.parse().with_context(|| format!("no number after `{text}` in {line}"))
}

/// The last value of each figure on the console, once all are there.
async fn said(board: &Board) -> Result<BTreeMap<String, f64>> {
    for metric in SAID {
        board.console().line(&format!("{MARK}{metric} "), SAID_MAX).await?;
    }
    let lines = board.console().lines();
    // The console takes what it can: a line that lost some of itself is no figure.
    let whole = |line: &dev::qemu::Line| parse(line.text.strip_prefix(MARK)?).ok();
    Ok(lines.iter().filter_map(whole).collect())
}

fn parse(figure: &str) -> Result<(String, f64)> {
    let (metric, value) = figure.trim().split_once(' ').with_context(|| format!("no figure: {figure}"))?;
    Ok((metric.to_owned(), value.parse().with_context(|| format!("no figure: {figure}"))?))
}

fn report(metric: &str, ours: f64) {
    let unit = metric.rsplit('_').next().unwrap_or_default();
    let unit = match unit {
        "kib" => "KiB",
        known @ ("ms" | "us" | "instructions") => known,
        _ => "",
    };
    match PROOF.iter().find(|(proven, _)| *proven == metric) {
        Some((_, proof)) => FIGURES.beside(metric, unit, ours, *proof, "the proof"),
        None => FIGURES.alone(metric, unit, ours),
    }
}

fn millis(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1000.0
}
