//! Many devices publish with QoS 1 to one service: messages a second at the service, and what the broker uses for one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::client::{Client, Identity};
use super::packet::{self, PUBACK};
use super::site::Broker;
use crate::bench::usage;

const PAYLOAD_BYTES: usize = 200;
/// QoS 1 messages one publisher has unacknowledged, at most; it sends again when half are free.
const WINDOW: usize = 16;
/// Messages published and not yet at the service, at most: below what either broker lets a service leave unacknowledged.
const UNDER_WAY_MAX: usize = 3_000;
/// The service acknowledges so many at once, far fewer than it may leave. mosquitto 2.0.11 reads one TLS record a turn of
/// its loop, and with a record for each PUBACK was seen to stop delivering after some 65,000 messages.
const ACKNOWLEDGED: usize = 64;
const PUBACK_BYTES: usize = 4;
/// Connections made at once before the measurement.
const CONNECTING: usize = 64;
const WARM_UP: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, Copy)]
pub struct Uplink {
    pub messages_per_s: f64,
    /// The broker's, microseconds a message.
    pub cpu_us: f64,
}

/// What publishers and the service share.
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
) -> Result<Uplink> {
    let flow = Arc::new(Flow { room: Semaphore::new(UNDER_WAY_MAX), received: AtomicU64::new(0) });
    let mut subscriber = Client::connect_bulk(&broker.service, service).await?;
    subscriber.subscribe("$share/ota-hello/hf/1/+/up/hello").await?;
    let address = &broker.device;
    let publishers = super::each(devices.to_vec(), CONNECTING, |identity| {
        let address = address.clone();
        async move { Ok((Client::connect(&address, &identity).await?, identity.name)) }
    })
    .await?;
    let mut tasks = JoinSet::new();
    tasks.spawn(receive(subscriber, flow.clone()));
    for (publisher, name) in publishers {
        tasks.spawn(publish(publisher, name, flow.clone()));
    }
    tokio::time::sleep(WARM_UP).await;
    let before = (Instant::now(), flow.received.load(Ordering::Relaxed), usage::cpu_seconds(broker.pid())?);
    tokio::select! {
        ended = tasks.join_next() => match ended.context("nobody publishes")?? {
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
    Ok(Uplink { messages_per_s: messages / seconds, cpu_us: cpu_s * 1e6 / messages })
}

async fn publish(mut client: Client, name: String, flow: Arc<Flow>) -> Result<std::convert::Infallible> {
    let (block, message_bytes) = block(&name);
    let (mut next, mut free) = (0, WINDOW);
    loop {
        if free >= WINDOW / 2 {
            flow.room.acquire_many(u32::try_from(free)?).await?.forget();
            client.send(&block[next * message_bytes..(next + free) * message_bytes]).await?;
            next = (next + free) % WINDOW;
            free = 0;
        }
        client
            .receive(|packet| {
                if packet.first != PUBACK || !packet.is_success() {
                    bail!("a publish was answered {packet:?}");
                }
                free += 1;
                Ok(())
            })
            .await?;
    }
}

/// Every run of up to a window's packet ids as one slice: acknowledgements come in order, so ids go round.
fn block(name: &str) -> (Vec<u8>, usize) {
    let topic = format!("hf/1/{name}/up/hello");
    let id = |at: usize| Some((at % WINDOW + 1) as u16);
    let messages: Vec<Vec<u8>> =
        (0..2 * WINDOW).map(|at| packet::publish(&topic, id(at), &[b'x'; PAYLOAD_BYTES])).collect();
    (messages.concat(), messages[0].len())
}

async fn receive(mut client: Client, flow: Arc<Flow>) -> Result<std::convert::Infallible> {
    let mut acknowledgements = Vec::new();
    loop {
        let mut count = 0;
        client
            .receive(|packet| {
                ensure!(packet.is_publish(), "the service got {packet:?}");
                acknowledgements.extend(packet.acknowledgement().into_iter().flatten());
                count += 1;
                Ok(())
            })
            .await?;
        flow.received.fetch_add(count, Ordering::Relaxed);
        flow.room.add_permits(usize::try_from(count)?);
        if acknowledgements.len() >= ACKNOWLEDGED * PUBACK_BYTES {
            client.send(&acknowledgements).await?;
            acknowledgements.clear();
        }
    }
}
