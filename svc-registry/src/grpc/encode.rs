//! Domain types as messages. Cannot fail.

use std::time::SystemTime;

use prost_types::Timestamp;
use proto::name::{ClaimName, DeviceName, KeyName, KeysetName, KeysetVersion, PendingName, TenantName};
use proto::registry::v1 as pb;
use wire::TenantId;

use crate::app::{RootShown, Shown};
use crate::model::debugging::{Ban, Scope};
use crate::model::{Claim, Device, Key, Pending, Presence, Role, SignedKeyset, Slot, Tenant};

pub(crate) fn time(at: SystemTime) -> Timestamp {
    at.into()
}

pub(crate) fn tenant(tenant: Tenant) -> pb::Tenant {
    pb::Tenant {
        name: TenantName { tenant: tenant.id }.to_string(),
        display_name: tenant.display_name,
        create_time: Some(time(tenant.created_at)),
        admin_key: String::new(),
        debugging_forbidden: tenant.debugging_forbidden,
    }
}

pub(crate) fn debug_ban(tenant: TenantId, ban: Ban) -> pb::DebugBan {
    pb::DebugBan {
        scope: Some(debug_scope(tenant, ban.scope)),
        creator: ban.creator,
        create_time: Some(time(ban.since)),
    }
}

fn debug_scope(tenant: TenantId, scope: Scope) -> pb::DebugScope {
    let scope = match scope {
        Scope::Tenant => pb::debug_scope::Scope::Tenant(true),
        Scope::Label { key, value } => pb::debug_scope::Scope::Label(pb::DeviceLabel { key, value }),
        Scope::Device(id) => pb::debug_scope::Scope::Device(DeviceName::new(tenant, id).to_string()),
    };
    pb::DebugScope { scope: Some(scope) }
}

pub(crate) fn key(key: Key) -> pb::Key {
    pb::Key {
        name: KeyName::new(key.tenant, key.id).to_string(),
        display_name: key.display_name,
        role: role(key.role).into(),
        public_key: key.public_key,
        create_time: Some(time(key.created_at)),
        installation: key.installation,
    }
}

pub(crate) fn claim(claim: Claim, enroll_address: &str) -> pb::Claim {
    pb::Claim {
        name: ClaimName::new(claim.tenant, claim.id).to_string(),
        display_name: claim.display_name,
        devices_max: claim.devices_max,
        devices_enrolled: claim.devices_enrolled,
        create_time: Some(time(claim.created_at)),
        expire_time: Some(time(claim.expires_at)),
        revoke_time: claim.revoked_at.map(time),
        certificate: claim.certificate,
        enroll_address: enroll_address.to_owned(),
    }
}

pub(crate) fn device(shown: Shown) -> pb::Device {
    let Shown { device, presence, last_hello_at } = shown;
    let etag = device.etag();
    let name = device_name(&device);
    let named = |id: wire::DeviceId| DeviceName::new(device.tenant, id).to_string();
    let (replaces, replaced_by) = (device.replaces.map(named), device.replaced_by.map(named));
    let bans = device.debugging_forbidden_by.into_iter().map(|scope| debug_scope(device.tenant, scope));
    let report = device.report.map(|reported| reported.report);
    let report = report.as_ref();
    pb::Device {
        name,
        hardware_id: device.hardware_id,
        board: device.board,
        labels: device.labels.into_iter().collect(),
        create_time: Some(time(device.created_at)),
        revoke_time: device.revoked_at.map(time),
        certificate_expire_time: device.certificate_expires_at.map(time),
        presence: presence_of(presence).into(),
        last_hello_time: last_hello_at.map(time),
        microvisor_version: report.map(|r| r.microvisor_version.clone()).unwrap_or_default(),
        slots: report.map(|r| r.slots.iter().map(slot).collect()).unwrap_or_default(),
        app_floor: report.map_or(0, |r| r.app_floor),
        keyset_version: report.map_or(0, |r| r.keyset_version),
        boot_reason: report.map(|r| r.boot_reason.to_owned()).unwrap_or_default(),
        boot_count: report.map_or(0, |r| r.order.boot_count.into()),
        etag,
        quarantine_time: device.quarantined_at.map(time),
        replaces: replaces.unwrap_or_default(),
        replaced_by: replaced_by.unwrap_or_default(),
        public_key_digest: hex::encode(device.key_digest),
        debugging_forbidden_by: bans.collect(),
    }
}

pub(crate) fn device_root(shown: RootShown) -> pb::DeviceRoot {
    use pb::device_root::State;
    let RootShown { stored, issuing } = shown;
    let state = match (stored.retired_at, issuing) {
        (Some(_), _) => State::Retired,
        (None, true) => State::Issuing,
        (None, false) => State::Trusted,
    };
    pb::DeviceRoot {
        root: hex::encode(stored.root.key_digest),
        state: state.into(),
        devices: stored.devices,
        create_time: Some(time(stored.root.made_at)),
        retire_time: stored.retired_at.map(time),
    }
}

pub(crate) fn device_name(device: &Device) -> String {
    DeviceName::new(device.tenant, device.id).to_string()
}

pub(crate) fn pending(pending: Pending) -> pb::PendingEnrollment {
    pb::PendingEnrollment {
        name: PendingName::new(pending.tenant, pending.id).to_string(),
        hardware_id: pending.hardware_id,
        board: pending.board,
        create_time: Some(time(pending.created_at)),
        device: pending.holder.map(|id| DeviceName::new(pending.tenant, id).to_string()).unwrap_or_default(),
        public_key_digest: hex::encode(pending.key_digest),
    }
}

pub(crate) fn keyset(tenant: TenantId, keyset: SignedKeyset) -> pb::Keyset {
    let version = KeysetVersion::Number(keyset.version.unsigned_abs());
    pb::Keyset {
        name: KeysetName::new(tenant, version).to_string(),
        version: keyset.version,
        signed: keyset.signed,
        create_time: Some(time(keyset.created_at)),
    }
}

fn slot(slot: &Slot) -> pb::DeviceSlot {
    pb::DeviceSlot {
        component: slot.component.clone(),
        index: slot.index.into(),
        status: slot.status.to_owned(),
        manifest_digest: hex::encode(&slot.manifest_digest),
        version: slot.version.clone(),
        security_counter: slot.security_counter,
        running: slot.running,
    }
}

fn role(role: Role) -> pb::Role {
    match role {
        Role::Viewer => pb::Role::Viewer,
        Role::Operator => pb::Role::Operator,
        Role::Developer => pb::Role::Developer,
        Role::Admin => pb::Role::Admin,
    }
}

fn presence_of(presence: Presence) -> pb::Presence {
    match presence {
        Presence::Unknown => pb::Presence::Unspecified,
        Presence::Online => pb::Presence::Online,
        Presence::Offline => pb::Presence::Offline,
    }
}
