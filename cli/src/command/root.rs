//! `holdfast root`: what brokers trust for devices, and how one root follows another.

use anyhow::Result;
use clap::Subcommand;
use proto::registry::v1::device_root::State;
use proto::registry::v1::{
    CreateDeviceRootRequest, DeviceRoot, ListDeviceRootsRequest, RetireDeviceRootRequest,
};

use crate::args::Global;
use crate::command::fresh_request_id;
use crate::output;
use crate::session::Session;

const ROOT: &str = "holdfast.registry.v1.DeviceRoot";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List device roots, and how many devices hold a certificate under each.
    List,
    /// Make another device root.
    ///
    /// Brokers trust it at once beside the others. After a minute it issues, and devices renew onto it by themselves: those that are online within a day,
    /// the others when they come.
    #[command(
        after_help = "Example, one root after another:\n  holdfast root create\n  holdfast root list    \
                      # a day later: 0 devices under the old one\n  holdfast root retire 4be1…"
    )]
    Create,
    /// Retire a device root: certificates under it are refused, and connections made with them end.
    #[command(
        after_help = "Examples:\n  holdfast root retire 4be1…\n  holdfast root retire 4be1… --force    # it is stolen: devices renew by their birth certificates"
    )]
    Retire {
        /// As `list` shows it.
        root: String,
        /// Also while devices hold certificates under it.
        #[arg(long)]
        force: bool,
    },
}

pub(crate) async fn run(global: &Global, command: &Command) -> Result<()> {
    let session = Session::open(global).await?;
    let mut client = session.roots().await?;
    match command {
        Command::List => {
            list(global, &client.list_device_roots(ListDeviceRootsRequest {}).await?.into_inner().roots)
        }
        Command::Create => {
            let request = CreateDeviceRootRequest { request_id: fresh_request_id(), ..Default::default() };
            list(global, &[client.create_device_root(request).await?.into_inner()])
        }
        Command::Retire { root, force } => {
            let request = RetireDeviceRootRequest {
                root: root.clone(),
                force: *force,
                request_id: fresh_request_id(),
                ..Default::default()
            };
            list(global, &[client.retire_device_root(request).await?.into_inner()])
        }
    }
}

fn list(global: &Global, roots: &[DeviceRoot]) -> Result<()> {
    if global.json {
        return roots.iter().try_for_each(|root| output::json(ROOT, root));
    }
    let state = |root: &DeviceRoot| match root.state() {
        State::Issuing => "issuing",
        State::Trusted => "trusted",
        State::Retired => "retired",
        State::Unspecified => "-",
    };
    let rows: Vec<_> = roots
        .iter()
        .map(|root| {
            vec![
                root.root.clone(),
                state(root).to_owned(),
                root.devices.to_string(),
                output::time(root.create_time.as_ref()),
                output::time(root.retire_time.as_ref()),
            ]
        })
        .collect();
    output::table(&["ROOT", "STATE", "DEVICES", "CREATED", "RETIRED"], &rows)
}
