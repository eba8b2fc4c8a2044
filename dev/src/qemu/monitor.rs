//! QEMU's machine protocol: commands one at a time, and the resets it tells of.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Mutex, mpsc, watch};

/// How long QEMU may take for an answer.
const ANSWER_MAX: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(super) struct Monitor {
    channel: Mutex<(OwnedWriteHalf, mpsc::Receiver<Value>)>,
    resets: watch::Receiver<u64>,
}

impl Monitor {
    /// Greets: commands are taken from now on.
    pub(super) async fn open(stream: UnixStream) -> Result<Monitor> {
        let (input, output) = stream.into_split();
        // One command is under way at a time: one answer.
        let (answers_tx, answers) = mpsc::channel(1);
        let (resets_tx, resets) = watch::channel(0);
        tokio::spawn(hear(input, answers_tx, resets_tx));
        let monitor = Monitor { channel: Mutex::new((output, answers)), resets };
        monitor.run("qmp_capabilities").await?;
        Ok(monitor)
    }

    /// Runs a command without arguments.
    pub(super) async fn run(&self, command: &str) -> Result<()> {
        let mut channel = self.channel.lock().await;
        let (output, answers) = &mut *channel;
        let line = format!("{}\n", json!({ "execute": command }));
        let run = async {
            output.write_all(line.as_bytes()).await?;
            answers.recv().await.context("QEMU is gone")
        };
        let answer = tokio::time::timeout(ANSWER_MAX, run).await;
        let answer = answer.with_context(|| format!("QEMU did not answer to `{command}`"))??;
        if answer.get("return").is_none() {
            bail!("QEMU refused `{command}`: {answer}");
        }
        Ok(())
    }

    pub(super) fn resets(&self) -> u64 {
        *self.resets.borrow()
    }

    pub(super) async fn reset_seen(&self, count: u64, within: Duration) -> Result<()> {
        let mut resets = self.resets.clone();
        let seen = tokio::time::timeout(within, resets.wait_for(|seen| *seen >= count)).await;
        seen.with_context(|| format!("{} of {count} resets within {within:?}", self.resets()))?
            .map(drop)
            .context("the board ended")
    }
}

/// Events come between answers whenever they like.
async fn hear(input: OwnedReadHalf, answers: mpsc::Sender<Value>, resets: watch::Sender<u64>) {
    let mut lines = BufReader::new(input).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let Ok(message) = serde_json::from_str::<Value>(&line) else { continue };
        if message.get("return").is_some() || message.get("error").is_some() {
            // Nobody waits any more: the board is being dropped.
            let _ = answers.send(message).await;
        } else if message["event"] == "RESET" {
            resets.send_modify(|count| *count += 1);
        }
    }
}
