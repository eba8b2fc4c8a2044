//! The `holdfast` command line, run against one installation with a home folder of its own.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use dev::{Service, Stack};
use tokio::process::Command;

/// `holdfast` for one stack: nothing of the user's own contexts is read or changed.
#[derive(Debug, Clone)]
pub(crate) struct Cli {
    program: PathBuf,
    pub(crate) home: PathBuf,
}

impl Cli {
    pub(crate) fn new(stack: &Stack) -> Result<Cli> {
        Cli::at(&stack.dir().join("home"))
    }

    /// The same, for a stack that another process runs.
    pub(crate) fn at(home: &Path) -> Result<Cli> {
        Ok(Cli { program: dev::binary("holdfast")?, home: home.to_path_buf() })
    }

    /// A command to be run by the caller, with a folder of key files as its working directory.
    pub(crate) fn command(&self, arguments: &[&str]) -> Result<Command> {
        std::fs::create_dir_all(&self.home)?;
        let mut command = Command::new(&self.program);
        command.args(arguments).env("HOLDFAST_HOME", &self.home).current_dir(&self.home).kill_on_drop(true);
        Ok(command)
    }

    /// Runs to the end and returns what it printed; an error quotes what it complained about.
    pub(crate) async fn run(&self, arguments: &[&str]) -> Result<String> {
        let mut command = self.command(arguments)?;
        let output = command.stdin(Stdio::null()).output().await.context("starting holdfast")?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            bail!("holdfast {} failed ({}): {said}", arguments.join(" "), output.status);
        }
        Ok(String::from_utf8(output.stdout)?.trim_end().to_owned())
    }

    /// Becomes the first administrator, unless this installation has one already.
    pub(crate) async fn bootstrap(&self, stack: &Stack, tenant: &str) -> Result<()> {
        if self.home.join("config.toml").is_file() {
            return Ok(());
        }
        let code = stack.bootstrap_code().await?;
        let ca = stack.server_ca_file();
        let mut command = self.command(&["bootstrap", "--tenant", tenant])?;
        command.arg("--ca").arg(ca).env("HOLDFAST_BOOTSTRAP_CODE", code);
        for (flag, service) in [
            ("--registry", Service::Registry),
            ("--ota", Service::Ota),
            ("--logs", Service::Logs),
            ("--debug", Service::DebugRelay),
        ] {
            command.arg(flag).arg(stack.grpc_url(service));
        }
        let output = command.stdin(Stdio::null()).output().await.context("starting holdfast")?;
        if !output.status.success() {
            bail!("holdfast bootstrap failed: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(())
    }
}
