//! `cargo dev bench debug`: gdb on the emulated board through relay, broker and TLS, at several distances; and beside it the same gdb with
//! every packet of its own forwarded (`holdfast debug --no-cache`).
//!
//! The distance is between the developer and the relay: a wire of this process's that is late. Round trips are those to the device,
//! as `monitor cache` counts them.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use dev::Service;
use scenarios::an505::patient::{Debug, Patient, connected};
use scenarios::bench::delay::Delay;
use scenarios::bench::figure::Figures;
use scenarios::gdb::Gdb;

const FIGURES: Figures = Figures("debug");
/// Added round trips.
const DELAYS_MS: [u64; 4] = [0, 50, 200, 600];
/// The one at which ours is held against forwarding.
const FAR_MS: u64 = 200;
/// Halts that are timed.
const HALTS: usize = 40;
/// Bytes dumped.
const DUMP_BYTES: usize = 64 * 1024;
const FAR: &str = "far";

/// What a person does, after what leads there.
struct Action {
    name: &'static str,
    /// It is done at this function's breakpoint,
    at: &'static str,
    /// and so many lines on.
    lines: usize,
    how: How,
}

enum How {
    /// It runs and stops.
    Run(&'static str),
    /// It prints.
    Print(&'static str),
}

const ACTIONS: [Action; 9] = [
    Action { name: "stepi", at: "middle", lines: 0, how: How::Run("-exec-step-instruction") },
    Action { name: "step", at: "middle", lines: 0, how: How::Run("-exec-step") },
    Action { name: "next", at: "middle", lines: 0, how: How::Run("-exec-next") },
    Action { name: "next_over_call", at: "middle", lines: 2, how: How::Run("-exec-next") },
    Action { name: "finish", at: "leaf", lines: 0, how: How::Run("-exec-finish") },
    Action { name: "continue", at: "middle", lines: 0, how: How::Run("-exec-continue") },
    Action { name: "backtrace", at: "leaf", lines: 0, how: How::Print("backtrace") },
    Action { name: "print_local", at: "middle", lines: 0, how: How::Print("print from") },
    Action { name: "info_locals", at: "middle", lines: 0, how: How::Print("info locals") },
];

#[tokio::main]
async fn main() -> Result<()> {
    let patient = Patient::new("debug").await?;
    let run = run(&patient).await;
    if run.is_err() {
        patient.world.stack.keep_logs();
    }
    run
}

async fn run(patient: &Patient) -> Result<()> {
    let (board, device) = patient.start().await?;
    let relay = patient.world.stack.grpc_url(Service::DebugRelay);
    let (head, port) = relay.rsplit_once(':').context("a port")?;
    let host = head.trim_start_matches("https://");
    let wire = Delay::to(&format!("{host}:{port}")).await?;
    patient.context(FAR, &format!("{head}:{}", wire.port())).await?;

    halts(patient, &device).await?;
    let ours = measured(patient, &device, &wire, &[]).await?;
    let plain = measured(patient, &device, &wire, &["--no-cache"]).await?;
    for (ours, plain) in ours.iter().zip(&plain) {
        let name = ours.name;
        if ours.delay_ms == 0 {
            let (trips, theirs) = (f64::from(ours.round_trips), f64::from(plain.round_trips));
            FIGURES.beside(
                &format!("round_trips_{name}"),
                "-",
                trips,
                theirs.max(1e-9),
                "each packet forwarded",
            );
        }
        if ours.delay_ms == FAR_MS {
            FIGURES.alone(&format!("speedup_{FAR_MS}ms_{name}"), "times", plain.took_ms / ours.took_ms);
        }
        let metric = format!("{name}_ms_at_{}ms", ours.delay_ms);
        FIGURES.beside(&metric, "ms", ours.took_ms, plain.took_ms, "each packet forwarded");
    }
    board.cut_power().await
}

struct Measured {
    name: &'static str,
    delay_ms: u64,
    round_trips: u32,
    took_ms: f64,
}

async fn measured(patient: &Patient, device: &str, wire: &Delay, extra: &[&str]) -> Result<Vec<Measured>> {
    wire.set(Duration::ZERO);
    let (debug, mut gdb) = attached(patient, device, &[&["--context", FAR][..], extra].concat()).await?;
    let mut all = Vec::new();
    for delay_ms in DELAYS_MS {
        for action in &ACTIONS {
            wire.set(Duration::ZERO);
            arrive(&mut gdb, action).await?;
            let before = round_trips(&mut gdb).await?;
            wire.set(Duration::from_millis(delay_ms));
            let began = Instant::now();
            match action.how {
                How::Run(command) => drop(gdb.until_stopped(command).await?),
                How::Print(command) => drop(gdb.console(command).await?),
            }
            let took_ms = began.elapsed().as_secs_f64() * 1000.0;
            wire.set(Duration::ZERO);
            let round_trips = round_trips(&mut gdb).await? - before;
            all.push(Measured { name: action.name, delay_ms, round_trips, took_ms });
        }
        dumped(&mut gdb, wire, delay_ms, extra.is_empty()).await?;
    }
    gdb.quit().await?;
    debug.ended().await?;
    Ok(all)
}

/// To where an action begins, with what it needs to end.
async fn arrive(gdb: &mut Gdb, action: &Action) -> Result<()> {
    gdb.console("delete").await?;
    gdb.mi("-break-insert work").await?;
    gdb.until_stopped("-exec-continue").await?;
    gdb.mi(&format!("-break-insert -t {}", action.at)).await?;
    gdb.until_stopped("-exec-continue").await?;
    for _ in 0..action.lines {
        gdb.until_stopped("-exec-next").await?;
    }
    if action.name == "continue" {
        gdb.mi("-break-insert -t leaf").await?;
    }
    Ok(())
}

async fn round_trips(gdb: &mut Gdb) -> Result<u32> {
    let said = gdb.console("monitor cache").await?;
    let count =
        said.split_whitespace().zip(said.split_whitespace().skip(1)).find(|(_, word)| *word == "round");
    let (count, _) = count.with_context(|| format!("no round trips: {said}"))?;
    count.parse().with_context(|| said.clone())
}

/// How fast memory comes.
async fn dumped(gdb: &mut Gdb, wire: &Delay, delay_ms: u64, is_ours: bool) -> Result<()> {
    // Packet by packet it takes a minute at the longest distance.
    if !is_ours || delay_ms > FAR_MS {
        return Ok(());
    }
    let file = tempfile::NamedTempFile::new()?;
    let file = file.path().to_str().context("a path that is text")?;
    wire.set(Duration::from_millis(delay_ms));
    let began = Instant::now();
    let from = 0x2820_1000;
    gdb.console(&format!("dump binary memory {file} {from:#x} {:#x}", from + DUMP_BYTES)).await?;
    let took = began.elapsed();
    wire.set(Duration::ZERO);
    ensure!(std::fs::metadata(file)?.len() == DUMP_BYTES as u64, "the dump is not whole");
    let kib = DUMP_BYTES as f64 / 1024.0;
    let metric =
        if delay_ms == 0 { "dump_kib_per_s".to_owned() } else { format!("dump_kib_per_s_at_{delay_ms}ms") };
    FIGURES.alone(&metric, "KiB/s", kib / took.as_secs_f64());
    Ok(())
}

/// From asking for a halt until gdb shows it, while the application spins with its interrupts masked.
async fn halts(patient: &Patient, device: &str) -> Result<()> {
    let (debug, mut gdb) = attached(patient, device, &[]).await?;
    gdb.console("set var mode = MODE_MASKED").await?;
    let mut took_ms = Vec::new();
    for _ in 0..HALTS {
        gdb.mi("-exec-continue").await?;
        let began = Instant::now();
        gdb.mi("-exec-interrupt").await?;
        gdb.stopped().await?;
        took_ms.push(began.elapsed().as_secs_f64() * 1000.0);
    }
    gdb.console("set var mode = MODE_WORK").await?;
    gdb.quit().await?;
    debug.ended().await?;
    took_ms.sort_by(f64::total_cmp);
    FIGURES.alone("halt_ms", "ms", took_ms[HALTS / 2]);
    FIGURES.alone("halt_ms_max", "ms", took_ms[HALTS - 1]);
    Ok(())
}

async fn attached(patient: &Patient, device: &str, extra: &[&str]) -> Result<(Debug, Gdb)> {
    let debug = patient.debug(device, extra).await?;
    let mut gdb = connected(&format!("127.0.0.1:{}", debug.port)).await?;
    gdb.console("set remotetimeout 120").await?;
    Ok((debug, gdb))
}
