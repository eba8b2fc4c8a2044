//! The host board: the gateway core as a Linux process, one device or thousands.
//!
//! Owns what a board owns: flash (a file), keys, counter, sockets and TLS, and the application (a script in the image).
//! Decides nothing a device decides. A SIGTERM ends it cleanly: connections close, wills are published, exit 0.

mod args;
mod events;
mod flash;
mod keys;
mod ports;
mod provision;
mod script;
mod task;
mod tls;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use clap::Parser as _;
use gateway_core::net::enroll::is_hardware_id;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::args::Args;
use crate::events::Events;
use crate::provision::Provision;
use crate::task::Shared;
use crate::tls::OsClock;

/// Between two starts when no rate is set.
const MOMENT: Duration = Duration::from_micros(1);

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_max_level(tracing::Level::WARN).init();
    tls::install_provider();
    let args = Args::parse();
    let provision = Provision::read(&args.provision)?;
    let hardware_id = hardware_id(&args)?;
    let shared = Arc::new(Shared {
        claim: Arc::new(keys::pair(provision.claim_key.secret_pkcs8_der()).context("claim_key_pem")?),
        provision,
        geometry: args.geometry,
        os_clock: OsClock(args.clock),
        events: Events { json: args.json, log_echo: args.log_echo, since: Instant::now() },
    });

    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let (stop, stopped) = watch::channel(false);
    let mut devices = JoinSet::new();
    let (mut begun, mut failed) = (0, 0);
    let mut pace =
        tokio::time::interval(Duration::from_secs(1).checked_div(args.connect_rate).unwrap_or(MOMENT));
    shared.events.started(args.count);
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = pace.tick(), if begun < args.count => {
                let folder = args.state.join(format!("{begun:05}"));
                let hardware_id = if args.count == 1 { hardware_id.clone() } else { format!("{hardware_id}-{begun}") };
                devices.spawn(task::run(shared.clone(), folder, hardware_id, stopped.clone()));
                begun += 1;
            }
            Some(ended) = devices.join_next() => {
                failed += 1;
                match ended {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => tracing::error!("device ended: {error:#}"),
                    Err(error) => tracing::error!("device ended: {error}"),
                }
                if failed == args.count {
                    bail!("no device is left");
                }
            }
        }
    }
    stop.send_replace(true);
    while devices.join_next().await.is_some() {}
    Ok(())
}

/// Names the board: as said, as kept from an earlier start, or anew at random.
fn hardware_id(args: &Args) -> anyhow::Result<String> {
    let kept = args.state.join("hardware-id");
    let id = match &args.hardware_id {
        Some(id) => id.clone(),
        None if kept.exists() => read(&kept)?,
        None => random_id()?,
    };
    let longest = if args.count == 1 { id.clone() } else { format!("{id}-{}", args.count - 1) };
    if !is_hardware_id(&longest) {
        bail!("hardware id {longest:?} is not 1 to 64 of A-Z a-z 0-9 . _ -");
    }
    std::fs::create_dir_all(&args.state).with_context(|| format!("cannot make {}", args.state.display()))?;
    std::fs::write(&kept, &id).with_context(|| format!("cannot write {}", kept.display()))?;
    Ok(id)
}

fn read(path: &Path) -> anyhow::Result<String> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(text.trim().to_owned())
}

fn random_id() -> anyhow::Result<String> {
    let mut random = [0; 8];
    SystemRandom::new().fill(&mut random).map_err(|_| anyhow::anyhow!("no randomness"))?;
    Ok(format!("host-{:016x}", u64::from_le_bytes(random)))
}
