//! What of a turn is looked at: well-formed, and within its device's rate.

use std::error::Error;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use kit::mqtt::Incoming;
use wire::DeviceId;
use wire::topic::ChannelKind;

use crate::app::count::refused;
use crate::model::rate::{Rate, RateLimit};

/// One channel's gate, for all its workers.
#[derive(Debug)]
pub(super) struct Gate {
    channel: ChannelKind,
    /// Of what is refused.
    counter: &'static str,
    rates: Mutex<RateLimit>,
}

impl Gate {
    pub(super) fn new(channel: ChannelKind, counter: &'static str, rate: Rate) -> Self {
        Self { channel, counter, rates: Mutex::new(RateLimit::new(rate)) }
    }

    pub(super) fn channel(&self) -> ChannelKind {
        self.channel
    }

    /// Decodes what is well-formed and within its device's rate; `weight` is what a message costs of it.
    pub(super) fn admit<T, E: Error>(
        &self,
        messages: Vec<Incoming>,
        decode: impl Fn(&[u8]) -> Result<T, E>,
        weight: impl Fn(&T) -> usize,
    ) -> Vec<(DeviceId, T)> {
        let now = Instant::now();
        let mut rates = self.rates.lock().unwrap_or_else(PoisonError::into_inner);
        let admitted = messages.into_iter().filter_map(|message| {
            let is_ours = message.topic.channel.kind() == self.channel;
            let device = message.topic.device_id().filter(|_| is_ours)?;
            let decoded = match decode(&message.payload) {
                Ok(decoded) => decoded,
                Err(error) => {
                    tracing::debug!(%device, channel = self.channel.name(), %error, "malformed message");
                    refused(self.counter, "malformed", 1);
                    return None;
                }
            };
            if !rates.take(device, weight(&decoded), now) {
                refused(self.counter, "rate", 1);
                return None;
            }
            Some((device, decoded))
        });
        admitted.collect()
    }
}
