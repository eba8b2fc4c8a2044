//! A whole world for a scenario: a stack, an administrator who types `holdfast`, and boards that run as processes.
//!
//! Scenarios use what people use: the CLI binary, the board binary, the public API. Nothing here reaches behind them.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use dev::{Options, Service, Stack};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::watch;

use crate::lossy::LossyWire;

/// How long anything a scenario waits for may take. Generous: the machine may be busy with other tests.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// A stack with its first tenant, a keyset, and an administrator signed in.
#[derive(Debug)]
pub struct World {
    pub stack: Stack,
    home: PathBuf,
}

/// What a command printed and how it ended.
#[derive(Debug)]
pub struct Output {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl World {
    /// Everything running, bootstrapped, with keyset 1 published.
    pub async fn start() -> Result<World> {
        World::start_with(Options::all()).await
    }

    /// The same, but of all that services and broker say to each other every `every`-th message is lost; gives the
    /// counts of what was.
    pub async fn start_lossy(every: u64) -> Result<(World, Vec<Arc<AtomicU64>>)> {
        kit::tls::install_provider();
        let mut options = Options::all();
        let mut wires = Vec::new();
        for service in [Service::Registry, Service::Ota, Service::Logs] {
            let wire = LossyWire::new(every).await?;
            options = options.env(service, "HOLDFAST_BROKER_URL", wire.url()?);
            wires.push((service, wire));
        }
        let world = World::start_with(options).await?;
        let carry = |(service, wire): (Service, LossyWire)| wire.carry(&world.stack, service.name());
        let counts = wires.into_iter().map(carry).collect::<Result<_>>()?;
        Ok((world, counts))
    }

    pub async fn start_with(options: Options) -> Result<World> {
        let stack = Stack::start(options).await?;
        let home = stack.dir().join("home");
        let world = World { stack, home };
        world.bootstrap("demo").await?;
        let keys = world.path("keys");
        world.cli(&["keyset", "init", "--dir", text(&keys)?]).await?;
        Ok(world)
    }

    async fn bootstrap(&self, tenant: &str) -> Result<()> {
        let code = self.stack.bootstrap_code().await?;
        let ca = self.stack.server_ca_file();
        let registry = self.stack.grpc_url(Service::Registry);
        let ota = self.stack.grpc_url(Service::Ota);
        let logs = self.stack.grpc_url(Service::Logs);
        let debug = self.stack.grpc_url(Service::DebugRelay);
        let mut args = vec!["bootstrap", "--code", &code, "--tenant", tenant, "--ca", text(&ca)?];
        args.extend(["--registry", &registry, "--ota", &ota, "--logs", &logs, "--debug", &debug]);
        self.cli(&args).await.map(drop)
    }

    /// A file or folder of this world.
    pub fn path(&self, name: &str) -> PathBuf {
        self.home.join(name)
    }

    /// A `holdfast` command, not yet started.
    pub fn command(&self, args: &[&str]) -> Result<Command> {
        let mut command = Command::new(dev::binary("holdfast")?);
        command.args(args).env("HOLDFAST_HOME", &self.home).stdin(Stdio::null()).kill_on_drop(true);
        Ok(command)
    }

    /// The newest crash report of a device, as soon as there is one.
    pub async fn first_crash(&self, device: &str) -> Result<Value> {
        let reported = async {
            loop {
                let crashes = self.json(&["crash", "list", "--device", device]).await?;
                if let Some(crash) = crashes.into_iter().next() {
                    return Ok(crash);
                }
            }
        };
        tokio::time::timeout(PATIENCE, reported).await.context("no crash report came")?
    }

    /// Runs `holdfast` to its end, whatever that is.
    pub async fn try_cli(&self, args: &[&str]) -> Result<Output> {
        let run = self.command(args)?.output();
        let output = tokio::time::timeout(PATIENCE, run)
            .await
            .with_context(|| format!("holdfast {args:?} hangs"))??;
        Ok(Output {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    /// Runs `holdfast`, which must succeed, and gives its stdout.
    pub async fn cli(&self, args: &[&str]) -> Result<String> {
        let output = self.try_cli(args).await?;
        ensure!(output.code == 0, "holdfast {args:?} exited {}: {}", output.code, output.stderr);
        Ok(output.stdout)
    }

    /// The same with `--json`: one value for each line.
    pub async fn json(&self, args: &[&str]) -> Result<Vec<Value>> {
        let args: Vec<&str> = args.iter().copied().chain(["--json"]).collect();
        let lines = self.cli(&args).await?;
        lines
            .lines()
            .map(|line| serde_json::from_str(line).with_context(|| format!("not JSON: {line}")))
            .collect()
    }

    /// The one value a command prints with `--json`.
    pub async fn one(&self, args: &[&str]) -> Result<Value> {
        let mut all = self.json(args).await?;
        ensure!(all.len() == 1, "holdfast {args:?} printed {} values", all.len());
        Ok(all.remove(0))
    }

    /// A new claim; gives the way to its provision.json.
    pub async fn provision(&self, name: &str, devices: usize) -> Result<PathBuf> {
        let folder = self.path(name);
        self.cli(&[
            "claim",
            "create",
            "--devices",
            &devices.to_string(),
            "--ttl",
            "1h",
            "--out",
            text(&folder)?,
        ])
        .await?;
        Ok(folder.join("provision.json"))
    }

    /// Makes a bundle for the host board from a script and uploads it; gives its resource name.
    pub async fn bundle(&self, script: &str, version: &str, counter: u64, extra: &[&str]) -> Result<String> {
        let file = self.bundle_file(script.as_bytes(), version, counter, extra).await?;
        name(&self.one(&["bundle", "upload", text(&file)?]).await?)
    }

    /// Makes a bundle file for the host board.
    pub async fn bundle_file(
        &self,
        image: &[u8],
        version: &str,
        counter: u64,
        extra: &[&str],
    ) -> Result<PathBuf> {
        let image_file = self.path(&format!("{version}.image"));
        std::fs::write(&image_file, image)?;
        let file = self.path(&format!("{version}.hfb"));
        let (key, counter) = (self.path("keys/release.pem"), counter.to_string());
        let mut args =
            vec!["bundle", "create", "--board", "host", "--version", version, "--counter", &counter];
        args.extend(["--image", text(&image_file)?, "--key", text(&key)?, "--out", text(&file)?]);
        args.extend_from_slice(extra);
        self.cli(&args).await?;
        Ok(file)
    }

    /// Waits until `count` devices are listed that satisfy `filter`, and gives their resource names.
    pub async fn devices(&self, count: usize, satisfied: impl Fn(&Value) -> bool) -> Result<Vec<String>> {
        let mut watch = self.command(&["device", "watch", "--json"])?.stdout(Stdio::piped()).spawn()?;
        let mut lines = BufReader::new(watch.stdout.take().context("no stdout")?).lines();
        let mut seen = std::collections::BTreeSet::new();
        let all = async {
            while let Some(line) = lines.next_line().await? {
                let event: Value = serde_json::from_str(&line)?;
                if let Some(device) = event.get("device").filter(|device| satisfied(device)) {
                    seen.insert(name(device)?);
                }
                if seen.len() >= count {
                    return Ok(seen.iter().cloned().collect());
                }
            }
            bail!("the watch ended")
        };
        tokio::time::timeout(PATIENCE, all).await.context("not all devices came")?
    }

    /// Waits until the deployment is final, and gives it.
    pub async fn ended(&self, deployment: &str) -> Result<Value> {
        let output = self.try_cli(&["deployment", "watch", deployment, "--json"]).await?;
        let last =
            output.stdout.lines().last().with_context(|| format!("no deployment: {}", output.stderr))?;
        Ok(serde_json::from_str(last)?)
    }

    /// Deploys and waits for the end: (final state, reason).
    pub async fn deploy(&self, device: &str, bundle: &str) -> Result<(String, String)> {
        let created = self.one(&["deploy", device, bundle, "--no-wait"]).await?;
        let end = self.ended(&name(&created)?).await?;
        let field = |key: &str| end.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        Ok((field("state"), field("reason")))
    }

    /// Starts a board process with these arguments besides its provisioning and state.
    pub fn board(&self, provision: &Path, state: &str, extra: &[&str]) -> Result<Board> {
        let log = self.stack.dir().join("logs").join(format!("board-{state}.log"));
        let mut command = Command::new(dev::binary("board-host")?);
        command
            .arg("--provision")
            .arg(provision)
            .arg("--state")
            .arg(self.path(state))
            .arg("--json")
            .args(extra);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(log)?)
            .kill_on_drop(true);
        Board::spawn(command)
    }
}

/// A process of one or many boards, and what they said with `--json`.
#[derive(Debug)]
pub struct Board {
    child: Child,
    events: watch::Receiver<Arc<Vec<Value>>>,
}

impl Board {
    fn spawn(mut command: Command) -> Result<Board> {
        let mut child = command.spawn().context("starting board-host")?;
        let mut lines = BufReader::new(child.stdout.take().context("no stdout")?).lines();
        let (sender, events) = watch::channel(Arc::new(Vec::new()));
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                if let Ok(event) = serde_json::from_str::<Value>(&line) {
                    sender.send_modify(|all| Arc::make_mut(all).push(event));
                }
            }
        });
        Ok(Board { child, events })
    }

    /// Waits until `count` events of a name were printed since the start.
    pub async fn event(&mut self, event: &str, count: usize) -> Result<Vec<Value>> {
        let of_name = |all: &Vec<Value>| -> Vec<Value> {
            all.iter().filter(|e| e.get("event").and_then(Value::as_str) == Some(event)).cloned().collect()
        };
        let enough = self.events.wait_for(|all| of_name(all).len() >= count);
        let all = tokio::time::timeout(PATIENCE, enough)
            .await
            .with_context(|| format!("the board did not say `{event}` {count} times"))?
            .context("the board ended")?;
        Ok(of_name(&all))
    }

    /// All it said so far.
    pub fn said(&self) -> Arc<Vec<Value>> {
        self.events.borrow().clone()
    }

    /// Power off: SIGKILL.
    pub async fn cut_power(mut self) -> Result<()> {
        self.child.kill().await.context("killing the board")
    }

    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }
}

/// The `name` of a resource printed as JSON.
pub fn name(resource: &Value) -> Result<String> {
    let name = resource.get("name").and_then(Value::as_str);
    Ok(name.with_context(|| format!("no name in {resource}"))?.to_owned())
}

/// A path as text for a command line.
pub fn text(path: &Path) -> Result<&str> {
    path.to_str().context("a path that is not UTF-8")
}
