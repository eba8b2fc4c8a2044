//! `holdfast debugging`: where debugging is forbidden.

use anyhow::Result;
use clap::{Args as ClapArgs, Subcommand};
use proto::registry::v1::debug_scope::Scope;
use proto::registry::v1::{
    AllowDebuggingRequest, DebugBan, DebugScope, DeviceLabel, ForbidDebuggingRequest, ListDebugBansRequest,
};

use crate::args::{Global, Page};
use crate::command::{PAGE_SIZE, collect, fresh_request_id};
use crate::output;
use crate::session::Session;

const BAN: &str = "holdfast.registry.v1.DebugBan";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Forbid debugging of devices: of those that are named, of all with a label, or of all that the tenant has.
    ///
    /// Open debug sessions end within seconds. One ban is enough, whatever else is allowed. For administrators.
    #[command(
        after_help = "Examples:\n  holdfast debugging forbid dv…\n  holdfast debugging forbid --label ring=production\n  holdfast debugging forbid --tenant"
    )]
    Forbid(Scopes),
    /// Allow again what `forbid` forbade, exactly; other bans of the same devices stay.
    #[command(
        after_help = "Examples:\n  holdfast debugging allow --label ring=production\n  holdfast device show dv…   # is it still forbidden, and by what?"
    )]
    Allow(Scopes),
    /// List what forbids debugging, by whom and since when.
    List(Page),
}

/// Which devices.
#[derive(Debug, ClapArgs)]
#[group(id = "scopes", required = true, multiple = true)]
pub(crate) struct Scopes {
    /// Devices: dv… or their resource names.
    #[arg(value_name = "DEVICE")]
    devices: Vec<String>,
    /// Every device that carries this label, now or later.
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
    labels: Vec<DeviceLabel>,
    /// Every device of the tenant, now or later.
    #[arg(long)]
    tenant: bool,
}

impl Scopes {
    fn all(&self, session: &Session) -> Vec<DebugScope> {
        let tenant = self.tenant.then_some(Scope::Tenant(true));
        let labels = self.labels.iter().cloned().map(Scope::Label);
        let devices = self.devices.iter().map(|device| Scope::Device(session.name("devices", device)));
        tenant
            .into_iter()
            .chain(labels)
            .chain(devices)
            .map(|scope| DebugScope { scope: Some(scope) })
            .collect()
    }
}

pub(crate) async fn run(global: &Global, command: &Command) -> Result<()> {
    let session = Session::open(global).await?;
    let mut client = session.debugging().await?;
    match command {
        Command::Forbid(scopes) => {
            let mut bans = Vec::new();
            for scope in scopes.all(&session) {
                let request = ForbidDebuggingRequest {
                    parent: session.tenant(),
                    scope: Some(scope),
                    request_id: fresh_request_id(),
                    ..Default::default()
                };
                bans.push(client.forbid_debugging(request).await?.into_inner());
            }
            list(global, &bans)
        }
        Command::Allow(scopes) => {
            for scope in scopes.all(&session) {
                let request = AllowDebuggingRequest {
                    parent: session.tenant(),
                    scope: Some(scope),
                    request_id: fresh_request_id(),
                    ..Default::default()
                };
                client.allow_debugging(request).await?;
            }
            Ok(())
        }
        Command::List(page) => {
            let all = collect(page.limit, async |page_token| {
                let request =
                    ListDebugBansRequest { parent: session.tenant(), page_size: PAGE_SIZE, page_token };
                let reply = client.list_debug_bans(request).await?.into_inner();
                Ok((reply.debug_bans, reply.next_page_token))
            });
            list(global, &all.await?)
        }
    }
}

/// What a scope is called: `tenant`, `label KEY=VALUE`, `device dv…`.
pub(crate) fn named(scope: &DebugScope) -> String {
    match &scope.scope {
        Some(Scope::Tenant(_)) => "tenant".to_owned(),
        Some(Scope::Label(label)) => format!("label {}={}", label.key, label.value),
        Some(Scope::Device(device)) => format!("device {}", output::id(device)),
        None => "unknown".to_owned(),
    }
}

fn label(text: &str) -> Result<DeviceLabel, String> {
    let (key, value) = text.split_once('=').ok_or_else(|| format!("`{text}` is not KEY=VALUE"))?;
    Ok(DeviceLabel { key: key.to_owned(), value: value.to_owned() })
}

fn list(global: &Global, bans: &[DebugBan]) -> Result<()> {
    if global.json {
        return bans.iter().try_for_each(|ban| output::json(BAN, ban));
    }
    let row = |ban: &DebugBan| {
        vec![
            ban.scope.as_ref().map(named).unwrap_or_default(),
            output::id(&ban.creator).to_owned(),
            output::time(ban.create_time.as_ref()),
        ]
    };
    output::table(&["FORBIDDEN FOR", "BY", "SINCE"], &bans.iter().map(row).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_is_named_as_people_typed_it() {
        let of = |scope| named(&DebugScope { scope: Some(scope) });
        assert_eq!(of(Scope::Tenant(true)), "tenant");
        assert_eq!(of(Scope::Label(label("url=a=b").unwrap())), "label url=a=b");
        assert_eq!(of(Scope::Device("tenants/tn1/devices/dv1".into())), "device dv1");
        assert!(label("site").is_err());
    }
}
