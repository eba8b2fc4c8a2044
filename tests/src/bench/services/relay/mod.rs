//! Debug sessions under measurement: how long a frame takes through svc-debug-relay beside its two transports alone, how
//! many bytes pass in a second, and what sessions that say nothing cost in memory.

mod echo;
mod mqtt;

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use dev::{Options, Service};
use proto::debug::v1::attach_debug_session_response::Message as Told;
use proto::debug::v1::{CreateDebugSessionRequest, DebugSession};
use tokio::task::JoinSet;

use super::FIGURES;
use crate::bench::figure::Figures;
use crate::bench::usage;
use crate::board::Enrolled;
use crate::client;
use crate::debug::developer::{Api, Developer, Stream, at};
use crate::debug::device::{Device, Faults};
use crate::fleet::{Fleet, new_claim};

/// Frames that go to the device and back, one after the other.
const ROUNDS: usize = 2000;
/// Of a GDB packet and its encryption.
const ROUND_BYTES: usize = 256;
/// First rounds, not counted.
const WARM_UP: usize = 200;
/// Frames of the largest size, from the device.
const BULK_FRAMES: usize = 8192;
const BULK_BYTES: usize = wire::limits::DEBUG_FRAME_BYTES_MAX;
/// Boards that enrol at once.
const ENROLLING: usize = 8;
/// Streams of one connection; the server allows 256.
const STREAMS_PER_CONNECTION: usize = 100;
const US: f64 = 1e6;
const KIB_PER_MIB: f64 = 1024.0;

/// Measures everything and prints it; `idle` is how many sessions say nothing.
pub async fn run(idle: usize) -> Result<()> {
    // The relay is measured, and not the pace at which svc-broker reads a device by default (2 MiB/s).
    let pace = |of: &str| format!("HOLDFAST_DEVICE_{of}_PER_S");
    let options = Options::only([Service::Registry, Service::Broker, Service::DebugRelay])
        .env(Service::Broker, &pace("PUBLISHES"), "10000000")
        .env(Service::Broker, &pace("PUBLISH_BYTES"), "1073741824");
    let mut fleet = Fleet::start_with(options).await?;
    let devices_max = i64::try_from(idle)? + 1;
    (fleet.claim, fleet.claim_key) = new_claim(&fleet.stack, &fleet.admin, devices_max).await?;
    let fleet = Arc::new(fleet);
    let outcome = measure(&fleet, FIGURES, idle).await;
    if let Some(fleet) = Arc::into_inner(fleet) {
        fleet.stack.shutdown().await?;
    }
    outcome
}

async fn measure(fleet: &Arc<Fleet>, figures: Figures, idle: usize) -> Result<()> {
    let enrolled = fleet.enroll("HW-BENCH").await?;
    let device = Device::connect(&fleet.stack, &enrolled).await?;
    let api = api(fleet).await?;
    round_trips(fleet, &enrolled, &device, &api, figures).await?;
    bulk(fleet, &enrolled, &device, &api, figures).await?;
    drop(device);
    silence(fleet, figures, idle).await
}

async fn api(fleet: &Fleet) -> Result<Api> {
    Ok(Api::new(fleet.admin.client(&fleet.stack, Service::DebugRelay).await?))
}

/// A new session with the device.
async fn session(fleet: &Fleet, api: &Api, device: String) -> Result<String> {
    let wanted = DebugSession { device, ..DebugSession::default() };
    let parent = fleet.admin.tenant.clone();
    let request = CreateDebugSessionRequest { parent, debug_session: Some(wanted), ..Default::default() };
    Ok(api.clone().create_debug_session(request).await?.into_inner().name)
}

/// One frame at a time, there and back: through the relay, through a bare gRPC stream, over MQTT without a relay.
async fn round_trips(
    fleet: &Fleet,
    enrolled: &Enrolled,
    device: &Device,
    api: &Api,
    figures: Figures,
) -> Result<()> {
    device.faults(Faults { echo: true, ..Faults::default() });
    let name = session(fleet, api, enrolled.name()).await?;
    let mut developer = Developer::default();
    let mut stream = developer.attach(api, &name).await?;
    let relayed = rounds(&mut developer, &mut stream).await?;
    stream.close().await;
    stream.ended().await?;
    device.forget();

    let server = echo::Server::start(&fleet.stack).await?;
    let bare = Api::new(client::with_token(client::channel_to(&fleet.stack, &server.url).await?, "none")?);
    let mut developer = Developer::default();
    let mut stream = Stream::open(&bare, at("", None)).await?;
    let grpc = rounds(&mut developer, &mut stream).await?;
    drop(stream);

    let mqtt = mqtt::rounds(&fleet.stack, enrolled, WARM_UP, ROUNDS, ROUND_BYTES).await?;
    let transports: Vec<f64> = [0.5, 0.99].map(|q| quantile(&grpc, q) + quantile(&mqtt, q)).into();
    let relayed = [0.5, 0.99].map(|q| quantile(&relayed, q));
    let peer = "a gRPC stream and an MQTT hop, without a relay";
    figures.beside("relay_round_trip_us_p50", "us there and back", relayed[0], transports[0], peer);
    figures.beside("relay_round_trip_us_p99", "us there and back", relayed[1], transports[1], peer);
    // There and back are two frames.
    figures.alone("relay_added_us", "us a frame beyond its transports", (relayed[0] - transports[0]) / 2.0);
    Ok(())
}

/// Microseconds of each round.
async fn rounds(developer: &mut Developer, stream: &mut Stream) -> Result<Vec<f64>> {
    let mut times = Vec::with_capacity(ROUNDS);
    // Attached, and credit given.
    developer.run(stream, |d| d.credit > 0).await?;
    for round in 0..WARM_UP + ROUNDS {
        let began = Instant::now();
        developer.frames.push(vec![b'x'; ROUND_BYTES]);
        developer.credit_now(stream).await;
        let ended = developer.run(stream, |d| d.got.len() > round).await?;
        ensure!(ended.is_none(), "the session ended: {ended:?}");
        if round >= WARM_UP {
            times.push(began.elapsed().as_secs_f64() * US);
        }
    }
    Ok(times)
}

/// As much as goes from the device to the developer, the largest frames, within the credit.
async fn bulk(
    fleet: &Fleet,
    enrolled: &Enrolled,
    device: &Device,
    api: &Api,
    figures: Figures,
) -> Result<()> {
    device.faults(Faults::default());
    device.forget();
    device.say((0..BULK_FRAMES).map(|_| vec![b'x'; BULK_BYTES]));
    let name = session(fleet, api, enrolled.name()).await?;
    let mut developer = Developer::default();
    let mut stream = developer.attach(api, &name).await?;
    developer.run(&mut stream, |d| !d.got.is_empty()).await?;
    let began = Instant::now();
    let ended = developer.run(&mut stream, |d| d.got.len() == BULK_FRAMES).await?;
    ensure!(ended.is_none(), "the session ended: {ended:?}");
    let mib = (BULK_FRAMES * BULK_BYTES) as f64 / (KIB_PER_MIB * KIB_PER_MIB);
    figures.alone("relay_mib_per_s", "MiB/s from one device", mib / began.elapsed().as_secs_f64());
    stream.close().await;
    stream.ended().await?;
    Ok(())
}

/// Sessions attached at both ends that say nothing.
async fn silence(fleet: &Arc<Fleet>, figures: Figures, count: usize) -> Result<()> {
    let pid = fleet.stack.process(Service::DebugRelay).context("the relay runs")?.pid();
    let mut ends = Vec::with_capacity(count);
    for first in (0..count).step_by(ENROLLING) {
        let mut several = JoinSet::new();
        for n in first..count.min(first + ENROLLING) {
            let fleet = fleet.clone();
            several.spawn(async move {
                let enrolled = fleet.enroll(&format!("HW-{n}")).await?;
                let device = Device::connect(&fleet.stack, &enrolled).await?;
                anyhow::Ok((enrolled.name(), device))
            });
        }
        for end in several.join_all().await {
            ends.push(end?);
        }
    }
    let before = usage::resident_mib(pid)?;
    let mut streams = Vec::with_capacity(count);
    for several in ends.chunks(STREAMS_PER_CONNECTION) {
        let api = api(fleet).await?;
        for (name, _) in several {
            let name = session(fleet, &api, name.clone()).await?;
            streams.push(Stream::open(&api, at(&name, None)).await?);
        }
    }
    // Every one is attached, so every device has answered.
    let mut attaching = JoinSet::new();
    for mut stream in streams {
        attaching.spawn(async move {
            let first = stream.next().await?;
            ensure!(matches!(first, Some(Told::Attached(_))), "not attached: {first:?}");
            anyhow::Ok(stream)
        });
    }
    let streams: Vec<Stream> =
        attaching.join_all().await.into_iter().collect::<Result<_>>().context("a session does not begin")?;
    let kib = (usage::resident_mib(pid)? - before) * KIB_PER_MIB;
    figures.alone(&format!("relay_idle_kib_{count}"), "KiB a session", kib / count as f64);
    drop(streams);
    Ok(())
}

fn quantile(times: &[f64], q: f64) -> f64 {
    let mut sorted = times.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().saturating_sub(1);
    sorted.get((last as f64 * q).round() as usize).copied().unwrap_or(f64::NAN)
}

/// How long anything here may take.
const PATIENCE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_of_what_was_measured() {
        let times: Vec<f64> = (0..=100).rev().map(f64::from).collect();
        assert_eq!((quantile(&times, 0.5), quantile(&times, 0.99)), (50.0, 99.0));
    }
}
