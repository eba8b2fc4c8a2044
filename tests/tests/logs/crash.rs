//! Crash reports, from a device that was there to a person who was not.

use anyhow::{Result, ensure};
use dev::{Part, Service};
use prost::Message;
use proto::device::v1::{BootId, CrashDown, CrashKind, CrashMemoryUp, CrashUp};
use proto::logs::v1::log_service_client::LogServiceClient;
use proto::logs::v1::{Crash, CrashMemory, GetCrashMemoryRequest, GetCrashRequest, ListCrashesRequest};
use proto::registry::v1::Role;
use scenarios::client::{self, Person};
use tonic::Code;

use crate::world::{BOOT, Session, World};

const DIGEST: [u8; 32] = [0xd1; 32];
/// Bytes of memory of each.
const MEMORY: u32 = 5000;

fn report(sequence: u32) -> CrashUp {
    CrashUp {
        boot: Some(BOOT),
        sequence,
        uptime_us: 7_000_000,
        manifest_digest: DIGEST.to_vec(),
        version: "1.2.3".into(),
        kind: CrashKind::Bus.into(),
        registers: (1..=17u32).flat_map(u32::to_le_bytes).collect(),
        registers_known: 0x1_ffff,
        cfsr: 0x8200,
        bfar: 0xdead_0000,
        exc_return: 0xffff_ffbc,
        stack_at: 0x2020_0000,
        stack: b"a secret of the application".to_vec(),
        dropped: 1,
        memory_bytes: MEMORY,
        memory_missed: 2,
        ..CrashUp::default()
    }
}

impl Session {
    /// As a device does, until it is told that this very report is stored.
    async fn until_kept(&mut self, report: &CrashUp) -> Result<()> {
        let named = (report.boot, report.sequence);
        self.until("crash", report, |ack: CrashDown| {
            ensure!(ack.boot == named.0, "an acknowledgement of another boot");
            Ok(ack.sequence == named.1)
        })
        .await
    }
}

/// Memory of a report, from there on.
fn memory(sequence: u32, offset: u32, bytes: u32) -> CrashUp {
    let memory = CrashMemoryUp {
        boot: Some(BOOT),
        sequence,
        total: MEMORY,
        pieces: [0x2020_0000u32, 1000, 0x2000_0000, 4000].map(u32::to_le_bytes).concat(),
        offset,
        data: (offset..offset + bytes).map(|at| (at % 251) as u8).collect(),
    };
    CrashUp { memory: Some(memory), ..CrashUp::default() }
}

impl Session {
    /// As a device does: says it until it is told that so much is stored, and never more.
    async fn until_told(&mut self, message: &CrashUp, wanted: u32) -> Result<()> {
        let named = message.memory.as_ref().map(|memory| (memory.boot, memory.sequence));
        self.until("crash", message, |told: CrashDown| {
            let told = told.memory.filter(|told| Some((told.boot, told.sequence)) == named);
            let stored_up_to = told.map(|told| told.stored_up_to);
            ensure!(stored_up_to <= Some(wanted), "told {stored_up_to:?} of {wanted}");
            Ok(stored_up_to == Some(wanted))
        })
        .await
    }
}

async fn get_memory(world: &World, person: &Person, name: &str) -> Result<CrashMemory, tonic::Status> {
    let mut logs = LogServiceClient::new(person.client(&world.stack, Service::Logs).await.unwrap());
    Ok(logs.get_crash_memory(GetCrashMemoryRequest { name: name.into() }).await?.into_inner())
}

async fn list(world: &World, person: &Person, parent: &str) -> Result<Vec<Crash>, tonic::Status> {
    let mut logs = LogServiceClient::new(person.client(&world.stack, Service::Logs).await.unwrap());
    let request = ListCrashesRequest { parent: parent.into(), ..Default::default() };
    Ok(logs.list_crashes(request).await?.into_inner().crashes)
}

async fn get(world: &World, person: &Person, name: &str) -> Result<Crash, tonic::Status> {
    let mut logs = LogServiceClient::new(person.client(&world.stack, Service::Logs).await.unwrap());
    Ok(logs.get_crash(GetCrashRequest { name: name.into() }).await?.into_inner())
}

/// Everybody may know that it crashed; what was in its memory only those who may debug.
#[tokio::test]
async fn a_crash_is_listed_without_memory_and_shown_whole_to_a_developer() {
    let world = World::start().await.unwrap();
    let device = world.device("HW-1").await.unwrap();
    let mut session = world.session(&device).await.unwrap();
    session.until_kept(&report(1)).await.unwrap();
    let other = CrashUp { manifest_digest: vec![2; 32], ..report(2) };
    session.until_kept(&other).await.unwrap();

    let viewer = world.person.colleague(&world.stack, Role::Viewer).await.unwrap();
    let listed = list(&world, &viewer, &device.name).await.unwrap();
    assert_eq!(listed.iter().map(|crash| crash.sequence).collect::<Vec<_>>(), [2, 1]);
    let crash = &listed[1];
    assert_eq!(crash.name, format!("{}/crashes/1-0123456789abcdef-1", device.name));
    assert_eq!((crash.kind.as_str(), crash.version.as_str()), ("bus", "1.2.3"));
    assert_eq!((crash.manifest_digest.as_str(), crash.dropped_before), ("d1".repeat(32).as_str(), 1));
    assert_eq!((crash.registers.len(), crash.registers["pc"]), (1, 16));
    assert!(crash.stack.is_empty() && crash.stack_at == 0);
    assert_eq!(list(&world, &viewer, &format!("{}/devices/-", world.person.tenant)).await.unwrap(), listed);
    assert_eq!(get(&world, &viewer, &crash.name).await.unwrap_err().code(), Code::PermissionDenied);

    let developer = world.person.colleague(&world.stack, Role::Developer).await.unwrap();
    let whole = get(&world, &developer, &crash.name).await.unwrap();
    assert_eq!((whole.registers.len(), whole.registers["sp"], whole.registers["xpsr"]), (17, 14, 17));
    assert_eq!((whole.stack_at, &whole.stack[..]), (0x2020_0000, &b"a secret of the application"[..]));
    assert_eq!((whole.cfsr, whole.bfar, whole.exc_return), (0x8200, 0xdead_0000, 0xffff_ffbc));

    let mut logs = world.logs().await.unwrap();
    let of_bundle = ListCrashesRequest {
        parent: device.name.clone(),
        manifest_digest: "d1".repeat(32),
        ..Default::default()
    };
    let found = logs.list_crashes(of_bundle.clone()).await.unwrap().into_inner().crashes;
    assert_eq!(found.iter().map(|crash| crash.sequence).collect::<Vec<_>>(), [1]);
    let wrong = ListCrashesRequest { manifest_digest: "xyz".into(), ..of_bundle };
    assert_eq!(logs.list_crashes(wrong).await.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test]
async fn a_report_sent_again_is_acknowledged_again_and_stored_once_while_services_stop_and_start() {
    let world = World::start().await.unwrap();
    let device = world.device("HW-1").await.unwrap();
    let mut session = world.session(&device).await.unwrap();
    session.until_kept(&report(1)).await.unwrap();
    // The acknowledgement was lost.
    session.until_kept(&report(1)).await.unwrap();

    world.stack.kill(Service::Logs).await.unwrap();
    session.publish("crash", report(2).encode_to_vec()).await.unwrap();
    world.stack.start_service(Service::Logs).await.unwrap();
    session.until_kept(&report(2)).await.unwrap();

    world.stack.stop(Part::Postgres).await.unwrap();
    session.publish("crash", report(3).encode_to_vec()).await.unwrap();
    world.stack.start_service(Part::Postgres).await.unwrap();
    session.until_kept(&report(3)).await.unwrap();
    // The next boot counts from 1 again.
    let next = BootId { counter: BOOT.counter + 1, ..BOOT };
    session.until_kept(&CrashUp { boot: Some(next), ..report(1) }).await.unwrap();

    let listed = list(&world, &world.person, &device.name).await.unwrap();
    let named: Vec<_> = listed.iter().map(|crash| (crash.boot_count, crash.sequence)).collect();
    assert_eq!(named, [(2, 1), (1, 3), (1, 2), (1, 1)]);
}

#[tokio::test]
async fn a_malformed_report_is_neither_stored_nor_acknowledged_and_hurts_nothing() {
    let world = World::start().await.unwrap();
    let (liar, honest) = (world.device("HW-1").await.unwrap(), world.device("HW-2").await.unwrap());
    let lying = world.session(&liar).await.unwrap();
    for bytes in [b"".to_vec(), vec![0xff; 2000]] {
        lying.publish("crash", bytes).await.unwrap();
    }
    for absurd in [
        CrashUp { boot: None, ..report(1) },
        report(0),
        CrashUp { stack: vec![0; 1025], ..report(1) },
        CrashUp { registers: vec![0; 69], ..report(1) },
        CrashUp { manifest_digest: vec![0; 5], ..report(1) },
    ] {
        lying.publish("crash", absurd.encode_to_vec()).await.unwrap();
    }
    let mut session = world.session(&honest).await.unwrap();
    session.until_kept(&report(1)).await.unwrap();
    // What is odd and can be kept is kept: never acknowledged, it would come for ever.
    let mut lying = lying;
    let odd = CrashUp { kind: 99, version: "a\0".repeat(100), uptime_us: u64::MAX, ..report(9) };
    lying.until_kept(&odd).await.unwrap();
    let listed = list(&world, &world.person, &liar.name).await.unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!((listed[0].sequence, listed[0].kind.as_str()), (9, "other"));
    assert!(listed[0].version.starts_with("a\u{fffd}a") && listed[0].version.len() <= 64);
    assert_eq!(list(&world, &world.person, &honest.name).await.unwrap().len(), 1);
}

#[tokio::test]
async fn another_tenants_crash_reports_are_not_found() {
    let world = World::start().await.unwrap();
    let device = world.device("HW-1").await.unwrap();
    world.session(&device).await.unwrap().until_kept(&report(1)).await.unwrap();
    let own = list(&world, &world.person, &device.name).await.unwrap().remove(0);
    let stranger = client::new_tenant(&world.stack, &world.person, "Other").await.unwrap();
    let moved = |name: &str| name.replace(&world.person.tenant, &stranger.tenant);
    let everywhere = format!("{}/devices/-", world.person.tenant);
    for parent in [device.name.clone(), moved(&device.name), everywhere.clone()] {
        let refused = list(&world, &stranger, &parent).await.unwrap_err();
        assert_eq!((refused.code(), refused.message()), (Code::NotFound, "no such resource"), "{parent}");
    }
    assert!(list(&world, &stranger, &moved(&everywhere)).await.unwrap().is_empty());
    for name in [own.name.clone(), moved(&own.name)] {
        let refused = get(&world, &stranger, &name).await.unwrap_err();
        assert_eq!((refused.code(), refused.message()), (Code::NotFound, "no such resource"), "{name}");
    }
}

/// A device that loses its connection in the middle, a service that dies, and a database that stops: it goes on where it was.
#[tokio::test]
async fn memory_of_a_crash_goes_on_where_it_was_and_is_shown_to_a_developer_alone() {
    let world = World::start().await.unwrap();
    let device = world.device("HW-1").await.unwrap();
    let mut session = world.session(&device).await.unwrap();
    session.until_kept(&report(1)).await.unwrap();
    let crash = list(&world, &world.person, &device.name).await.unwrap().remove(0);
    assert_eq!((crash.memory_bytes, crash.memory_stored_bytes, crash.memory_missed_before), (5000, 0, 2));
    let nothing = get_memory(&world, &world.person, &crash.name).await.unwrap_err();
    assert_eq!(nothing.code(), Code::NotFound);

    session.until_told(&memory(1, 0, 0), 0).await.unwrap();
    session.until_told(&memory(1, 0, 1024), 1024).await.unwrap();
    drop(session);
    world.stack.kill(Service::Logs).await.unwrap();
    world.stack.start_service(Service::Logs).await.unwrap();
    let mut session = world.session(&device).await.unwrap();
    session.until_told(&memory(1, 0, 0), 1024).await.unwrap();
    session.until_told(&memory(1, 2048, 1024), 1024).await.unwrap();
    world.stack.stop(Part::Postgres).await.unwrap();
    session.publish("crash", memory(1, 1024, 1024).encode_to_vec()).await.unwrap();
    world.stack.start_service(Part::Postgres).await.unwrap();
    session.until_told(&memory(1, 1024, 1024), 2048).await.unwrap();

    let developer = world.person.colleague(&world.stack, Role::Developer).await.unwrap();
    let some = get_memory(&world, &developer, &crash.name).await.unwrap();
    assert_eq!((some.total_bytes, some.data.len()), (5000, 2048));
    for at in [2048, 3072] {
        session.until_told(&memory(1, at, 1024), at + 1024).await.unwrap();
    }
    session.until_told(&memory(1, 4096, 904), MEMORY).await.unwrap();
    let whole = get_memory(&world, &developer, &crash.name).await.unwrap();
    assert_eq!(whole.data, (0..MEMORY).map(|at| (at % 251) as u8).collect::<Vec<_>>());
    let pieces: Vec<_> = whole.pieces.iter().map(|piece| (piece.address, piece.size_bytes)).collect();
    assert_eq!(pieces, [(0x2020_0000, 1000), (0x2000_0000, 4000)]);

    let viewer = world.person.colleague(&world.stack, Role::Viewer).await.unwrap();
    let seen = list(&world, &viewer, &device.name).await.unwrap().remove(0);
    assert_eq!((seen.memory_bytes, seen.memory_stored_bytes), (5000, 5000));
    assert_eq!(get_memory(&world, &viewer, &crash.name).await.unwrap_err().code(), Code::PermissionDenied);
    let stranger = client::new_tenant(&world.stack, &world.person, "Other").await.unwrap();
    for name in [crash.name.clone(), crash.name.replace(&world.person.tenant, &stranger.tenant)] {
        let refused = get_memory(&world, &stranger, &name).await.unwrap_err();
        assert_eq!((refused.code(), refused.message()), (Code::NotFound, "no such resource"), "{name}");
    }
}

#[tokio::test]
async fn malformed_memory_is_neither_stored_nor_answered_and_hurts_nothing() {
    let world = World::start().await.unwrap();
    let (liar, honest) = (world.device("HW-1").await.unwrap(), world.device("HW-2").await.unwrap());
    let lying = world.session(&liar).await.unwrap();
    let good = memory(1, 0, 1024).memory.unwrap();
    for absurd in [
        CrashMemoryUp { boot: None, ..good.clone() },
        CrashMemoryUp { total: u32::MAX, ..good.clone() },
        CrashMemoryUp { pieces: vec![0xff; 24], ..good.clone() },
        CrashMemoryUp { offset: u32::MAX, ..good.clone() },
        CrashMemoryUp { data: vec![0; 1025], ..good.clone() },
    ] {
        let message = CrashUp { memory: Some(absurd), ..CrashUp::default() };
        lying.publish("crash", message.encode_to_vec()).await.unwrap();
    }
    let mut session = world.session(&honest).await.unwrap();
    session.until_told(&memory(1, 0, 1024), 1024).await.unwrap();
    // The same numbers are another device's own.
    let mut lying = lying;
    lying.until_told(&memory(1, 0, 0), 0).await.unwrap();
}
