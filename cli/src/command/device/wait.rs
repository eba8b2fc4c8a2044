//! `holdfast device wait`: for scripts, which want the ids of devices that are there and nothing else.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use proto::registry::v1::watch_devices_response::Kind;
use proto::registry::v1::{Device, Presence};

use super::{Changes, DEVICE, running};
use crate::args::Global;
use crate::command::parse_duration;
use crate::failure::Failure;
use crate::output;
use crate::session::Session;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How many devices must be online.
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    count: u32,
    /// Only devices that run this version of the application, confirmed.
    #[arg(long, value_name = "VERSION")]
    running: Option<String>,
    /// As for `list`.
    #[arg(long, default_value = "", value_name = "TERMS")]
    filter: String,
    /// Give up after so long (exit code 8).
    #[arg(long, value_parser = parse_duration, default_value = "2m", value_name = "TIME")]
    timeout: Duration,
}

/// Ends when enough devices are online; prints their ids, one a line.
pub(super) async fn run(global: &Global, session: &Session, args: &Args) -> Result<()> {
    let mut online = BTreeMap::new();
    if tokio::time::timeout(args.timeout, enough(global, session, args, &mut online)).await.is_err() {
        let (there, wanted) = (online.len(), args.count);
        let why = format!("{there} of {wanted} devices were online after {} s", args.timeout.as_secs());
        return Err(Failure::Late(why).into());
    }
    online.values().try_for_each(|device| match global.json {
        true => output::json(DEVICE, device),
        false => output::line(output::id(&device.name)),
    })
}

async fn enough(
    global: &Global,
    session: &Session,
    args: &Args,
    online: &mut BTreeMap<String, Device>,
) -> Result<()> {
    let mut changes = Changes::open(global, session, &args.filter).await?;
    while online.len() < usize::try_from(args.count)? {
        let event = changes.next().await?;
        if event.kind() == Kind::Reset {
            online.clear();
        }
        let Some(device) = event.device else { continue };
        match fits(&device, args.running.as_deref()) {
            true => drop(online.insert(device.name.clone(), device)),
            false => drop(online.remove(&device.name)),
        }
    }
    Ok(())
}

/// Deleted devices come without presence, and leave the count.
fn fits(device: &Device, version: Option<&str>) -> bool {
    let runs = |version: &str| {
        running(device).is_some_and(|slot| slot.version == version && slot.status == "confirmed")
    };
    device.presence() == Presence::Online && device.revoke_time.is_none() && version.is_none_or(runs)
}
