//! What waits to be written to one client: acknowledgements, control messages, bulk messages; each bounded.
//!
//! Holds: a message that does not fit is refused to the one who offers it, who counts it; control goes before bulk;
//! a QoS 1 message leaves only into the client's window. The publisher's task writes into the mailbox directly: no
//! task, channel or copy is between two connections.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use tokio::sync::Notify;
use wire::Topic;

use super::input::Version;
use super::output;
use crate::model::filter::Filter;
use crate::model::limits::{BATCH_BYTES_MAX, Limits, REPLY_BYTES_MAX};
use crate::model::window::Window;

/// A member of a group that took nothing for this long while something waited is passed over.
const STALL: Duration = Duration::from_millis(500);
/// Kept for each queued message besides its bytes.
const OVERHEAD_BYTES: usize = 128;
/// Payloads below this are copied beside the packet head; others are written from where they are.
const COPY_BYTES_MAX: usize = 1024;

/// A message on its way. Cloning copies no bytes.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    pub(crate) name: Topic,
    pub(crate) topic: Bytes,
    pub(crate) payload: Bytes,
    pub(crate) properties: Bytes,
    pub(crate) qos: u8,
}

impl Message {
    fn bytes(&self) -> usize {
        self.topic.len() + self.payload.len() + self.properties.len() + OVERHEAD_BYTES
    }

    /// Bulk yields to control in every queue.
    fn is_bulk(&self) -> bool {
        kit::mqtt::is_bulk(self.name.channel.kind())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Offer {
    Taken,
    NotSubscribed,
    /// The mailbox is full.
    Full,
    /// Larger than the client said it reads.
    TooLarge,
}

#[derive(Debug)]
pub(crate) struct Mailbox {
    version: Version,
    limits: Limits,
    packet_bytes_max: usize,
    state: Mutex<State>,
    /// Something to write.
    wake: Notify,
    /// Room for replies.
    room: Notify,
}

#[derive(Debug)]
struct State {
    subscriptions: Vec<(Filter, u8)>,
    replies: BytesMut,
    control: VecDeque<(Message, u8)>,
    bulk: VecDeque<(Message, u8)>,
    bytes: usize,
    window: Window,
    /// When the writer last took something, or the queue last became non-empty.
    moved: Option<Instant>,
}

/// What one write takes: pieces in order, small ones together.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) pieces: VecDeque<Bytes>,
    tail: BytesMut,
    bytes: usize,
    /// How long the messages had waited since the mailbox was last emptied into; none: there were none.
    pub(crate) waited: Option<Duration>,
}

impl Batch {
    fn piece(&mut self, piece: Bytes) {
        self.bytes += piece.len();
        if piece.len() < COPY_BYTES_MAX {
            self.tail.extend_from_slice(&piece);
        } else {
            self.close();
            self.pieces.push_back(piece);
        }
    }

    fn close(&mut self) {
        if !self.tail.is_empty() {
            self.pieces.push_back(self.tail.split().freeze());
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }
}

impl Mailbox {
    pub(crate) fn new(
        version: Version,
        limits: Limits,
        receive_maximum: Option<u16>,
        packet_bytes_max: Option<u32>,
    ) -> Self {
        let theirs = packet_bytes_max.and_then(|max| usize::try_from(max).ok()).unwrap_or(usize::MAX);
        Self {
            version,
            limits,
            packet_bytes_max: theirs,
            state: Mutex::new(State {
                subscriptions: Vec::new(),
                replies: BytesMut::new(),
                control: VecDeque::new(),
                bulk: VecDeque::new(),
                bytes: 0,
                window: Window::new(limits.inflight_max, receive_maximum),
                moved: None,
            }),
            wake: Notify::new(),
            room: Notify::new(),
        }
    }

    /// Adds or changes a subscription; false: there are too many.
    pub(crate) fn subscribe(&self, filter: &Filter, qos: u8) -> bool {
        let mut state = self.lock();
        if let Some(held) = state.subscriptions.iter_mut().find(|(held, _)| held == filter) {
            held.1 = qos;
            return true;
        }
        if state.subscriptions.len() >= self.limits.subscriptions_max {
            return false;
        }
        state.subscriptions.push((filter.clone(), qos));
        true
    }

    /// False: there was none.
    pub(crate) fn unsubscribe(&self, filter: &Filter) -> bool {
        let mut state = self.lock();
        let before = state.subscriptions.len();
        state.subscriptions.retain(|(held, _)| held != filter);
        state.subscriptions.len() < before
    }

    /// Takes the message if one of the client's own subscriptions matches.
    pub(crate) fn deliver(&self, message: &Message) -> Offer {
        let mut state = self.lock();
        let granted = state
            .subscriptions
            .iter()
            .filter(|(filter, _)| filter.matches(&message.name))
            .map(|(_, qos)| *qos)
            .max();
        match granted {
            Some(qos) => self.queue(&mut state, message, qos),
            None => Offer::NotSubscribed,
        }
    }

    /// Takes the message for a subscription matched elsewhere.
    pub(crate) fn offer(&self, message: &Message, granted: u8) -> Offer {
        self.queue(&mut self.lock(), message, granted)
    }

    /// Messages that wait, and their bytes.
    pub(crate) fn waiting(&self) -> (usize, usize) {
        let state = self.lock();
        (state.control.len() + state.bulk.len(), state.bytes)
    }

    /// Whether the client keeps up.
    pub(crate) fn is_stalled(&self, now: Instant) -> bool {
        self.lock().moved.is_some_and(|moved| now.saturating_duration_since(moved) > STALL)
    }

    fn queue(&self, state: &mut State, message: &Message, granted: u8) -> Offer {
        let bytes = message.bytes();
        if output::publish_bytes_max(&message.topic, &message.properties, message.payload.len())
            > self.packet_bytes_max
        {
            return Offer::TooLarge;
        }
        let messages = state.control.len() + state.bulk.len();
        if messages >= self.limits.mailbox_messages_max || state.bytes + bytes > self.limits.mailbox_bytes_max
        {
            return Offer::Full;
        }
        state.bytes += bytes;
        if state.moved.is_none() {
            state.moved = Some(Instant::now());
        }
        let entry = (message.clone(), message.qos.min(granted));
        if message.is_bulk() {
            state.bulk.push_back(entry)
        } else {
            state.control.push_back(entry)
        }
        self.wake.notify_one();
        Offer::Taken
    }

    /// Writes an acknowledgement or the like; waits while the client reads none of the earlier ones.
    pub(crate) async fn reply(&self, write: impl FnOnce(&mut BytesMut)) {
        let mut write = Some(write);
        loop {
            let room = self.room.notified();
            {
                let mut state = self.lock();
                if state.replies.len() < REPLY_BYTES_MAX
                    && let Some(write) = write.take()
                {
                    write(&mut state.replies);
                    self.wake.notify_one();
                    return;
                }
            }
            room.await;
        }
    }

    pub(crate) fn acknowledge(&self, id: u16) {
        let mut state = self.lock();
        if state.window.acknowledge(id) && !(state.control.is_empty() && state.bulk.is_empty()) {
            self.wake.notify_one();
        }
    }

    /// The next batch, as soon as there is one.
    pub(crate) async fn next(&self, batch: &mut Batch) {
        loop {
            let wake = self.wake.notified();
            self.take(batch);
            if !batch.is_empty() {
                return;
            }
            wake.await;
        }
    }

    /// What can be written now.
    pub(crate) fn take(&self, batch: &mut Batch) {
        let mut state = self.lock();
        batch.bytes = 0;
        batch.waited = state.moved.map(|moved| moved.elapsed());
        if !state.replies.is_empty() {
            batch.piece(state.replies.split().freeze());
            self.room.notify_one();
        }
        while batch.bytes < BATCH_BYTES_MAX {
            let Some((message, id)) = state.next() else { break };
            self.encode(batch, message, id);
        }
        batch.close();
        let waits = !(state.control.is_empty() && state.bulk.is_empty());
        if batch.bytes > 0 || !waits {
            state.moved = waits.then(Instant::now);
        }
    }

    fn encode(&self, batch: &mut Batch, message: Message, id: Option<u16>) {
        let before = batch.tail.len();
        let payload_bytes = message.payload.len();
        output::publish_head(
            &mut batch.tail,
            self.version,
            &message.topic,
            &message.properties,
            id,
            payload_bytes,
        );
        batch.bytes += batch.tail.len() - before;
        batch.piece(message.payload);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The next message that may go: control first, QoS 1 only into an open window.
    fn next(&mut self) -> Option<(Message, Option<u16>)> {
        let full = self.window.is_full();
        let ready =
            |queue: &VecDeque<(Message, u8)>| queue.front().is_some_and(|(_, qos)| *qos == 0 || !full);
        let queue = if ready(&self.control) {
            &mut self.control
        } else if ready(&self.bulk) {
            &mut self.bulk
        } else {
            return None;
        };
        let (message, qos) = queue.pop_front()?;
        self.bytes -= message.bytes();
        let id = if qos == 0 { None } else { self.window.open() };
        Some((message, id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::limits::DEVICE;

    const DEVICE_ID: &str = "dv00000000000000000000000000000001";

    fn message(channel: &str, payload: usize, qos: u8) -> Message {
        let topic = format!("hf/1/{DEVICE_ID}/dn/{channel}");
        Message {
            name: Topic::parse(&topic).unwrap(),
            topic: topic.into(),
            payload: vec![b'x'; payload].into(),
            properties: Bytes::new(),
            qos,
        }
    }

    fn mailbox(limits: Limits, receive_maximum: Option<u16>, packet_bytes_max: Option<u32>) -> Mailbox {
        let mailbox = Mailbox::new(Version::V5, limits, receive_maximum, packet_bytes_max);
        assert!(mailbox.subscribe(&Filter::parse(&format!("hf/1/{DEVICE_ID}/dn/#")).unwrap(), 1));
        mailbox
    }

    fn written(mailbox: &Mailbox) -> Vec<u8> {
        let mut batch = Batch::default();
        mailbox.take(&mut batch);
        batch.pieces.iter().flat_map(|piece| piece.to_vec()).collect()
    }

    #[test]
    fn a_full_mailbox_refuses_and_takes_again_when_emptied() {
        let limits = Limits { mailbox_messages_max: 2, ..DEVICE };
        let mailbox = mailbox(limits, None, None);
        assert_eq!(mailbox.deliver(&message("layer", 10, 0)), Offer::Taken);
        assert_eq!(mailbox.deliver(&message("layer", 10, 0)), Offer::Taken);
        assert_eq!(mailbox.deliver(&message("layer", 10, 0)), Offer::Full);
        assert!(!written(&mailbox).is_empty());
        assert_eq!(mailbox.deliver(&message("layer", 10, 0)), Offer::Taken);
    }

    #[test]
    fn a_mailbox_counts_bytes_to_its_edge() {
        let one = message("layer", 1000, 0).bytes();
        let mailbox = mailbox(Limits { mailbox_bytes_max: 2 * one, ..DEVICE }, None, None);
        assert_eq!(mailbox.deliver(&message("layer", 1000, 0)), Offer::Taken);
        assert_eq!(mailbox.deliver(&message("layer", 1001, 0)), Offer::Full);
        assert_eq!(mailbox.deliver(&message("layer", 1000, 0)), Offer::Taken);
    }

    #[test]
    fn a_whole_layer_window_fits_beside_control() {
        let mailbox = mailbox(DEVICE, None, None);
        let chunks = wire::limits::LAYER_WINDOW_BYTES_MAX / wire::limits::LAYER_CHUNK_BYTES_MAX;
        for _ in 0..chunks {
            assert_eq!(
                mailbox.deliver(&message("layer", wire::limits::LAYER_CHUNK_BYTES_MAX + 64, 0)),
                Offer::Taken
            );
        }
        for _ in 0..4 {
            assert_eq!(
                mailbox.deliver(&message("update", wire::limits::ENVELOPE_BYTES_MAX, 1)),
                Offer::Taken
            );
        }
    }

    #[test]
    fn control_goes_before_bulk_and_replies_before_both() {
        let mailbox = mailbox(DEVICE, None, None);
        mailbox.deliver(&message("layer", 4, 0));
        mailbox.deliver(&message("update", 4, 0));
        let bytes = written(&mailbox);
        let text = String::from_utf8_lossy(&bytes);
        assert!(text.find("dn/update").unwrap() < text.find("dn/layer").unwrap());
    }

    #[test]
    fn qos1_waits_for_the_clients_window_while_bulk_goes_on() {
        let mailbox = mailbox(DEVICE, Some(1), None);
        mailbox.deliver(&message("update", 1, 1));
        mailbox.deliver(&message("update", 2, 1));
        mailbox.deliver(&message("layer", 3, 0));
        let bytes = written(&mailbox);
        let text = String::from_utf8_lossy(&bytes);
        assert_eq!((text.matches("dn/update").count(), text.matches("dn/layer").count()), (1, 1));
        assert!(written(&mailbox).is_empty());
        mailbox.acknowledge(1);
        assert!(String::from_utf8_lossy(&written(&mailbox)).contains("dn/update"));
    }

    #[test]
    fn a_message_the_client_cannot_read_is_refused() {
        let mailbox = mailbox(DEVICE, None, Some(256));
        assert_eq!(mailbox.deliver(&message("update", 300, 1)), Offer::TooLarge);
        assert_eq!(mailbox.deliver(&message("update", 100, 1)), Offer::Taken);
    }

    #[test]
    fn nothing_is_delivered_without_a_subscription_and_their_number_is_bounded() {
        let mailbox = Mailbox::new(Version::V4, Limits { subscriptions_max: 1, ..DEVICE }, None, None);
        assert_eq!(mailbox.deliver(&message("hello", 1, 1)), Offer::NotSubscribed);
        let hello = Filter::parse(&format!("hf/1/{DEVICE_ID}/dn/hello")).unwrap();
        assert!(mailbox.subscribe(&hello, 0) && mailbox.subscribe(&hello, 1), "again is a change");
        assert!(!mailbox.subscribe(&Filter::parse(&format!("hf/1/{DEVICE_ID}/dn/log")).unwrap(), 0));
        assert_eq!(mailbox.deliver(&message("hello", 1, 1)), Offer::Taken);
        assert!(mailbox.unsubscribe(&hello) && !mailbox.unsubscribe(&hello));
        assert_eq!(mailbox.deliver(&message("hello", 1, 1)), Offer::NotSubscribed);
    }

    #[test]
    fn large_payloads_are_written_from_where_they_are() {
        let mailbox = mailbox(DEVICE, None, None);
        let chunk = message("layer", 16 * 1024, 0);
        mailbox.deliver(&chunk);
        let mut batch = Batch::default();
        mailbox.take(&mut batch);
        assert_eq!(batch.pieces.len(), 2);
        assert_eq!(batch.pieces[1].as_ptr(), chunk.payload.as_ptr());
    }

    #[test]
    fn a_client_that_takes_nothing_is_stalled_after_a_moment() {
        let mailbox = mailbox(DEVICE, None, None);
        let now = Instant::now();
        assert!(!mailbox.is_stalled(now + 10 * STALL), "an empty mailbox never is");
        mailbox.deliver(&message("layer", 4, 0));
        assert!(!mailbox.is_stalled(now));
        assert!(mailbox.is_stalled(Instant::now() + 2 * STALL));
        let _ = written(&mailbox);
        assert!(!mailbox.is_stalled(Instant::now() + 2 * STALL));
    }

    #[tokio::test(start_paused = true)]
    async fn replies_wait_for_a_client_that_reads_none() {
        let mailbox = mailbox(DEVICE, None, None);
        mailbox.reply(|out| out.extend_from_slice(&[0; REPLY_BYTES_MAX])).await;
        let blocked =
            tokio::time::timeout(Duration::from_secs(60), mailbox.reply(|out| out.extend_from_slice(b"x")));
        assert!(blocked.await.is_err());
        assert_eq!(written(&mailbox).len(), REPLY_BYTES_MAX);
        mailbox.reply(|out| out.extend_from_slice(b"x")).await;
        assert_eq!(written(&mailbox), b"x");
    }
}
