//! A device's end of a debug session, played as docs/protocol.md has it: over MQTT, with the identity of an enrolled
//! device, and able to lose, repeat, fall silent and lie.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use dev::Stack;
use prost::Message;
use proto::device::v1::{BootId, DebugDown, DebugEnd, DebugUp};
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::Packet;
use rumqttc::v5::{AsyncClient, Event};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::board::{Enrolled, PATIENCE, Session};

/// How long it waits for an acknowledgement before it sends again.
const RESEND: Duration = Duration::from_millis(200);
/// Frames it takes before the one before them was taken out of its hands: small boards have little room.
const ROOM: u64 = 8;
pub const BOOT: BootId = BootId { counter: 7, random: 0x0123_4567_89ab_cdef };

/// What it does besides what it should.
#[derive(Clone, Default)]
pub struct Faults {
    /// Of all that comes and goes every n-th message is lost, and every m-th comes twice; 0: none.
    pub lose: u64,
    pub repeat: u64,
    /// Says nothing.
    pub silent: bool,
    /// Says this of every session.
    pub end: Option<DebugEnd>,
    /// Claims to have taken frames that were never sent.
    pub lie: bool,
    /// Says again what the developer says.
    pub echo: bool,
    /// Another boot than [`BOOT`].
    pub rebooted: bool,
}

/// Its end of a writer's session, the newest one; and of watchers', which have frames of their own.
#[derive(Default)]
pub struct State {
    pub faults: Faults,
    /// By session: those of which it was said that they are watchers'.
    pub watching: BTreeMap<String, State>,
    /// The developer's frames, in order.
    pub taken: Vec<Vec<u8>>,
    /// Its own frames.
    pub frames: Vec<Vec<u8>>,
    pub told_end: bool,
    pub highest_epoch: u32,
    pub sent: u64,
    pub forgotten: u64,
    pub session: String,
    topic: String,
    received: u64,
    credit: u64,
    passed: u64,
}

pub struct Device {
    pub state: Arc<Mutex<State>>,
    changed: Arc<watch::Sender<u64>>,
    id: String,
    tasks: Vec<JoinHandle<()>>,
}

impl Device {
    pub async fn connect(stack: &Stack, enrolled: &Enrolled) -> Result<Device> {
        let mut device = Device {
            state: Arc::default(),
            changed: Arc::new(watch::Sender::new(0)),
            id: enrolled.id().to_owned(),
            tasks: Vec::new(),
        };
        device.reconnect(stack, enrolled).await?;
        Ok(device)
    }

    /// A new connection in place of the old; the device remembers everything.
    pub async fn reconnect(&mut self, stack: &Stack, enrolled: &Enrolled) -> Result<()> {
        self.disconnect();
        let chain = [enrolled.answer.leaf.as_slice(), enrolled.answer.intermediate.as_slice()];
        let address = stack.device_address();
        let mut session =
            Session::connect(stack, &address, &self.id, &chain, &enrolled.board.key, None).await?;
        session.subscribe_to(&format!("hf/1/{}/dn/#", self.id)).await?;
        let (client, mut events) = (session.client, session.events);
        let (state, changed, speaker) = (self.state.clone(), self.changed.clone(), client.clone());
        self.tasks.push(tokio::spawn(async move {
            while let Ok(event) = events.poll().await {
                let Event::Incoming(Packet::Publish(publish)) = event else { continue };
                let topic = String::from_utf8_lossy(&publish.topic).replace("/dn/", "/up/");
                let ups = {
                    let mut state = lock(&state);
                    DebugDown::decode(publish.payload).map(|down| state.hear(down, topic)).unwrap_or_default()
                };
                changed.send_modify(|count| *count += 1);
                publish_all(&speaker, ups);
            }
        }));
        let state = self.state.clone();
        self.tasks.push(tokio::spawn(async move {
            let mut clock = tokio::time::interval(RESEND);
            loop {
                clock.tick().await;
                let ups = lock(&state).resend();
                publish_all(&client, ups);
            }
        }));
        Ok(())
    }

    pub fn disconnect(&mut self) {
        self.tasks.drain(..).for_each(|task| task.abort());
    }

    pub fn faults(&self, faults: Faults) {
        lock(&self.state).faults = faults;
    }

    /// More to send.
    pub fn say(&self, frames: impl IntoIterator<Item = Vec<u8>>) {
        lock(&self.state).frames.extend(frames);
    }

    /// More to send to a watcher.
    pub fn say_to(&self, session: &str, frames: impl IntoIterator<Item = Vec<u8>>) {
        let mut state = lock(&self.state);
        state.watching.entry(session.to_owned()).or_default().frames.extend(frames);
    }

    /// Forgets what it had to send.
    pub fn forget(&self) {
        lock(&self.state).frames.clear();
    }

    /// Waits until something is so.
    pub async fn until(&self, what: &str, is_so: impl Fn(&State) -> bool) -> Result<()> {
        let mut changed = self.changed.subscribe();
        let waiting = async {
            while !is_so(&lock(&self.state)) {
                let _ = tokio::time::timeout(RESEND, changed.changed()).await;
            }
        };
        tokio::time::timeout(PATIENCE, waiting).await.with_context(|| format!("the device: {what}"))
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        self.disconnect();
    }
}

/// Also after a test panicked while it looked.
fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn publish_all(client: &AsyncClient, ups: Vec<(String, DebugUp)>) {
    for (topic, up) in ups {
        // A full queue loses it, as the air would.
        let _ = client.try_publish(topic, QoS::AtMostOnce, false, up.encode_to_vec());
    }
}

impl State {
    fn hear(&mut self, mut down: DebugDown, topic: String) -> Vec<(String, DebugUp)> {
        if std::mem::take(&mut down.watch) {
            let end = self.watching.entry(down.session.clone()).or_default();
            end.faults = self.faults.clone();
            return end.hear(down, topic);
        }
        self.passed += 1;
        let lost = self.faults.lose > 0 && self.passed.is_multiple_of(self.faults.lose);
        if lost || down.epoch < self.highest_epoch && down.session == self.session {
            return Vec::new();
        }
        if down.session != self.session {
            (self.session, self.highest_epoch) = (down.session.clone(), 0);
            (self.sent, self.received, self.credit, self.forgotten) = (0, 0, 0, 0);
            self.taken.clear();
            self.told_end = false;
        }
        if down.epoch > self.highest_epoch {
            self.highest_epoch = down.epoch;
            self.topic = topic;
            (self.sent, self.received, self.credit) = (self.forgotten, self.forgotten, self.forgotten);
        }
        if down.end() == DebugEnd::Closed {
            self.told_end = true;
            let up = DebugUp { end: DebugEnd::Closed.into(), ..self.up(None) };
            return self.pass(up);
        }
        let answer = down.open || down.answer || down.number > 0;
        if down.number == self.taken.len() as u64 + 1 {
            self.taken.push(down.data.to_vec());
            if self.faults.echo {
                self.frames.push(down.data.to_vec());
            }
        }
        self.received = self.received.max(down.received_up_to);
        self.forgotten = self.forgotten.max(down.delivered_up_to);
        self.credit = self.credit.max(down.credit_up_to);
        self.sent = self.sent.max(self.received);
        let mut ups = self.send();
        if answer && ups.is_empty() {
            let up = self.up(None);
            ups = self.pass(up);
        }
        ups
    }

    fn send(&mut self) -> Vec<(String, DebugUp)> {
        let mut ups = Vec::new();
        while self.sent < self.credit.min(self.frames.len() as u64) {
            self.sent += 1;
            let up = self.up(Some(self.sent));
            ups.extend(self.pass(up));
        }
        ups
    }

    fn resend(&mut self) -> Vec<(String, DebugUp)> {
        let mut ups: Vec<_> = self.watching.values_mut().flat_map(State::resend).collect();
        if !self.session.is_empty() && !self.told_end {
            self.sent = self.received;
            ups.extend(self.send());
        }
        ups
    }

    fn up(&self, number: Option<u64>) -> DebugUp {
        let taken = self.taken.len() as u64;
        let boot = BootId { counter: BOOT.counter + u32::from(self.faults.rebooted), ..BOOT };
        let data = number.map(|n| self.frames[n as usize - 1].clone()).unwrap_or_default();
        DebugUp {
            session: self.session.clone(),
            epoch: self.highest_epoch,
            boot: Some(boot),
            number: number.unwrap_or_default(),
            data: data.into(),
            received_up_to: if self.faults.lie { taken + 1_000_000 } else { taken },
            credit_up_to: taken + ROOM,
            forgotten_up_to: self.forgotten,
            end: self.faults.end.unwrap_or(DebugEnd::Unspecified).into(),
        }
    }

    fn pass(&mut self, up: DebugUp) -> Vec<(String, DebugUp)> {
        self.passed += 1;
        let every = |n: u64| n > 0 && self.passed.is_multiple_of(n);
        if self.faults.silent || every(self.faults.lose) {
            return Vec::new();
        }
        let message = (self.topic.clone(), up);
        if every(self.faults.repeat) { vec![message.clone(), message] } else { vec![message] }
    }
}
