//! A fleet's morning: every device connects, subscribes, says hello and takes 64 KiB, and stays while the others do so;
//! then all leave. What the last thousand cost beside the first, and what of the memory is kept, shows what grows.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tokio::task::JoinHandle;

use super::client::{Client, Identity};
use super::connects::UNDER_WAY;
use super::packet;
use super::site::Broker;
use crate::bench::usage;

const CHUNK_BYTES: usize = 16 * 1024;
const CHUNKS: usize = 4;
/// Devices whose cost is taken together.
const SLICE: usize = 1_000;
/// Until a broker has done with those that left.
const SETTLE: Duration = Duration::from_secs(3);
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Debug, Clone)]
pub struct Round {
    pub seconds: f64,
    /// Broker CPU seconds and seconds of each thousand, in order.
    pub slices: Vec<(f64, f64)>,
    /// Broker memory with all connected, and after all have left.
    pub present_mib: f64,
    pub gone_mib: f64,
}

/// One round after the other with the same broker.
pub async fn rounds(
    broker: &Broker,
    service: &Identity,
    devices: &[Identity],
    count: usize,
) -> Result<Vec<Round>> {
    let serving = serve(broker, service).await?;
    let mut rounds = Vec::new();
    for _ in 0..count {
        rounds.push(round(broker, devices).await?);
        ensure!(!serving.is_finished(), "the service has ended");
    }
    serving.abort();
    Ok(rounds)
}

async fn round(broker: &Broker, devices: &[Identity]) -> Result<Round> {
    let begun = Instant::now();
    let (mut present, mut slices) = (Vec::new(), Vec::new());
    for slice in devices.chunks(SLICE) {
        let before = (Instant::now(), usage::cpu_seconds(broker.pid())?);
        let visits =
            super::each(slice.to_vec(), UNDER_WAY, |identity| arrive(broker.device.clone(), identity));
        present.extend(visits.await?);
        let cpu_s = usage::cpu_seconds(broker.pid())? - before.1;
        slices.push((cpu_s, before.0.elapsed().as_secs_f64()));
    }
    let present_mib = usage::resident_mib(broker.pid())?;
    super::each(present, UNDER_WAY, Client::leave).await?;
    let seconds = begun.elapsed().as_secs_f64();
    tokio::time::sleep(SETTLE).await;
    Ok(Round { seconds, slices, present_mib, gone_mib: usage::resident_mib(broker.pid())? })
}

async fn arrive(address: String, identity: Identity) -> Result<Client> {
    let mut client = Client::connect(&address, &identity).await?;
    client.subscribe(&format!("hf/1/{}/dn/#", identity.name)).await?;
    client.send(&packet::publish(&format!("hf/1/{}/up/hello", identity.name), Some(1), b"hello")).await?;
    let mut chunks = 0;
    while chunks < CHUNKS {
        let received = client.receive(|packet| {
            chunks += usize::from(packet.is_publish());
            Ok(())
        });
        tokio::time::timeout(PATIENCE, received)
            .await
            .with_context(|| format!("{} got {chunks} chunks", identity.name))??;
    }
    client.rest();
    Ok(client)
}

/// Answers every hello with the chunks.
async fn serve(broker: &Broker, service: &Identity) -> Result<JoinHandle<Result<()>>> {
    let mut client = Client::connect_bulk(&broker.service, service).await?;
    client.subscribe("$share/ota-hello/hf/1/+/up/hello").await?;
    Ok(tokio::spawn(async move {
        let mut answer = Vec::new();
        loop {
            client
                .receive(|packet| {
                    answer.extend(packet.acknowledgement().into_iter().flatten());
                    let topic = packet.topic().context("a topic")?.replace("/up/hello", "/dn/layer");
                    let chunk = packet::publish(&topic, None, &[b'x'; CHUNK_BYTES]);
                    (0..CHUNKS).for_each(|_| answer.extend_from_slice(&chunk));
                    Ok(())
                })
                .await?;
            client.send(&answer).await?;
            answer.clear();
        }
    }))
}
