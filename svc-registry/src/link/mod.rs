//! MQTT in and out, and what the broker nodes are asked to do. The only place that sees topics.

mod decode;
mod effects;
mod enroll;
mod hello;

use std::sync::Arc;

use kit::broker::BrokerControl;
use kit::mqtt::{Incoming, Link as Mqtt, LinkSetup};
use tokio::sync::{Notify, mpsc};
use wire::topic::ChannelKind;

use crate::app::App;

/// Bytes of enrolment requests that may wait.
const ENROLL_QUEUE_BYTES_MAX: usize = 1 << 20;
/// Bytes of hellos that may wait: a thousand devices at once, each with all its slots.
const HELLO_QUEUE_BYTES_MAX: usize = 4 << 20;

/// The service's way to devices and brokers.
#[derive(Debug)]
pub(crate) struct Link {
    app: Arc<App>,
    mqtt: Mqtt,
    control: BrokerControl,
    /// Something is left for the sweep to do at once.
    due: Notify,
}

/// What comes in.
#[derive(Debug)]
pub(crate) struct Inbox {
    pub enroll: mpsc::Receiver<Incoming>,
    pub hello: mpsc::Receiver<Incoming>,
}

/// Takes part in the groups for the registry's channels.
pub(crate) fn subscribe(setup: &mut LinkSetup) -> Inbox {
    Inbox {
        enroll: setup.subscribe(ChannelKind::Enroll, ENROLL_QUEUE_BYTES_MAX),
        hello: setup.subscribe(ChannelKind::Hello, HELLO_QUEUE_BYTES_MAX),
    }
}

impl Link {
    pub(crate) fn new(app: Arc<App>, mqtt: Mqtt, control: BrokerControl) -> Self {
        Self { app, mqtt, control, due: Notify::new() }
    }
}
