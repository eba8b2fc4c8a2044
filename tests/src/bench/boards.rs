//! A process of many boards, heard cheaply: lines are kept as they come and read when the run is over, so that
//! listening takes little from what is measured. Times are the boards' own (`t_us`), not those of our reading.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

/// How long boards may take to do what is waited for.
const PATIENCE: Duration = Duration::from_secs(180);

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
    lines: Lines<BufReader<ChildStdout>>,
    said: Vec<String>,
}

impl Boards {
    /// Starts `count` boards in one process; the same state folder is the same boards.
    pub fn start(provision: &Path, state: &Path, log: &Path, count: usize) -> Result<Boards> {
        let mut command = Command::new(dev::binary("board-host")?);
        command.arg("--provision").arg(provision).arg("--state").arg(state);
        command.args(["--json", "--hardware-id", "bench", "--count", &count.to_string()]);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(log)?)
            .kill_on_drop(true);
        let mut child = command.spawn().context("starting board-host")?;
        let lines = BufReader::new(child.stdout.take().context("no stdout")?).lines();
        Ok(Boards { child, lines, said: Vec::new() })
    }

    pub fn pid(&self) -> Result<u32> {
        self.child.id().context("board-host has ended")
    }

    /// Listens until `count` lines contain `text`.
    pub async fn until(&mut self, text: &str, count: usize) -> Result<()> {
        let mut left = count - self.said.iter().filter(|line| line.contains(text)).count().min(count);
        let listening = async {
            while left > 0 {
                let Some(line) = self.lines.next_line().await? else { bail!("board-host ended") };
                left -= usize::from(line.contains(text));
                self.said.push(line);
            }
            Ok(())
        };
        tokio::time::timeout(PATIENCE, listening)
            .await
            .map_err(|_| anyhow::anyhow!("{left} of {count} boards did not say {text}"))?
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
        // Whatever they still say must not block them.
        while let Ok(Some(_)) = self.lines.next_line().await {}
        self.child.wait().await.context("waiting for board-host").map(drop)
    }
}
