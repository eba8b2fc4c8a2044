//! `cargo dev bench update`: many devices take a bundle over the real services, beside two bare TLS sockets.
//!
//! Twice: once from the start of the boards' connections to the last confirmation, the deployments made before; once
//! from the first request for a layer to the last digest verified, all boards connected and directed at the same
//! moment, installation put off by the application that runs. docs/performance.md says what the figures mean.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use dev::{Part, Service};
use proto::ota::v1::CreateDeploymentRequest;
use proto::ota::v1::deployment_service_client::DeploymentServiceClient;
use scenarios::bench::boards::{Boards, Event};
use scenarios::bench::figure::Figures;
use scenarios::bench::{sockets, usage};
use scenarios::client::{self, Client};
use scenarios::world::World;
use tokio::task::JoinSet;

const FIGURES: Figures = Figures("update");
/// What the bundle's application does: nothing that takes time.
const SCRIPT: &[u8] = b"#!holdfast-script\nlog updated\nhealthy\n\0";
/// How long the running application puts an update off: while layers alone are measured, no board installs.
const POLITE: &str = "4s";
const SOCKETS: &str = "two rustls sockets";
const MIB: f64 = 1024.0 * 1024.0;
const GIB: f64 = 1024.0 * MIB;
/// Deployments created at once.
const CREATORS: usize = 8;
/// Milliseconds, calls, text; as far as a line holds it.
const STATEMENTS: &str = "SELECT round(total_exec_time), calls, left(regexp_replace(query, '\\s+', ' ', 'g'), 150) \
    FROM pg_stat_statements ORDER BY total_exec_time DESC LIMIT 25";
/// The peer is measured so often, before and after: the median counts.
const PEER_RUNS: usize = 3;

#[derive(Parser)]
struct Arguments {
    /// Devices, all in one process.
    #[arg(long, default_value_t = 500)]
    devices: usize,
    /// Bytes of the bundle's image, incompressible.
    #[arg(long, default_value_t = 256 * 1024)]
    bytes: usize,
    /// Also says which SQL statements took longest.
    #[arg(long)]
    statements: bool,
    /// Writes there what the boards said.
    #[arg(long)]
    events: Option<PathBuf>,
}

/// A process whose use is measured.
struct Measured {
    name: &'static str,
    pid: u32,
    /// Infrastructure of others is not bounded by us.
    ours: bool,
    cpu_s: f64,
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
    let devices = arguments.devices;
    let provision = world.provision("claim", devices).await?;
    let (state, log) = (world.path("boards"), world.stack.dir().join("logs/boards.log"));
    let boards = || Boards::start(&provision, &state, &log, devices);

    let mut enrolling = boards()?;
    enrolling.until("\"connected\"", devices).await?;
    let names = world.devices(devices, |device| device["keyset_version"] == 1).await?;
    enrolling.stop().await?;
    deploy(world, &names, &bundle(world, arguments.bytes, 1).await?).await?;
    if arguments.statements {
        count_statements(world).await?;
    }
    let bytes = devices * arguments.bytes;
    let mut peers = peer(bytes)?;

    // Everything at once: connections, directives, layers, installation.
    let mut services = processes(world)?;
    let mut boards = boards()?;
    let mut measured = vec![Measured { name: "board-host", pid: boards.pid()?, ours: true, cpu_s: 0.0 }];
    measured.append(&mut services);
    boards.until("\"result\"", devices).await?;
    let connecting = used(&measured)?;
    if arguments.statements {
        eprintln!("connecting:\n{}", world.stack.sql(STATEMENTS)?);
    }

    // The layers alone: boards that are there, all directed at the same moment.
    world.devices(devices, |device| device["app_floor"] == 1).await?;
    let next = bundle(world, arguments.bytes, 2).await?;
    let heard = boards.events()?.len();
    boards.freeze(true)?;
    deploy(world, &names, &next).await?;
    if arguments.statements {
        world.stack.sql("SELECT pg_stat_statements_reset()")?;
    }
    for process in &mut measured {
        process.cpu_s = usage::cpu_seconds(process.pid)?;
    }
    boards.freeze(false)?;
    boards.until("\"state\":\"verified\"", 2 * devices).await?;
    let directed = used(&measured)?;
    if arguments.statements {
        eprintln!("directed:\n{}", world.stack.sql(STATEMENTS)?);
    }
    boards.until("\"result\"", 2 * devices).await?;

    let peaks = measured
        .iter()
        .filter(|process| process.ours)
        .map(|process| Ok((process.name, usage::peak_mib(process.pid)?)))
        .collect::<Result<Vec<_>>>()?;
    let events = boards.events()?;
    if let Some(file) = &arguments.events {
        std::fs::write(file, boards.said().join("\n"))?;
    }
    boards.stop().await?;
    peers.extend(peer(bytes)?);
    let run = Run {
        devices,
        bytes: bytes as f64,
        peer_s: median(&mut peers).context("no peer was measured")?.as_secs_f64(),
    };
    run.report_connecting(&events[..heard], &connecting)?;
    run.report_directed(&events[heard..], &directed)?;
    let fastest = peers.first().context("no peer was measured")?.as_secs_f64();
    FIGURES.alone("sockets_fastest", "MiB/s", run.bytes / MIB / fastest);
    for (name, mib) in peaks {
        FIGURES.alone(&metric("peak", name), "MiB", mib);
    }
    Ok(())
}

/// Makes and uploads a bundle of so many bytes; no two have a block in common.
async fn bundle(world: &World, bytes: usize, counter: u64) -> Result<String> {
    let policy = ["--stable", "0s", "--polite", POLITE];
    let file = world.bundle_file(&image(bytes, counter), &format!("{counter}.0.0"), counter, &policy).await?;
    scenarios::world::name(&world.one(&["bundle", "upload", scenarios::world::text(&file)?]).await?)
}

/// The script, its end, and bytes that no compression makes smaller.
fn image(bytes: usize, seed: u64) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(seed);
    let noise = std::iter::repeat_with(move || {
        // Marsaglia's xorshift.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    SCRIPT.iter().copied().chain(noise.flatten()).take(bytes).collect()
}

/// Postgres loads the counter at its start only; services reconnect, and what they prepared is prepared anew.
async fn count_statements(world: &World) -> Result<()> {
    world.stack.sql("ALTER SYSTEM SET shared_preload_libraries = 'pg_stat_statements'")?;
    world.stack.restart(Part::Postgres).await?;
    world.stack.sql("CREATE EXTENSION pg_stat_statements").map(drop)
}

async fn deploy(world: &World, devices: &[String], bundle: &str) -> Result<()> {
    let token = world.cli(&["token"]).await?;
    let channel = client::channel(&world.stack, Service::Ota).await?;
    let ota = DeploymentServiceClient::new(client::with_token(channel, token.trim())?);
    let mut creators = JoinSet::new();
    for part in devices.chunks(devices.len().div_ceil(CREATORS)) {
        creators.spawn(create(ota.clone(), part.to_vec(), bundle.to_owned()));
    }
    while let Some(done) = creators.join_next().await {
        done??;
    }
    Ok(())
}

async fn create(
    mut ota: DeploymentServiceClient<Client>,
    devices: Vec<String>,
    bundle: String,
) -> Result<()> {
    for device in devices {
        let (parent, _) = device.split_once("/devices/").context("a device's name")?;
        let request = CreateDeploymentRequest {
            parent: parent.to_owned(),
            device: device.clone(),
            bundle: bundle.clone(),
            ..Default::default()
        };
        ota.create_deployment(request).await.with_context(|| format!("deploying to {device}"))?;
    }
    Ok(())
}

fn peer(bytes: usize) -> Result<Vec<Duration>> {
    (0..PEER_RUNS).map(|_| sockets::transfer(bytes)).collect()
}

/// Every process of the installation, with what it has used so far.
fn processes(world: &World) -> Result<Vec<Measured>> {
    let parts = [
        (Part::from(Service::Broker), true),
        (Service::Ota.into(), true),
        (Service::Registry.into(), true),
        (Service::Logs.into(), true),
        (Service::DebugRelay.into(), true),
        (Part::Postgres, false),
        (Part::Redis, false),
        (Part::S3, false),
    ];
    let mut measured = Vec::new();
    for (part, ours) in parts {
        let pid = world.stack.process(part).with_context(|| format!("{part} does not run"))?.pid();
        measured.push(Measured { name: part.name(), pid, ours, cpu_s: usage::cpu_seconds(pid)? });
    }
    Ok(measured)
}

fn median(times: &mut [Duration]) -> Option<Duration> {
    times.sort();
    times.get(times.len() / 2).copied()
}

/// What each used since.
fn used(measured: &[Measured]) -> Result<Vec<(&'static str, f64)>> {
    measured.iter().map(|it| Ok((it.name, usage::cpu_seconds(it.pid)? - it.cpu_s))).collect()
}

/// What figures are computed from.
struct Run {
    devices: usize,
    bytes: f64,
    peer_s: f64,
}

impl Run {
    /// From the start of the first connection to the last confirmation.
    fn report_connecting(&self, events: &[Event], used: &[(&str, f64)]) -> Result<()> {
        let started = first(&times(events, |event| event.event == "started"));
        let confirmed = times(events, |event| event.event == "result" && event.outcome == "confirmed");
        ensure!(confirmed.len() == self.devices, "{} of {} confirmed", confirmed.len(), self.devices);
        self.beside("confirmed_vs_sockets", last(&confirmed) - started);
        let connected = times(events, |event| event.event == "connected");
        for (metric, seconds) in [
            ("connected_last", last(&connected)),
            ("fetching_first", first(&states(events, "fetching"))),
            ("fetching_last", last(&states(events, "fetching"))),
            ("verified_first", first(&states(events, "verified"))),
            ("verified_last", last(&states(events, "verified"))),
            ("confirmed_last", last(&confirmed)),
        ] {
            FIGURES.alone(metric, "s after start", seconds - started);
        }
        self.report_cpu("cpu", used);
        Ok(())
    }

    /// From the first request for a layer to the last digest verified.
    fn report_directed(&self, events: &[Event], used: &[(&str, f64)]) -> Result<()> {
        let (fetching, verified) = (states(events, "fetching"), states(events, "verified"));
        ensure!(verified.len() == self.devices, "{} of {} verified", verified.len(), self.devices);
        self.beside("transfer_vs_sockets", last(&verified) - first(&fetching));
        FIGURES.alone("transfer_fetching_last", "s after first", last(&fetching) - first(&fetching));
        FIGURES.alone("transfer_verified_first", "s after first", first(&verified) - first(&fetching));
        self.report_cpu("transfer_cpu", used);
        Ok(())
    }

    fn report_cpu(&self, what: &str, used: &[(&str, f64)]) {
        for (name, cpu_s) in used {
            FIGURES.alone(&metric(what, name), "CPU-s/GiB", cpu_s * GIB / self.bytes);
        }
        let sum: f64 = used.iter().map(|(_, cpu_s)| cpu_s).sum();
        FIGURES.alone(&metric(what, "all"), "CPU-s/GiB", sum * GIB / self.bytes);
    }

    fn beside(&self, metric: &str, seconds: f64) {
        let rate = |seconds: f64| self.bytes / MIB / seconds;
        FIGURES.beside(metric, "MiB/s", rate(seconds), rate(self.peer_s), SOCKETS);
    }
}

/// Seconds at which the chosen events happened.
fn times(events: &[Event], chosen: impl Fn(&Event) -> bool) -> Vec<f64> {
    events.iter().filter(|event| chosen(event)).map(|event| event.t_us as f64 / 1e6).collect()
}

fn states(events: &[Event], state: &str) -> Vec<f64> {
    times(events, |event| event.event == "update" && event.state == state)
}

fn metric(what: &str, process: &str) -> String {
    format!("{what}_{}", process.replace('-', "_"))
}

fn first(times: &[f64]) -> f64 {
    times.iter().copied().fold(f64::INFINITY, f64::min)
}

fn last(times: &[f64]) -> f64 {
    times.iter().copied().fold(f64::NEG_INFINITY, f64::max)
}
