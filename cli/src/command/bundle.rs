//! `holdfast bundle`: from an ELF file or image to something a device will install.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::{Subcommand, ValueEnum};
use proto::ota::v1::{Bundle, DeleteBundleRequest, GetBundleRequest, ListBundlesRequest};

use crate::args::{Global, Page};
use crate::command::{PAGE_SIZE, collect, fresh_request_id, parse_duration, parse_size};
use crate::output;
use crate::session::Session;
use crate::signer::{SIGNER_HELP, SignerRef};

mod create;
mod inspect;
mod symbols;
pub(crate) mod upload;

const BUNDLE: &str = "holdfast.ota.v1.Bundle";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make and sign a bundle from an ELF file or a raw image.
    #[command(
        after_help = "Example:\n  holdfast bundle create --image app.elf --board host --version 1.2.0 --counter 7 \\\n    --key keys/release.pem --out app-1.2.0.hfb"
    )]
    Create(Box<Create>),
    /// Show what a bundle file says, without believing it.
    Inspect { file: PathBuf },
    /// Check a bundle file as the server and devices will: every digest, and the signature against the tenant's keyset.
    #[command(
        after_help = "Example:\n  holdfast bundle verify app.hfb                    # against the tenant's newest keyset\n  holdfast bundle verify app.hfb --keyset keyset-1.cose  # offline"
    )]
    Verify {
        file: PathBuf,
        /// Check against this keyset file instead of the tenant's newest.
        #[arg(long, value_name = "FILE")]
        keyset: Option<PathBuf>,
    },
    /// Send a bundle to the server, and the ELF file it was made from. Run it again to go on after an interruption.
    ///
    /// `bundle create` leaves the ELF file beside the bundle (`app.hfb.elf`). Crash reports of the bundle are read with it, by those who
    /// may debug; no device gets it.
    #[command(
        after_help = "Examples:\n  holdfast bundle upload app.hfb\n  holdfast bundle upload app.hfb --symbols build/app.elf"
    )]
    Upload(Upload),
    /// List bundles.
    List(Page),
    /// Show one bundle.
    Show { bundle: String },
    /// Delete a bundle that nothing uses.
    Delete { bundle: String },
}

#[derive(Debug, clap::Args)]
pub(crate) struct Upload {
    file: PathBuf,
    /// ELF file to send instead of the one beside the bundle.
    #[arg(long, value_name = "FILE", conflicts_with = "no_symbols")]
    symbols: Option<PathBuf>,
    /// Send no ELF file.
    #[arg(long)]
    no_symbols: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Create {
    /// ELF file (its loadable segments; a copy is kept beside the bundle) or raw image.
    #[arg(long, value_name = "FILE")]
    image: PathBuf,
    /// Board it runs on.
    #[arg(long)]
    board: String,
    #[arg(long, value_enum, default_value = "app")]
    component: ComponentArg,
    /// Version people will see; a microvisor's is MAJOR.MINOR.PATCH, which `--microvisor-min` is compared with.
    #[arg(long, value_name = "VERSION")]
    version: String,
    /// Security counter: a device never goes below the highest one committed.
    #[arg(long, value_name = "N")]
    counter: u64,
    #[arg(long, value_name = "SIGNER", help = format!("Release key: {SIGNER_HELP}"))]
    key: SignerRef,
    /// Bundle file to write.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// What a new version must do to be kept.
    #[arg(long, value_enum, default_value = "healthy")]
    confirm: ConfirmArg,
    /// How long a new version may take until it is healthy; a microvisor: until the server has answered it.
    #[arg(long, value_parser = parse_duration, default_value = "5m", value_name = "TIME")]
    trial: Duration,
    /// How long it must then stay up.
    #[arg(long, value_parser = parse_duration, default_value = "30s", value_name = "TIME")]
    stable: Duration,
    /// How many starts a new version gets.
    #[arg(long, default_value_t = 3, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=16))]
    attempts: u8,
    /// How long it may put off the update that will replace it.
    #[arg(long, value_parser = parse_duration, default_value = "0s", value_name = "TIME")]
    polite: Duration,
    /// How long the device may be offline at most while its application asks for no connection; 0: always connected.
    #[arg(long, value_parser = parse_duration, default_value = "0s", value_name = "TIME")]
    check_in: Duration,
    /// How long a connection is kept after nobody needs it any more.
    #[arg(long, value_parser = parse_duration, default_value = "0s", value_name = "TIME")]
    grace: Duration,
    /// Raise the floor by itself so long after confirmation; without it only the server's commit does.
    #[arg(long, value_parser = parse_duration, value_name = "TIME")]
    commit_after: Option<Duration>,
    /// Lowest microvisor version it runs on.
    #[arg(long, default_value = "0.0.0", value_name = "VERSION")]
    microvisor_min: String,
    /// Public keys that may debug it: 64 hex digits, or a file with them, as `holdfast debug key create` makes it.
    #[arg(long, value_name = "KEY")]
    debug_key: Vec<String>,
    /// How long a fault is held for one who debugs, since his last word; 0: not at all. At most 1h.
    #[arg(long, value_parser = parse_duration, default_value = "0s", value_name = "TIME")]
    debug_hold: Duration,
    /// How much of its memory is kept of a crash and sent, for `holdfast crash gdb`: bytes, or with K; 0: none. At most 64K.
    #[arg(long, value_parser = parse_size, default_value = "0", value_name = "SIZE")]
    crash_memory: u32,
    /// Unix time of the build instead of now, for reproducible bundles.
    #[arg(long, value_name = "SECONDS", env = "SOURCE_DATE_EPOCH")]
    build_time: Option<u64>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum ComponentArg {
    App,
    Microvisor,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum ConfirmArg {
    /// It must call `healthy`.
    Healthy,
    /// It must merely run.
    Running,
}

/// Makes a bundle and shows it.
pub(crate) fn create(global: &Global, args: &Create) -> Result<()> {
    create::run(global, args)
}

pub(crate) async fn run(global: &Global, command: &Command) -> Result<()> {
    match command {
        Command::Create(args) => create::run(global, args),
        Command::Inspect { file } => inspect::inspect(global, file),
        Command::Verify { file, keyset } => inspect::verify(global, file, keyset.as_deref()).await,
        Command::Upload(args) => upload::run(global, args).await,
        Command::List(page) => list(global, page).await,
        Command::Show { bundle } => {
            let session = Session::open(global).await?;
            let request = GetBundleRequest { name: session.name("bundles", bundle) };
            show(global, &session.bundles().await?.get_bundle(request).await?.into_inner())
        }
        Command::Delete { bundle } => {
            let session = Session::open(global).await?;
            let request = DeleteBundleRequest {
                name: session.name("bundles", bundle),
                request_id: fresh_request_id(),
                ..Default::default()
            };
            session.bundles().await?.delete_bundle(request).await.context("cannot delete the bundle")?;
            Ok(())
        }
    }
}

async fn list(global: &Global, page: &Page) -> Result<()> {
    let session = Session::open(global).await?;
    let mut client = session.bundles().await?;
    let all = collect(page.limit, async |page_token| {
        let request = ListBundlesRequest { parent: session.tenant(), page_size: PAGE_SIZE, page_token };
        let reply = client.list_bundles(request).await?.into_inner();
        Ok((reply.bundles, reply.next_page_token))
    });
    let bundles = all.await?;
    if global.json {
        return bundles.iter().try_for_each(|bundle| output::json(BUNDLE, bundle));
    }
    let row = |b: &Bundle| {
        vec![
            output::id(&b.name).to_owned(),
            b.component.clone(),
            b.board.clone(),
            b.version.clone(),
            b.security_counter.to_string(),
            b.size.to_string(),
            output::time(b.create_time.as_ref()),
        ]
    };
    output::table(
        &["ID", "COMPONENT", "BOARD", "VERSION", "COUNTER", "BYTES", "CREATED"],
        &bundles.iter().map(row).collect::<Vec<_>>(),
    )
}

fn show(global: &Global, bundle: &Bundle) -> Result<()> {
    if global.json {
        return output::json(BUNDLE, bundle);
    }
    output::fields(&[
        ("name", bundle.name.clone()),
        ("manifest", bundle.manifest_digest.clone()),
        ("component", bundle.component.clone()),
        ("board", bundle.board.clone()),
        ("version", bundle.version.clone()),
        ("counter", bundle.security_counter.to_string()),
        ("bytes", bundle.size.to_string()),
        ("created", output::time(bundle.create_time.as_ref())),
    ])
}
