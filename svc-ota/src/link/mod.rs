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
use tokio::sync::{Mutex, mpsc};
use tokio::time::Instant;
use wire::topic::ChannelKind;
use wire::{Channel, DeviceId, Direction, Service, Topic, TopicId};

use crate::app::{App, Effect, hello, report};
use crate::error::Error;

/// Bytes of hellos and of reports that may wait to be handled, each.
const WAITING_BYTES_MAX: usize = 8 << 20;
/// Hellos and reports handled at once, each.
const HANDLERS: usize = 4;
/// How long a message is tried again while the database is away.
const HANDLE_MAX: Duration = Duration::from_secs(30);
const RETRY_DELAY: Duration = Duration::from_millis(500);

/// Sends effects to devices. What cannot be sent now is sent by the sweep, or in answer to the next hello.
#[derive(Clone, Debug)]
pub(crate) struct Outbox {
    link: Link,
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
    for messages in [hellos, updates] {
        let messages = Arc::new(Mutex::new(messages));
        for _ in 0..HANDLERS {
            let (app, outbox, shutdown) = (app.clone(), outbox.clone(), tasks.shutdown());
            tasks.spawn("messages", listen(app, outbox, messages.clone(), shutdown));
        }
    }
    layer::start(app, link, layers, tasks);
    Ok(outbox)
}

async fn listen(
    app: Arc<App>,
    outbox: Outbox,
    messages: Arc<Mutex<mpsc::Receiver<Incoming>>>,
    shutdown: Shutdown,
) {
    loop {
        let next = async { messages.lock().await.recv().await };
        let Some(message) = shutdown.or(next).await else { return };
        let Some(message) = message else { return shutdown.wait().await };
        if shutdown.or(handle(&app, &outbox, &message)).await.is_none() {
            return;
        }
    }
}

/// Handles one message; while what it needs is away, again.
async fn handle(app: &App, outbox: &Outbox, message: &Incoming) {
    let TopicId::Device(device) = message.topic.id else { return };
    let deadline = Instant::now() + HANDLE_MAX;
    loop {
        match effects(app, device, message).await {
            Ok(effects) => return outbox.send(effects),
            Err(error) if is_transient(&error) && Instant::now() < deadline => {
                tokio::time::sleep(RETRY_DELAY).await;
            }
            Err(error) => {
                metrics::counter!("ota_messages_failed_total").increment(1);
                tracing::error!(%device, error = status::chain(&error), "a device's message was not handled");
                return;
            }
        }
    }
}

async fn effects(app: &App, device: DeviceId, message: &Incoming) -> Result<Vec<Effect>, Error> {
    let now = SystemTime::now();
    match message.topic.channel {
        Channel::Hello => match decode::hello(&message.payload) {
            Ok(Some(said)) => hello::heard(app, device, said, now).await,
            Ok(None) => Ok(Vec::new()),
            Err(malformed) => Ok(malformed.count(device, "hello")),
        },
        Channel::Update => match decode::update(&message.payload) {
            Ok(said) => report::reported(app, device, &said, now).await,
            Err(malformed) => Ok(malformed.count(device, "update")),
        },
        _ => Ok(Vec::new()),
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
            let (device, channel, payload) = encode(effect);
            if let Err(error) = self.link.publish(&down(device, channel), payload) {
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
            let message = HelloDown { signed_time: directive, keyset: Vec::new() };
            (device, Channel::Hello, message.encode_to_vec())
        }
        Effect::Direct { device, directive, envelope } => {
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
