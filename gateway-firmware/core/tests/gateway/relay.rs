//! A relay that a test drives by hand, and the developer's end of a session through it.

use noise::{Initiator, Kind, PLAIN_BYTES_MAX, Role, StaticKey, Transport, Voucher, prologue};
use wire::limits::DEBUG_FRAME_BYTES_MAX;
use wire::msg::{
    BootId, DebugAnswer, DebugCall, DebugDown, DebugEnd, DebugGo, DebugProblem, DebugRegister, DebugState,
    DebugUp, DebugWrite, EnumValue, LogUp, Message as _, Repeated,
};
use wire::{DebugSessionId, RelayId};

use crate::probe::{RAM_AT, SimProbe};
use crate::world::*;

/// What a device said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) epoch: u32,
    pub(crate) boot: (u32, u64),
    pub(crate) number: u64,
    pub(crate) data: Vec<u8>,
    pub(crate) received_up_to: u64,
    pub(crate) credit_up_to: u64,
    pub(crate) forgotten_up_to: u64,
    pub(crate) end: Option<DebugEnd>,
}

/// One relay process, and what it knows.
#[derive(Debug, Clone)]
pub(crate) struct Relay {
    pub(crate) id: RelayId,
    pub(crate) session: DebugSessionId,
    pub(crate) epoch: u32,
    /// Its session only watches.
    pub(crate) watch: bool,
    /// The newest frame of the developer's.
    pub(crate) sent: u64,
    /// Frames of the device's that are here, and that the developer has.
    pub(crate) received: u64,
    pub(crate) delivered: u64,
}

pub(crate) fn session(byte: u8) -> DebugSessionId {
    DebugSessionId::new([byte; 16])
}

pub(crate) fn key() -> StaticKey {
    StaticKey::new([0x11; 32])
}

/// A device whose application may be debugged by [`key`].
pub(crate) fn debuggable() -> World {
    World::with_app(|spec| spec.debug_keys = vec![[9; 32], key().public()])
}

pub(crate) fn probe(world: &World) -> &SimProbe {
    &world.gateway.device().ports().probe
}

/// What the microvisor logged, as far as nobody has stored it.
pub(crate) fn logged(world: &World) -> Vec<String> {
    let batch = world.gateway.logs().current().batch(usize::MAX).unwrap();
    let batch = LogUp::decode(batch.records).unwrap();
    batch.records.iter().map(|record| record.unwrap().text.to_owned()).collect()
}

impl Relay {
    pub(crate) fn new(byte: u8, session: DebugSessionId, epoch: u32) -> Relay {
        let id = RelayId::new([byte; 16]);
        Relay { id, session, epoch, watch: false, sent: 0, received: 0, delivered: 0 }
    }

    /// One whose session watches.
    pub(crate) fn watching(byte: u8) -> Relay {
        Relay { watch: true, ..Relay::new(byte, session(byte), 1) }
    }

    /// Says this, and all that is known.
    pub(crate) fn tell(&self, world: &mut World, change: impl for<'m> FnOnce(&mut DebugDown<'m>)) {
        let text = self.session.to_string();
        let mut down = DebugDown {
            session: &text,
            epoch: self.epoch,
            watch: self.watch,
            received_up_to: self.received,
            delivered_up_to: self.delivered,
            credit_up_to: self.delivered + 32,
            ..Default::default()
        };
        change(&mut down);
        world.tell_channel(&format!("debug/{}", self.id), &down);
    }

    pub(crate) fn open(&self, world: &mut World) {
        self.tell(world, |down| {
            (down.open, down.answer) = (true, true);
            (down.received_up_to, down.delivered_up_to, down.credit_up_to) = (0, 0, 0);
        });
    }

    /// Sends a frame under this number.
    pub(crate) fn send_as(&self, world: &mut World, number: u64, frame: &[u8]) {
        let text = self.session.to_string();
        let down = DebugDown {
            session: &text,
            epoch: self.epoch,
            watch: self.watch,
            number,
            data: frame,
            received_up_to: self.received,
            delivered_up_to: self.delivered,
            credit_up_to: self.delivered + 32,
            ..Default::default()
        };
        world.tell_channel(&format!("debug/{}", self.id), &down);
    }

    /// Sends the developer's next frame.
    pub(crate) fn send(&mut self, world: &mut World, frame: &[u8]) {
        self.sent += 1;
        self.send_as(world, self.sent, frame);
    }

    pub(crate) fn close(&self, world: &mut World) {
        self.tell(world, |down| down.end = EnumValue::Known(DebugEnd::Closed));
    }

    /// What the device has said to this relay since it was last asked.
    pub(crate) fn hear(&self, world: &mut World) -> Vec<Said> {
        world.pass_ms(1);
        let mut said = Vec::new();
        while let Some(bytes) = world.take(&format!("debug/{}", self.id)) {
            let up = DebugUp::decode(&bytes).unwrap();
            assert_eq!(up.session, self.session.to_string());
            let boot = up.boot.unwrap();
            let EnumValue::Known(end) = up.end else { panic!("an end nobody knows") };
            said.push(Said {
                epoch: up.epoch,
                boot: (boot.counter, boot.random),
                number: up.number,
                data: up.data.to_vec(),
                received_up_to: up.received_up_to,
                credit_up_to: up.credit_up_to,
                forgotten_up_to: up.forgotten_up_to,
                end: (end != DebugEnd::Unspecified).then_some(end),
            });
        }
        said
    }

    /// The frames among it that are new, given to the developer, which the device is told.
    pub(crate) fn frames(&mut self, world: &mut World) -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        for said in self.hear(world) {
            if said.number == self.received + 1 {
                self.received += 1;
                frames.push(said.data);
            }
        }
        if self.delivered < self.received {
            self.delivered = self.received;
            self.tell(world, |_| {});
        }
        frames
    }

    /// The end of the session, which is the only thing the device said.
    pub(crate) fn ended(&self, world: &mut World) -> Option<DebugEnd> {
        self.hear(world).iter().find_map(|said| said.end)
    }
}

/// The developer's end.
#[derive(Debug)]
pub(crate) struct Developer {
    pub(crate) transport: Transport,
    pub(crate) device_key: [u8; 32],
    pub(crate) voucher: Voucher,
    number: u32,
}

impl Developer {
    /// Up to message 3, which is not sent yet.
    pub(crate) fn greet(world: &mut World, relay: &mut Relay, key: &StaticKey) -> (Developer, Vec<u8>) {
        relay.open(world);
        assert!(relay.hear(world).iter().all(|said| said.end.is_none()));
        let role = if relay.watch { Role::Watcher } else { Role::Writer };
        let spoken = prologue(role, world.maker.device, relay.session);
        let (initiator, message_1) = Initiator::new(key, &spoken, [relay.epoch as u8 + 40; 32]).unwrap();
        relay.send(world, &message_1);
        let frames = relay.frames(world);
        let message_2 = frames.iter().find(|frame| Kind::of(frame) == Some(Kind::Message2)).unwrap();
        let greeted = initiator.hear(message_2).unwrap();
        let (device_key, voucher) = (*greeted.key(), *greeted.voucher());
        let (transport, message_3) = greeted.finish().unwrap();
        (Developer { transport, device_key, voucher, number: 0 }, message_3.to_vec())
    }

    /// Attaches, and halts the application: message 3 and that call go together.
    pub(crate) fn attach(world: &mut World, relay: &mut Relay) -> Developer {
        let (mut developer, message_3) = Developer::greet(world, relay, &key());
        relay.send(world, &message_3);
        let halt = developer.call(|call| call.go = EnumValue::Known(DebugGo::Halt));
        relay.send(world, &halt);
        let answers = developer.answers(world, relay);
        assert_eq!(answers, [1], "the call was answered");
        developer
    }

    /// The next call, sealed.
    pub(crate) fn call(&mut self, change: impl FnOnce(&mut DebugCall<'_>)) -> Vec<u8> {
        self.number += 1;
        let mut call = DebugCall { number: self.number, ..Default::default() };
        change(&mut call);
        self.seal(&encode(&call))
    }

    /// A call that writes one byte.
    pub(crate) fn write(&mut self, byte: u8) -> Vec<u8> {
        let data = [byte];
        let write = [DebugWrite { address: RAM_AT, data: &data, ..Default::default() }];
        self.number += 1;
        let call =
            DebugCall { number: self.number, writes: Repeated::from_slice(&write), ..Default::default() };
        self.seal(&encode(&call))
    }

    /// A call that sets registers, and then does this.
    pub(crate) fn call_with(&mut self, registers: &[DebugRegister<'_>], go: DebugGo) -> Vec<u8> {
        self.number += 1;
        let call = DebugCall {
            number: self.number,
            registers: Repeated::from_slice(registers),
            go: EnumValue::Known(go),
            ..Default::default()
        };
        self.seal(&encode(&call))
    }

    /// A call that plants a breakpoint at `RAM_AT` + 4.
    pub(crate) fn plant(&mut self) -> Vec<u8> {
        self.number += 1;
        let mut plain = encode(&DebugCall { number: self.number, plant: true, ..Default::default() });
        // Field 6, packed.
        plain.extend([0x32, 0x05, 0x84, 0x80, 0x80, 0x80, 0x02]);
        self.seal(&plain)
    }

    fn seal(&mut self, plain: &[u8]) -> Vec<u8> {
        let mut frame = vec![0; DEBUG_FRAME_BYTES_MAX];
        let length = self.transport.seal(plain, &mut frame).unwrap();
        frame.truncate(length);
        frame
    }

    /// Attaches to a session that watches: message 3 and the first call go together.
    pub(crate) fn watch(world: &mut World, relay: &mut Relay) -> Developer {
        let (mut developer, message_3) = Developer::greet(world, relay, &key());
        let granted = relay.hear(world).last().unwrap().credit_up_to;
        assert!(granted >= relay.sent + 2, "both go at once: {granted}");
        relay.send(world, &message_3);
        let describe = developer.call(|call| call.describe = true);
        relay.send(world, &describe);
        let answers = developer.answers(world, relay);
        assert!(answers.starts_with(&[1]), "the call was answered: {answers:?}");
        developer
    }

    /// Which call this frame answers.
    pub(crate) fn open(&mut self, frame: &[u8]) -> u32 {
        self.told(frame).0
    }

    /// Which call this frame answers, how the application is, and what could not be done.
    pub(crate) fn told(&mut self, frame: &[u8]) -> (u32, DebugState, DebugProblem) {
        let mut plain = [0; PLAIN_BYTES_MAX];
        let length = self.transport.open(frame, &mut plain).unwrap();
        let answer = DebugAnswer::decode(&plain[..length]).unwrap();
        let (EnumValue::Known(state), EnumValue::Known(problem)) = (answer.state, answer.problem) else {
            panic!("a state or a problem nobody knows")
        };
        (answer.call, state, problem)
    }

    /// All that was told since.
    pub(crate) fn all_told(
        &mut self,
        world: &mut World,
        relay: &mut Relay,
    ) -> Vec<(u32, DebugState, DebugProblem)> {
        relay.frames(world).iter().map(|frame| self.told(frame)).collect()
    }

    /// The calls that were answered.
    pub(crate) fn answers(&mut self, world: &mut World, relay: &mut Relay) -> Vec<u32> {
        relay.frames(world).iter().map(|frame| self.open(frame)).collect()
    }
}

/// A boot that is not this one.
pub(crate) fn other_boot() -> BootId<'static> {
    BootId { counter: 7, random: 7, ..Default::default() }
}
