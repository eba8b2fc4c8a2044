//! What an application publishes, from its device to whoever lists or follows it.

use anyhow::Result;
use dev::{Part, Service};
use prost::Message;
use proto::device::v1::TelemetryUp;
use proto::logs::v1::log_service_client::LogServiceClient;
use proto::logs::v1::{ListTelemetryRequest, TailTelemetryRequest, TailTelemetryResponse, TelemetryMessage};
use scenarios::client;
use tokio::time::timeout;
use tonic::{Code, Streaming};

use crate::world::{BOOT, Device, PATIENCE, Session, World};

fn message(sequence: u64) -> TelemetryUp {
    TelemetryUp {
        boot: Some(BOOT),
        sequence,
        uptime_us: sequence,
        content_type: "text/plain".into(),
        data: format!("{sequence} degrees").into_bytes(),
        dropped: 0,
    }
}

impl Session {
    async fn tell(&self, message: &TelemetryUp) -> Result<()> {
        self.publish("telemetry", message.encode_to_vec()).await
    }
}

impl World {
    async fn telemetry(&self, device: &Device) -> Result<Vec<TelemetryMessage>> {
        let request = ListTelemetryRequest { parent: device.name.clone(), ..Default::default() };
        Ok(self.logs().await?.list_telemetry(request).await?.into_inner().messages)
    }

    async fn tail_telemetry(
        &self,
        device: &Device,
        resume_token: &str,
    ) -> Result<Streaming<TailTelemetryResponse>> {
        let request =
            TailTelemetryRequest { parent: device.name.clone(), last: 10, resume_token: resume_token.into() };
        Ok(self.logs().await?.tail_telemetry(request).await?.into_inner())
    }
}

/// The next message of a tail, and its token.
async fn next(tail: &mut Streaming<TailTelemetryResponse>) -> (Option<TelemetryMessage>, String) {
    let told = timeout(PATIENCE, tail.message()).await.unwrap().unwrap().unwrap();
    assert_eq!(told.missed, 0);
    (told.message, told.resume_token)
}

#[tokio::test]
async fn what_an_application_publishes_is_stored_once_listed_and_followed() {
    let world = World::start().await.unwrap();
    let device = world.device("HW-1").await.unwrap();
    let session = world.session(&device).await.unwrap();
    let mut tail = world.tail_telemetry(&device, "").await.unwrap();
    assert!(next(&mut tail).await.0.is_none(), "there was nothing yet");
    // 3 had no room on the device; 2 comes twice.
    let last = TelemetryUp { dropped: 1, ..message(4) };
    for message in [&message(1), &message(2), &message(2), &last] {
        session.tell(message).await.unwrap();
    }
    let mut seen = Vec::new();
    let mut token = String::new();
    while seen.len() < 3 {
        let told = next(&mut tail).await;
        (seen, token) = (seen.into_iter().chain(told.0).collect(), told.1);
    }
    assert_eq!(world.telemetry(&device).await.unwrap(), seen);
    let mut numbers: Vec<_> = seen.iter().map(|m| (m.sequence, m.dropped_before)).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [(1, 0), (2, 0), (4, 1)]);
    let first = seen.iter().find(|message| message.sequence == 1).unwrap();
    assert_eq!((first.content_type.as_str(), &first.data[..]), ("text/plain", &b"1 degrees"[..]));
    assert_eq!((first.device.as_str(), first.boot.as_str()), (device.name.as_str(), "1-0123456789abcdef"));

    // The reader goes away, and so does the service; nothing is told twice or left out.
    drop(tail);
    world.stack.kill(Service::Logs).await.unwrap();
    world.stack.start_service(Service::Logs).await.unwrap();
    let mut tail = world.tail_telemetry(&device, &token).await.unwrap();
    let told = told_again(&session, &mut tail, 5).await;
    assert_eq!(told.sequence, 5);
    let mut last_of_all = world.tail_telemetry(&device, &token).await.unwrap();
    assert_eq!(next(&mut last_of_all).await.0.unwrap().sequence, 5);
}

/// Published until the service, just started, has subscribed again.
async fn told_again(
    session: &Session,
    tail: &mut Streaming<TailTelemetryResponse>,
    sequence: u64,
) -> TelemetryMessage {
    let told = async {
        loop {
            session.tell(&message(sequence)).await.unwrap();
            if let Ok(told) = timeout(crate::world::RESEND, tail.message()).await {
                return told.unwrap().unwrap().message.unwrap();
            }
        }
    };
    timeout(PATIENCE, told).await.unwrap()
}

#[tokio::test]
async fn telemetry_waits_for_a_database_that_is_away() {
    let world = World::start().await.unwrap();
    let device = world.device("HW-1").await.unwrap();
    let session = world.session(&device).await.unwrap();
    let mut tail = world.tail_telemetry(&device, "").await.unwrap();
    let (_, token) = next(&mut tail).await;
    told_again(&session, &mut tail, 1).await;
    drop(tail);
    world.stack.stop(Part::Postgres).await.unwrap();
    // Once: no device sends telemetry again that the broker took.
    session.tell(&message(2)).await.unwrap();
    world.stack.start_service(Part::Postgres).await.unwrap();
    let mut tail = world.tail_telemetry(&device, &token).await.unwrap();
    assert_eq!(next(&mut tail).await.0.unwrap().sequence, 1);
    assert_eq!(next(&mut tail).await.0.unwrap().sequence, 2);
}

#[tokio::test]
async fn malformed_telemetry_is_dropped_and_another_tenants_is_not_found() {
    let world = World::start().await.unwrap();
    let device = world.device("HW-1").await.unwrap();
    let session = world.session(&device).await.unwrap();
    session.publish("telemetry", vec![0xff; 2000]).await.unwrap();
    for absurd in [
        TelemetryUp { boot: None, ..message(1) },
        message(0),
        TelemetryUp { data: vec![0; 1025], ..message(1) },
        TelemetryUp { content_type: "\u{1b}[2J".into(), ..message(1) },
    ] {
        session.tell(&absurd).await.unwrap();
    }
    let mut tail = world.tail_telemetry(&device, "").await.unwrap();
    next(&mut tail).await;
    told_again(&session, &mut tail, 7).await;
    let listed = world.telemetry(&device).await.unwrap();
    assert_eq!(listed.iter().map(|message| message.sequence).collect::<Vec<_>>(), [7]);

    let stranger = client::new_tenant(&world.stack, &world.person, "Other").await.unwrap();
    let mut logs = LogServiceClient::new(stranger.client(&world.stack, Service::Logs).await.unwrap());
    for parent in [device.name.clone(), device.name.replace(&world.person.tenant, &stranger.tenant)] {
        let list = ListTelemetryRequest { parent: parent.clone(), ..Default::default() };
        assert_eq!(logs.list_telemetry(list).await.unwrap_err().code(), Code::NotFound);
        let tail = TailTelemetryRequest { parent, ..Default::default() };
        assert_eq!(logs.tail_telemetry(tail).await.unwrap_err().code(), Code::NotFound);
    }
}
