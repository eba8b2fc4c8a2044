//! What services say, and who decides about it: the device about directives, keysets and blocks, the ring about what is
//! stored, the stub about debug sessions. Whatever cannot be read, or is not for this device, changes nothing.

use wire::msg::{
    self, CrashDown, EnumValue, HelloDown, LayerDown, LayerError, LogDown, LogLevel, Message as _, UpdateDown,
};
use wire::{Channel, Digest, Direction, Topic, TopicId};

use super::{HELLO_MISSED_MS, Session};
use crate::crash::Name;
use crate::debug::Stub;
use crate::device::{BlockRefused, BootId, Device, DirectiveRefused, Heard};
use crate::logs::Logs;
use crate::ports::Board;
use crate::store::StoreError;

impl Session {
    /// Hears one message; whatever is not for us is ignored.
    pub fn hear<B: Board>(
        &mut self,
        topic: &str,
        payload: &[u8],
        device: &mut Device<'_, B>,
        logs: &mut Logs<'_>,
        stub: &mut Stub<'_>,
    ) {
        let Ok(Topic { id: TopicId::Device(id), direction: Direction::Down, channel }) = Topic::parse(topic)
        else {
            return;
        };
        if Some(id) != device.device_id() {
            return;
        }
        match channel {
            Channel::Hello => self.hear_hello(payload, device, logs),
            Channel::Update => self.hear_update(payload, device, logs),
            Channel::Layer => self.hear_layer(payload, device, logs),
            Channel::Log => hear_log(payload, logs),
            Channel::Crash => self.hear_crash(payload, device, logs),
            Channel::Debug(relay) => stub.hear(relay, payload, device, logs),
            _ => {}
        }
    }

    fn hear_hello<B: Board>(&mut self, payload: &[u8], device: &mut Device<'_, B>, logs: &mut Logs<'_>) {
        let Ok(hello) = HelloDown::decode(payload) else { return };
        // A challenge alone comes from who has nothing else to say: others may.
        self.answered |= !hello.keyset.is_empty() || !hello.signed_time.is_empty();
        if let Ok(challenge) = hello.challenge.try_into() {
            self.challenge = Some(challenge);
        }
        self.renewal_asked |= hello.renew;
        // The keyset first: it may name the director key that signed the time.
        if !hello.keyset.is_empty() {
            // Accepted, it is the device's to note.
            if let Err(refused) = device.offer_keyset(hello.keyset) {
                logs.note(device.now_ms(), LogLevel::Warn, format_args!("keyset refused: {refused:?}"));
            }
            self.face_stale = true;
        }
        if !hello.signed_time.is_empty() {
            self.hear_directive(hello.signed_time, &[], device, logs);
        }
    }

    fn hear_update<B: Board>(&mut self, payload: &[u8], device: &mut Device<'_, B>, logs: &mut Logs<'_>) {
        let Ok(update) = UpdateDown::decode(payload) else { return };
        if let Some(ack) = update.result_ack
            && let Some(boot) = ack.boot
        {
            let boot = BootId { counter: boot.counter, random: boot.random };
            if let Err(error) = device.acknowledge(boot, ack.sequence) {
                logs.note(
                    device.now_ms(),
                    LogLevel::Error,
                    format_args!("acknowledgement not stored: {error:?}"),
                );
            }
            self.face_stale = true;
        }
        if !update.directive.is_empty() {
            self.hear_directive(update.directive, update.envelope, device, logs);
        }
    }

    fn hear_directive<B: Board>(
        &mut self,
        directive: &[u8],
        envelope: &[u8],
        device: &mut Device<'_, B>,
        logs: &mut Logs<'_>,
    ) {
        match device.hear(directive, envelope) {
            Ok(Heard::Acted) => self.face_stale = true,
            Ok(Heard::Already) => {}
            Ok(Heard::Later) => logs.note(device.now_ms(), LogLevel::Info, format_args!("directive put off")),
            Ok(Heard::Refused(reason)) => {
                logs.note(device.now_ms(), LogLevel::Warn, format_args!("directive refused: {reason:?}"))
            }
            // It answers an older hello. Either the newest is on its way, or the service missed it (it was away, or
            // the message was lost): then only another hello brings the two together again.
            Err(DirectiveRefused::Directive(wire::directive::DirectiveError::Nonce)) => {
                self.hello_at_ms = self.hello_at_ms.min(self.hello_said_ms + HELLO_MISSED_MS);
            }
            Err(refused) => {
                logs.note(device.now_ms(), LogLevel::Warn, format_args!("directive ignored: {refused:?}"))
            }
        }
    }

    fn hear_layer<B: Board>(&mut self, payload: &[u8], device: &mut Device<'_, B>, logs: &mut Logs<'_>) {
        let Ok(layer) = LayerDown::decode(payload) else { return };
        let now_ms = device.now_ms();
        let Ok(digest) = Digest::try_from(layer.digest) else { return };
        match layer.error {
            EnumValue::Known(LayerError::Unspecified) => {
                match device.take_block(&digest, layer.offset, layer.data) {
                    Ok(()) => self.fetch.taken(now_ms, &digest, layer.offset, layer.data.len()),
                    Err(BlockRefused::NotWanted) => self.fetch.out_of_order(now_ms, &digest, layer.offset),
                    Err(refused) => {
                        let offset = layer.offset;
                        logs.note(
                            now_ms,
                            LogLevel::Warn,
                            format_args!("block at {offset} refused: {refused:?}"),
                        );
                        self.fetch.refused(now_ms, 0);
                    }
                }
            }
            _ if device.wanted().is_some_and(|wanted| wanted.layer == digest) => {
                self.fetch.refused(now_ms, u64::from(layer.retry_after_ms));
            }
            _ => {}
        }
    }

    fn hear_crash<B: Board>(&mut self, payload: &[u8], device: &mut Device<'_, B>, logs: &mut Logs<'_>) {
        let Ok(stored) = CrashDown::decode(payload) else { return };
        let told = match &stored.memory {
            Some(memory) => {
                let Some(name) = crash_name(memory.boot.as_ref(), memory.sequence) else { return };
                self.memory.heard(name, memory.stored_up_to);
                device.acknowledge_crash_memory(name, memory.stored_up_to).map_err(StoreError::from)
            }
            None => {
                let Some(name) = crash_name(stored.boot.as_ref(), stored.sequence) else { return };
                device.acknowledge_crash(name)
            }
        };
        if let Err(error) = told {
            logs.note(
                device.now_ms(),
                LogLevel::Error,
                format_args!("acknowledgement not stored: {error:?}"),
            );
        }
    }
}

fn crash_name(boot: Option<&msg::BootId<'_>>, sequence: u32) -> Option<Name> {
    let boot = boot?;
    Some(Name { boot: BootId { counter: boot.counter, random: boot.random }, sequence })
}

fn hear_log(payload: &[u8], logs: &mut Logs<'_>) {
    let Ok(log) = LogDown::decode(payload) else { return };
    if let EnumValue::Known(level) = log.level {
        logs.set_level(level);
    }
    if let Some(boot) = log.boot {
        logs.stored(BootId { counter: boot.counter, random: boot.random }, log.stored_up_to);
    }
}
