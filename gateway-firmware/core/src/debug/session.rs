//! The stub: who may have a session, the handshake, and calls in and answers out.
//!
//! There is a seat for one session that writes, and a few for those that watch. Each has its frames, its handshake and its end; the agent
//! is told of the writer's only. It hears what relays say (`hear`) and has one thing to say at a time (`due`, `said`). Whatever cannot be
//! verified is counted and changes nothing; the relay that carried it may have made it.

use heapless::{Deque, VecView};
use noise::{Kind, PublicKey, Responder, Role, Transport, prologue};
use wire::msg::{DebugDown, DebugEnd, DebugUp, EnumValue, LogLevel, Message as _};
use wire::{DebugSessionId, RelayId};
use zeroize::Zeroize as _;

use super::agent::{Access, Watcher};
use super::bucket::Bucket;
use super::memory::{Handshake, Memory, SEATS, WRITER, places, plain_bytes_max};
use super::own::{Own, own_of};
use super::pipe::{Impossible, Pipe, Up};
use crate::device::{BootId, Device, Next};
use crate::logs::Logs;
use crate::mutation::mutated;
use crate::ports::{Board, Entropy as _, Probe as _};

/// The device's end of debug sessions.
#[derive(Debug)]
pub struct Stub<'b> {
    /// None: this board has nothing to debug.
    memory: Option<&'b mut Memory>,
    /// The writer's, then those that watch.
    open: [Option<Open>; SEATS],
    /// The sessions that this end ended last: who goes on with one is told again why.
    ended: Deque<(DebugSessionId, DebugEnd), SEATS>,
    /// What is to be said of sessions that are not open. One that has no room is asked for again.
    farewells: Deque<Farewell, SEATS>,
    /// Of writers and of watchers: who watches takes no handshake from who writes.
    handshakes: [Bucket; 2],
    refused: u32,
}

/// Without a frame that was verified a session is over after so long: a relay alone keeps none.
pub const VERIFIED_SILENCE_MS: u64 = 10 * 60 * 1000;
/// … and one that nobody has attached to.
pub const UNATTACHED_MS: u64 = 2 * 60 * 1000;

/// A session there is.
#[derive(Debug)]
struct Open {
    pipe: Pipe,
    /// Who calls: a frame of theirs was verified.
    attached: Option<Attached>,
    /// Whose handshake is done, and no call of theirs was verified: it may be an old one's, which a relay repeats.
    arriving: Option<Attached>,
    /// How far this one is told, if it watches.
    watcher: Watcher,
    /// When a frame was verified, or it was opened.
    verified_ms: u64,
}

/// Who may call.
#[derive(Debug)]
struct Attached {
    transport: Transport,
    key: PublicKey,
}

impl Open {
    /// When nobody was heard for too long, whatever a relay says.
    fn quiet_ms(&self) -> u64 {
        if mutated!(DebugQuiet) {
            return u64::MAX;
        }
        self.verified_ms + if self.attached.is_some() { VERIFIED_SILENCE_MS } else { UNATTACHED_MS }
    }

    /// Another version runs than when they attached, and nobody who is here may debug that.
    fn is_strange<B: Board>(&mut self, device: &Device<'_, B>) -> bool {
        let is_strange = |who: &mut Attached| is_strange(&who.key, device);
        let went = self.arriving.take_if(is_strange).is_some();
        self.attached.as_mut().is_some_and(is_strange) || went && self.attached.is_none()
    }
}

#[derive(Debug, Clone, Copy)]
struct Farewell {
    relay: RelayId,
    session: DebugSessionId,
    epoch: u32,
    end: DebugEnd,
}

/// Something to say, and what `said` is told when it has gone out.
#[derive(Debug, Clone, Copy)]
pub struct Said {
    seat: usize,
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
        Self {
            memory,
            open: [const { None }; SEATS],
            ended: Deque::new(),
            farewells: Deque::new(),
            handshakes: [Bucket::default(); 2],
            refused: 0,
        }
    }

    /// There is a session: the device stays connected for it.
    pub fn is_open(&self) -> bool {
        self.open.iter().any(Option::is_some)
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
        let seat = self.open.iter().position(|open| is_of(open, session));
        if let Some(seat) = seat
            && let Some(open) = &mut self.open[seat]
        {
            if !open.pipe.is_from_holder(relay, down.epoch) {
                return;
            }
            let frame = open.pipe.hear(now_ms, relay, &down);
            let end = match frame {
                _ if is_closed => DebugEnd::Closed,
                _ if is_other_boot => DebugEnd::Restarted,
                _ if down.watch != (seat != WRITER) => DebugEnd::Protocol,
                Err(Impossible) => DebugEnd::Protocol,
                Ok(None) => return,
                Ok(Some(frame)) => match self.take(frame, seat, session, device, logs) {
                    Taken::Yes => return self.took(seat),
                    Taken::Later => return,
                    Taken::End(end) => end,
                },
            };
            return self.end(seat, end, device, logs);
        }
        let again = self.ended.iter().find(|(ended, _)| *ended == session).map(|(_, end)| *end);
        let free = self
            .open
            .iter()
            .enumerate()
            .position(|(seat, open)| open.is_none() && down.watch == (seat != WRITER));
        let end = match (again, free) {
            _ if is_closed => DebugEnd::Closed,
            (Some(end), _) => end,
            _ if is_other_boot || !down.open => DebugEnd::Restarted,
            (None, None) => DebugEnd::Busy,
            _ if self.memory.is_none() || !can_be_debugged(device) => DebugEnd::Refused,
            (None, Some(seat)) => {
                let mut pipe = Pipe::new(session, relay, down.epoch, places(seat), now_ms);
                // An open message has nothing else to say.
                if pipe.hear(now_ms, relay, &down).is_ok() {
                    self.open[seat] = Some(Open {
                        pipe,
                        attached: None,
                        arriving: None,
                        watcher: Watcher::default(),
                        verified_ms: now_ms,
                    });
                    return;
                }
                DebugEnd::Protocol
            }
        };
        self.part(Farewell { relay, session, epoch: down.epoch, end });
    }

    /// Does what is due by itself; whether or not there is a connection.
    pub fn poll<B: Board>(&mut self, device: &mut Device<'_, B>, logs: &mut Logs<'_>) -> Next {
        (0..SEATS).fold(Next::Never, |next, seat| next.min(self.poll_seat(seat, device, logs)))
    }

    fn poll_seat<B: Board>(&mut self, seat: usize, device: &mut Device<'_, B>, logs: &mut Logs<'_>) -> Next {
        let now_ms = device.now_ms();
        let (Some(open), Some(memory)) = (&mut self.open[seat], &mut self.memory) else { return Next::Never };
        if open.pipe.is_forgotten(now_ms) {
            // Nobody is there to be told.
            self.close(seat, "silence", device, logs);
            return Next::Now;
        }
        if open.is_strange(device) {
            self.end(seat, DebugEnd::Refused, device, logs);
            return Next::Now;
        }
        if now_ms >= open.quiet_ms() {
            self.end_for(seat, DebugEnd::Done, "nobody was heard", device, logs);
            return Next::Now;
        }
        let next = Next::At(open.pipe.forgotten_ms().min(open.quiet_ms()));
        let Some(attached) = &mut open.attached else { return next };
        let Some(number) = open.pipe.next() else { return next };
        let answer = &mut memory.answer[..plain_bytes_max(seat)];
        let length = match seat {
            WRITER => device.debug_poll(answer),
            _ => device.debug_show(&mut open.watcher, answer),
        };
        let Some(length) = length else {
            return if seat == WRITER { next.min(device.debug_deadline()) } else { next };
        };
        if seal(&mut attached.transport, answer.get(..length), memory.places.place(seat, number)).is_err() {
            self.end(seat, DebugEnd::Done, device, logs);
        } else {
            open.pipe.keep();
        }
        Next::Now
    }

    /// When there is something to say by itself, while there is a connection.
    pub fn deadline_ms(&self) -> u64 {
        self.open.iter().flatten().map(|open| open.pipe.resend_ms()).min().unwrap_or(u64::MAX)
    }

    /// What is to be said now, the writer's before the watchers'. To be asked again, after `said`, until there is nothing.
    pub fn due(&mut self, now_ms: u64) -> Option<Said> {
        if let Some(Farewell { relay, session, epoch, end }) = self.farewells.front().copied() {
            return Some(Said { seat: WRITER, relay, session, epoch, up: None, end });
        }
        self.open.iter_mut().enumerate().find_map(|(seat, open)| {
            let pipe = &mut open.as_mut()?.pipe;
            let up = pipe.due(now_ms)?;
            let (relay, session, epoch) = (pipe.relay(), pipe.session(), pipe.epoch());
            Some(Said { seat, relay, session, epoch, up: Some(up), end: DebugEnd::Unspecified })
        })
    }

    /// It has gone out.
    pub fn said(&mut self, now_ms: u64, said: &Said) {
        match (said.up, &mut self.open[said.seat]) {
            (None, _) => drop(self.farewells.pop_front()),
            (Some(up), Some(open)) => open.pipe.said(now_ms, &up),
            (Some(_), None) => {}
        }
    }

    /// The bytes of a frame that is due.
    pub fn frame(&self, said: &Said) -> &[u8] {
        match (said.up, &self.memory) {
            (Some(up), Some(memory)) if up.number != 0 => memory.places.frame(said.seat, up.number),
            _ => &[],
        }
    }

    /// Another connection is up.
    pub fn restart(&mut self) {
        self.open.iter_mut().flatten().for_each(|open| open.pipe.restart());
    }

    fn took(&mut self, seat: usize) {
        if let Some(open) = &mut self.open[seat] {
            open.pipe.took();
        }
    }

    /// Says the end of a session, instead of what was to be said of it.
    fn part(&mut self, farewell: Farewell) {
        self.farewells.retain(|other| other.session != farewell.session);
        let _ = self.farewells.push_back(farewell);
    }

    /// Takes the next frame of a session.
    fn take<B: Board>(
        &mut self,
        frame: &[u8],
        seat: usize,
        session: DebugSessionId,
        device: &mut Device<'_, B>,
        logs: &mut Logs<'_>,
    ) -> Taken {
        // Whatever is done is answered: while no answer can be kept, nothing is done.
        if self.open[seat].as_ref().is_some_and(|open| open.pipe.next().is_none()) {
            return Taken::Later;
        }
        let taken = match Kind::of(frame) {
            Some(Kind::Message1) => self.greet(frame, seat, session, device),
            Some(Kind::Message3) => self.admit(frame, seat, device, logs),
            Some(Kind::Transport) => self.call(frame, seat, device, logs),
            Some(Kind::Message2) | None => None,
        };
        taken.unwrap_or_else(|| {
            self.refused = self.refused.saturating_add(1);
            Taken::Yes
        })
    }

    /// Message 1: somebody wants to attach. Who is attached already stays so until a call of theirs was verified.
    fn greet<B: Board>(
        &mut self,
        message_1: &[u8],
        seat: usize,
        session: DebugSessionId,
        device: &mut Device<'_, B>,
    ) -> Option<Taken> {
        let id = device.device_id()?;
        let is_watcher = seat != WRITER;
        if !self.handshakes[usize::from(is_watcher)].take(device.now_ms()) {
            self.refused = self.refused.saturating_add(1);
            return Some(Taken::Later);
        }
        let Memory { places, handshakes, own, .. } = self.memory.as_deref_mut()?;
        if own.as_ref().is_none_or(|own| own.id != id) {
            *own = own_of(id, device);
        }
        let Some(Own { key, voucher, .. }) = own else { return Some(Taken::End(DebugEnd::Refused)) };
        let mut ephemeral = [0; noise::KEY_BYTES];
        if device.ports.entropy.fill(&mut ephemeral).is_err() {
            return Some(Taken::End(DebugEnd::Refused));
        }
        let open = self.open[seat].as_mut()?;
        let place = places.place(seat, open.pipe.next()?);
        let role = if is_watcher { Role::Watcher } else { Role::Writer };
        let answered = Responder::answer(key, &prologue(role, id, session), ephemeral, message_1, voucher);
        ephemeral.zeroize();
        let (responder, message_2) = answered.ok()?;
        place.clear();
        place.extend_from_slice(&message_2).ok()?;
        open.pipe.keep();
        handshakes[seat] = Handshake::Begun(responder);
        Some(Taken::Yes)
    }

    /// Message 3: it is known who this is.
    fn admit<B: Board>(
        &mut self,
        message_3: &[u8],
        seat: usize,
        device: &mut Device<'_, B>,
        logs: &mut Logs<'_>,
    ) -> Option<Taken> {
        let open = self.open[seat].as_mut()?;
        let (transport, key) = self.memory.as_mut()?.handshakes[seat].take()?.finish(message_3).ok()?;
        if !is_debug_key(&key, device) {
            let name = Name(&key);
            logs.note(device.now_ms(), LogLevel::Warn, format_args!("debug key {name} may not attach"));
            // Nor does it end what somebody else is attached to.
            return open.attached.is_none().then_some(Taken::End(DebugEnd::Refused));
        }
        open.arriving = Some(Attached { transport, key });
        Some(Taken::Yes)
    }

    /// A transport frame: a call.
    fn call<B: Board>(
        &mut self,
        frame: &[u8],
        seat: usize,
        device: &mut Device<'_, B>,
        logs: &mut Logs<'_>,
    ) -> Option<Taken> {
        let Memory { places, call, answer, .. } = self.memory.as_deref_mut()?;
        let open = self.open[seat].as_mut()?;
        if open.is_strange(device) {
            return Some(Taken::End(DebugEnd::Refused));
        }
        let mut opens = |who: &mut Option<Attached>| match who.as_mut()?.transport.open(frame, call) {
            Ok(length) => Some(length),
            Err(_) => mutated!(DebugVerify).then_some(0),
        };
        let arrived = opens(&mut open.arriving);
        let length = arrived.or_else(|| opens(&mut open.attached))?;
        let now_ms = device.now_ms();
        open.verified_ms = now_ms;
        if arrived.is_some() {
            // Who was attached before is no more.
            (open.attached, open.watcher) = (open.arriving.take(), Watcher::default());
        }
        let attached = open.attached.as_mut()?;
        if arrived.is_some() {
            if seat == WRITER {
                device.debug_begin(attached.key);
            }
            let (session, name) = (open.pipe.session(), Name(&attached.key));
            let does = if seat == WRITER { "attached" } else { "watches" };
            logs.note(now_ms, LogLevel::Info, format_args!("debug session {session}: key {name} {does}"));
        }
        let writes = seat == WRITER || mutated!(DebugWatch);
        let access = if writes { Access::Write } else { Access::Read(&mut open.watcher) };
        let answer = &mut answer[..plain_bytes_max(seat)];
        let answered = device.debug_take(call.get(..length)?, access, answer);
        while let Some(deed) = device.debug_done() {
            logs.note(now_ms, LogLevel::Info, format_args!("debugger {deed}"));
        }
        let Some(length) = answered else { return Some(Taken::Yes) };
        let place = places.place(seat, open.pipe.next()?);
        if seal(&mut attached.transport, answer.get(..length), place).is_err() {
            return Some(Taken::End(DebugEnd::Done));
        }
        open.pipe.keep();
        Some(Taken::Yes)
    }

    /// Ends a session, and tells its relay why.
    fn end<B: Board>(&mut self, seat: usize, end: DebugEnd, device: &mut Device<'_, B>, logs: &mut Logs<'_>) {
        let why = match end {
            DebugEnd::Closed => "closed",
            DebugEnd::Refused => "refused",
            DebugEnd::Restarted => "another boot's",
            DebugEnd::Protocol => "the relay said what cannot be",
            _ => "done",
        };
        self.end_for(seat, end, why, device, logs);
    }

    fn end_for<B: Board>(
        &mut self,
        seat: usize,
        end: DebugEnd,
        why: &str,
        device: &mut Device<'_, B>,
        logs: &mut Logs<'_>,
    ) {
        let Some(pipe) = self.open[seat].as_ref().map(|open| &open.pipe) else { return };
        let (relay, session, epoch) = (pipe.relay(), pipe.session(), pipe.epoch());
        self.part(Farewell { relay, session, epoch, end });
        if self.ended.is_full() {
            self.ended.pop_front();
        }
        let _ = self.ended.push_back((session, end));
        self.close(seat, why, device, logs);
    }

    /// Forgets a session; the application goes on.
    fn close<B: Board>(&mut self, seat: usize, why: &str, device: &mut Device<'_, B>, logs: &mut Logs<'_>) {
        let Some(open) = self.open[seat].take() else { return };
        if let Some(memory) = &mut self.memory {
            memory.clear(seat);
        }
        if open.attached.is_some() {
            if seat == WRITER {
                device.debug_end();
            }
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

/// Another version runs, and it is not for this developer to debug.
fn is_strange<B: Board>(key: &PublicKey, device: &Device<'_, B>) -> bool {
    device.running.is_some() && !is_debug_key(key, device) && !mutated!(DebugUpdate)
}

fn is_of(open: &Option<Open>, session: DebugSessionId) -> bool {
    open.as_ref().is_some_and(|open| open.pipe.session() == session)
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
    place: &mut VecView<u8>,
) -> Result<(), noise::Error> {
    let plain = plain.ok_or(noise::Error::TooLong)?;
    place.clear();
    // Cannot fail: that much is what the place holds.
    let _ = place.resize_default(place.capacity());
    let length = transport.seal(plain, place)?;
    place.truncate(length);
    Ok(())
}

/// A key as people compare it: its first bytes.
struct Name<'k>(&'k PublicKey);

impl core::fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.0.iter().take(8).try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
