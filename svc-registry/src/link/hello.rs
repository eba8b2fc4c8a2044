//! Hellos, as many at once as have come; the next keyset to those behind.

use std::time::SystemTime;

use kit::Shutdown;
use kit::mqtt::Incoming;
use prost::Message;
use proto::device::v1::HelloDown;
use tokio::sync::mpsc;
use wire::DeviceId;
use wire::topic::{Channel, Topic};

use super::{Link, decode};
use crate::app::HELLO_BATCH_MAX;
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
            Ok(due) => {
                metrics::counter!("registry_hellos_total").increment(count);
                for keyset in due {
                    let down = HelloDown { keyset: keyset.signed, ..HelloDown::default() };
                    // Lost: the device's next hello says again what it holds.
                    let _ =
                        self.mqtt.publish(&Topic::down(keyset.device, Channel::Hello), down.encode_to_vec());
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
