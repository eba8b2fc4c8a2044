//! The outgoing queue: control before bulk, each bounded by bytes, empty whenever there is no connection.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::{AcquireError, Notify, OwnedSemaphorePermit, Semaphore, TryAcquireError};
use wire::Topic;
use wire::limits::PACKET_BYTES_MAX;
use wire::topic::ChannelKind;

use crate::trace::Trace;

use super::{BULK_BYTES_MAX, CONTROL_BYTES_MAX, MESSAGE_WEIGHT_MIN, PublishError, is_bulk};

/// A message to send; holds its bytes' room until it is.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) topic: String,
    pub(super) kind: ChannelKind,
    pub(super) payload: Bytes,
    pub(super) trace: Option<Trace>,
    _room: OwnedSemaphorePermit,
}

/// Both queues, while connected.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    open: Mutex<Option<Open>>,
    /// Something was pushed.
    pub(super) pushed: Notify,
}

/// The queues of one connection.
#[derive(Debug)]
struct Open {
    control: Queue,
    bulk: Queue,
}

#[derive(Debug)]
struct Queue {
    room: Arc<Semaphore>,
    messages: VecDeque<Message>,
}

impl Queue {
    fn new(bytes_max: usize) -> Self {
        Self { room: Arc::new(Semaphore::new(bytes_max)), messages: VecDeque::new() }
    }
}

impl Outgoing {
    /// A connection is there: takes messages from now on.
    pub(super) fn open(&self) {
        *self.lock() =
            Some(Open { control: Queue::new(CONTROL_BYTES_MAX), bulk: Queue::new(BULK_BYTES_MAX) });
    }

    /// The connection is gone: what waits is dropped, who waits is told.
    pub(super) fn close(&self) {
        let Some(open) = self.lock().take() else {
            return;
        };
        for queue in [open.control, open.bulk] {
            queue.room.close();
            for message in queue.messages {
                dropped(message.kind, "disconnected");
            }
        }
    }

    pub(super) fn push(
        &self,
        topic: &Topic,
        payload: Bytes,
        trace: Option<Trace>,
    ) -> Result<(), PublishError> {
        let kind = topic.channel.kind();
        let room = self.room(kind)?;
        let permit =
            room.try_acquire_many_owned(weight(topic, &payload, trace)?).map_err(|error| match error {
                TryAcquireError::Closed => PublishError::Disconnected,
                TryAcquireError::NoPermits => {
                    dropped(kind, "full");
                    PublishError::Full
                }
            })?;
        self.enqueue(topic, payload, trace, permit)
    }

    pub(super) async fn push_when_room(&self, topic: &Topic, payload: Bytes) -> Result<(), PublishError> {
        let room = self.room(topic.channel.kind())?;
        let permit = room.acquire_many_owned(weight(topic, &payload, None)?).await;
        self.enqueue(topic, payload, None, permit.map_err(|_: AcquireError| PublishError::Disconnected)?)
    }

    /// The next message to send.
    pub(super) fn pop(&self) -> Option<Message> {
        let mut open = self.lock();
        let open = open.as_mut()?;
        open.control.messages.pop_front().or_else(|| open.bulk.messages.pop_front())
    }

    fn enqueue(
        &self,
        topic: &Topic,
        payload: Bytes,
        trace: Option<Trace>,
        room: OwnedSemaphorePermit,
    ) -> Result<(), PublishError> {
        let kind = topic.channel.kind();
        let message = Message { topic: topic.to_string(), kind, payload, trace, _room: room };
        {
            let mut open = self.lock();
            let open = open.as_mut().ok_or(PublishError::Disconnected)?;
            open.queue(kind).messages.push_back(message);
        }
        self.pushed.notify_one();
        Ok(())
    }

    fn room(&self, kind: ChannelKind) -> Result<Arc<Semaphore>, PublishError> {
        let mut open = self.lock();
        let open = open.as_mut().ok_or(PublishError::Disconnected)?;
        Ok(open.queue(kind).room.clone())
    }

    fn lock(&self) -> MutexGuard<'_, Option<Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    fn queue(&mut self, kind: ChannelKind) -> &mut Queue {
        if is_bulk(kind) { &mut self.bulk } else { &mut self.control }
    }
}

fn weight(topic: &Topic, payload: &Bytes, trace: Option<Trace>) -> Result<u32, PublishError> {
    // Fixed header, topic length, packet id and property length are 10 bytes at most; the user property is 71.
    let packet = payload.len() + topic.text().len() + 10 + trace.map_or(0, |_| 71);
    if packet > PACKET_BYTES_MAX {
        return Err(PublishError::TooLong);
    }
    Ok(u32::try_from(packet.max(MESSAGE_WEIGHT_MIN)).expect("at most PACKET_BYTES_MAX"))
}

fn dropped(kind: ChannelKind, why: &'static str) {
    metrics::counter!("mqtt_outgoing_dropped_total", "channel" => kind.name(), "why" => why).increment(1);
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::{Channel, DeviceId};

    fn topic(channel: Channel) -> Topic {
        Topic::down(DeviceId::new([1; 16]), channel)
    }

    #[test]
    fn control_overtakes_bulk_and_each_keeps_its_order() {
        let queue = Outgoing::default();
        queue.open();
        for (channel, text) in
            [(Channel::Layer, "b1"), (Channel::Update, "c1"), (Channel::Log, "b2"), (Channel::Hello, "c2")]
        {
            queue.push(&topic(channel), Bytes::from(text), None).unwrap();
        }
        let order: Vec<_> = std::iter::from_fn(|| queue.pop()).map(|m| m.payload).collect();
        assert_eq!(order, ["c1", "c2", "b1", "b2"]);
    }

    #[test]
    fn nothing_is_taken_without_a_connection_and_nothing_survives_one() {
        let queue = Outgoing::default();
        let hello = topic(Channel::Hello);
        assert_eq!(queue.push(&hello, Bytes::new(), None), Err(PublishError::Disconnected));
        queue.open();
        queue.push(&hello, Bytes::new(), None).unwrap();
        queue.close();
        assert_eq!(queue.push(&hello, Bytes::new(), None), Err(PublishError::Disconnected));
        queue.open();
        assert!(queue.pop().is_none());
    }

    #[test]
    fn a_full_bulk_queue_refuses_bulk_and_still_takes_control() {
        let queue = Outgoing::default();
        queue.open();
        let chunk = Bytes::from(vec![0; 16 * 1024]);
        let taken =
            (0..).take_while(|_| queue.push(&topic(Channel::Layer), chunk.clone(), None).is_ok()).count();
        assert_eq!(taken, BULK_BYTES_MAX / (chunk.len() + topic(Channel::Layer).text().len() + 10));
        assert_eq!(queue.push(&topic(Channel::Log), chunk.clone(), None), Err(PublishError::Full));
        queue.push(&topic(Channel::Update), Bytes::new(), None).unwrap();
        drop(queue.pop());
        drop(queue.pop());
        queue.push(&topic(Channel::Layer), chunk, None).unwrap();
    }

    #[test]
    fn small_messages_are_bounded_in_number() {
        let queue = Outgoing::default();
        queue.open();
        let taken =
            (0..).take_while(|_| queue.push(&topic(Channel::Hello), Bytes::new(), None).is_ok()).count();
        assert_eq!(taken, CONTROL_BYTES_MAX / MESSAGE_WEIGHT_MIN);
    }

    #[test]
    fn a_packet_at_the_limit_is_taken_and_one_byte_more_is_not() {
        let queue = Outgoing::default();
        queue.open();
        let update = topic(Channel::Update);
        let most = PACKET_BYTES_MAX - update.text().len() - 10;
        assert_eq!(queue.push(&update, Bytes::from(vec![0; most]), None), Ok(()));
        assert_eq!(queue.push(&update, Bytes::from(vec![0; most + 1]), None), Err(PublishError::TooLong));
    }

    #[tokio::test]
    async fn a_waiting_sender_goes_on_when_there_is_room_and_is_told_of_the_end() {
        let queue = Arc::new(Outgoing::default());
        queue.open();
        let chunk = Bytes::from(vec![0; 16 * 1024]);
        while queue.push(&topic(Channel::Layer), chunk.clone(), None).is_ok() {}
        let waiter = tokio::spawn({
            let (queue, chunk) = (queue.clone(), chunk.clone());
            async move { queue.push_when_room(&topic(Channel::Layer), chunk).await }
        });
        tokio::task::yield_now().await;
        drop(queue.pop());
        assert_eq!(waiter.await.unwrap(), Ok(()));

        let waiter = tokio::spawn({
            let queue = queue.clone();
            async move { queue.push_when_room(&topic(Channel::Layer), chunk).await }
        });
        tokio::task::yield_now().await;
        queue.close();
        assert_eq!(waiter.await.unwrap(), Err(PublishError::Disconnected));
    }
}
