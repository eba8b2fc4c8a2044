//! MQTT in and out: messages of many devices are gathered, stored together, and those that are acknowledged are so after the commit.
//!
//! Log records and crash reports: nothing waits here for a database that is away: a turn that fails is dropped and counted, and the devices,
//! which were told nothing, send it again. Telemetry has no acknowledgement: its turn is tried again a few times. Each channel has a queue of
//! its own, bounded by bytes, as is a turn, so that none starves another.

mod admit;
mod crash;
mod log;
mod telemetry;
mod turn;

use std::sync::Arc;

use kit::Shutdown;
use kit::mqtt::{Incoming, Link, LinkSetup};
use tokio::sync::mpsc;
use wire::topic::ChannelKind;

use self::admit::Gate;
use self::turn::Queue;
use crate::app::{App, count};
use crate::model::rate;

/// Bytes of log messages that may wait to be stored.
const LOG_BYTES_MAX: usize = 16 << 20;
/// The same of crash reports.
const CRASH_BYTES_MAX: usize = 4 << 20;
/// The same of telemetry.
const TELEMETRY_BYTES_MAX: usize = 16 << 20;
/// Transactions of one channel under way at once: one waits for the disk while another is prepared.
const WORKERS: usize = 2;

/// What devices send, by channel.
#[derive(Debug)]
pub(crate) struct Channels {
    logs: mpsc::Receiver<Incoming>,
    crashes: mpsc::Receiver<Incoming>,
    telemetry: mpsc::Receiver<Incoming>,
}

/// Subscribes to everything this service reads.
pub(crate) fn subscribe(setup: &mut LinkSetup) -> Channels {
    Channels {
        logs: setup.subscribe(ChannelKind::Log, LOG_BYTES_MAX),
        crashes: setup.subscribe(ChannelKind::Crash, CRASH_BYTES_MAX),
        telemetry: setup.subscribe(ChannelKind::Telemetry, TELEMETRY_BYTES_MAX),
    }
}

/// The tasks that take messages from the queues until shutdown.
pub(crate) fn workers(
    app: &Arc<App>,
    link: &Link,
    channels: Channels,
    shutdown: &Shutdown,
) -> Vec<impl Future<Output = ()> + Send + 'static> {
    [
        (channels.logs, Gate::new(ChannelKind::Log, count::LOGS, rate::RECORDS)),
        (channels.crashes, Gate::new(ChannelKind::Crash, count::CRASHES, rate::CRASHES)),
        (channels.telemetry, Gate::new(ChannelKind::Telemetry, count::TELEMETRY, rate::TELEMETRY)),
    ]
    .into_iter()
    .flat_map(|(incoming, gate)| {
        let (queue, gate) = (Queue::new(incoming), Arc::new(gate));
        (0..WORKERS).map(move |_| (queue.clone(), gate.clone()))
    })
    .map(|(queue, gate)| work(queue, gate, app.clone(), link.clone(), shutdown.clone()))
    .collect()
}

/// One worker: a turn after the other.
async fn work(queue: Queue, gate: Arc<Gate>, app: Arc<App>, link: Link, shutdown: Shutdown) {
    while let Some(messages) = shutdown.or(queue.next_turn()).await {
        if messages.is_empty() {
            return;
        }
        match gate.channel() {
            ChannelKind::Crash => {
                let said = gate.admit(messages, crash::said, crash::Said::weight);
                crash::store(&app, &link, said).await;
            }
            ChannelKind::Telemetry => {
                let messages = gate.admit(messages, telemetry::message, |_| 1);
                telemetry::store(&app, messages, &shutdown).await;
            }
            _ => {
                let batches = gate.admit(messages, log::batch, |batch| batch.records.len());
                log::store(&app, &link, batches).await;
            }
        }
    }
}
