//! Crash reports: requests to ranges, reports to messages.

use std::sync::Arc;

use kit::auth::Caller;
use kit::{page, status};
use proto::logs::v1::{
    Crash, CrashMemory, CrashMemoryPiece, GetCrashMemoryRequest, GetCrashRequest, ListCrashesRequest,
    ListCrashesResponse,
};
use proto::name::{CrashKey, CrashName, DeviceName, TenantName};
use tonic::Status;
use wire::{DeviceId, Digest, TenantId};

use super::encode::{self, signed};
use crate::app::App;
use crate::model::{Boot, CrashRange, StoredCrash};

/// What stands for every device of a tenant.
const EVERY_DEVICE: &str = "/devices/-";

pub(super) async fn list(
    app: &Arc<App>,
    caller: &Caller,
    request: ListCrashesRequest,
) -> Result<ListCrashesResponse, Status> {
    let (tenant, device) = parent(&request.parent)?;
    let tenant = caller.tenant(tenant)?;
    let limit = page::size(request.page_size)?;
    let bounds = [encode::time_text(&request.start_time), encode::time_text(&request.end_time)];
    let same = ["crashes", &request.parent, &request.manifest_digest, &bounds[0], &bounds[1]];
    let range = CrashRange {
        device,
        before: page::cursor(&same, &request.page_token)?,
        manifest: manifest(&request.manifest_digest)?,
        start: encode::time("start_time", request.start_time)?,
        end: encode::time("end_time", request.end_time)?,
    };
    let (crashes, more) = app.list_crashes(tenant, &range, limit).await?;
    let next = crashes.last().filter(|_| more).map(|last| page::token(&same, &last.key));
    Ok(ListCrashesResponse {
        crashes: crashes.into_iter().map(|stored| without_memory(whole(tenant, stored))).collect(),
        next_page_token: next.unwrap_or_default(),
    })
}

pub(super) async fn get(app: &Arc<App>, caller: &Caller, request: GetCrashRequest) -> Result<Crash, Status> {
    let name: CrashName =
        request.name.parse().map_err(|error| status::invalid("name", format!("{error}")))?;
    let tenant = caller.tenant(name.device.tenant)?;
    let CrashKey { counter, random, sequence } = name.crash;
    let stored = app.crash(tenant, name.device.id, Boot { counter, random }, sequence).await?;
    Ok(whole(tenant, stored))
}

pub(super) async fn memory(
    app: &Arc<App>,
    caller: &Caller,
    request: GetCrashMemoryRequest,
) -> Result<CrashMemory, Status> {
    let name: CrashName =
        request.name.parse().map_err(|error| status::invalid("name", format!("{error}")))?;
    let tenant = caller.tenant(name.device.tenant)?;
    let CrashKey { counter, random, sequence } = name.crash;
    let stored = app.crash_memory(tenant, name.device.id, Boot { counter, random }, sequence).await?;
    let piece = |(address, bytes): (u32, u32)| CrashMemoryPiece { address, size_bytes: bytes.into() };
    Ok(CrashMemory {
        name: request.name,
        total_bytes: stored.total.into(),
        pieces: stored.pieces.into_iter().map(piece).collect(),
        data: stored.data,
    })
}

/// Everything that is known of it.
fn whole(tenant: TenantId, stored: StoredCrash) -> Crash {
    let StoredCrash { device, receive_time, memory_stored, crash, .. } = stored;
    let device = DeviceName::new(tenant, device);
    let Boot { counter, random } = crash.boot;
    let key = CrashKey { counter, random, sequence: crash.sequence };
    let [cfsr, hfsr, sfsr, mmfar, bfar, sfar, exc_return] = crash.status;
    Crash {
        name: CrashName { device, crash: key }.to_string(),
        device: device.to_string(),
        boot: crash.boot.to_string(),
        boot_count: crash.boot.counter.into(),
        sequence: crash.sequence.into(),
        uptime_us: signed(crash.uptime_us),
        receive_time: Some(receive_time.into()),
        manifest_digest: crash.manifest.map(|digest| digest.to_string()).unwrap_or_default(),
        registers: crash.known_registers().map(|(name, word)| (name.to_owned(), word)).collect(),
        version: crash.version,
        kind: crash.kind.name().to_owned(),
        cfsr,
        hfsr,
        sfsr,
        mmfar,
        bfar,
        sfar,
        exc_return,
        stack_at: crash.stack_at,
        stack: crash.stack,
        dropped_before: crash.dropped.into(),
        memory_bytes: crash.memory_bytes.into(),
        memory_stored_bytes: memory_stored.into(),
        memory_missed_before: crash.memory_missed.into(),
    }
}

/// The same for whoever may not see the application's memory.
fn without_memory(mut crash: Crash) -> Crash {
    crash.registers.retain(|name, _| name == "pc");
    Crash { stack_at: 0, stack: Vec::new(), ..crash }
}

/// A tenant, and one device of it or all.
fn parent(text: &str) -> Result<(TenantId, Option<DeviceId>), Status> {
    if let Some(tenant) = text.strip_suffix(EVERY_DEVICE)
        && let Ok(name) = tenant.parse::<TenantName>()
    {
        return Ok((name.tenant, None));
    }
    let name: DeviceName = text.parse().map_err(|error| status::invalid("parent", format!("{error}")))?;
    Ok((name.tenant, Some(name.id)))
}

fn manifest(text: &str) -> Result<Option<Digest>, Status> {
    let digest =
        || text.parse().map_err(|_| status::invalid("manifest_digest", "is not 64 lower-case hex digits"));
    if text.is_empty() { Ok(None) } else { digest().map(Some) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::crash::tests::crash;
    use std::time::SystemTime;

    const TENANT: TenantId = TenantId::new([1; 16]);
    const DEVICE: DeviceId = DeviceId::new([2; 16]);

    #[test]
    fn a_list_shows_nothing_of_the_applications_memory_but_pc() {
        let crash = crash(Boot { counter: 1, random: 2 }, 3);
        let stored = StoredCrash {
            key: 1,
            device: DEVICE,
            receive_time: SystemTime::UNIX_EPOCH,
            memory_stored: 7,
            crash,
        };
        let whole = whole(TENANT, stored);
        assert_eq!((whole.registers.len(), whole.stack.len()), (17, 1024));
        assert!(whole.name.ends_with("/crashes/1-0000000000000002-3"), "{}", whole.name);
        let shown = without_memory(whole.clone());
        assert_eq!(shown.registers.into_iter().collect::<Vec<_>>(), [("pc".to_owned(), 15)]);
        assert_eq!((shown.stack_at, shown.stack.len()), (0, 0));
        assert_eq!(
            (shown.memory_bytes, shown.memory_stored_bytes, shown.memory_missed_before),
            (10_000, 7, 1)
        );
        assert_eq!((shown.kind, shown.cfsr, shown.name), (whole.kind, whole.cfsr, whole.name));
    }

    #[test]
    fn a_parent_is_a_device_or_all_of_a_tenants() {
        let tenant = TenantName { tenant: TENANT }.to_string();
        assert_eq!(parent(&format!("{tenant}/devices/-")).unwrap(), (TENANT, None));
        assert_eq!(parent(&format!("{tenant}/devices/{DEVICE}")).unwrap(), (TENANT, Some(DEVICE)));
        for refused in
            [tenant.clone(), format!("{tenant}/devices/--"), "tenants/-/devices/-".into(), String::new()]
        {
            assert_eq!(parent(&refused).unwrap_err().code(), tonic::Code::InvalidArgument, "{refused}");
        }
    }

    #[test]
    fn a_manifest_digest_is_hex_or_nothing() {
        assert_eq!(manifest("").unwrap(), None);
        assert_eq!(manifest(&"07".repeat(32)).unwrap(), Some(Digest([7; 32])));
        assert!(manifest("07").unwrap_err().message().starts_with("manifest_digest"));
    }
}
