//! `holdfast run`: from the sources of a project to a device that runs them, and what it says.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result};
use clap::{Args as _, FromArgMatches};
use proto::registry::v1::ListDevicesRequest;

use crate::args::Global;
use crate::command::bundle::{self, Create};
use crate::command::{PAGE_SIZE, collect, deploy, logs};
use crate::failure::input;
use crate::output;
use crate::project::{FILE, Project};
use crate::session::Session;

/// Devices that an error names.
const NAMED_MAX: usize = 5;

/// Build, bundle and deploy the project in this folder, wait until it is confirmed, and show what it logged.
///
/// What is done stands in holdfast.toml, which `holdfast new app` makes. Exits as `deploy` does.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  holdfast run                  # on the tenant's only board of this kind\n  holdfast run --device dv… -f  # and go on with its log"
)]
pub(crate) struct Args {
    /// Device: dv… or its resource name. Without it, the tenant's only one with the project's board.
    #[arg(long)]
    device: Option<String>,
    /// Folder with holdfast.toml. Without it, the nearest: this one, or one above it.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Version people will see, instead of that in holdfast.toml.
    #[arg(long, value_name = "VERSION")]
    version: Option<String>,
    /// Deploy what is built already.
    #[arg(long)]
    no_build: bool,
    /// Go on with its log until Ctrl-C.
    #[arg(short, long)]
    follow: bool,
}

pub(crate) async fn run(global: &Global, args: &Args) -> Result<()> {
    let dir = folder(args)?;
    let mut project = Project::read(&dir)?;
    if let Some(version) = &args.version {
        project.app.version.clone_from(version);
    }
    if args.no_build {
        project.is_built(&dir)?;
    } else {
        project.build(&dir)?;
    }
    let bundle = project.bundle(&dir)?;
    bundle::create(global, &create(&project, &dir, &bundle)?)?;
    let device = match &args.device {
        Some(device) => device.clone(),
        None => only_device(global, &project.app.board).await?,
    };
    let started = SystemTime::now();
    let deployed = deploy::run(global, &deploy::Args::of(&device, &bundle)?).await;
    // Where it was not confirmed its log is what one needs.
    let since = started.elapsed().unwrap_or_default() + Duration::from_secs(1);
    let logged = logs::run(global, &logs::Args::since(&device, since)).await;
    deployed.and(logged)?;
    if args.follow {
        return logs::run(global, &logs::Args::following(&device)).await;
    }
    Ok(())
}

fn folder(args: &Args) -> Result<PathBuf> {
    if let Some(dir) = &args.dir {
        return Ok(dir.clone());
    }
    let here = std::path::absolute(".").context("cannot tell which folder this is")?;
    Ok(Project::folder(&here).unwrap_or(&here).to_owned())
}

/// The arguments of `bundle create`, judged as if they had been typed.
fn create(project: &Project, dir: &Path, bundle: &Path) -> Result<Create> {
    let words = project.create_words(dir, bundle)?;
    let command = Create::augment_args(clap::Command::new(FILE).no_binary_name(true));
    let matches = command.try_get_matches_from(words);
    matches.and_then(|matches| Create::from_arg_matches(&matches)).map_err(|error| {
        input(format!("{FILE}: {}", error.to_string().trim_start_matches("error: ").trim_end()))
    })
}

async fn only_device(global: &Global, board: &str) -> Result<String> {
    let session = Session::open(global).await?;
    let mut client = session.devices().await?;
    let devices = collect(NAMED_MAX + 1, async |page_token| {
        let request = ListDevicesRequest {
            parent: session.tenant(),
            page_size: PAGE_SIZE,
            page_token,
            filter: format!("board={board} AND revoked=false"),
        };
        let reply = client.list_devices(request).await?.into_inner();
        Ok((reply.devices, reply.next_page_token))
    });
    let devices = devices.await.context("cannot list devices")?;
    let mut names: Vec<&str> = devices.iter().map(|device| output::id(&device.name)).collect();
    match names.as_slice() {
        [only] => Ok((*only).to_owned()),
        [] => Err(input(format!(
            "no device with the board {board}: enrol one (`cargo dev board` emulates one)"
        ))),
        _ => {
            let more = if names.len() > NAMED_MAX { ", …" } else { "" };
            names.truncate(NAMED_MAX);
            Err(input(format!("which device? give --device with one of {}{more}", names.join(", "))))
        }
    }
}
