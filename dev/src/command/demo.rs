//! `cargo dev demo`: the main job on real parts, told as it happens.
//!
//! A device enrols, connects over mutual TLS, takes a signed bundle and confirms it while its log scrolls by; a second bundle that
//! never becomes healthy is taken back by the device itself. It uses only what a customer has: the services, the command
//! line and a device. It ends with a table read through the public gRPC API, and with a failure when any step did not come true.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use dev::{Options, Process, Signal, Spec, Stack};
use serde_json::Value;
use tokio::process::Child;
use tokio::signal::unix::{SignalKind, signal};

use crate::command::cli::Cli;
use crate::command::{cargo, setup};

/// How long any one step may take.
const STEP_MAX: Duration = Duration::from_secs(120);
/// How often the API is asked while a step is awaited.
const ASK_EVERY: Duration = Duration::from_millis(250);
/// `holdfast deploy` ends with this when the device did not keep the version.
const NOT_CONFIRMED: i32 = 7;

const GOOD: &str = "#!holdfast-script\nlog version 1.0.0 starts\nhealthy\nlog all is well\nwork 1000\nlog still here\nwork 1000\nrepeat\n";
const BAD: &str = "#!holdfast-script\nlog version 2.0.0 starts, and will never say that it works\nwork 1000\nlog still not healthy\nwork 1000\nrepeat\n";

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Everything is set up and built already: go on at once.
    #[arg(long)]
    built: bool,
}

pub(crate) async fn run(arguments: &Arguments) -> Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let whole = async {
        if !arguments.built {
            setup::run(&setup::Arguments::install()).await?;
            step("building (minutes on a fresh clone, then seconds)");
            cargo::build_installation(false).await?;
        }
        let started = Instant::now();
        step("starting Postgres, Redis, an S3 server and the services");
        let stack = Stack::start(Options::all()).await?;
        let outcome = tokio::select! {
            shown = show(&stack) => shown,
            fallen = stack.first_ended() => Err(anyhow!("{} ended by itself\n{}", fallen.name(), fallen.tail())),
        };
        if outcome.is_err() {
            stack.keep_logs();
        }
        outcome?;
        println!("\nall of it came true in {:.1} s", started.elapsed().as_secs_f64());
        Ok(())
    };
    tokio::select! {
        outcome = whole => outcome,
        _ = interrupt.recv() => Err(anyhow!("interrupted")),
        _ = terminate.recv() => Err(anyhow!("terminated")),
    }
}

async fn show(stack: &Stack) -> Result<()> {
    let cli = Cli::new(stack)?;
    step("the first administrator, the keys devices will believe, a claim to enrol with");
    within("bootstrap", cli.bootstrap(stack, "demo")).await?;
    within("keyset", cli.run(&["keyset", "init", "--dir", "keys"])).await?;
    within("claim", cli.run(&["claim", "create", "--devices", "1", "--out", "claim"])).await?;

    step("a device starts: it makes its key, enrols and says hello");
    let device_process = board(stack, &cli.home)?;
    let device = within("enrolment", online_device(&cli, &device_process)).await?;
    println!("{device} is online");

    let mut log = cli.command(&["logs", &device, "--follow"])?.spawn().context("following the log")?;
    let updates = updates(&cli, &device).await;
    let _ = log.start_kill();
    updates?;

    step("what the API says");
    let table = table(&cli, &device).await?;
    println!("{table}");
    device_process.stop(Signal::Terminate, STEP_MAX).await?;
    Ok(())
}

/// A good version that stays, a bad one that goes.
async fn updates(cli: &Cli, device: &str) -> Result<()> {
    step("version 1.0.0: signed here, uploaded, directed to the device, confirmed by it");
    let good = within("bundle 1.0.0", bundle(cli, "1.0.0", 1, GOOD)).await?;
    let status = within("deploy 1.0.0", deploy(cli, device, &good)).await?;
    ensure!(status == Some(0), "version 1.0.0 was not confirmed (holdfast deploy ended with {status:?})");
    within("version 1.0.0 runs", running(cli, device, "1.0.0")).await?;

    step("version 2.0.0: as well signed, but it never becomes healthy");
    let bad = within("bundle 2.0.0", bundle(cli, "2.0.0", 2, BAD)).await?;
    let status = within("deploy 2.0.0", deploy(cli, device, &bad)).await?;
    ensure!(
        status == Some(NOT_CONFIRMED),
        "version 2.0.0 was not taken back (holdfast deploy ended with {status:?})"
    );
    within("version 1.0.0 runs again", running(cli, device, "1.0.0")).await
}

/// The host board as a child, saying all it does into a log of the stack.
fn board(stack: &Stack, home: &Path) -> Result<Process> {
    let spec = Spec::new("board-host", dev::binary("board-host")?, stack.dir().join("logs/board-host.log"))
        .arg("--provision")
        .arg(home.join("claim/provision.json"))
        .arg("--state")
        .arg(home.join("device"))
        .arg("--json");
    Process::spawn(spec)
}

async fn online_device(cli: &Cli, board: &Process) -> Result<String> {
    loop {
        ensure!(board.running(), "the device ended\n{}", board.tail());
        let devices = rows(&cli.run(&["device", "list", "--json"]).await?)?;
        if let [device] = &devices[..]
            && text(device, "presence") == "PRESENCE_ONLINE"
        {
            return Ok(id(&text(device, "name")).to_owned());
        }
        tokio::time::sleep(ASK_EVERY).await;
    }
}

/// Makes, signs and uploads a bundle of the script; its id.
async fn bundle(cli: &Cli, version: &str, counter: u32, script: &str) -> Result<String> {
    let (image, file) = (format!("app-{version}.img"), format!("app-{version}.hfb"));
    std::fs::write(cli.home.join(&image), script)?;
    let counter = counter.to_string();
    let mut create = vec!["bundle", "create", "--image", &image, "--board", "host", "--version", version];
    create.extend([
        "--counter",
        &counter,
        "--key",
        "keys/release.pem",
        "--out",
        &file,
        "--trial",
        "6s",
        "--stable",
        "2s",
    ]);
    cli.run(&create).await?;
    cli.run(&["bundle", "verify", &file]).await?;
    let uploaded = rows(&cli.run(&["bundle", "upload", &file, "--json"]).await?)?;
    let bundle = uploaded.last().context("the upload said nothing")?;
    Ok(id(&text(bundle, "name")).to_owned())
}

/// `holdfast deploy` with its progress on our terminal; its exit code.
async fn deploy(cli: &Cli, device: &str, bundle: &str) -> Result<Option<i32>> {
    let mut child: Child =
        cli.command(&["deploy", device, bundle])?.spawn().context("starting holdfast deploy")?;
    Ok(child.wait().await?.code())
}

async fn running(cli: &Cli, device: &str, version: &str) -> Result<()> {
    loop {
        let shown = rows(&cli.run(&["device", "show", device, "--json"]).await?)?;
        let slots = shown.first().and_then(|device| device["slots"].as_array().cloned()).unwrap_or_default();
        let app = slots.iter().find(|slot| text(slot, "component") == "app" && slot["running"] == true);
        if app.is_some_and(|slot| text(slot, "version") == version) {
            return Ok(());
        }
        tokio::time::sleep(ASK_EVERY).await;
    }
}

/// Both deployments as the API tells them, checked; and the log records that arrived.
async fn table(cli: &Cli, device: &str) -> Result<String> {
    let deployments = rows(&cli.run(&["deployment", "list", "--device", device, "--json"]).await?)?;
    for (version, state) in [("1.0.0", "STATE_CONFIRMED"), ("2.0.0", "STATE_REVERTED")] {
        let found = deployments.iter().find(|deployment| text(deployment, "version") == version);
        let found = found.with_context(|| format!("no deployment of {version}"))?;
        ensure!(text(found, "state") == state, "{version} is {}, not {state}", text(found, "state"));
    }
    let records = rows(&cli.run(&["logs", device, "--json"]).await?)?;
    ensure!(
        records.iter().any(|record| text(record, "text").contains("all is well")),
        "the device's log did not arrive"
    );
    let dropped: u64 = records.iter().filter_map(|record| record["gap_before"].as_u64()).sum();
    let deployments = cli.run(&["deployment", "list", "--device", device]).await?;
    let devices = cli.run(&["device", "list"]).await?;
    Ok(format!(
        "{devices}\n\n{deployments}\n\n{} log records arrived, {dropped} were dropped by the device",
        records.len()
    ))
}

/// The JSON documents of an output, one a line.
fn rows(output: &str) -> Result<Vec<Value>> {
    let parse = |line| serde_json::from_str(line).with_context(|| format!("not JSON: {line}"));
    output.lines().filter(|line| !line.is_empty()).map(parse).collect()
}

fn text(value: &Value, key: &str) -> String {
    value[key].as_str().unwrap_or_default().to_owned()
}

fn id(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}

fn step(what: &str) {
    println!("\n== {what}");
}

async fn within<T>(what: &str, step: impl Future<Output = Result<T>>) -> Result<T> {
    let outcome = tokio::time::timeout(STEP_MAX, step).await;
    outcome.with_context(|| format!("{what}: not within {STEP_MAX:?}"))?.with_context(|| what.to_owned())
}
