//! `cargo dev reset`: back to a fresh checkout, builds aside.
//!
//! Whoever runs a stack holds the lock of its directory and has written its process id there, so only that very process is asked to stop;
//! its children end with it.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// How long the owner of a stack may take to stop it.
const STOP_MAX: Duration = Duration::from_secs(60);

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {}

pub(crate) async fn run(_: &Arguments) -> Result<()> {
    let home = dev::dot_dev();
    for parent in [home.clone(), home.join("run")] {
        let Ok(entries) = std::fs::read_dir(parent) else { continue };
        for dir in entries.flatten().map(|entry| entry.path()) {
            stop_owner(&dir).await?;
        }
    }
    for dir in [home, dev::elsewhere()] {
        match std::fs::remove_dir_all(&dir) {
            Ok(()) => println!("removed {}", dir.display()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(|| format!("removing {}", dir.display())),
        }
    }
    Ok(())
}

async fn stop_owner(dir: &Path) -> Result<()> {
    let file = dir.join("lock");
    let Ok(lock) = File::open(&file) else { return Ok(()) };
    if lock.try_lock().is_ok() {
        return Ok(());
    }
    let Ok(pid) = std::fs::read_to_string(&file)?.trim().parse::<i32>() else { return Ok(()) };
    println!("stopping process {pid}, which runs {}", dir.display());
    dev::terminate(pid)?;
    let released = tokio::task::spawn_blocking(move || lock.lock());
    match tokio::time::timeout(STOP_MAX, released).await {
        Ok(outcome) => Ok(outcome??),
        Err(_) => bail!("process {pid} still runs {}: stop it and try again", dir.display()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[tokio::test]
    async fn the_owner_of_a_stack_is_stopped_before_its_state_goes() -> Result<()> {
        let dir = dev::dot_dev().join(format!("reset-{}", std::process::id()));
        std::fs::create_dir_all(&dir)?;
        // Holds the lock, says who it is, and waits: what a stack's owner does.
        let script = r#"exec 9>>"$0"; flock 9; echo $$ >&9; echo ready; exec sleep 600"#;
        let mut owner = Command::new("sh");
        let mut owner = owner.args(["-c", script]).arg(dir.join("lock")).stdout(Stdio::piped()).spawn()?;
        let mut ready = [0; 6];
        std::io::Read::read_exact(&mut owner.stdout.take().context("no output")?, &mut ready)?;

        stop_owner(&dir).await?;
        assert!(!owner.wait()?.success(), "it was ended by a signal");
        stop_owner(&dir).await?;
        std::fs::remove_dir_all(dir)?;
        Ok(())
    }
}
