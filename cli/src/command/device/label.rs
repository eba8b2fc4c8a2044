//! `holdfast device label`: several devices, several labels. A label is read, changed and written back under its etag, so that
//! what others label meanwhile stays.

use std::collections::BTreeMap;

use anyhow::Result;
use proto::registry::v1::{BatchGetDevicesRequest, BatchUpdateDevicesRequest, Device, UpdateDeviceRequest};

use super::{BATCH_MAX, list, show};
use crate::args::Global;
use crate::command::fresh_request_id;
use crate::failure::{input, is_stale};
use crate::session::Session;

/// How often labels are written again when a device changed meanwhile.
const ATTEMPTS_MAX: u32 = 8;

/// `words` are devices first, then changes. The devices of one batch are all changed, or none.
pub(super) async fn run(global: &Global, session: &Session, words: &[String]) -> Result<()> {
    let (devices, changes) = sorted(words)?;
    let names: Vec<String> = devices.iter().map(|device| session.name("devices", device)).collect();
    let mut labelled = Vec::new();
    for batch in names.chunks(BATCH_MAX) {
        labelled.extend(label(session, batch, &changes).await?);
    }
    match labelled.as_slice() {
        [one] => show(global, one),
        several => list(global, several),
    }
}

async fn label(session: &Session, names: &[String], changes: &[Change<'_>]) -> Result<Vec<Device>> {
    let mut client = session.devices().await?;
    let mut attempts = 0;
    loop {
        attempts += 1;
        let read = BatchGetDevicesRequest { parent: session.tenant(), names: names.to_vec() };
        let devices = client.batch_get_devices(read).await?.into_inner().devices;
        let write = BatchUpdateDevicesRequest {
            parent: session.tenant(),
            requests: devices.into_iter().map(|device| changed(device, changes)).collect(),
            request_id: fresh_request_id(),
            ..Default::default()
        };
        match client.batch_update_devices(write).await {
            // One said hello meanwhile, or somebody else labelled it: our changes are to keys, not to the whole.
            Err(status) if is_stale(&status) && attempts < ATTEMPTS_MAX => {}
            Err(status) => return Err(status.into()),
            Ok(reply) => return Ok(reply.into_inner().devices),
        }
    }
}

fn changed(mut device: Device, changes: &[Change<'_>]) -> UpdateDeviceRequest {
    apply(&mut device.labels, changes);
    let update_mask = Some(prost_types::FieldMask { paths: vec!["labels".to_owned()] });
    // The server reads no more of it, and a thousand devices with all their slots are more than it takes.
    let device = Device { name: device.name, labels: device.labels, etag: device.etag, ..Default::default() };
    UpdateDeviceRequest { device: Some(device), update_mask, ..Default::default() }
}

#[derive(Debug, PartialEq)]
enum Change<'a> {
    Set(&'a str, &'a str),
    Remove(&'a str),
}

/// Names of devices are of letters, digits and slashes: what has a `=` or ends in `-` is a change.
fn sorted(words: &[String]) -> Result<(Vec<&str>, Vec<Change<'_>>)> {
    let (mut devices, mut changes) = (Vec::new(), Vec::new());
    for word in words {
        match (word.split_once('='), word.strip_suffix('-')) {
            (Some((key, value)), _) => changes.push(Change::Set(key, value)),
            (None, Some(key)) => changes.push(Change::Remove(key)),
            (None, None) if changes.is_empty() => devices.push(word.as_str()),
            (None, None) => return Err(input(format!("`{word}` is neither KEY=VALUE nor KEY-"))),
        }
    }
    if devices.is_empty() {
        return Err(input("name the devices first"));
    }
    if changes.is_empty() {
        return Err(input("name the labels, as KEY=VALUE or KEY-, after the devices"));
    }
    Ok((devices, changes))
}

fn apply(labels: &mut BTreeMap<String, String>, changes: &[Change<'_>]) {
    for change in changes {
        match change {
            Change::Set(key, value) => drop(labels.insert((*key).to_owned(), (*value).to_owned())),
            Change::Remove(key) => drop(labels.remove(*key)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn devices_come_first_and_then_their_labels() {
        let all = words("dv1 tenants/t/devices/dv2 site=berlin url=a=b old-");
        let (devices, changes) = sorted(&all).unwrap();
        assert_eq!(devices, ["dv1", "tenants/t/devices/dv2"]);
        assert_eq!(
            changes,
            [Change::Set("site", "berlin"), Change::Set("url", "a=b"), Change::Remove("old")]
        );
        for bad in ["site=berlin", "dv1", "dv1 dv2", "dv1 a=b dv2", ""] {
            assert!(sorted(&words(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn other_labels_stay() {
        let mut labels = BTreeMap::from([("a".to_owned(), "1".to_owned()), ("b".to_owned(), "2".to_owned())]);
        apply(&mut labels, &[Change::Set("c", "3"), Change::Remove("a"), Change::Remove("none")]);
        assert_eq!(
            labels.into_iter().collect::<Vec<_>>(),
            [("b".into(), "2".into()), ("c".into(), "3".into())]
        );
    }
}
