//! `cargo dev demo` as a newcomer runs it, setup and build aside.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

/// How long a demonstration may take on a busy machine.
const DEMO_MAX: Duration = Duration::from_secs(180);

#[tokio::test]
async fn the_demo_of_a_made_board_ends_with_a_table_of_a_confirmed_update_and_one_reverted() -> Result<()> {
    ends_with_its_table("an505", &[("2.0.0", "confirmed"), ("3.0.0", "reverted")]).await
}

#[tokio::test]
async fn the_demo_gives_the_host_board_its_first_application_too() -> Result<()> {
    let updates = [("1.0.0", "confirmed"), ("2.0.0", "confirmed"), ("3.0.0", "reverted")];
    ends_with_its_table("host", &updates).await
}

async fn ends_with_its_table(board: &str, updates: &[(&str, &str)]) -> Result<()> {
    let output = tokio::time::timeout(DEMO_MAX, demo(board)?.wait_with_output()).await??;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(
        output.status.success(),
        "{}\n{said}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    let table = said.split("what the API says of it").nth(1).context("no table")?;
    for (version, state) in updates {
        assert!(table.lines().any(|line| line.contains(version) && line.contains(state)), "{table}");
    }
    assert!(table.lines().any(|line| line.contains("online") && line.contains(board)), "{table}");
    Ok(())
}

#[tokio::test]
async fn the_demo_fails_when_svc_ota_is_killed_mid_way() -> Result<()> {
    let mut demo = demo("host")?;
    let pid = demo.id().context("it runs")?;
    let mut lines = BufReader::new(demo.stdout.take().context("no output")?).lines();
    let at_the_update = async {
        while let Some(line) = lines.next_line().await? {
            if line.contains("version 1.0.0: signed here") {
                return anyhow::Ok(());
            }
        }
        anyhow::bail!("the demonstration ended before any update")
    };
    tokio::time::timeout(DEMO_MAX, at_the_update).await??;
    let ota = child_of(pid, "svc-ota")?;
    ensure!(Command::new("sh").args(["-c", &format!("kill -9 {ota}")]).status().await?.success());

    // Its own last words go to a pipe nobody else reads: drain it, or it would wait for us.
    let drained = async {
        while lines.next_line().await?.is_some() {}
        anyhow::Ok(())
    };
    let (drained, output) =
        tokio::time::timeout(DEMO_MAX, async { tokio::join!(drained, demo.wait_with_output()) }).await?;
    drained?;
    let output = output?;
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{said}");
    assert!(said.contains("svc-ota ended by itself"), "{said}");
    Ok(())
}

fn demo(board: &str) -> Result<Child> {
    let mut command = Command::new(dev::binary("dev")?);
    command
        .args(["demo", "--built", "--board", board])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command.spawn().context("starting the demonstration")
}

/// The child of a process that runs a program of this name.
fn child_of(parent: u32, name: &str) -> Result<u32> {
    let needle = format!("({name}) ");
    for entry in std::fs::read_dir("/proc")?.flatten() {
        let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else { continue };
        // proc(5): pid (comm) state ppid …
        let Some((pid, rest)) = stat.split_once(&needle) else { continue };
        if rest.split(' ').nth(1) == Some(&parent.to_string()) {
            return Ok(pid.trim().parse()?);
        }
    }
    anyhow::bail!("process {parent} has no child {name}")
}
