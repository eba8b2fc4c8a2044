//! A service speaks to many devices, one after the other: small QoS 0 messages a second that arrive.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::client::{Client, Identity};
use super::connects;
use super::packet;
use super::site::Broker;
use crate::bench::usage;

const PAYLOAD_BYTES: usize = 64;
/// Messages of one write.
const BLOCK: usize = 64;
/// Messages published and not yet at their device, at most.
const UNDER_WAY_MAX: usize = 4 * 1024;
const WARM_UP: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, Copy)]
pub struct Downlink {
    pub messages_per_s: f64,
    /// The broker's, microseconds a message.
    pub cpu_us: f64,
}

#[derive(Debug)]
struct Flow {
    room: Semaphore,
    received: AtomicU64,
}

pub async fn measure(
    broker: &Broker,
    service: &Identity,
    devices: &[Identity],
    time: Duration,
) -> Result<Downlink> {
    let flow = Arc::new(Flow { room: Semaphore::new(UNDER_WAY_MAX), received: AtomicU64::new(0) });
    let mut tasks = JoinSet::new();
    for device in connects::listeners(broker, devices).await? {
        tasks.spawn(receive(device, flow.clone()));
    }
    let publisher = Client::connect(&broker.service, service).await?;
    tasks.spawn(publish(publisher, devices.to_vec(), flow.clone()));
    tokio::time::sleep(WARM_UP).await;
    let before = (Instant::now(), flow.received.load(Ordering::Relaxed), usage::cpu_seconds(broker.pid())?);
    tokio::select! {
        ended = tasks.join_next() => match ended.context("nobody is there")?? {
            Err(error) => return Err(error),
            Ok(never) => match never {},
        },
        () = tokio::time::sleep(time) => {}
    }
    let seconds = before.0.elapsed().as_secs_f64();
    let messages = (flow.received.load(Ordering::Relaxed) - before.1) as f64;
    let cpu_s = usage::cpu_seconds(broker.pid())? - before.2;
    ensure!(messages > 0.0, "no message came\n{}", broker.tail());
    tasks.shutdown().await;
    Ok(Downlink { messages_per_s: messages / seconds, cpu_us: cpu_s * 1e6 / messages })
}

async fn publish(
    mut client: Client,
    devices: Vec<Identity>,
    flow: Arc<Flow>,
) -> Result<std::convert::Infallible> {
    let message = |identity: &Identity| {
        packet::publish(&format!("hf/1/{}/dn/hello", identity.name), None, &[b'x'; PAYLOAD_BYTES])
    };
    let blocks: Vec<(u32, Vec<u8>)> = devices
        .chunks(BLOCK)
        .map(|part| (part.len() as u32, part.iter().flat_map(message).collect()))
        .collect();
    loop {
        for (count, block) in &blocks {
            flow.room.acquire_many(*count).await?.forget();
            client.send(block).await?;
        }
    }
}

async fn receive(mut client: Client, flow: Arc<Flow>) -> Result<std::convert::Infallible> {
    loop {
        let mut count = 0;
        client
            .receive(|packet| {
                ensure!(packet.is_publish(), "a device got {packet:?}");
                count += 1;
                Ok(())
            })
            .await?;
        flow.received.fetch_add(count, Ordering::Relaxed);
        flow.room.add_permits(usize::try_from(count)?);
    }
}
