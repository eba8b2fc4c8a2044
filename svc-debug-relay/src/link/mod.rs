//! MQTT in and out: what devices say to this very process, and what it says to them. The only place that sees topics.
//!
//! A topic ends with the relay process's own name, so a device's frames reach the process that holds its session and no
//! other (docs/decisions/0011). Nothing is relied on to arrive: what is not acknowledged is said again.

mod decode;
mod encode;

use std::sync::Arc;

use kit::Shutdown;
use kit::mqtt::{Incoming, Link, LinkSetup};
use tokio::sync::mpsc;
use wire::topic::ChannelKind;
use wire::{Channel, RelayId, Topic};

use crate::app::App;

/// Bytes of devices' messages that may wait to be heard.
const INCOMING_BYTES_MAX: usize = 16 << 20;

/// Subscribes to what is said to this relay process.
pub(crate) fn subscribe(setup: &mut LinkSetup, relay: RelayId) -> mpsc::Receiver<Incoming> {
    setup.subscribe_debug(relay, INCOMING_BYTES_MAX)
}

/// Hears devices until shutdown.
pub(crate) async fn hear(app: Arc<App>, mut incoming: mpsc::Receiver<Incoming>, shutdown: Shutdown) {
    while let Some(Some(message)) = shutdown.or(incoming.recv()).await {
        let device = message.topic.device_id().filter(|_| message.topic.channel.kind() == ChannelKind::Debug);
        let Some(device) = device else { continue };
        match decode::up(&message.payload) {
            Ok((session, said)) => app.hear(device, session, said),
            Err(error) => {
                tracing::debug!(%device, %error, "malformed debug message");
                metrics::counter!("relay_messages_refused_total", "why" => "malformed").increment(1);
            }
        }
    }
    shutdown.wait().await;
}

/// Speaks to devices until shutdown.
pub(crate) async fn speak(app: Arc<App>, link: Link, shutdown: Shutdown) {
    let speaking = async {
        loop {
            let turn = app.turn().await;
            let topic = Topic::down(turn.device, Channel::Debug(turn.relay));
            for message in &turn.messages {
                // While the broker is away it is lost, and said again.
                if link.send(&topic, encode::down(turn.session, message)).await.is_err() {
                    metrics::counter!("relay_messages_unsent_total").increment(1);
                }
            }
        }
    };
    let _: Option<()> = shutdown.or(speaking).await;
}
