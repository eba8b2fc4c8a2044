//! A process of many boards, heard cheaply: lines are kept as they come and read when the run is over, so that
//! listening takes little from what is measured. Times are the boards' own (`t_us`), not those of our reading.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use tokio::process::{Child, Command};

/// How long boards may take to do what is waited for.
const PATIENCE: Duration = Duration::from_secs(180);
/// How often what they said is looked at: rarely, since looking takes from what is measured.
const LOOK_PERIOD: Duration = Duration::from_millis(50);

/// One line of a board.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub struct Event {
    pub event: String,
    /// Microseconds since the process started.
    pub t_us: u64,
    #[serde(default)]
    pub hardware_id: String,
    /// Of an update.
    #[serde(default)]
    pub state: String,
    /// Of a result.
    #[serde(default)]
    pub outcome: String,
}

/// A running `board-host`.
#[derive(Debug)]
pub struct Boards {
    child: Child,
    /// What they say goes to a file: a pipe nobody reads for a while would stop them.
    says: BufReader<File>,
    said: Vec<String>,
}

impl Boards {
    /// Starts `count` boards in one process; the same state folder is the same boards. Each start needs a log of its own.
    pub fn start(provision: &Path, state: &Path, log: &Path, count: usize) -> Result<Boards> {
        let mut command = Command::new(dev::binary("board-host")?);
        command.arg("--provision").arg(provision).arg("--state").arg(state);
        command.args(["--json", "--hardware-id", "bench", "--count", &count.to_string()]);
        let says = log.with_extension("events");
        command
            .stdin(Stdio::null())
            .stdout(File::create(&says)?)
            .stderr(File::create(log)?)
            .kill_on_drop(true);
        let child = command.spawn().context("starting board-host")?;
        Ok(Boards { child, says: BufReader::new(File::open(says)?), said: Vec::new() })
    }

    pub fn pid(&self) -> Result<u32> {
        self.child.id().context("board-host has ended")
    }

    /// Listens until `count` lines contain `text`.
    pub async fn until(&mut self, text: &str, count: usize) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.listen()?;
            let heard = self.said.iter().filter(|line| line.contains(text)).count();
            if heard >= count {
                return Ok(());
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("board-host ended: {status}");
            }
            if Instant::now() >= deadline {
                bail!("{} of {count} boards did not say {text}", count - heard);
            }
            tokio::time::sleep(LOOK_PERIOD).await;
        }
    }

    /// Takes what was said since.
    fn listen(&mut self) -> Result<()> {
        loop {
            let mut line = String::new();
            let count = self.says.read_line(&mut line)?;
            if !line.ends_with('\n') {
                // Not written to its end yet.
                return self.says.seek_relative(-(count as i64)).context("reading events");
            }
            line.pop();
            self.said.push(line);
        }
    }

    /// All heard so far, as it came.
    pub fn said(&self) -> &[String] {
        &self.said
    }

    /// All heard so far.
    pub fn events(&self) -> Result<Vec<Event>> {
        let read =
            |line: &String| serde_json::from_str(line).with_context(|| format!("not an event: {line}"));
        self.said.iter().map(read).collect()
    }

    /// Stops the process where it is, or lets it go on: what is sent to the boards meanwhile waits in their sockets.
    pub fn freeze(&self, frozen: bool) -> Result<()> {
        let signal = if frozen { dev::Signal::Stop } else { dev::Signal::Continue };
        dev::signal(i32::try_from(self.pid()?)?, signal)
    }

    /// Ends the boards in order: connections close, wills are published.
    pub async fn stop(mut self) -> Result<()> {
        dev::terminate(i32::try_from(self.pid()?)?)?;
        self.child.wait().await.context("waiting for board-host").map(drop)
    }
}
