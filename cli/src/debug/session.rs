//! The session with the device: the relay's stream, the frames on it, and Noise within.
//!
//! Always holds: nothing is said to a device that is not proven to be the one it should be; a frame is sealed once, and sent again as it was made;
//! what can be resumed is resumed without anybody noticing, and what cannot ends the session in words.

use std::time::Duration;

use anyhow::{Context as _, Result};
use noise::{Greeted, Initiator, Kind, PublicKey, StaticKey, Transport, Voucher, prologue};
use prost::Message as _;
use proto::debug::v1::attach_debug_session_request::Message as Say;
use proto::debug::v1::attach_debug_session_response::Message as Told;
use proto::debug::v1::{
    Attach, AttachDebugSessionRequest, AttachDebugSessionResponse, Close, CloseDebugSessionRequest,
    CreateDebugSessionRequest, DebugSession, EndReason, Ended, ListDebugSessionsRequest, Role,
    debug_session::State,
};
use proto::device::v1::{DebugAnswer, DebugCall};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};
use tonic_types::StatusExt as _;
use wire::limits::DEBUG_FRAME_BYTES_MAX;
use wire::{DebugSessionId, DeviceId};

use crate::args::Global;
use crate::command::again::{goes_on, opened};
use crate::command::fresh_request_id;
use crate::debug::link::{self, Far, Gone, failure};
use crate::debug::pipe::Pipe;
use crate::failure::input;
use crate::output;
use crate::session::Session;

/// Messages that wait for the stream: more than there is credit for.
const SAY_MAX: usize = 256;
/// How long the relay may take to say that a session is closed.
const CLOSE_MAX: Duration = Duration::from_secs(5);
/// Between two streams that ended without a word.
const PAUSE: Duration = Duration::from_millis(200);
/// Handshakes begun in a session that another process left: the device may still send what was for that one.
const GREETINGS_MAX: usize = 4;
/// How long a session may be idle if nobody says.
const IDLE_UNSAID: Duration = Duration::from_secs(30 * 60);

/// What was made, or found.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) role: noise::Role,
    /// tenants/{tenant}/debugSessions/{session}
    pub(crate) name: String,
    pub(crate) is_joined: bool,
    /// Idle for so long, it is over.
    pub(crate) idle: Duration,
}

/// What a session is wanted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Write,
    /// In place of another process of ours.
    TakeOver,
    /// Each is a session of its own, and in nobody's way.
    Watch,
}

impl Way {
    fn role(self) -> noise::Role {
        match self {
            Way::Write | Way::TakeOver => noise::Role::Writer,
            Way::Watch => noise::Role::Watcher,
        }
    }
}

pub(crate) fn wire_role(role: noise::Role) -> Role {
    match role {
        noise::Role::Writer => Role::Writer,
        noise::Role::Watcher => Role::Watcher,
    }
}

/// How long a session may last; none: the relay's own limits.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Limits {
    pub(crate) idle: Option<Duration>,
    pub(crate) total: Option<Duration>,
}

/// Makes a session with a device; one of a writer goes on in the one that a process of ours left open.
pub(crate) async fn open(session: &Session, device: &str, limits: Limits, way: Way) -> Result<Opened> {
    let role = way.role();
    let mut client = session.debug_sessions().await?;
    let duration = |limit: Option<Duration>| limit.and_then(|limit| limit.try_into().ok());
    let wanted = DebugSession {
        device: device.to_owned(),
        idle_timeout: duration(limits.idle),
        total_timeout: duration(limits.total),
        role: wire_role(role).into(),
        ..DebugSession::default()
    };
    let request = CreateDebugSessionRequest {
        parent: session.tenant(),
        debug_session: Some(wanted),
        request_id: fresh_request_id(),
        ..Default::default()
    };
    match client.create_debug_session(request).await {
        Ok(made) => Ok(opened_as(role, limits, made.into_inner(), false)),
        Err(status) if role == noise::Role::Writer && is(&status, "DEVICE_HAS_SESSION") => {
            let request = ListDebugSessionsRequest {
                parent: session.tenant(),
                device: device.to_owned(),
                state: State::Open.into(),
                ..Default::default()
            };
            let open = client.list_debug_sessions(request).await?.into_inner().debug_sessions;
            let writes = |open: &DebugSession| open.role() == Role::Writer;
            let Some(open) = open.into_iter().find(writes) else { return Err(status.into()) };
            join(&open, &session.context().key, way == Way::TakeOver)?;
            Ok(opened_as(role, limits, open, true))
        }
        Err(status) => Err(anyhow::Error::from(status).context("cannot open a debug session")),
    }
}

/// What was asked for counts before what the relay says, and its silence is not for ever.
fn opened_as(role: noise::Role, limits: Limits, session: DebugSession, is_joined: bool) -> Opened {
    let said = session.idle_timeout.and_then(|idle| idle.try_into().ok());
    let idle = limits.idle.or(said).unwrap_or(IDLE_UNSAID);
    Opened { role, name: session.name, is_joined, idle }
}

/// Whether a session that is open already may be gone on with.
fn join(open: &DebugSession, key: &str, take_over: bool) -> Result<()> {
    let id = output::id(&open.name);
    if open.creator != key {
        return Err(input(format!(
            "{} is debugged by {} in session {id}: look on with --watch; or whoever may debug can end that: `holdfast debug-session close {id}`",
            output::id(&open.device),
            output::id(&open.creator),
        )));
    }
    if open.attached && !take_over {
        return Err(input(format!(
            "you debug {} already, in session {id}: end that `holdfast debug`, take its place with --take-over, or look on with --watch",
            output::id(&open.device),
        )));
    }
    Ok(())
}

fn is(status: &Status, reason: &str) -> bool {
    status.get_details_error_info().is_some_and(|info| info.reason == reason)
}

/// Judges whether a device is who it should be.
pub(crate) type Check<'a> = Box<dyn Fn(&Voucher, &PublicKey) -> Result<()> + 'a>;

pub(crate) struct Driver<'a> {
    global: &'a Global,
    name: String,
    key: StaticKey,
    prologue: Vec<u8>,
    check: Check<'a>,
    pipe: Pipe,
    stage: Stage,
    greetings: usize,
    is_joined: bool,
    /// A frame was the device's own, and for us.
    is_heard: bool,
    far: Far,
}

enum Stage {
    /// Nobody is there to talk to.
    Idle,
    Greeting(Box<Initiator>),
    Open(Box<Transport>),
}

/// What came of one stream.
enum Carried {
    /// Another goes on where it was.
    Again,
    Over(Gone),
    /// We have no more to do with it: what was said cannot be.
    Broken(Gone),
    /// As we asked.
    Closed,
}

impl std::fmt::Debug for Driver<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Driver").field("name", &self.name).field("pipe", &self.pipe).finish_non_exhaustive()
    }
}

impl<'a> Driver<'a> {
    pub(crate) fn new(
        global: &'a Global,
        opened: &Opened,
        device: DeviceId,
        key: StaticKey,
        check: Check<'a>,
        far: Far,
    ) -> Result<Driver<'a>> {
        let id: DebugSessionId =
            output::id(&opened.name).parse().ok().context("the server named no session")?;
        let pipe = if opened.is_joined { Pipe::joining() } else { Pipe::default() };
        let mut driver = Driver {
            global,
            name: opened.name.clone(),
            key,
            prologue: prologue(opened.role, device, id).to_vec(),
            check,
            pipe,
            stage: Stage::Idle,
            greetings: 0,
            is_joined: opened.is_joined,
            is_heard: false,
            far,
        };
        driver.greet()?;
        Ok(driver)
    }

    fn greet(&mut self) -> Result<()> {
        let (initiator, message) = Initiator::new(&self.key, &self.prologue, rand::random())?;
        self.greetings += 1;
        self.pipe.push(message.to_vec());
        self.stage = Stage::Greeting(Box::new(initiator));
        Ok(())
    }

    /// Carries calls and answers until the session is over, or `close` says so. The other end of the link is told.
    pub(crate) async fn run(mut self, mut close: oneshot::Receiver<()>) -> Result<()> {
        let outcome = self.carry_on(&mut close).await;
        // Nobody need be there to hear it.
        let tell = |gone: Gone| drop(self.far.answers.try_send(Err(gone)));
        match outcome {
            Ok(Carried::Over(gone)) => {
                tell(gone.clone());
                Err(failure(gone))
            }
            Ok(Carried::Broken(gone)) => {
                tell(gone.clone());
                close_apart(self.global, &self.name).await;
                Err(failure(gone))
            }
            Ok(Carried::Again | Carried::Closed) => Ok(()),
            Err(error) => {
                tell(Gone::Ended(format!("{error:#}")));
                close_apart(self.global, &self.name).await;
                Err(error)
            }
        }
    }

    async fn carry_on(&mut self, close: &mut oneshot::Receiver<()>) -> Result<Carried> {
        loop {
            self.pipe.parted();
            let attach = Attach { name: self.name.clone(), position: self.pipe.position() };
            let attaching =
                opened(self.global, async |session: &Session| stream(session, attach.clone()).await);
            let (say, told) = tokio::select! {
                streams = attaching => streams?,
                _ = &mut *close => {
                    close_apart(self.global, &self.name).await;
                    return Ok(Carried::Closed);
                }
            };
            match self.carry(&say, told, close).await? {
                Carried::Again => tokio::time::sleep(PAUSE).await,
                carried => return Ok(carried),
            }
        }
    }

    async fn carry(
        &mut self,
        say: &mpsc::Sender<AttachDebugSessionRequest>,
        mut told: Streaming<AttachDebugSessionResponse>,
        close: &mut oneshot::Receiver<()>,
    ) -> Result<Carried> {
        loop {
            while let Some(frame) = self.pipe.send() {
                if !tell(say, Say::Frame(frame)) {
                    return Ok(Carried::Again);
                }
            }
            let may_call = matches!(self.stage, Stage::Open(_)) && self.pipe.has_room();
            tokio::select! {
                biased;
                _ = &mut *close => return Ok(self.closed(say, told).await),
                message = told.message(), if self.far.has_place() => match message {
                    Ok(Some(message)) => {
                        if let Some(carried) = self.take(message, say)? {
                            return Ok(carried);
                        }
                    }
                    Ok(None) => return Ok(Carried::Again),
                    Err(status) if goes_on(&status) => return Ok(Carried::Again),
                    Err(status) => return Err(status.into()),
                },
                // There is one again, or nobody to take it.
                () = link::place(&self.far.answers), if !self.far.has_place() => {}
                call = self.far.calls.recv(), if may_call => match call {
                    Some(call) => self.call(&call)?,
                    None => return Ok(self.closed(say, told).await),
                },
            }
        }
    }

    /// Ends the session for everybody; the relay tells the device, which lets the application go on.
    async fn closed(
        &self,
        say: &mpsc::Sender<AttachDebugSessionRequest>,
        mut told: Streaming<AttachDebugSessionResponse>,
    ) -> Carried {
        let is_told = tell(say, Say::Close(Close {}));
        let until_it_says_so = async {
            while let Some(message) = told.message().await.ok()? {
                if matches!(message.message, Some(Told::Ended(_))) {
                    return Some(());
                }
            }
            None
        };
        if !is_told || !matches!(tokio::time::timeout(CLOSE_MAX, until_it_says_so).await, Ok(Some(()))) {
            close_apart(self.global, &self.name).await;
        }
        Carried::Closed
    }

    fn take(
        &mut self,
        message: AttachDebugSessionResponse,
        say: &mpsc::Sender<AttachDebugSessionRequest>,
    ) -> Result<Option<Carried>> {
        let over =
            |nonsense: crate::debug::pipe::Nonsense| Some(Carried::Broken(Gone::Ended(nonsense.to_string())));
        Ok(match message.message {
            Some(Told::Attached(attached)) => match self.pipe.attached(&attached) {
                // The device may send from here on.
                Ok(()) => (!tell(say, Say::Progress(self.pipe.say()))).then_some(Carried::Again),
                Err(nonsense) => over(nonsense),
            },
            Some(Told::Progress(progress)) => self.pipe.progress(progress).err().and_then(over),
            Some(Told::Frame(frame)) => match self.pipe.frame(frame) {
                Err(nonsense) => over(nonsense),
                Ok(None) => None,
                Ok(Some(data)) => match self.frame(&data)? {
                    Some(gone) => Some(Carried::Broken(gone)),
                    None => (!tell(say, Say::Progress(self.pipe.say()))).then_some(Carried::Again),
                },
            },
            Some(Told::Ended(ended)) => Some(end(&ended)),
            None => None,
        })
    }

    /// A frame of the device's. An error: it is not to be believed.
    fn frame(&mut self, frame: &[u8]) -> Result<Option<Gone>> {
        match std::mem::replace(&mut self.stage, Stage::Idle) {
            Stage::Greeting(initiator) => {
                if self.is_joined && Kind::of(frame) != Some(Kind::Message2) {
                    // Of the process that was here before.
                    self.stage = Stage::Greeting(initiator);
                    return Ok(None);
                }
                match initiator.hear(frame) {
                    Ok(greeted) => self.greeted(greeted).map(|()| None),
                    Err(_) if self.is_joined && self.greetings < GREETINGS_MAX => self.greet().map(|()| None),
                    Err(_) => Ok(Some(Gone::Nonsense("a handshake that does not fit"))),
                }
            }
            Stage::Open(mut transport) => {
                let mut plain = [0; DEBUG_FRAME_BYTES_MAX];
                let Ok(length) = transport.open(frame, &mut plain) else {
                    if self.is_joined && !self.is_heard {
                        // For the process that was here before, which the device parts with at our first call.
                        self.stage = Stage::Open(transport);
                        return Ok(None);
                    }
                    return Ok(Some(Gone::Nonsense("a frame that is forged, repeated or left out")));
                };
                self.stage = Stage::Open(transport);
                self.is_heard = true;
                let Ok(answer) = DebugAnswer::decode(&plain[..length]) else {
                    return Ok(Some(Gone::Nonsense("an answer that cannot be read")));
                };
                match self.far.answers.try_send(Ok(answer)) {
                    // Whoever waited has left: the session is being closed.
                    Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => Ok(None),
                    Err(mpsc::error::TrySendError::Full(_)) => {
                        Ok(Some(Gone::Nonsense("more answers than there is a place for")))
                    }
                }
            }
            Stage::Idle => Ok(None),
        }
    }

    fn greeted(&mut self, greeted: Greeted) -> Result<()> {
        (self.check)(greeted.voucher(), greeted.key())?;
        let (transport, message) = greeted.finish()?;
        self.pipe.push(message.to_vec());
        self.stage = Stage::Open(Box::new(transport));
        Ok(())
    }

    fn call(&mut self, call: &DebugCall) -> Result<()> {
        let Stage::Open(transport) = &mut self.stage else { return Ok(()) };
        let mut frame = [0; DEBUG_FRAME_BYTES_MAX];
        let length =
            transport.seal(&call.encode_to_vec(), &mut frame).context("a call too long for a frame")?;
        self.pipe.push(frame[..length].to_vec());
        Ok(())
    }
}

/// False: the stream takes no more.
fn tell(say: &mpsc::Sender<AttachDebugSessionRequest>, message: Say) -> bool {
    say.try_send(AttachDebugSessionRequest { message: Some(message) }).is_ok()
}

async fn stream(
    session: &Session,
    attach: Attach,
) -> Result<(mpsc::Sender<AttachDebugSessionRequest>, Streaming<AttachDebugSessionResponse>)> {
    let (say, requests) = mpsc::channel(SAY_MAX);
    tell(&say, Say::Attach(attach));
    let call = session.debug_sessions().await?.attach_debug_session(ReceiverStream::new(requests)).await;
    Ok((say, call.context("cannot attach to the debug session")?.into_inner()))
}

/// Ends the session by a call of its own, since there is no stream to say it on: an application that is halted must not stay so.
async fn close_apart(global: &Global, name: &str) {
    let request = CloseDebugSessionRequest {
        name: name.to_owned(),
        request_id: fresh_request_id(),
        ..Default::default()
    };
    let closing = async {
        let session = Session::open(global).await?;
        session.debug_sessions().await?.close_debug_session(request).await?;
        anyhow::Ok(())
    };
    if !matches!(tokio::time::timeout(CLOSE_MAX, closing).await, Ok(Ok(()))) {
        let id = output::id(name);
        eprintln!(
            "warning: session {id} could not be closed, and the application may stay halted until it ends by itself: \
             `holdfast debug-session close {id}`"
        );
    }
}

fn end(ended: &Ended) -> Carried {
    match ended.reason() {
        // Whoever took our place is not to be thrown out by us.
        EndReason::Replaced => Carried::Over(over(EndReason::Replaced)),
        _ if ended.resumable => Carried::Again,
        reason => Carried::Over(over(reason)),
    }
}

/// Why a session is over, and what to do.
fn over(reason: EndReason) -> Gone {
    let words = match reason {
        EndReason::DeviceRefused => {
            return Gone::Refused(
                "the device refuses to be debugged: what runs there names no debug key, or not this one. \
                 `holdfast debug key show` prints it for `holdfast bundle create --debug-key`"
                    .into(),
            );
        }
        EndReason::Closed => "the session is closed",
        EndReason::ClosedByOperator => "an operator closed the session",
        EndReason::Idle => link::IDLE,
        EndReason::Expired => "the session's time is over, and the application goes on (see --total)",
        EndReason::DeviceUnreachable => {
            "the device does not answer: is it online? see `holdfast device show`"
        }
        EndReason::DeviceBusy => "the device serves another debug session: try again when that has ended",
        EndReason::DeviceRestarted => {
            "the device itself has started anew, and knows nothing of the session: begin another"
        }
        EndReason::DeviceClosed => "the device ended the session",
        EndReason::DeviceRevoked => "the device was revoked or deleted",
        EndReason::Forbidden => {
            "debugging was forbidden here: `holdfast debugging list` shows for what; an administrator allows it again"
        }
        EndReason::ProtocolError => {
            "device and relay do not understand each other: an administrator finds more in `holdfast debug-session events`"
        }
        EndReason::Replaced => "another `holdfast debug` of yours took the session over",
        EndReason::NotResumable => {
            "what was said while the connection was lost cannot be had any more: begin another session"
        }
        _ => "the session is over",
    };
    Gone::Ended(words.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::debug::link::{Link, link};
    use clap::Parser as _;
    use noise::Responder;

    const DEVICE_KEY: [u8; 32] = [3; 32];

    fn device() -> DeviceId {
        DeviceId::new([5; 16])
    }

    fn global() -> Global {
        crate::args::Args::parse_from(["holdfast", "manual", "errors"]).global
    }

    fn driver<'a>(global: &'a Global, is_joined: bool, check: Check<'a>) -> (Driver<'a>, Link) {
        let session = DebugSessionId::new([6; 16]);
        let opened = Opened {
            role: noise::Role::Writer,
            name: format!("tenants/t/debugSessions/{session}"),
            is_joined,
            idle: IDLE_UNSAID,
        };
        let (near, far) = link();
        (Driver::new(global, &opened, device(), StaticKey::new([4; 32]), check, far).unwrap(), near)
    }

    /// The last frame the driver made.
    fn made(driver: &mut Driver<'_>) -> Vec<u8> {
        driver.pipe.attached(&Default::default()).ok();
        let progress = proto::debug::v1::Progress { delivered_up_to: 0, credit_up_to: 100 };
        driver.pipe.progress(progress).unwrap();
        std::iter::from_fn(|| driver.pipe.send()).last().unwrap().data.to_vec()
    }

    fn answered(message_1: &[u8], key: [u8; 32]) -> (Responder, Vec<u8>) {
        let prologue = prologue(noise::Role::Writer, device(), DebugSessionId::new([6; 16]));
        let voucher = Voucher { identity: [1; 65], signature: [2; 64] };
        let (responder, message) =
            Responder::answer(&StaticKey::new(key), &prologue, rand::random(), message_1, &voucher).unwrap();
        (responder, message.to_vec())
    }

    fn sealed(transport: &mut Transport, answer: &DebugAnswer) -> Vec<u8> {
        let mut frame = [0; DEBUG_FRAME_BYTES_MAX];
        let length = transport.seal(&answer.encode_to_vec(), &mut frame).unwrap();
        frame[..length].to_vec()
    }

    #[test]
    fn a_call_reaches_the_device_and_its_answer_comes_back_under_the_key_that_was_checked() {
        let global = global();
        let check: Check<'_> = Box::new(|voucher, key| {
            assert_eq!((voucher.identity, *key), ([1; 65], StaticKey::new(DEVICE_KEY).public()));
            Ok(())
        });
        let (mut driver, mut near) = driver(&global, false, check);
        let message_1 = made(&mut driver);
        let (responder, message_2) = answered(&message_1, DEVICE_KEY);
        assert_eq!(driver.frame(&message_2).unwrap(), None);
        let (mut transport, developer) = responder.finish(&made(&mut driver)).unwrap();
        assert_eq!(developer, StaticKey::new([4; 32]).public());
        driver.call(&DebugCall { number: 1, describe: true, ..DebugCall::default() }).unwrap();
        let mut plain = [0; DEBUG_FRAME_BYTES_MAX];
        let length = transport.open(&made(&mut driver), &mut plain).unwrap();
        assert!(DebugCall::decode(&plain[..length]).unwrap().describe);
        let answer = sealed(&mut transport, &DebugAnswer { call: 1, ..DebugAnswer::default() });
        assert_eq!(driver.frame(&answer).unwrap(), None);
        assert_eq!(near.answers.try_recv().unwrap().unwrap().call, 1);
        // Repeated, and so on: the relay's making, and the end.
        assert!(matches!(driver.frame(&answer).unwrap(), Some(Gone::Nonsense(_))));
    }

    #[test]
    fn what_nobody_has_taken_yet_holds_up_the_device_and_not_the_session() {
        let global = global();
        let (driver, mut near) = driver(&global, false, Box::new(|_, _| Ok(())));
        let mut count = 0;
        while driver.far.has_place() {
            driver.far.answers.try_send(Ok(DebugAnswer::default())).unwrap();
            count += 1;
        }
        assert_eq!(count, link::ANSWERS_MAX);
        near.answers.try_recv().unwrap().unwrap();
        assert!(driver.far.has_place());
        driver.far.answers.try_send(Ok(DebugAnswer::default())).unwrap();
        // Nobody is there to make room: what comes is passed over until the session is closed.
        drop(near);
        assert!(driver.far.has_place());
    }

    #[test]
    fn to_a_device_that_is_not_believed_nothing_is_said() {
        let global = global();
        let (mut driver, _near) =
            driver(&global, false, Box::new(|_, _| anyhow::bail!("not the device it was")));
        let message_1 = made(&mut driver);
        let (_, message_2) = answered(&message_1, DEVICE_KEY);
        assert!(driver.frame(&message_2).unwrap_err().to_string().contains("not the device it was"));
        assert_eq!(made(&mut driver), message_1, "no message 3");
        driver.call(&DebugCall::default()).unwrap();
        assert_eq!(made(&mut driver), message_1);
    }

    #[test]
    fn whatever_comes_instead_of_a_handshake_or_a_frame_is_the_end() {
        let global = global();
        for noise in [&b""[..], b"\x02", b"\x04abcdefghijklmnopqrstuvwxyz", &[2; 226], &[0xff; 4096]] {
            let (mut driver, _near) = driver(&global, false, Box::new(|_, _| Ok(())));
            assert!(matches!(driver.frame(noise).unwrap(), Some(Gone::Nonsense(_))), "{noise:?}");
            let (mut driver, _near) = self::driver(&global, false, Box::new(|_, _| Ok(())));
            let (_, message_2) = answered(&made(&mut driver), DEVICE_KEY);
            driver.frame(&message_2).unwrap();
            assert!(matches!(driver.frame(noise).unwrap(), Some(Gone::Nonsense(_))), "{noise:?}");
        }
    }

    #[test]
    fn what_was_for_the_process_before_is_passed_over() {
        let global = global();
        let (mut driver, mut near) = driver(&global, true, Box::new(|_, _| Ok(())));
        let first = made(&mut driver);
        // An old transport frame, and an old message 2: another handshake is begun.
        assert_eq!(driver.frame(&[4; 60]).unwrap(), None);
        let (_, stale) = answered(&answered_first(), DEVICE_KEY);
        assert_eq!(driver.frame(&stale).unwrap(), None);
        let second = made(&mut driver);
        assert_ne!(first, second);
        let (responder, message_2) = answered(&second, DEVICE_KEY);
        assert_eq!(driver.frame(&message_2).unwrap(), None);
        let (mut transport, _) = responder.finish(&made(&mut driver)).unwrap();
        assert_eq!(driver.frame(&[4; 60]).unwrap(), None);
        let answer = sealed(&mut transport, &DebugAnswer { call: 1, ..DebugAnswer::default() });
        assert_eq!(driver.frame(&answer).unwrap(), None);
        assert_eq!(near.answers.try_recv().unwrap().unwrap().call, 1);
        assert!(matches!(driver.frame(&[4; 60]).unwrap(), Some(Gone::Nonsense(_))));
    }

    /// Somebody else's message 1.
    fn answered_first() -> Vec<u8> {
        let prologue = prologue(noise::Role::Writer, device(), DebugSessionId::new([6; 16]));
        Initiator::new(&StaticKey::new([9; 32]), &prologue, rand::random()).unwrap().1.to_vec()
    }

    #[test]
    fn a_session_of_somebody_else_is_left_to_them() {
        let open = |creator: &str, attached| DebugSession {
            name: "tenants/t/debugSessions/ds1".into(),
            device: "tenants/t/devices/dv1".into(),
            creator: creator.into(),
            attached,
            ..DebugSession::default()
        };
        let why = |open: &DebugSession, take_over| {
            join(open, "tenants/t/keys/me", take_over).err().map(|error| error.to_string())
        };
        assert!(why(&open("tenants/t/keys/you", false), true).unwrap().contains("debug-session close ds1"));
        assert!(why(&open("tenants/t/keys/me", true), false).unwrap().contains("--take-over"));
        assert_eq!(why(&open("tenants/t/keys/me", true), true), None);
        assert_eq!(why(&open("tenants/t/keys/me", false), false), None);
    }

    #[test]
    fn what_may_go_on_is_tried_again_and_the_rest_is_said_in_words() {
        for number in 0..40 {
            let Ok(reason) = EndReason::try_from(number) else { continue };
            let resumable = end(&Ended { reason: number, resumable: true });
            assert_eq!(matches!(resumable, Carried::Again), reason != EndReason::Replaced, "{reason:?}");
            let Carried::Over(gone) = end(&Ended { reason: number, resumable: false }) else {
                panic!("{reason:?}")
            };
            assert!(!gone.to_string().is_empty());
        }
        assert!(matches!(over(EndReason::DeviceRefused), Gone::Refused(why) if why.contains("--debug-key")));
    }
}
