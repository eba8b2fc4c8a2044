//! Which keysets devices hold, as they last said; and whether svc-ota has the key that directs them.

use std::collections::BTreeMap;

use anyhow::Result;
use proto::ota::v1::GetDirectorKeyRequest;
use proto::registry::v1::{Device, ListDevicesRequest};

use crate::args::Global;
use crate::command::keyset::get;
use crate::command::{PAGE_SIZE, collect};
use crate::keychange::short;
use crate::output;
use crate::session::Session;

/// How a keyset that devices hold stands to the newest that is published.
fn standing(version: i32, newest: i32) -> &'static str {
    match version {
        0 => "none said yet",
        version if version < newest => "older",
        version if version == newest => "newest",
        _ => "not known here",
    }
}

pub(super) async fn run(global: &Global, session: &Session, with_devices: bool) -> Result<()> {
    let keyset = get(session, "latest").await?;
    let newest = keyset.version;
    let named = wire::keyset::read(&keyset.signed)?.director_key;
    let request = GetDirectorKeyRequest { parent: session.tenant() };
    let ours = session.deployments().await?.get_director_key(request).await?.into_inner().public_key;
    let directs = wire::PublicKey::from_spki_der(&ours)? == named;

    let mut devices = devices(session).await?;
    devices.retain(|device| device.revoke_time.is_none());
    let mut versions: BTreeMap<i32, Vec<&Device>> = BTreeMap::new();
    for device in &devices {
        versions.entry(device.keyset_version).or_default().push(device);
    }
    versions.entry(newest).or_default();
    let ahead = versions.range(newest + 1..).next_back().map(|(version, _)| *version);
    let others = || versions.iter().filter(|(version, _)| **version != newest);

    if global.json {
        let list: Vec<_> = versions
            .iter()
            .map(|(version, held)| {
                let mut row = serde_json::json!({
                    "version": version, "devices": held.len(), "standing": standing(*version, newest),
                });
                if let (true, Some(row)) = (with_devices && *version != newest, row.as_object_mut()) {
                    row.insert("names".into(), held.iter().map(|device| device.name.as_str()).collect());
                }
                row
            })
            .collect();
        return output::document(&serde_json::json!({
            "newest": newest, "versions": list, "director_key_held": directs, "newest_held_by_devices": ahead,
        }));
    }
    let row = |(version, held): (&i32, &Vec<&Device>)| {
        vec![version.to_string(), held.len().to_string(), standing(*version, newest).to_owned()]
    };
    output::table(&["KEYSET", "DEVICES", ""], &versions.iter().map(row).collect::<Vec<_>>())?;
    if with_devices {
        for (version, held) in others() {
            held.iter().try_for_each(|device| {
                output::line(&format!("{} holds {version}", output::printable(output::id(&device.name))))
            })?;
        }
    }
    if let Some(ahead) = ahead {
        eprintln!(
            "warning: devices hold keyset {ahead}, and the newest known here is {newest}: a backup was restored. Publish the signed \
             keysets {} to {ahead} again (`holdfast keyset upload`); nothing directs these devices with certainty before",
            newest + 1
        );
    }
    if !directs {
        eprintln!(
            "warning: keyset {newest} names the director key {}, which svc-ota does not have: `holdfast keys rotate --director`",
            short(&named)
        );
    }
    Ok(())
}

async fn devices(session: &Session) -> Result<Vec<Device>> {
    let mut client = session.devices().await?;
    collect(0, async |page_token| {
        let request = ListDevicesRequest {
            parent: session.tenant(),
            page_size: PAGE_SIZE,
            page_token,
            ..Default::default()
        };
        let reply = client.list_devices(request).await?.into_inner();
        Ok((reply.devices, reply.next_page_token))
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_keyset_is_older_newest_or_not_known_here() {
        let said: Vec<_> = (0..=4).map(|version| standing(version, 3)).collect();
        assert_eq!(said, ["none said yet", "older", "older", "newest", "not known here"]);
    }
}
