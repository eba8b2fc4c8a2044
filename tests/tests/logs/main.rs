//! Logs, crash reports and telemetry from a device's MQTT session to a person's gRPC call, with services stopped under way.
//!
//! What svc-logs does with replicas, transactions and pages is tested beside its code.

#![expect(clippy::unwrap_used, reason = "a test ends where something is not as it should be")]

mod board;
mod crash;
mod telemetry;
mod world;

use dev::{Part, Service};
use prost::Message;
use proto::device::v1::{LogLevel, LogRecord, LogSource, LogUp};
use proto::logs::v1::log_service_client::LogServiceClient;
use proto::logs::v1::{ListRecordsRequest, TailRecordsRequest};
use proto::registry::v1::RevokeDeviceRequest;
use proto::registry::v1::device_service_client::DeviceServiceClient;
use scenarios::client;
use tokio::time::timeout;
use tonic::Code;

use crate::world::{BOOT, PATIENCE, World};

fn batch(sequences: impl IntoIterator<Item = u64>, lost_up_to: u64) -> LogUp {
    let record = |sequence| LogRecord {
        sequence,
        uptime_us: sequence,
        level: LogLevel::Info.into(),
        source: LogSource::App.into(),
        text: format!("line {sequence}"),
    };
    LogUp {
        boot: Some(BOOT),
        records: sequences.into_iter().map(record).collect(),
        lost_up_to,
        dropped: lost_up_to,
    }
}

fn gaps(records: &[proto::logs::v1::LogRecord]) -> Vec<(i64, i64)> {
    records.iter().map(|r| (r.sequence, r.gap_before)).collect()
}

#[tokio::test]
async fn a_devices_lines_are_stored_acknowledged_listed_and_tailed() {
    let world = World::start().await.unwrap();
    let device = world.device("HW-1").await.unwrap();
    let mut session = world.session(&device).await.unwrap();
    session.until_stored(&batch(1..=5, 0), 5).await.unwrap();

    let listed = world.listed(&device).await.unwrap();
    assert_eq!(gaps(&listed), [(1, 0), (2, 0), (3, 0), (4, 0), (5, 0)]);
    assert_eq!((listed[0].text.as_str(), listed[0].boot.as_str()), ("line 1", "1-0123456789abcdef"));
    assert_eq!((listed[0].level.as_str(), listed[0].source.as_str()), ("info", "app"));

    let mut tail = world.tail(&device, 2).await.unwrap();
    // 6 and 7 were lost in the ring; 8 shows it.
    session.until_stored(&batch([8, 9], 7), 9).await.unwrap();
    let mut seen = Vec::new();
    while seen.len() < 4 {
        let next = timeout(PATIENCE, tail.message()).await.unwrap().unwrap().unwrap();
        assert_eq!(next.missed, 0);
        seen.push(next.record.unwrap());
    }
    assert_eq!(gaps(&seen), [(4, 0), (5, 0), (8, 2), (9, 0)]);
    // A stopping server ends its tails.
    world.stack.stop(Service::Logs).await.unwrap();
    assert!(!matches!(timeout(PATIENCE, tail.message()).await.unwrap(), Ok(Some(_))));
}

#[tokio::test]
async fn nothing_acknowledged_is_lost_while_services_stop_and_start() {
    let world = World::start().await.unwrap();
    let device = world.device("HW-1").await.unwrap();
    let mut session = world.session(&device).await.unwrap();
    session.until_stored(&batch(1..=10, 0), 10).await.unwrap();

    world.stack.kill(Service::Logs).await.unwrap();
    session.send(&batch(11..=20, 0)).await.unwrap();
    world.stack.start_service(Service::Logs).await.unwrap();
    session.until_stored(&batch(11..=20, 0), 20).await.unwrap();

    world.stack.stop(Part::Postgres).await.unwrap();
    session.send(&batch(21..=30, 0)).await.unwrap();
    world.stack.start_service(Part::Postgres).await.unwrap();
    session.until_stored(&batch(21..=30, 0), 30).await.unwrap();

    world.stack.kill(Service::Broker).await.unwrap();
    world.stack.start_service(Service::Broker).await.unwrap();
    session.pump.abort();
    let mut session = world.session(&device).await.unwrap();
    session.until_stored(&batch(31..=40, 0), 40).await.unwrap();

    let expected: Vec<_> = (1..=40).map(|n| (n, 0)).collect();
    assert_eq!(gaps(&world.listed(&device).await.unwrap()), expected);
}

#[tokio::test]
async fn a_device_that_lies_or_was_revoked_hurts_no_other() {
    let world = World::start().await.unwrap();
    let (liar, honest) = (world.device("HW-1").await.unwrap(), world.device("HW-2").await.unwrap());
    let lying = world.session(&liar).await.unwrap();
    for bytes in [b"".to_vec(), vec![0xff; 2000], batch(1..=65, 0).encode_to_vec()] {
        lying.publish("log", bytes).await.unwrap();
    }
    for absurd in [batch([0], 0), batch([u64::MAX], 0), batch([], u64::MAX), batch([1_000_000], 0)] {
        lying.send(&absurd).await.unwrap();
    }
    let long = LogRecord { text: "é".repeat(2000), ..batch([1], 0).records.remove(0) };
    lying.send(&LogUp { records: vec![long], ..batch([], 0) }).await.unwrap();
    let mut session = world.session(&honest).await.unwrap();
    session.until_stored(&batch(1..=5, 0), 5).await.unwrap();
    let mut lying = lying;
    lying.until_stored(&batch(2..=3, 0), 3).await.unwrap();
    let listed = world.listed(&liar).await.unwrap();
    assert_eq!(gaps(&listed), [(1, 0), (2, 0), (3, 0)]);
    assert_eq!(listed[0].text.len(), wire::limits::LOG_TEXT_BYTES_MAX);

    let registry = world.person.client(&world.stack, Service::Registry).await.unwrap();
    let revoke = RevokeDeviceRequest { name: liar.name.clone(), ..Default::default() };
    DeviceServiceClient::new(registry).revoke_device(revoke).await.unwrap();
    // Its connection ends; whatever it sent last, nothing more of it is stored.
    timeout(PATIENCE, &mut lying.pump).await.unwrap().unwrap();
    assert!(world.session(&liar).await.is_err());
    session.until_stored(&batch(6..=8, 0), 8).await.unwrap();
    assert_eq!(world.listed(&liar).await.unwrap().len(), 3);
}

#[tokio::test]
async fn another_tenants_logs_are_not_found() {
    let world = World::start().await.unwrap();
    let device = world.device("HW-1").await.unwrap();
    let mut session = world.session(&device).await.unwrap();
    session.until_stored(&batch(1..=2, 0), 2).await.unwrap();
    let stranger = client::new_tenant(&world.stack, &world.person, "Other").await.unwrap();
    let mut logs = LogServiceClient::new(stranger.client(&world.stack, Service::Logs).await.unwrap());
    let unknown = format!("{}/devices/dv{}", stranger.tenant, "0".repeat(32));
    let moved = device.name.replace(&world.person.tenant, &stranger.tenant);
    for parent in [device.name.clone(), moved, unknown] {
        let list = ListRecordsRequest { parent: parent.clone(), ..Default::default() };
        let refused = logs.list_records(list).await.unwrap_err();
        assert_eq!((refused.code(), refused.message()), (Code::NotFound, "no such resource"), "{parent}");
        let tail = TailRecordsRequest { parent, ..Default::default() };
        assert_eq!(logs.tail_records(tail).await.unwrap_err().code(), Code::NotFound);
    }
    let wrong = ListRecordsRequest { parent: "tenants/x".into(), ..Default::default() };
    assert_eq!(logs.list_records(wrong).await.unwrap_err().code(), Code::InvalidArgument);
}
