//! What a flash file holds, without secrets: read as the firmware reads it, from a copy.

use std::path::Path;

use gateway_core::boot::first::{Record, Slot};
use gateway_core::commission::Stage;
use gateway_core::commission::make::look;
use gateway_core::counter::FlashCounter;
use gateway_core::ports::Counter as _;
use gateway_core::{provision, secret};
use serde_json::{Value, json};
use wire::cbor::Reader;
use wire::{keyset, manifest};

use crate::image::first_stage;
use crate::memory::Region;
use crate::{Error, Result, map};

/// Describes a flash file.
pub fn inspect(path: &Path) -> Result<Value> {
    let file = std::fs::read(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
    describe(&file).ok_or_else(|| Error::TooShort(path.to_owned()))
}

/// Describes a flash; nothing if it is too short.
pub fn describe(file: &[u8]) -> Option<Value> {
    let mut flash = file.to_vec();
    let (record, health) =
        Record::read(&mut Region::new(&mut flash, map::BOOT_RECORD, map::BOOT_RECORD_BYTES)?);
    let mut counter = FlashCounter::new(Region::new(&mut flash, map::COUNTER, map::COUNTER_BYTES)?);
    let counter = json!({ "health": counter.health().name(), "floor": counter.value().ok() });
    let (_, identity) = secret::read(&mut Region::new(&mut flash, map::IDENTITY, map::IDENTITY_BYTES)?);
    let region = file.get(map::PROVISION as usize..(map::PROVISION + map::PROVISION_BYTES) as usize)?;
    Some(json!({
        "provision": describe_provision(region),
        "boot_record": {
            "health": health.name(),
            "active": record.active.name(),
            "trial": record.trial.map(Slot::name),
            "attempts": record.attempts,
            "floor": record.floor,
            "revoked": record.revoked,
        },
        "counter": counter,
        "identity": { "health": identity.name() },
        "slots": {
            "a": describe_slot(&mut flash, Slot::A)?,
            "b": describe_slot(&mut flash, Slot::B)?,
        },
        "store": describe_store(&mut flash)?,
    }))
}

/// What the core will find in its store.
fn describe_store(flash: &mut [u8]) -> Option<Value> {
    let seen = match look(&mut Region::new(flash, map::STORE, map::STORE_BYTES)?) {
        Ok(seen) => seen,
        Err(unfit) => return Some(json!({ "error": format!("{unfit:?}") })),
    };
    let status = match seen.commission.stage {
        Stage::Failed(status) => Some(status),
        Stage::Testing | Stage::Production => None,
    };
    let slots: Vec<Value> = seen
        .ledger
        .slots
        .iter()
        .filter(|slot| !slot.version.is_empty())
        .map(|slot| {
            json!({
                "status": format!("{:?}", slot.status).to_lowercase(),
                "version": slot.version.as_str(),
                "manifest": slot.manifest.to_string(),
                "security_counter": slot.security_counter,
            })
        })
        .collect();
    Some(json!({
        "health": format!("{:?}", seen.health).to_lowercase(),
        "stage": seen.commission.stage.name(),
        "test_status": status,
        "test_manifest": seen.commission.test.map(|test| test.manifest.to_string()),
        "keyset_version": seen.keyset_version,
        "applications": slots,
    }))
}

fn describe_provision(region: &[u8]) -> Value {
    let provision = match provision::read(region) {
        Ok(provision) => provision,
        Err(error) => return json!({ "error": error.name() }),
    };
    let hosts: Vec<String> = provision
        .hosts
        .iter()
        .map(|host| format!("{}={}", host.name, std::net::Ipv4Addr::from(host.ipv4)))
        .collect();
    let hashes: Vec<String> = provision.root_key_hashes.iter().map(ToString::to_string).collect();
    json!({
        "whole_copies": provision::whole_copies(region).into_iter().filter(|whole| *whole).count(),
        "hardware_id": provision.hardware_id,
        "board": provision.board,
        "enroll_address": provision.enroll_address,
        "root_key_hashes": hashes,
        "root_threshold": provision.root_threshold,
        "hosts": hosts,
        "build_time_s": provision.build_time_s,
    })
}

fn describe_slot(flash: &mut [u8], slot: Slot) -> Option<Value> {
    let start = map::SLOTS[slot.index()];
    let part = |from: u32, to: u32| {
        let bytes = flash.get((start + from) as usize..(start + to) as usize)?;
        Reader::new(bytes).item().ok()
    };
    let keyset = part(map::SLOT_KEYSET, map::SLOT_ENVELOPE).and_then(|bytes| keyset::read(bytes).ok());
    let keyset = keyset.map(|keyset| keyset.version);
    let manifest =
        part(map::SLOT_ENVELOPE, map::SLOT_IMAGE).and_then(|bytes| manifest::read(bytes).ok()).map(|it| {
            json!({
                "digest": it.digest.to_string(),
                "component": it.component.name(),
                "board": it.board,
                "version": it.version,
                "security_counter": it.security_counter,
                "area_bytes": it.area_bytes,
            })
        });
    let verdict = first_stage(flash, slot).map_or_else(|reason| reason, |_| "runs".to_owned());
    Some(json!({ "verdict": verdict, "keyset_version": keyset, "manifest": manifest }))
}
