//! `cargo dev demo`: the main job on real parts, told as it happens.
//!
//! A device (an emulated Cortex-M33 where QEMU is there) is made offline, with its first application in it; it enrols, connects over
//! mutual TLS, runs that and takes its successor while its log scrolls by (the host board takes both by the network); a bundle that never becomes healthy is taken back by the device itself. It uses only what a customer has: the services, the command
//! line and a device. It ends with a table read through the public gRPC API, and with a failure when any step did not come true.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use dev::{Options, Stack};
use serde_json::Value;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStderr, ChildStdout};
use tokio::signal::unix::{SignalKind, signal};

use crate::command::cli::Cli;
use crate::command::{cargo, setup};

mod device;
mod steps;

use device::{Device, Kind};
use steps::Steps;

/// How long any one step may take.
const STEP_MAX: Duration = Duration::from_secs(120);
/// How often the API is asked while a step is awaited.
const ASK_EVERY: Duration = Duration::from_millis(250);
/// `holdfast deploy` ends with this when the device did not keep the version.
const NOT_CONFIRMED: i32 = 7;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Everything is set up and built already: go on at once.
    #[arg(long)]
    built: bool,
    /// The device that is shown; the emulated one where this machine has what it takes.
    #[arg(long, value_enum)]
    board: Option<Kind>,
}

/// What is shown, in this order, of a device whose factory puts version 1.0.0 into it.
const MADE_WITH_IT: &[&str] = &[
    "Postgres, Redis, an S3 server and the services start",
    "the first administrator, the keys devices will believe, a claim to enrol with",
    "a factory makes a device offline, 1.0.0 in it; it starts, makes its key, enrols and says hello",
    "version 1.0.0: runs since the first start, confirmed without a deployment",
    "version 2.0.0: signed here, uploaded, directed to the device, confirmed in its place",
    "version 3.0.0: as well signed, but it never becomes healthy: taken back",
    "what the API says of it",
];

/// The same of a device that comes without.
const MADE_WITHOUT: &[&str] = &[
    "Postgres, Redis, an S3 server and the services start",
    "the first administrator, the keys devices will believe, a claim to enrol with",
    "a device starts: it makes its key, enrols and says hello",
    "version 1.0.0: signed here, uploaded, directed to the device, confirmed by it",
    "version 2.0.0: in its place, without a visit",
    "version 3.0.0: as well signed, but it never becomes healthy: taken back",
    "what the API says of it",
];

const NEXT: &str = "\
what to try next
  cargo dev up                    the same installation, yours until Ctrl-C; docs/tutorial.md goes on from there
  cargo dev board                 one emulated board against it, its consoles on your terminal
  cargo dev up --broker mosquitto --name other   with another MQTT broker (docs/brokers.md)
  cargo dev test                  everything this project promises, tested
  docs/ARCHITECTURE.md            how it works";

pub(crate) async fn run(arguments: &Arguments) -> Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let whole = async {
        if !arguments.built {
            setup::run(&setup::Arguments::install()).await?;
            println!("building (minutes on a fresh clone, then seconds)");
            cargo::build_installation(false).await?;
        }
        let kind = match arguments.board {
            Some(kind) => kind,
            None => Kind::choose().await,
        };
        if !arguments.built {
            kind.build().await?;
        }
        let started = Instant::now();
        let steps = Steps::new(if kind.comes_with_an_application() { MADE_WITH_IT } else { MADE_WITHOUT });
        let stack = steps.run(0, STEP_MAX, Stack::start(Options::all())).await?;
        let outcome = tokio::select! {
            shown = show(&stack, &steps, kind) => shown,
            fallen = stack.first_ended() => Err(anyhow!("{} ended by itself\n{}", fallen.name(), fallen.tail())),
        };
        if outcome.is_err() {
            stack.keep_logs();
        }
        println!("\n{}", outcome?);
        println!("\nall of it came true in {:.1} s\n\n{NEXT}", started.elapsed().as_secs_f64());
        Ok(())
    };
    tokio::select! {
        outcome = whole => outcome,
        _ = interrupt.recv() => Err(anyhow!("interrupted")),
        _ = terminate.recv() => Err(anyhow!("terminated")),
    }
}

/// Everything after the start; gives the table that the API tells.
async fn show(stack: &Stack, steps: &Steps, kind: Kind) -> Result<String> {
    let cli = Cli::new(stack)?;
    let first = async {
        cli.bootstrap(stack, "demo").await?;
        cli.run(&["keyset", "init", "--dir", "keys"]).await?;
        cli.run(&["claim", "create", "--devices", "1", "--board", kind.name(), "--out", "claim"]).await
    };
    steps.run(1, STEP_MAX, first).await?;

    let started = async {
        let first =
            match kind.comes_with_an_application() {
                true => Some(cli.home.join(
                    bundle(&cli, kind, "1.0.0", 1, &kind.application(&cli.home, "1.0.0", true)?).await?,
                )),
                false => None,
            };
        let board = kind.start(stack, &cli, first).await?;
        let device = tokio::time::timeout(STEP_MAX, online_device(&cli, &board)).await;
        let device = device.with_context(|| format!("it did not come online\n{}", board.tail()))??;
        anyhow::Ok((board, device))
    };
    let (board, device) = steps.run(2, 2 * STEP_MAX, started).await?;
    steps.say(&format!("{device} is online"));

    let log = told(&cli, &["logs", &device, "--follow"])?;
    let updates = async {
        let update = |version, counter, works| update(&cli, steps, kind, &device, (version, counter, works));
        match kind.comes_with_an_application() {
            true => steps.run(3, STEP_MAX, runs_and_logs(&cli, &device, "1.0.0")).await?,
            false => steps.run(3, STEP_MAX, update("1.0.0", 1, true)).await?,
        }
        steps.run(4, STEP_MAX, update("2.0.0", 2, true)).await?;
        steps.run(5, STEP_MAX, update("3.0.0", 3, false)).await?;
        running(&cli, &device, "2.0.0").await
    };
    tokio::select! {
        outcome = updates => outcome?,
        followed = log.end(steps) => bail!("the log ended by itself: {:?}", followed?),
    }
    let table = steps.run(6, STEP_MAX, table(&cli, kind, &device)).await?;
    board.stop().await?;
    Ok(table)
}

/// A version that stays, or one that goes.
async fn update(
    cli: &Cli,
    steps: &Steps,
    kind: Kind,
    device: &str,
    (version, counter, works): (&'static str, u32, bool),
) -> Result<()> {
    let image = kind.application(&cli.home, version, works)?;
    let file = bundle(cli, kind, version, counter, &image).await?;
    let uploaded = rows(&cli.run(&["bundle", "upload", &file, "--json"]).await?)?;
    let bundle = uploaded.last().context("the upload said nothing")?;
    let bundle = id(&text(bundle, "name")).to_owned();
    let status = told(cli, &["deploy", device, &bundle])?.end(steps).await?;
    let expected = if works { 0 } else { NOT_CONFIRMED };
    ensure!(
        status == Some(expected),
        "version {version}: holdfast deploy ended with {status:?}, not {expected}"
    );
    if works { running(cli, device, version).await } else { Ok(()) }
}

async fn online_device(cli: &Cli, board: &Device) -> Result<String> {
    loop {
        board.must_run()?;
        let devices = rows(&cli.run(&["device", "list", "--json"]).await?)?;
        if let [device] = &devices[..]
            && text(device, "presence") == "PRESENCE_ONLINE"
        {
            return Ok(id(&text(device, "name")).to_owned());
        }
        tokio::time::sleep(ASK_EVERY).await;
    }
}

/// Makes and signs a bundle of the image; its file.
async fn bundle(cli: &Cli, kind: Kind, version: &str, counter: u32, image: &Path) -> Result<String> {
    let (image, file) = (image.to_str().context("a path that is not UTF-8")?, format!("app-{version}.hfb"));
    let counter = counter.to_string();
    let mut create = vec!["bundle", "create", "--image", image, "--board", kind.name(), "--version", version];
    create.extend(["--counter", &counter, "--key", "keys/release.pem", "--out", &file]);
    create.extend(["--trial", "6s", "--stable", "2s"]);
    cli.run(&create).await?;
    cli.run(&["bundle", "verify", &file]).await?;
    Ok(file)
}

/// A `holdfast` command whose lines are told as they come.
struct Told {
    child: Child,
    stdout: Lines<BufReader<ChildStdout>>,
    stderr: Lines<BufReader<ChildStderr>>,
}

fn told(cli: &Cli, arguments: &[&str]) -> Result<Told> {
    let mut command = cli.command(arguments)?;
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("starting holdfast")?;
    let stdout = BufReader::new(child.stdout.take().context("no stdout")?).lines();
    let stderr = BufReader::new(child.stderr.take().context("no stderr")?).lines();
    Ok(Told { child, stdout, stderr })
}

impl Told {
    /// Until it ends; its exit code.
    async fn end(mut self, steps: &Steps) -> Result<Option<i32>> {
        tokio::try_join!(tell(self.stdout, steps), tell(self.stderr, steps))?;
        Ok(self.child.wait().await?.code())
    }
}

async fn tell(mut lines: Lines<impl AsyncBufRead + Unpin>, steps: &Steps) -> Result<()> {
    while let Some(line) = lines.next_line().await? {
        steps.say(&line);
    }
    Ok(())
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

/// The same, and a line of its own has arrived.
async fn runs_and_logs(cli: &Cli, device: &str, version: &str) -> Result<()> {
    running(cli, device, version).await?;
    loop {
        let records = rows(&cli.run(&["logs", device, "--json"]).await?)?;
        if records.iter().any(|record| text(record, "text").contains(version)) {
            return Ok(());
        }
        tokio::time::sleep(ASK_EVERY).await;
    }
}

/// The deployments as the API tells them, checked; and the log records that arrived.
async fn table(cli: &Cli, kind: Kind, device: &str) -> Result<String> {
    let deployments = rows(&cli.run(&["deployment", "list", "--device", device, "--json"]).await?)?;
    let states = [("1.0.0", "STATE_CONFIRMED"), ("2.0.0", "STATE_CONFIRMED"), ("3.0.0", "STATE_REVERTED")];
    let directed = states.into_iter().skip(usize::from(kind.comes_with_an_application()));
    for (version, state) in directed {
        let found = deployments.iter().find(|deployment| text(deployment, "version") == version);
        let found = found.with_context(|| format!("no deployment of {version}"))?;
        ensure!(text(found, "state") == state, "{version} is {}, not {state}", text(found, "state"));
    }
    let records = rows(&cli.run(&["logs", device, "--json"]).await?)?;
    ensure!(
        records.iter().any(|record| text(record, "text").contains("1.0.0")),
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
