//! The stub: who may have the session, the handshake, and calls in and answers out.
//!
//! It hears what relays say (`hear`) and has one thing to say at a time (`due`, `said`). Whatever cannot be verified is counted and
//! changes nothing; the relay that carried it may have made it.

use heapless::Vec;
use noise::{
    Kind, PLAIN_BYTES_MAX, PublicKey, Responder, Role, StaticKey, Transport, Voucher, prologue, statement,
};
use wire::msg::{DebugDown, DebugEnd, DebugUp, EnumValue, LogLevel, Message as _};
use wire::{DebugSessionId, DeviceId, RelayId};
use zeroize::Zeroize as _;

use super::agent::Access;
use super::bucket::Bucket;
use super::pipe::{Frames, Impossible, Pipe, Up};
use crate::device::{BootId, Device, Next, Notice};
use crate::logs::Logs;
use crate::mutation::mutated;
use crate::ports::{Board, Entropy as _, Keys as _, Probe as _};
use crate::store::Key;

/// What a board lends for good.
#[derive(Debug)]
pub struct Memory {
    frames: Frames,
    /// What a frame held, and what the next one is to hold.
    call: [u8; PLAIN_BYTES_MAX],
    answer: [u8; PLAIN_BYTES_MAX],
    /// Here and not in the stub, which is moved about when it is made.
    handshake: Handshake,
    own: Option<Own>,
}

/// One under way. An `Option`, but for its tag: `None` is zero, so that what a board lends is zeroed memory, and no part of its image.
#[derive(Debug, Default)]
#[repr(u8)]
#[expect(clippy::large_enum_variant, reason = "there is one, in memory that is lent for it")]
enum Handshake {
    #[default]
    None,
    Begun(Responder),
}

impl Handshake {
    fn take(&mut self) -> Option<Responder> {
        match core::mem::take(self) {
            Handshake::None => None,
            Handshake::Begun(responder) => Some(responder),
        }
    }
}

impl Memory {
    /// Nothing in it.
    pub const fn new() -> Self {
        Self {
            frames: Frames::new(),
            call: [0; PLAIN_BYTES_MAX],
            answer: [0; PLAIN_BYTES_MAX],
            handshake: Handshake::None,
            own: None,
        }
    }

    /// Plaintext of an application's memory goes with the session that it was for.
    fn clear(&mut self) {
        self.call.zeroize();
        self.answer.zeroize();
        self.handshake = Handshake::None;
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self::new()
    }
}

/// The device's end of debug sessions, of which there is one at a time.
#[derive(Debug)]
pub struct Stub<'b> {
    /// None: this board has nothing to debug.
    memory: Option<&'b mut Memory>,
    open: Option<Open>,
    /// The session that this end ended last: who goes on with it is told again why.
    ended: Option<(DebugSessionId, DebugEnd)>,
    /// What is to be said of a session that is not open.
    farewell: Option<Farewell>,
    handshakes: Bucket,
    refused: u32,
}

/// The session there is.
#[derive(Debug)]
struct Open {
    pipe: Pipe,
    attached: Option<Attached>,
    /// The agent was told that a session began.
    begun: bool,
}

/// Who may call.
#[derive(Debug)]
struct Attached {
    transport: Transport,
    key: PublicKey,
    /// A frame of it was verified.
    heard: bool,
}

#[derive(Debug, Clone, Copy)]
struct Farewell {
    relay: RelayId,
    session: DebugSessionId,
    epoch: u32,
    end: DebugEnd,
}

/// This device's static key, and its identity key's word for it.
#[derive(Debug)]
struct Own {
    /// Who it vouches for: a device that enrols anew may be another.
    id: DeviceId,
    key: StaticKey,
    voucher: Voucher,
}

/// Something to say, and what `said` is told when it has gone out.
#[derive(Debug, Clone, Copy)]
pub struct Said {
    relay: RelayId,
    session: DebugSessionId,
    epoch: u32,
    up: Option<Up>,
    end: DebugEnd,
}

/// What became of a frame.
enum Taken {
    Yes,
    /// It comes again.
    Later,
    /// Nothing more is to be heard.
    End(DebugEnd),
}

impl<'b> Stub<'b> {
    pub fn new(memory: Option<&'b mut Memory>) -> Self {
        Self { memory, open: None, ended: None, farewell: None, handshakes: Bucket::default(), refused: 0 }
    }

    /// There is a session: the device stays connected for it.
    pub fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Frames that could not be verified, and handshakes put off, in this boot.
    pub fn refused(&self) -> u32 {
        self.refused
    }

    /// Hears one message of a relay; what cannot be read is nothing.
    // With what is below it, it needs a large frame, and seldom.
    #[inline(never)]
    pub fn hear<B: Board>(
        &mut self,
        relay: RelayId,
        payload: &[u8],
        device: &mut Device<'_, B>,
        logs: &mut Logs<'_>,
    ) {
        let Ok(down) = DebugDown::decode(payload) else { return };
        let Ok(session) = down.session.parse::<DebugSessionId>() else { return };
        let now_ms = device.now_ms();
        let boot = down.boot.as_ref().map(|boot| BootId { counter: boot.counter, random: boot.random });
        let is_other_boot = boot.is_some_and(|boot| boot != device.boot_id());
        let is_closed = down.end == EnumValue::Known(DebugEnd::Closed);
        if let Some(open) = self.open.as_mut().filter(|open| open.pipe.session() == session) {
            if !open.pipe.is_from_holder(relay, down.epoch) {
                return;
            }
            let frame = open.pipe.hear(now_ms, relay, &down);
            let end = match frame {
                _ if is_closed => DebugEnd::Closed,
                _ if is_other_boot => DebugEnd::Restarted,
                Err(Impossible) => DebugEnd::Protocol,
                Ok(None) => return,
                Ok(Some(frame)) => match self.take(frame, session, device, logs) {
                    Taken::Yes => return self.took(),
                    Taken::Later => return,
                    Taken::End(end) => end,
                },
            };
            return self.end(end, device, logs);
        }
        let again = self.ended.filter(|(ended, _)| *ended == session).map(|(_, end)| end);
        let end = match again {
            _ if is_closed => DebugEnd::Closed,
            Some(end) => end,
            None if is_other_boot || !down.open => DebugEnd::Restarted,
            None if self.open.is_some() => DebugEnd::Busy,
            None if self.memory.is_none() || !can_be_debugged(device) => DebugEnd::Refused,
            None => {
                let mut pipe = Pipe::new(session, relay, down.epoch, now_ms);
                // An open message has nothing else to say.
                if pipe.hear(now_ms, relay, &down).is_ok() {
                    self.open = Some(Open { pipe, attached: None, begun: false });
                    return;
                }
                DebugEnd::Protocol
            }
        };
        self.farewell = Some(Farewell { relay, session, epoch: down.epoch, end });
    }

    /// Does what is due by itself; whether or not there is a connection.
    pub fn poll<B: Board>(&mut self, device: &mut Device<'_, B>, logs: &mut Logs<'_>) -> Next {
        let now_ms = device.now_ms();
        let (Some(open), Some(memory)) = (&mut self.open, &mut self.memory) else { return Next::Never };
        if open.pipe.is_forgotten(now_ms) {
            // Nobody is there to be told.
            self.close("silence", device, logs);
            return Next::Now;
        }
        let key = open.attached.as_ref().map(|attached| attached.key);
        // Another version runs, and it is not for this developer to debug.
        let is_strange = key.is_some_and(|key| device.running.is_some() && !is_debug_key(&key, device));
        if is_strange && !mutated!(DebugUpdate) {
            self.end(DebugEnd::Refused, device, logs);
            return Next::Now;
        }
        let attached = open.attached.as_mut().filter(|attached| attached.heard);
        let mut next = Next::At(open.pipe.forgotten_ms());
        if let Some(attached) = attached
            && let Some(place) = open.pipe.place(&mut memory.frames)
        {
            if let Some(length) = device.debug_poll(&mut memory.answer) {
                let sealed = seal(&mut attached.transport, memory.answer.get(..length), place);
                if sealed.is_err() {
                    self.end(DebugEnd::Done, device, logs);
                    return Next::Now;
                }
                open.pipe.keep();
                return Next::Now;
            }
            next = next.min(device.debug_deadline());
        }
        next
    }

    /// When there is something to say by itself, while there is a connection.
    pub fn deadline_ms(&self) -> u64 {
        self.open.as_ref().map_or(u64::MAX, |open| open.pipe.resend_ms())
    }

    /// What is to be said now. To be asked again, after `said`, until there is nothing.
    pub fn due(&mut self, now_ms: u64) -> Option<Said> {
        if let Some(Farewell { relay, session, epoch, end }) = self.farewell {
            return Some(Said { relay, session, epoch, up: None, end });
        }
        let pipe = &mut self.open.as_mut()?.pipe;
        let up = pipe.due(now_ms)?;
        let (relay, session, epoch) = (pipe.relay(), pipe.session(), pipe.epoch());
        Some(Said { relay, session, epoch, up: Some(up), end: DebugEnd::Unspecified })
    }

    /// It has gone out.
    pub fn said(&mut self, now_ms: u64, said: &Said) {
        match (said.up, &mut self.open) {
            (None, _) => self.farewell = None,
            (Some(up), Some(open)) => open.pipe.said(now_ms, &up),
            (Some(_), None) => {}
        }
    }

    /// The bytes of a frame that is due.
    pub fn frame(&self, said: &Said) -> &[u8] {
        match (said.up, &self.memory) {
            (Some(up), Some(memory)) if up.number != 0 => memory.frames.frame(up.number),
            _ => &[],
        }
    }

    /// Another connection is up.
    pub fn restart(&mut self) {
        if let Some(open) = &mut self.open {
            open.pipe.restart();
        }
    }

    fn took(&mut self) {
        if let Some(open) = &mut self.open {
            open.pipe.took();
        }
    }

    /// Takes the next frame of the session there is.
    fn take<B: Board>(
        &mut self,
        frame: &[u8],
        session: DebugSessionId,
        device: &mut Device<'_, B>,
        logs: &mut Logs<'_>,
    ) -> Taken {
        // Whatever is done is answered: while no answer can be kept, nothing is done.
        if let (Some(open), Some(memory)) = (&self.open, &mut self.memory)
            && open.pipe.place(&mut memory.frames).is_none()
        {
            return Taken::Later;
        }
        let taken = match Kind::of(frame) {
            Some(Kind::Message1) => self.greet(frame, session, device),
            Some(Kind::Message3) => self.admit(frame, device, logs),
            Some(Kind::Transport) => self.call(frame, device, logs),
            Some(Kind::Message2) | None => None,
        };
        taken.unwrap_or_else(|| {
            self.refused = self.refused.saturating_add(1);
            Taken::Yes
        })
    }

    /// Message 1: somebody wants to attach. Who is attached already stays so until it is known who this is.
    fn greet<B: Board>(
        &mut self,
        message_1: &[u8],
        session: DebugSessionId,
        device: &mut Device<'_, B>,
    ) -> Option<Taken> {
        let id = device.device_id()?;
        if !self.handshakes.take(device.now_ms()) {
            self.refused = self.refused.saturating_add(1);
            return Some(Taken::Later);
        }
        let Memory { frames, handshake, own, .. } = self.memory.as_deref_mut()?;
        if own.as_ref().is_none_or(|own| own.id != id) {
            *own = own_of(id, device);
        }
        let Some(Own { key, voucher, .. }) = own else { return Some(Taken::End(DebugEnd::Refused)) };
        let mut ephemeral = [0; noise::KEY_BYTES];
        if device.ports.entropy.fill(&mut ephemeral).is_err() {
            return Some(Taken::End(DebugEnd::Refused));
        }
        let open = self.open.as_mut()?;
        let place = open.pipe.place(frames)?;
        let answered =
            Responder::answer(key, &prologue(Role::Writer, id, session), ephemeral, message_1, voucher);
        ephemeral.zeroize();
        let (responder, message_2) = answered.ok()?;
        place.clear();
        place.extend_from_slice(&message_2).ok()?;
        open.pipe.keep();
        *handshake = Handshake::Begun(responder);
        Some(Taken::Yes)
    }

    /// Message 3: it is known who this is.
    fn admit<B: Board>(
        &mut self,
        message_3: &[u8],
        device: &mut Device<'_, B>,
        logs: &mut Logs<'_>,
    ) -> Option<Taken> {
        let open = self.open.as_mut()?;
        let (transport, key) = self.memory.as_mut()?.handshake.take()?.finish(message_3).ok()?;
        if !is_debug_key(&key, device) {
            let name = Name(&key);
            logs.note(device.now_ms(), LogLevel::Warn, format_args!("debug key {name} may not attach"));
            return Some(Taken::End(DebugEnd::Refused));
        }
        open.attached = Some(Attached { transport, key, heard: false });
        Some(Taken::Yes)
    }

    /// A transport frame: a call.
    fn call<B: Board>(
        &mut self,
        frame: &[u8],
        device: &mut Device<'_, B>,
        logs: &mut Logs<'_>,
    ) -> Option<Taken> {
        let Memory { frames, call, answer, .. } = self.memory.as_deref_mut()?;
        let open = self.open.as_mut()?;
        let attached = open.attached.as_mut()?;
        let length = match attached.transport.open(frame, call) {
            Ok(length) => length,
            Err(_) if mutated!(DebugVerify) => 0,
            Err(_) => return None,
        };
        let now_ms = device.now_ms();
        if !attached.heard {
            attached.heard = true;
            // Who was attached before is no more.
            if core::mem::replace(&mut open.begun, true) {
                device.debug_end();
            }
            device.debug_begin();
            let (session, name) = (open.pipe.session(), Name(&attached.key));
            logs.note(now_ms, LogLevel::Info, format_args!("debug session {session}: key {name} attached"));
        }
        let answered = device.debug_take(call.get(..length)?, Access::Write, answer);
        while let Some((at, bytes)) = device.debug_written() {
            logs.note(now_ms, LogLevel::Info, format_args!("debugger wrote {bytes} bytes at {at:#x}"));
        }
        let Some(length) = answered else { return Some(Taken::Yes) };
        let place = open.pipe.place(frames)?;
        if seal(&mut attached.transport, answer.get(..length), place).is_err() {
            return Some(Taken::End(DebugEnd::Done));
        }
        open.pipe.keep();
        Some(Taken::Yes)
    }

    /// Ends the session, and tells its relay why.
    fn end<B: Board>(&mut self, end: DebugEnd, device: &mut Device<'_, B>, logs: &mut Logs<'_>) {
        let Some(pipe) = self.open.as_ref().map(|open| &open.pipe) else { return };
        let (relay, session, epoch) = (pipe.relay(), pipe.session(), pipe.epoch());
        self.farewell = Some(Farewell { relay, session, epoch, end });
        self.ended = Some((session, end));
        let why = match end {
            DebugEnd::Closed => "closed",
            DebugEnd::Refused => "refused",
            DebugEnd::Restarted => "another boot's",
            DebugEnd::Protocol => "the relay said what cannot be",
            _ => "done",
        };
        self.close(why, device, logs);
    }

    /// Forgets the session; the application goes on.
    fn close<B: Board>(&mut self, why: &str, device: &mut Device<'_, B>, logs: &mut Logs<'_>) {
        let Some(open) = self.open.take() else { return };
        if let Some(memory) = &mut self.memory {
            memory.clear();
        }
        if open.begun {
            device.debug_end();
            let (now_ms, session) = (device.now_ms(), open.pipe.session());
            logs.note(now_ms, LogLevel::Info, format_args!("debug session {session} ended: {why}"));
        }
    }
}

impl Said {
    pub fn relay(&self) -> RelayId {
        self.relay
    }

    /// The message, of this boot; its ids as text are the caller's to keep.
    pub fn message<'m>(&self, session: &'m str, boot: wire::msg::BootId<'m>, data: &'m [u8]) -> DebugUp<'m> {
        let up = self.up.unwrap_or(Up { number: 0, received_up_to: 0, credit_up_to: 0, forgotten_up_to: 0 });
        DebugUp {
            session,
            epoch: self.epoch,
            boot: Some(boot),
            number: up.number,
            data,
            received_up_to: up.received_up_to,
            credit_up_to: up.credit_up_to,
            forgotten_up_to: up.forgotten_up_to,
            end: EnumValue::Known(self.end),
            ..Default::default()
        }
    }

    pub fn session(&self) -> DebugSessionId {
        self.session
    }
}

/// There is something to debug, as far as the board goes.
fn can_be_debugged<B: Board>(device: &Device<'_, B>) -> bool {
    !device.ports.probe.regions().is_empty()
}

/// The manifest of the version that runs, or waits for its next start, has this key.
fn is_debug_key<B: Board>(key: &PublicKey, device: &Device<'_, B>) -> bool {
    let is_listed = device.running.as_ref().is_some_and(|running| running.debug_keys.contains(key));
    is_listed || mutated!(DebugKey)
}

/// Makes the next frame of it, in its place.
fn seal(
    transport: &mut Transport,
    plain: Option<&[u8]>,
    place: &mut Vec<u8, { wire::limits::DEBUG_FRAME_BYTES_MAX }>,
) -> Result<(), noise::Error> {
    let plain = plain.ok_or(noise::Error::TooLong)?;
    place.clear();
    // Cannot fail: that much is what the place holds.
    let _ = place.resize_default(place.capacity());
    let length = transport.seal(plain, place)?;
    place.truncate(length);
    Ok(())
}

/// The key of this device, made at first need, and vouched for once a boot. If it cannot be kept it is good for this boot.
#[inline(never)]
fn own_of<B: Board>(id: DeviceId, device: &mut Device<'_, B>) -> Option<Own> {
    let mut secret = [0; noise::KEY_BYTES];
    // One that cannot be read just now may be there all the same: another one would look like another device's.
    let kept = device.store.read(&mut device.ports.flash, Key::Debug, &mut secret).ok()?;
    if kept.is_none_or(|kept| kept.len() != noise::KEY_BYTES) {
        device.ports.entropy.fill(&mut secret).ok()?;
        if let Err(error) = device.store.put(&mut device.ports.flash, Key::Debug, &secret) {
            device.note(Notice::StoreFailed(error));
        }
    }
    let key = StaticKey::new(secret);
    secret.zeroize();
    let identity = device.ports.keys.public_key().ok()?;
    let signature = device.ports.keys.sign(&statement(id, &key.public())).ok()?;
    Some(Own { id, key, voucher: Voucher { identity, signature } })
}

/// A key as people compare it: its first bytes.
struct Name<'k>(&'k PublicKey);

impl core::fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.0.iter().take(8).try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
