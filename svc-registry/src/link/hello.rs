//! Hellos, as many at once as have come, and what devices are told of them.

use std::time::SystemTime;

use kit::Shutdown;
use kit::mqtt::Incoming;
use prost::Message;
use proto::device::v1::HelloDown;
use tokio::sync::mpsc;
use wire::DeviceId;
use wire::topic::{Channel, Topic};

use super::{Link, decode};
use crate::app::{HELLO_BATCH_MAX, HelloTold as Told};
use crate::model::hello::Heard;

impl Link {
    pub(crate) async fn answer_hellos(&self, mut inbox: mpsc::Receiver<Incoming>, shutdown: Shutdown) {
        let mut messages = Vec::with_capacity(HELLO_BATCH_MAX);
        loop {
            let received = inbox.recv_many(&mut messages, HELLO_BATCH_MAX);
            if shutdown.or(received).await.is_none_or(|count| count == 0) {
                return;
            }
            self.hellos(messages.drain(..).filter_map(heard).collect()).await;
        }
    }

    async fn hellos(&self, heard: Vec<(DeviceId, Heard)>) {
        let count = heard.len() as u64;
        match self.app.hello(heard, SystemTime::now()).await {
            Ok(answers) => {
                metrics::counter!("registry_hellos_total").increment(count);
                if !answers.effects.is_empty() {
                    // Hellos do not wait for brokers: the sweep does.
                    self.hurry();
                }
                for (device, told) in answers.told {
                    // Lost: the device's next hello is answered the same.
                    let _ =
                        self.mqtt.publish(&Topic::down(device, Channel::Hello), encode(told).encode_to_vec());
                }
            }
            Err(error) => {
                // Every device says hello again.
                metrics::counter!("registry_hellos_failed_total").increment(count);
                tracing::warn!(count, error = kit::status::chain(&error), "hellos were not taken");
            }
        }
    }
}

fn encode(told: Told) -> HelloDown {
    HelloDown {
        keyset: told.keyset.unwrap_or_default(),
        challenge: told.challenge.map(Vec::from).unwrap_or_default(),
        renew: told.renew,
        ..HelloDown::default()
    }
}

fn heard(message: Incoming) -> Option<(DeviceId, Heard)> {
    let device = message.topic.device_id()?;
    match decode::hello(&message.payload) {
        Ok(heard) => Some((device, heard)),
        Err(invalid) => {
            metrics::counter!("registry_hellos_refused_total", "field" => invalid.field).increment(1);
            tracing::debug!(%device, %invalid, "hello is refused");
            None
        }
    }
}
