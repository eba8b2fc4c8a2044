//! Connections: how many a broker makes a second, and what one costs while it does nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use tokio::task::JoinSet;

use super::client::{Client, Identity};
use super::site::Broker;
use crate::bench::usage;

/// Connections being made at once.
pub(crate) const UNDER_WAY: usize = 64;
/// Before memory is looked at for the first time: what a broker allocates once is not a connection's.
const WARM_UP: usize = 64;
/// Until a broker has done all it does for a new connection.
const SETTLE: Duration = Duration::from_secs(2);

#[derive(Debug, Clone, Copy)]
pub struct Connects {
    pub per_s: f64,
    /// The broker's, microseconds a connection.
    pub cpu_us: f64,
}

/// Full handshake, CONNECT, CONNACK, DISCONNECT: again and again.
pub async fn rate(broker: &Broker, devices: &[Identity], time: Duration) -> Result<Connects> {
    let (next, devices): (_, Arc<[Identity]>) = (Arc::new(AtomicUsize::new(0)), devices.into());
    let before = (Instant::now(), usage::cpu_seconds(broker.pid())?);
    let mut tasks = JoinSet::new();
    for _ in 0..UNDER_WAY {
        tasks.spawn(again(broker.device.clone(), devices.clone(), next.clone(), before.0 + time));
    }
    let mut count = 0;
    while let Some(made) = tasks.join_next().await {
        count += made??;
    }
    let (seconds, count) = (before.0.elapsed().as_secs_f64(), f64::from(count));
    let cpu_s = usage::cpu_seconds(broker.pid())? - before.1;
    Ok(Connects { per_s: count / seconds, cpu_us: cpu_s * 1e6 / count })
}

async fn again(
    address: String,
    devices: Arc<[Identity]>,
    next: Arc<AtomicUsize>,
    until: Instant,
) -> Result<u32> {
    let mut count = 0;
    while Instant::now() < until {
        // By the time an identity's turn comes again, its connection is long gone.
        let identity = &devices[next.fetch_add(1, Ordering::Relaxed) % devices.len()];
        Client::connect(&address, identity).await?.leave().await?;
        count += 1;
    }
    Ok(count)
}

/// Resident KiB a connection that has subscribed to its topics and says nothing.
pub async fn idle_kib(broker: &Broker, devices: &[Identity]) -> Result<f64> {
    let (first, others) = devices.split_at(WARM_UP.min(devices.len() / 2));
    let warm = listeners(broker, first).await?;
    tokio::time::sleep(SETTLE).await;
    let before = usage::resident_mib(broker.pid())?;
    let idle = listeners(broker, others).await?;
    tokio::time::sleep(SETTLE).await;
    let grown = usage::resident_mib(broker.pid())? - before;
    let count = idle.len() as f64;
    drop((warm, idle));
    Ok(grown * 1024.0 / count)
}

/// Connected devices that hear what is meant for them.
pub(crate) async fn listeners(broker: &Broker, devices: &[Identity]) -> Result<Vec<Client>> {
    super::each(devices.to_vec(), UNDER_WAY, |identity| {
        let address = broker.device.clone();
        async move {
            let mut client = Client::connect(&address, &identity).await?;
            client.subscribe(&format!("hf/1/{}/dn/#", identity.name)).await?;
            client.rest();
            Ok(client)
        }
    })
    .await
}
