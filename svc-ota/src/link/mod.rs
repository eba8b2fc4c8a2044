//! MQTT in and out; the only place that sees topics and the device's messages.
//!
//! Always holds: a message that cannot be handled now is tried again for a while and then dropped, because the device
//! says it again; nothing that is sent is relied on to arrive.

mod decode;
mod layer;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use kit::mqtt::{Incoming, Link, LinkError, LinkSetup, PublishError};
use kit::tls::Tls;
use kit::{Shutdown, Tasks, status};
use prost::Message;
use proto::device::v1::{BootId, HelloDown, ResultAck, UpdateDown};
use tokio::sync::mpsc;
use tokio::time::Instant;
use wire::topic::ChannelKind;
use wire::{Channel, DeviceId, Direction, Service, Topic, TopicId};

use crate::app::turn::{self, Message as Said, TURN_MESSAGES_MAX};
use crate::app::{App, Effect};
use crate::error::Error;

/// Bytes of hellos and of reports that may wait to be handled, each.
const WAITING_BYTES_MAX: usize = 8 << 20;
/// How long a message is tried again while the database is away.
const HANDLE_MAX: Duration = Duration::from_secs(30);
const RETRY_DELAY: Duration = Duration::from_millis(500);

/// Sends effects to devices. What cannot be sent now is sent by the sweep, or in answer to the next hello.
#[derive(Clone, Debug)]
pub(crate) struct Outbox {
    link: Link,
}

/// What devices say of themselves and of their updates.
#[derive(Debug)]
struct Inbox {
    hellos: mpsc::Receiver<Incoming>,
    updates: mpsc::Receiver<Incoming>,
}

/// Connects, and spawns everything that listens to devices.
pub(crate) fn start(app: &Arc<App>, tls: &Tls, tasks: &mut Tasks) -> Result<Outbox, LinkError> {
    let mut setup = LinkSetup::new(Service::Ota, &app.config.broker_url, tls)?;
    let hellos = setup.subscribe(ChannelKind::Hello, WAITING_BYTES_MAX);
    let updates = setup.subscribe(ChannelKind::Update, WAITING_BYTES_MAX);
    let layers = setup.subscribe(ChannelKind::Layer, WAITING_BYTES_MAX);
    let (link, connected) = setup.start(tasks.shutdown());
    tasks.spawn("link", connected);
    let outbox = Outbox { link: link.clone() };
    let inbox = Inbox { hellos, updates };
    tasks.spawn("messages", listen(app.clone(), outbox.clone(), inbox, tasks.shutdown()));
    layer::start(app, link, layers, tasks);
    Ok(outbox)
}

/// One turn after the other: two at once would wait for each other's locks, since what devices say in a row, as hello and
/// as report, is about the same deployments. The longer a turn takes, the more the next one holds.
async fn listen(app: Arc<App>, outbox: Outbox, mut inbox: Inbox, shutdown: Shutdown) {
    let mut turn = Vec::with_capacity(TURN_MESSAGES_MAX);
    while shutdown.or(inbox.fill(&mut turn)).await == Some(true) {
        let said: Vec<(DeviceId, Said)> = turn.iter().filter_map(decoded).collect();
        if shutdown.or(handle(&app, &outbox, &said)).await.is_none() {
            return;
        }
        // Their room in the queue is free again only now.
        turn.clear();
    }
    shutdown.wait().await;
}

impl Inbox {
    /// What waits, at most a turn; neither channel takes the other's half. Waits for the first message; false when none
    /// will come. Nothing is lost when dropped before it is ready.
    async fn fill(&mut self, turn: &mut Vec<Incoming>) -> bool {
        const HALF: usize = TURN_MESSAGES_MAX / 2;
        let first = tokio::select! {
            message = self.hellos.recv() => message,
            message = self.updates.recv() => message,
        };
        let Some(first) = first else { return false };
        turn.push(first);
        for channel in [&mut self.hellos, &mut self.updates] {
            let end = (turn.len() + HALF).min(TURN_MESSAGES_MAX);
            while turn.len() < end
                && let Ok(message) = channel.try_recv()
            {
                turn.push(message);
            }
        }
        true
    }
}

/// Hears a turn; while what it needs is away, again. One message that cannot be handled does not take the others along.
async fn handle(app: &App, outbox: &Outbox, said: &[(DeviceId, Said)]) {
    if said.is_empty() {
        return;
    }
    let deadline = Instant::now() + HANDLE_MAX;
    loop {
        match turn::take(app, said, SystemTime::now()).await {
            Ok(effects) => return outbox.send(effects),
            Err(error) if is_transient(&error) && Instant::now() < deadline => {
                tokio::time::sleep(RETRY_DELAY).await;
            }
            Err(error) if said.len() > 1 && !is_transient(&error) => {
                for one in said.chunks(1) {
                    Box::pin(handle(app, outbox, one)).await;
                }
                return;
            }
            Err(error) => {
                metrics::counter!("ota_messages_failed_total").increment(said.len() as u64);
                let messages = said.len();
                tracing::error!(
                    messages,
                    error = status::chain(&error),
                    "devices' messages were not handled"
                );
                return;
            }
        }
    }
}

fn decoded(message: &Incoming) -> Option<(DeviceId, Said)> {
    let TopicId::Device(device) = message.topic.id else { return None };
    let (said, channel) = match message.topic.channel {
        Channel::Hello => (decode::hello(&message.payload).map(|said| said.map(Said::Hello)), "hello"),
        Channel::Update => (decode::update(&message.payload).map(|said| Some(Said::Report(said))), "update"),
        _ => return None,
    };
    match said {
        Ok(said) => said.map(|said| (device, said)),
        Err(malformed) => {
            malformed.count(device, channel);
            None
        }
    }
}

fn is_transient(error: &Error) -> bool {
    match error {
        Error::Database(error) => error.is_transient(),
        Error::Conflict => true,
        _ => false,
    }
}

impl Outbox {
    pub(crate) fn send(&self, effects: Vec<Effect>) {
        for effect in effects {
            let trace = match &effect {
                Effect::Direct { trace, .. } => *trace,
                Effect::Time { .. } | Effect::Acknowledge { .. } => None,
            };
            let (device, channel, payload) = encode(effect);
            if let Err(error) = self.link.publish_in(trace, &down(device, channel), payload) {
                let reason = match error {
                    PublishError::Disconnected => "disconnected",
                    PublishError::Full => "full",
                    PublishError::TooLong => "too_long",
                };
                metrics::counter!("ota_unsent_total", "reason" => reason).increment(1);
                tracing::debug!(%device, %error, "not sent; the sweep or the next hello will");
            }
        }
    }
}

fn encode(effect: Effect) -> (DeviceId, Channel, Vec<u8>) {
    match effect {
        Effect::Time { device, directive } => {
            let message = HelloDown { signed_time: directive, ..HelloDown::default() };
            (device, Channel::Hello, message.encode_to_vec())
        }
        Effect::Direct { device, directive, envelope, .. } => {
            let message = UpdateDown { directive, envelope, result_ack: None };
            (device, Channel::Update, message.encode_to_vec())
        }
        Effect::Acknowledge { device, result } => {
            let boot = BootId { counter: result.boot.count, random: result.boot.random };
            let ack = ResultAck { boot: Some(boot), sequence: result.sequence };
            let message = UpdateDown { result_ack: Some(ack), ..UpdateDown::default() };
            (device, Channel::Update, message.encode_to_vec())
        }
    }
}

fn down(device: DeviceId, channel: Channel) -> Topic {
    Topic { id: TopicId::Device(device), direction: Direction::Down, channel }
}
