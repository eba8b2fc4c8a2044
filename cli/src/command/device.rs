//! `holdfast device`: the fleet, device by device.

use anyhow::Result;
use clap::Subcommand;
use proto::registry::v1::watch_devices_response::Kind;
use proto::registry::v1::{
    AcceptPendingEnrollmentRequest, BatchDeleteDevicesRequest, BatchGetDevicesRequest, Device, DeviceSlot,
    ListDevicesRequest, ListPendingEnrollmentsRequest, PendingEnrollment, Presence, ReleaseDeviceRequest,
    RevokeDeviceRequest, WatchDevicesResponse,
};

use crate::args::{Global, Page};
use crate::command::debugging::named as named_scope;
use crate::command::{PAGE_SIZE, collect, fresh_request_id};
use crate::failure::in_filter;
use crate::output;
use crate::session::Session;

mod changes;
mod label;
mod replace;
mod wait;

use changes::Changes;

/// Devices of one call; more are several calls.
const BATCH_MAX: usize = 1000;
const DEVICE: &str = "holdfast.registry.v1.Device";
const PENDING: &str = "holdfast.registry.v1.PendingEnrollment";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List devices.
    #[command(after_help = "Example:\n  holdfast device list --filter 'labels.site=berlin AND board=host'")]
    List {
        /// Terms joined by AND: labels.KEY=VALUE, board=NAME, hardware_id=ID, version=V, revoked=true|false,
        /// quarantined=true|false.
        #[arg(long, default_value = "", value_name = "TERMS")]
        filter: String,
        #[command(flatten)]
        page: Page,
    },
    /// Show devices.
    Show {
        /// Devices: dv… or their resource names.
        #[arg(required = true, value_name = "DEVICE")]
        devices: Vec<String>,
    },
    /// Print devices as they change, until Ctrl-C. A lost connection is made again, and nothing is missed.
    Watch {
        /// As for `list`.
        #[arg(long, default_value = "", value_name = "TERMS")]
        filter: String,
    },
    /// Wait until devices are online, and print their ids.
    #[command(
        after_help = "Examples:\n  holdfast deploy \"$(holdfast device wait)\" app.hfb\n  holdfast device wait --count 50 --running 1.2.0 --filter labels.ring=canary --timeout 10m"
    )]
    Wait(wait::Args),
    /// Set (KEY=VALUE) or remove (KEY-) labels of devices: of all that are named, or of none.
    ///
    /// More than 1000 devices are labelled by the thousand.
    #[command(
        override_usage = "holdfast device label <DEVICE>... <KEY=VALUE|KEY->...",
        after_help = "Examples:\n  holdfast device label dv… site=berlin ring=canary old-\n  holdfast device label dv… dv… ring=canary"
    )]
    Label {
        /// Devices first, then the labels.
        #[arg(required = true, value_name = "DEVICE|KEY=VALUE|KEY-")]
        words: Vec<String>,
    },
    /// End a device's identity and its connection, now and for good.
    Revoke { device: String },
    /// End a quarantine, once one of the two boards that used the identity is gone.
    ///
    /// If both are still there they are noticed again. A board in quarantine asks once a minute whether it may come back.
    #[command(
        after_help = "Example:\n  holdfast device list --filter quarantined=true\n  holdfast device release dv…"
    )]
    Release { device: String },
    /// Let another board take a device's place: its labels, and what it was to run.
    ///
    /// The board that is broken is revoked. The replacement enrols first, and keeps its own id and key. Done again, the command goes on
    /// where it ended.
    #[command(
        after_help = "Example:\n  holdfast device replace dv… \"$(holdfast device wait --filter hardware_id=serial-8)\""
    )]
    Replace {
        /// The device whose board is broken, lost or copied.
        device: String,
        /// The device whose board takes its place.
        replacement: String,
    },
    /// Forget revoked devices: all that are named, or none.
    ///
    /// More than 1000 devices are forgotten by the thousand.
    Delete {
        /// Devices: dv… or their resource names.
        #[arg(required = true, value_name = "DEVICE")]
        devices: Vec<String>,
    },
    /// List boards that wait for an operator's word to enrol.
    Pending(Page),
    /// Let a waiting board replace the device that held its hardware id.
    Accept { pending: String },
}

pub(crate) async fn run(global: &Global, command: &Command) -> Result<()> {
    let session = Session::open(global).await?;
    let mut client = session.devices().await?;
    let name = |device: &str| session.name("devices", device);
    match command {
        Command::List { filter, page } => {
            let all = collect(page.limit, async |page_token| {
                let request = ListDevicesRequest {
                    parent: session.tenant(),
                    page_size: PAGE_SIZE,
                    page_token,
                    filter: filter.clone(),
                };
                let reply = client
                    .list_devices(request)
                    .await
                    .map_err(|status| in_filter(filter, status))?
                    .into_inner();
                Ok((reply.devices, reply.next_page_token))
            });
            list(global, &all.await?)
        }
        Command::Show { devices } => {
            for (at, device) in named(&session, devices).await?.iter().enumerate() {
                if at > 0 && !global.json {
                    output::line("")?;
                }
                show(global, device)?;
            }
            Ok(())
        }
        Command::Watch { filter } => watch(global, &session, filter).await,
        Command::Wait(args) => wait::run(global, &session, args).await,
        Command::Label { words } => label::run(global, &session, words).await,
        Command::Revoke { device } => show(
            global,
            &client
                .revoke_device(RevokeDeviceRequest {
                    name: name(device),
                    request_id: fresh_request_id(),
                    ..Default::default()
                })
                .await?
                .into_inner(),
        ),
        Command::Release { device } => {
            let request = ReleaseDeviceRequest {
                name: name(device),
                request_id: fresh_request_id(),
                ..Default::default()
            };
            show(global, &client.release_device(request).await?.into_inner())
        }
        Command::Replace { device, replacement } => replace::run(global, &session, device, replacement).await,
        Command::Delete { devices } => delete(&session, devices).await,
        Command::Pending(page) => {
            let all = collect(page.limit, async |page_token| {
                let request = ListPendingEnrollmentsRequest {
                    parent: session.tenant(),
                    page_size: PAGE_SIZE,
                    page_token,
                };
                let reply = client.list_pending_enrollments(request).await?.into_inner();
                Ok((reply.pending_enrollments, reply.next_page_token))
            });
            list_pending(global, &all.await?)
        }
        Command::Accept { pending } => {
            let request = AcceptPendingEnrollmentRequest {
                name: session.name("pendingEnrollments", pending),
                request_id: fresh_request_id(),
                ..Default::default()
            };
            show(global, &client.accept_pending_enrollment(request).await?.into_inner())
        }
    }
}

/// In the order of `devices`.
async fn named(session: &Session, devices: &[String]) -> Result<Vec<Device>> {
    let mut client = session.devices().await?;
    let mut all = Vec::new();
    for batch in devices.chunks(BATCH_MAX) {
        let names = names(session, batch);
        let request = BatchGetDevicesRequest { parent: session.tenant(), names };
        all.extend(client.batch_get_devices(request).await?.into_inner().devices);
    }
    Ok(all)
}

async fn delete(session: &Session, devices: &[String]) -> Result<()> {
    let mut client = session.devices().await?;
    for batch in devices.chunks(BATCH_MAX) {
        let request = BatchDeleteDevicesRequest {
            parent: session.tenant(),
            names: names(session, batch),
            request_id: fresh_request_id(),
            ..Default::default()
        };
        client.batch_delete_devices(request).await?;
    }
    Ok(())
}

fn names(session: &Session, devices: &[String]) -> Vec<String> {
    devices.iter().map(|device| session.name("devices", device)).collect()
}

async fn watch(global: &Global, session: &Session, filter: &str) -> Result<()> {
    let mut changes = Changes::open(global, session, filter).await?;
    loop {
        tell(global, changes.next().await?)?;
    }
}

fn tell(global: &Global, event: WatchDevicesResponse) -> Result<()> {
    if global.json {
        return output::json("holdfast.registry.v1.WatchDevicesResponse", &event);
    }
    let kind = event.kind();
    match kind {
        Kind::Missed => eprintln!("({} changes went by too fast to show one by one)", event.missed),
        Kind::Reset => eprintln!("(what changed meanwhile is not known any more: every device follows)"),
        _ => {}
    }
    let Some(device) = event.device else { return Ok(()) };
    match kind {
        Kind::Deleted => output::line(&format!("{}  deleted", output::id(&device.name))),
        _ => output::line(&output::printable(&row(&device).join("  "))),
    }
}

fn running(device: &Device) -> Option<&DeviceSlot> {
    device.slots.iter().find(|slot| slot.running && slot.component == "app")
}

fn presence(device: &Device) -> &'static str {
    match (device.revoke_time.is_some(), device.presence()) {
        (true, _) => "revoked",
        (false, _) if device.quarantine_time.is_some() => "quarantined",
        (_, Presence::Online) => "online",
        (_, Presence::Offline) => "offline",
        (_, Presence::Unspecified) => "unknown",
    }
}

fn row(device: &Device) -> Vec<String> {
    let (version, status) =
        running(device).map_or(("-", "-"), |slot| (slot.version.as_str(), slot.status.as_str()));
    vec![
        output::id(&device.name).to_owned(),
        presence(device).to_owned(),
        device.board.clone(),
        device.hardware_id.clone(),
        version.to_owned(),
        status.to_owned(),
        output::time(device.last_hello_time.as_ref()),
        labels(device),
    ]
}

fn labels(device: &Device) -> String {
    let mut labels: Vec<_> = device.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    labels.sort();
    labels.join(",")
}

/// Nothing where it is allowed.
fn debugging(device: &Device) -> String {
    let bans: Vec<_> = device.debugging_forbidden_by.iter().map(named_scope).collect();
    if bans.is_empty() { String::new() } else { format!("forbidden by {}", bans.join(", ")) }
}

fn list(global: &Global, devices: &[Device]) -> Result<()> {
    if global.json {
        return devices.iter().try_for_each(|device| output::json(DEVICE, device));
    }
    let heads = ["ID", "PRESENCE", "BOARD", "HARDWARE", "APP", "STATUS", "LAST HELLO", "LABELS"];
    output::table(&heads, &devices.iter().map(row).collect::<Vec<_>>())
}

fn show(global: &Global, device: &Device) -> Result<()> {
    if global.json {
        return output::json(DEVICE, device);
    }
    let slot = |slot: &DeviceSlot| {
        let running = if slot.running { ", running" } else { "" };
        format!(
            "{} {} {} (counter {}{running})",
            slot.version, slot.status, &slot.manifest_digest, slot.security_counter
        )
    };
    let mut fields = vec![
        ("name", device.name.clone()),
        ("presence", presence(device).to_owned()),
        ("hardware id", device.hardware_id.clone()),
        ("board", device.board.clone()),
        ("labels", labels(device)),
        ("created", output::time(device.create_time.as_ref())),
        ("revoked", output::time(device.revoke_time.as_ref())),
        ("quarantined", output::time(device.quarantine_time.as_ref())),
        ("replaces", output::id(&device.replaces).to_owned()),
        ("replaced by", output::id(&device.replaced_by).to_owned()),
        ("key", device.public_key_digest.clone()),
        ("debugging", debugging(device)),
        ("certificate ends", output::time(device.certificate_expire_time.as_ref())),
        ("last hello", output::time(device.last_hello_time.as_ref())),
        ("microvisor", device.microvisor_version.clone()),
        ("boots", format!("{} (last: {})", device.boot_count, device.boot_reason)),
        ("keyset", device.keyset_version.to_string()),
        ("app floor", device.app_floor.to_string()),
    ];
    fields.extend(
        device
            .slots
            .iter()
            .filter(|s| !s.version.is_empty())
            .map(|s| ("slot", format!("{} {}: {}", s.component, s.index, slot(s)))),
    );
    output::fields(&fields)
}

fn list_pending(global: &Global, all: &[PendingEnrollment]) -> Result<()> {
    if global.json {
        return all.iter().try_for_each(|pending| output::json(PENDING, pending));
    }
    let row = |p: &PendingEnrollment| {
        vec![
            output::id(&p.name).to_owned(),
            p.hardware_id.clone(),
            p.board.clone(),
            output::time(p.create_time.as_ref()),
            output::id(&p.device).to_owned(),
            p.public_key_digest.clone(),
        ]
    };
    output::table(
        &["ID", "HARDWARE", "BOARD", "SINCE", "HELD BY", "KEY"],
        &all.iter().map(row).collect::<Vec<_>>(),
    )
}
