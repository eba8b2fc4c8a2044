//! `holdfast deploy` and `holdfast deployment`: what one device should run, and how it comes to run it.

use std::path::Path;

use anyhow::{Context as _, Result, bail};
use clap::Subcommand;
use indicatif::{ProgressBar, ProgressStyle};
use proto::ota::v1::deployment::State;
use proto::ota::v1::{
    CancelDeploymentRequest, CreateDeploymentRequest, Deployment, GetDeploymentRequest,
    ListDeploymentsRequest, WatchDeploymentRequest, WatchDeploymentResponse,
};
use tonic::Streaming;

use crate::args::{Global, Page};
use crate::command::again::{goes_on, opened};
use crate::command::bundle::upload;
use crate::command::{PAGE_SIZE, collect, fresh_request_id};
use crate::failure::Failure;
use crate::output;
use crate::session::Session;

const DEPLOYMENT: &str = "holdfast.ota.v1.Deployment";

/// Tell one device to run a bundle, and watch until it is confirmed or taken back.
///
/// Exits 0 when the device confirmed the bundle and 7 when the update ended otherwise. A microvisor is confirmed when this server answers it; one
/// that was not reached before its deadline is taken back as `inconclusive`, one that crashes or hangs as `failed`.
///
/// A device has one update at a time: of two, its microvisor's goes first, and the other waits as `pending`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  holdfast deploy dv… bn…\n  holdfast deploy dv… app-1.2.0.hfb")]
pub(crate) struct Args {
    /// Device: dv… or its resource name.
    device: String,
    /// Bundle: bn…, its resource name, or a bundle file, which is uploaded first.
    bundle: String,
    /// Return as soon as the deployment is recorded.
    #[arg(long)]
    no_wait: bool,
    /// Name this deployment (a UUID): given again within a day it is not made again, but watched.
    #[arg(long, value_name = "UUID")]
    request_id: Option<String>,
}

impl Args {
    /// A bundle file for a device, waited for.
    pub(crate) fn of(device: &str, bundle: &Path) -> Result<Args> {
        let bundle = bundle.to_str().context("the bundle's path is not UTF-8")?.to_owned();
        Ok(Args { device: device.to_owned(), bundle, no_wait: false, request_id: None })
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List deployments, newest first.
    List {
        /// Only this device's.
        #[arg(long)]
        device: Option<String>,
        #[command(flatten)]
        page: Page,
    },
    /// Show one deployment.
    Show { deployment: String },
    /// Watch one deployment until it ends; exit codes as for `deploy`.
    Watch { deployment: String },
    /// End a deployment that has not begun to install.
    Cancel { deployment: String },
}

pub(crate) async fn run(global: &Global, args: &Args) -> Result<()> {
    let session = Session::open(global).await?;
    let file = Path::new(&args.bundle);
    let bundle = match file.is_file() {
        true => upload::send(global, &session, file).await?.name,
        false => session.name("bundles", &args.bundle),
    };
    let request = CreateDeploymentRequest {
        parent: session.tenant(),
        device: session.name("devices", &args.device),
        bundle,
        request_id: args.request_id.clone().unwrap_or_else(fresh_request_id),
        ..Default::default()
    };
    let deployment =
        session.deployments().await?.create_deployment(request).await.context("cannot deploy")?.into_inner();
    if args.no_wait {
        return show(global, &deployment);
    }
    watch(global, &session, deployment.name).await
}

pub(crate) async fn command(global: &Global, command: &Command) -> Result<()> {
    let session = Session::open(global).await?;
    let mut client = session.deployments().await?;
    let name = |id: &str| session.name("deployments", id);
    match command {
        Command::List { device, page } => {
            let device = device.as_ref().map(|id| session.name("devices", id)).unwrap_or_default();
            let all = collect(page.limit, async |page_token| {
                let request = ListDeploymentsRequest {
                    parent: session.tenant(),
                    page_size: PAGE_SIZE,
                    page_token,
                    device: device.clone(),
                };
                let reply = client.list_deployments(request).await?.into_inner();
                Ok((reply.deployments, reply.next_page_token))
            });
            list(global, &all.await?)
        }
        Command::Show { deployment } => show(
            global,
            &client.get_deployment(GetDeploymentRequest { name: name(deployment) }).await?.into_inner(),
        ),
        Command::Watch { deployment } => watch(global, &session, name(deployment)).await,
        Command::Cancel { deployment } => show(
            global,
            &client
                .cancel_deployment(CancelDeploymentRequest {
                    name: name(deployment),
                    request_id: fresh_request_id(),
                    ..Default::default()
                })
                .await?
                .into_inner(),
        ),
    }
}

async fn watch(global: &Global, session: &Session, name: String) -> Result<()> {
    let mut token = String::new();
    let mut stream = changes(session, &name, &token).await?;
    let bar = progress_bar(global)?;
    let mut last: Option<Deployment> = None;
    loop {
        match stream.message().await {
            Ok(Some(WatchDeploymentResponse { deployment: Some(deployment), resume_token, .. })) => {
                report(global, &bar, last.as_ref(), &deployment)?;
                last = Some(deployment);
                token = resume_token;
            }
            Ok(Some(_)) => {}
            Ok(None) if last.as_ref().is_some_and(|last| is_final(last.state())) => break,
            Err(status) if !goes_on(&status) => return Err(status.into()),
            Ok(None) | Err(_) => {
                let (name, token) = (&name, &token);
                stream =
                    opened(global, async |session: &Session| changes(session, name, token).await).await?;
            }
        }
    }
    bar.finish_and_clear();
    match last {
        Some(end) if end.state() == State::Confirmed => Ok(()),
        Some(end) => Err(Failure::Update(ending(&end)).into()),
        None => bail!("the server ended the stream without a word"),
    }
}

async fn changes(session: &Session, name: &str, token: &str) -> Result<Streaming<WatchDeploymentResponse>> {
    let request = WatchDeploymentRequest { name: name.to_owned(), resume_token: token.to_owned() };
    Ok(session.deployments().await?.watch_deployment(request).await?.into_inner())
}

fn report(global: &Global, bar: &ProgressBar, last: Option<&Deployment>, now: &Deployment) -> Result<()> {
    if global.json {
        return output::json(DEPLOYMENT, now);
    }
    bar.set_length(u64::try_from(now.bytes_total).unwrap_or(0));
    bar.set_position(u64::try_from(now.bytes_done).unwrap_or(0));
    bar.set_message(state(now));
    if last.map(Deployment::state) != Some(now.state()) {
        bar.suspend(|| output::line(&format!("{}  {}", output::time(now.update_time.as_ref()), state(now))))?;
    }
    Ok(())
}

fn progress_bar(global: &Global) -> Result<ProgressBar> {
    if global.json {
        return Ok(ProgressBar::hidden());
    }
    let style =
        ProgressStyle::with_template("{msg:12} [{bar:40}] {bytes}/{total_bytes} {binary_bytes_per_sec}")?;
    Ok(ProgressBar::new(0).with_style(style.progress_chars("=> ")))
}

fn is_final(state: State) -> bool {
    matches!(
        state,
        State::Confirmed | State::Reverted | State::Refused | State::Cancelled | State::Superseded
    )
}

fn state(deployment: &Deployment) -> String {
    deployment.state().as_str_name().trim_start_matches("STATE_").to_lowercase()
}

fn ending(deployment: &Deployment) -> String {
    let reason = match deployment.reason.as_str() {
        "" => String::new(),
        reason => format!(" ({reason}{})", meaning(reason)),
    };
    format!("version {} was not confirmed: {}{reason}", deployment.version, state(deployment))
}

/// Reasons about which different things are to be done.
fn meaning(reason: &str) -> &'static str {
    match reason {
        "inconclusive" => {
            ": the server did not answer it before its deadline; it may be good, deploy it again"
        }
        "failed" => ": it crashed or hung as often as it may start; the version before runs",
        _ => "",
    }
}

fn show(global: &Global, deployment: &Deployment) -> Result<()> {
    if global.json {
        return output::json(DEPLOYMENT, deployment);
    }
    output::fields(&[
        ("name", deployment.name.clone()),
        ("device", output::id(&deployment.device).to_owned()),
        ("bundle", output::id(&deployment.bundle).to_owned()),
        ("component", deployment.component.clone()),
        ("version", deployment.version.clone()),
        ("state", state(deployment)),
        ("reason", deployment.reason.clone()),
        ("bytes", format!("{}/{}", deployment.bytes_done, deployment.bytes_total)),
        ("committed", deployment.committed.to_string()),
        ("created", output::time(deployment.create_time.as_ref())),
        ("updated", output::time(deployment.update_time.as_ref())),
    ])
}

fn list(global: &Global, deployments: &[Deployment]) -> Result<()> {
    if global.json {
        return deployments.iter().try_for_each(|deployment| output::json(DEPLOYMENT, deployment));
    }
    let row = |d: &Deployment| {
        vec![
            output::id(&d.name).to_owned(),
            output::id(&d.device).to_owned(),
            d.component.clone(),
            d.version.clone(),
            state(d),
            d.reason.clone(),
            output::time(d.update_time.as_ref()),
        ]
    };
    output::table(
        &["ID", "DEVICE", "COMPONENT", "VERSION", "STATE", "REASON", "UPDATED"],
        &deployments.iter().map(row).collect::<Vec<_>>(),
    )
}
