//! A device's log at svc-logs, boot by boot.

use std::collections::BTreeSet;
use std::process::Stdio;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::world::{PATIENCE, World};

/// Records that are looked at: all there are in a scenario.
const RECORDS: &str = "1000";

/// What is known of a device's boots so far.
#[derive(Debug)]
pub struct Log<'w> {
    world: &'w World,
    device: String,
    boots: BTreeSet<String>,
}

/// The records of one boot.
#[derive(Debug)]
pub struct Boot {
    pub name: String,
    pub texts: Vec<String>,
}

impl Log<'_> {
    pub fn of<'w>(world: &'w World, device: &str) -> Log<'w> {
        Log { world, device: device.to_owned(), boots: BTreeSet::new() }
    }

    /// Waits until a boot that was not told of before has said all of this; its records up to then, of which none is missing.
    pub async fn next_boot(&mut self, all: &[&str]) -> Result<Boot> {
        let boot = self.within_patience(|name| !self.boots.contains(name), all).await?;
        self.boots.insert(boot.name.clone());
        Ok(boot)
    }

    /// The same for a boot of this name, told of before or not.
    pub async fn boot(&self, name: &str, all: &[&str]) -> Result<Boot> {
        self.within_patience(|other| other == name, all).await
    }

    async fn within_patience(&self, wanted: impl Fn(&str) -> bool, all: &[&str]) -> Result<Boot> {
        let told = tokio::time::timeout(PATIENCE, self.find(wanted, all)).await;
        told.with_context(|| format!("no boot of {} said {all:?}", self.device))?
    }

    async fn find(&self, wanted: impl Fn(&str) -> bool, all: &[&str]) -> Result<Boot> {
        let words = ["logs", self.device.as_str(), "--follow", "--last", RECORDS, "--json"];
        let mut follow = self.world.command(&words)?.stdout(Stdio::piped()).spawn()?;
        let mut lines = BufReader::new(follow.stdout.take().context("no stdout")?).lines();
        let mut boots: Vec<Boot> = Vec::new();
        while let Some(line) = lines.next_line().await? {
            let record: Value = serde_json::from_str(&line)?;
            let field = |key: &str| record[key].as_str().unwrap_or_default().to_owned();
            let name = field("boot");
            if !wanted(&name) {
                continue;
            }
            let at = boots.iter().position(|boot| boot.name == name).unwrap_or_else(|| {
                boots.push(Boot { name, texts: Vec::new() });
                boots.len() - 1
            });
            let boot = &mut boots[at];
            boot.texts.push(field("text"));
            let sequence =
                record["sequence"].as_str().and_then(|it| it.parse().ok()).or(record["sequence"].as_u64());
            ensure!(sequence == Some(boot.texts.len() as u64), "a gap before {record}");
            if all.iter().all(|text| boot.texts.iter().any(|said| said.contains(text))) {
                return Ok(boots.swap_remove(at));
            }
        }
        bail!("the log ended; it had {boots:?}")
    }
}
