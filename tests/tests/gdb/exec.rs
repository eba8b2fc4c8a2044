//! `holdfast debug --exec`: the gdb that it starts, told nothing but what one would type.

use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use scenarios::an505::patient::Patient;
use scenarios::gdb;
use scenarios::world::PATIENCE;
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

/// A line each; gdb takes them one after the other.
const TYPED: &str = "break leaf if a == 3\ncontinue\nbacktrace\nfinish\nprint links[1].sample.value\nhbreak work\n\
                     delete\nmonitor info\ntbreak main\nrun\ndetach\nquit\n";

#[tokio::test]
async fn gdb_is_started_with_all_that_it_needs_to_know() -> Result<()> {
    let patient = Patient::new("exec").await?;
    let (board, device) = patient.start().await?;
    let scenario = async {
        let exec = format!("--exec={}", gdb::program().display());
        let mut command = patient.world.command(&["debug", &device, &exec])?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        let mut stdin = child.stdin.take().context("no stdin")?;
        stdin.write_all(TYPED.as_bytes()).await?;
        drop(stdin);
        let ended = timeout(PATIENCE, child.wait_with_output()).await.context("it does not end")??;
        let (said, why) = (String::from_utf8_lossy(&ended.stdout), String::from_utf8_lossy(&ended.stderr));
        ensure!(ended.status.success(), "{}: {said}{why}", ended.status);
        for answer in [
            "leaf (a=a@entry=3, b=b@entry=1) at main.c",
            " in main () at main.c",
            "Value returned is $1 = 8",
            "$2 = 50",
            "Temporary breakpoint 2, main () at main.c",
        ] {
            ensure!(said.contains(answer), "no `{answer}`: {said}{why}");
        }
        // What it can only know from us: there is no breakpoint of the hardware here.
        for answer in ["No hardware breakpoint support", "what the device runs: code is read from it"] {
            ensure!(why.contains(answer), "no `{answer}`: {said}{why}");
        }
        Ok(())
    };
    patient.world.undisturbed(&board, scenario).await?;
    board.cut_power().await
}
