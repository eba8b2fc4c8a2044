//! `cargo dev bench update`: many devices take one bundle over the real services, beside two bare TLS sockets.
//!
//! Enrolment and the deployments come before; then the clock runs from the start of the boards' connections to the last
//! confirmation. What is printed is explained in docs/performance.md.

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

/// What the bundle's application does: nothing that takes time.
const SCRIPT: &[u8] = b"#!holdfast-script\nlog updated\nhealthy\n\0";
const SOCKETS: &str = "two rustls sockets";
const MIB: f64 = 1024.0 * 1024.0;
const GIB: f64 = 1024.0 * MIB;
/// Deployments created at once.
const CREATORS: usize = 8;
/// The peer is measured so often, before and after: the fastest counts.
const PEER_RUNS: usize = 3;

#[derive(Parser)]
struct Arguments {
    /// Devices, all in one process.
    #[arg(long, default_value_t = 500)]
    devices: usize,
    /// Bytes of the bundle's image, incompressible.
    #[arg(long, default_value_t = 256 * 1024)]
    bytes: usize,
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
    let bundle = world.bundle_file(&image(arguments.bytes), "1.0.0", 1, &["--stable", "0s"]).await?;
    let bundle = world.one(&["bundle", "upload", scenarios::world::text(&bundle)?]).await?;
    deploy(world, names, &scenarios::world::name(&bundle)?).await?;

    let bytes = devices * arguments.bytes;
    let mut peers = peer(bytes)?;
    let mut measured = processes(world)?;
    let mut boards = boards()?;
    measured.push(Measured { name: "board-host", pid: boards.pid()?, ours: true, cpu_s: 0.0 });
    boards.until("\"result\"", devices).await?;
    for process in &mut measured {
        process.cpu_s = usage::cpu_seconds(process.pid)? - process.cpu_s;
    }
    let peaks = measured
        .iter()
        .filter(|process| process.ours)
        .map(|process| Ok((process.name, usage::peak_mib(process.pid)?)))
        .collect::<Result<Vec<_>>>()?;
    let events = boards.events()?;
    boards.stop().await?;
    peers.extend(peer(bytes)?);
    let peer_s = peers.iter().min().context("no peer was measured")?.as_secs_f64();
    report(bytes, peer_s, &events, devices, &measured, &peaks)
}

/// The script, its end, and bytes that no compression makes smaller.
fn image(bytes: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let noise = std::iter::repeat_with(move || {
        // Marsaglia's xorshift.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    SCRIPT.iter().copied().chain(noise.flatten()).take(bytes).collect()
}

async fn deploy(world: &World, devices: Vec<String>, bundle: &str) -> Result<()> {
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
        };
        ota.create_deployment(request).await.with_context(|| format!("deploying to {device}"))?;
    }
    Ok(())
}

fn peer(bytes: usize) -> Result<Vec<Duration>> {
    (0..PEER_RUNS).map(|_| sockets::transfer(bytes)).collect()
}

/// Every process of the installation, with what it has used so far; peaks start anew.
fn processes(world: &World) -> Result<Vec<Measured>> {
    let parts = [
        (Part::from(Service::Broker), true),
        (Service::Ota.into(), true),
        (Service::Registry.into(), true),
        (Service::Logs.into(), true),
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

fn report(
    bytes: usize,
    peer_s: f64,
    events: &[Event],
    devices: usize,
    measured: &[Measured],
    peaks: &[(&str, f64)],
) -> Result<()> {
    let figures = Figures("update");
    let times = |chosen: &dyn Fn(&Event) -> bool| -> Vec<f64> {
        events.iter().filter(|event| chosen(event)).map(|event| event.t_us as f64 / 1e6).collect()
    };
    let state =
        |state: &'static str| times(&move |event: &Event| event.event == "update" && event.state == state);
    let started = times(&|event| event.event == "started");
    let confirmed = times(&|event| event.event == "result" && event.outcome == "confirmed");
    ensure!(confirmed.len() == devices, "only {} of {devices} confirmed", confirmed.len());
    let (fetching, verified) = (state("fetching"), state("verified"));
    let connected = times(&|event| event.event == "connected");
    let transfer_s = last(&verified) - first(&fetching);
    let confirmed_s = last(&confirmed) - first(&started);
    let peer = bytes as f64 / MIB / peer_s;
    figures.beside("transfer_vs_sockets", "MiB/s", bytes as f64 / MIB / transfer_s, peer, SOCKETS);
    figures.beside("confirmed_vs_sockets", "MiB/s", bytes as f64 / MIB / confirmed_s, peer, SOCKETS);
    for (metric, seconds) in [
        ("connected_last", last(&connected)),
        ("fetching_first", first(&fetching)),
        ("fetching_last", last(&fetching)),
        ("verified_first", first(&verified)),
        ("verified_last", last(&verified)),
        ("confirmed_last", last(&confirmed)),
    ] {
        figures.alone(metric, "s after start", seconds - first(&started));
    }
    let gib = bytes as f64 / GIB;
    for process in measured {
        figures.alone(&metric("cpu", process.name), "CPU-s/GiB", process.cpu_s / gib);
    }
    let sum: f64 = measured.iter().map(|process| process.cpu_s).sum();
    figures.alone("cpu_all", "CPU-s/GiB", sum / gib);
    for (name, mib) in peaks {
        figures.alone(&metric("peak", name), "MiB", *mib);
    }
    Ok(())
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
