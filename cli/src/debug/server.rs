//! gdb's end: `gdbstub`'s state machine in a thread of its own, bytes from and to whatever gdb is connected by.
//!
//! The thread waits in two places only: here, for gdb or the device, and in [`Machine`], for the answer to what gdb asked. Whatever gdb
//! sends, it ends or goes on; a device that is gone ends it, and gdb is told.

use std::collections::VecDeque;
use std::time::Instant;

use gdbstub::common::Signal;
use gdbstub::conn::Connection;
use gdbstub::stub::state_machine::GdbStubStateMachine;
use gdbstub::stub::{DisconnectReason, GdbStub, GdbStubError, SingleThreadStopReason};
use proto::device::v1::DebugAnswer;
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use crate::debug::link::Gone;
use crate::debug::machine::{Machine, News, Trouble};
use crate::debug::monitor;
use crate::debug::target::Debugged;

/// Longest packet of gdb's; it asks for half as much memory at a time.
const PACKET_BYTES_MAX: usize = 16 * 1024;
/// Pieces of what gdb sent, and of what it is sent, that wait.
pub(crate) const PIECES_MAX: usize = 64;

/// A connection to one gdb.
#[derive(Debug)]
pub(crate) struct Gdb {
    pub(crate) from: mpsc::Receiver<Vec<u8>>,
    pub(crate) to: mpsc::Sender<Vec<u8>>,
}

/// Why one gdb is served no more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Left {
    /// It let go of the application.
    Detached,
    /// Its connection is gone.
    Disconnected,
    /// It said what cannot be understood.
    Confused(String),
}

/// The way to gdb is gone.
#[derive(Debug)]
struct Closed;

/// What is written to gdb, in whole packets.
struct ToGdb {
    bytes: Vec<u8>,
    to: mpsc::Sender<Vec<u8>>,
}

impl Connection for ToGdb {
    type Error = Closed;

    fn write(&mut self, byte: u8) -> Result<(), Closed> {
        self.bytes.push(byte);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Closed> {
        let bytes = std::mem::take(&mut self.bytes);
        if bytes.is_empty() { Ok(()) } else { self.to.blocking_send(bytes).map_err(|_| Closed) }
    }
}

impl ToGdb {
    /// Shown on gdb's console; only while it waits for the application to stop.
    fn say(&mut self, text: &str) -> Result<(), Closed> {
        let packet = format!("O{}", hex::encode(format!("[holdfast] {text}")));
        let sum = packet.bytes().fold(0u8, u8::wrapping_add);
        self.bytes.extend_from_slice(format!("${packet}#{sum:02x}").as_bytes());
        self.flush()
    }
}

type Stub<'b> = GdbStubStateMachine<'b, Debugged, ToGdb>;
type StubError = GdbStubError<Gone, Closed>;

enum Next {
    /// None: gdb is gone.
    Byte(Option<u8>),
    Answer(Result<Box<DebugAnswer>, Gone>),
}

/// Serves one gdb until it leaves. The application is halted first; afterwards it goes on without breakpoints, unless what gdb did is kept.
pub(crate) fn serve(debugged: &mut Debugged, gdb: Gdb, runtime: &Handle, keep: bool) -> Result<Left, Gone> {
    let left = serve_one(debugged, gdb, runtime)?;
    if !keep {
        debugged.machine.let_go()?;
    }
    Ok(left)
}

fn serve_one(debugged: &mut Debugged, gdb: Gdb, runtime: &Handle) -> Result<Left, Gone> {
    match debugged.machine.stand() {
        Err(Trouble::Gone(gone)) => return Err(gone),
        Err(trouble @ Trouble::Problem(..)) => eprintln!("[holdfast] {trouble}"),
        Ok(()) if debugged.machine.is_watching() && debugged.machine.stop().is_none() => {
            // gdb's own console is not ours while it does not wait.
            eprint!("[holdfast] {}", monitor::RUNS);
        }
        Ok(()) => {}
    }
    let Gdb { mut from, to } = gdb;
    // It outlives what borrows it.
    let mut buffer = vec![0; PACKET_BYTES_MAX];
    let builder = GdbStub::builder(ToGdb { bytes: Vec::new(), to: to.clone() });
    let Ok(stub) = builder.with_packet_buffer(&mut buffer).build() else {
        return Ok(Left::Confused("no room for its packets".into()));
    };
    let outcome = stub.run_state_machine(debugged).and_then(|stub| turn(debugged, stub, &mut from, runtime));
    if let Some(gone) = debugged.lost.take() {
        return Err(gone);
    }
    match outcome {
        Ok(left) => Ok(left),
        Err(error) if error.is_connection_error() => Ok(Left::Disconnected),
        Err(error) if error.is_target_error() => {
            Err(error.into_target_error().unwrap_or_else(crate::debug::link::Link::lost))
        }
        Err(error) => Ok(Left::Confused(words(&error))),
    }
}

fn words(error: &StubError) -> String {
    crate::output::printable(&format!("{error:?}"))
}

fn turn(
    debugged: &mut Debugged,
    mut stub: Stub<'_>,
    from: &mut mpsc::Receiver<Vec<u8>>,
    runtime: &Handle,
) -> Result<Left, StubError> {
    let mut bytes: VecDeque<u8> = VecDeque::new();
    let mut asks = AsksForThreads::default();
    loop {
        stub = match stub {
            Stub::Disconnected(inner) => {
                return Ok(match inner.get_reason() {
                    DisconnectReason::Disconnect | DisconnectReason::Kill => Left::Detached,
                    DisconnectReason::TargetExited(_) | DisconnectReason::TargetTerminated(_) => {
                        Left::Disconnected
                    }
                });
            }
            Stub::CtrlCInterrupt(inner) => {
                let asked = debugged.machine.interrupt();
                let next = inner.interrupt_handled(debugged, None::<SingleThreadStopReason<u32>>)?;
                match asked {
                    Ok(()) => next,
                    Err(gone) => return lost(debugged, next, gone),
                }
            }
            Stub::Idle(inner) => match next_byte(debugged, &mut bytes, from, runtime) {
                Ok(Some(byte)) => {
                    if asks.hears(byte) {
                        debugged.machine.shown();
                    }
                    inner.incoming_data(debugged, byte)?
                }
                Ok(None) => return Ok(Left::Disconnected),
                Err(gone) => return lost(debugged, inner.into(), gone),
            },
            Stub::Running(mut inner) => match stopped(debugged, inner.borrow_conn()) {
                Err(Closed) => return Ok(Left::Disconnected),
                Ok(Some(reason)) => inner.report_stop(debugged, reason)?,
                Ok(None) => match next(debugged, &mut bytes, from, runtime) {
                    Next::Byte(None) => return Ok(Left::Disconnected),
                    Next::Byte(Some(byte)) => inner.incoming_data(debugged, byte)?,
                    Next::Answer(answer) => match answer.and_then(|answer| debugged.machine.hear(*answer)) {
                        Ok(_) => inner.into(),
                        Err(gone) => return lost(debugged, inner.into(), gone),
                    },
                },
            },
        };
    }
}

/// gdb asks for the list of threads whenever a person is shown a stop, and at none that it passes by itself.
#[derive(Default)]
struct AsksForThreads(usize);

impl AsksForThreads {
    const WORDS: &[u8] = b"$qfThreadInfo";

    /// Whether it has asked with this byte.
    fn hears(&mut self, byte: u8) -> bool {
        let goes_on = Self::WORDS.get(self.0) == Some(&byte);
        self.0 = if goes_on { self.0 + 1 } else { usize::from(Self::WORDS[0] == byte) };
        self.0 == Self::WORDS.len()
    }
}

/// The next of what gdb sent; none: it is gone.
fn next_byte(
    debugged: &mut Debugged,
    bytes: &mut VecDeque<u8>,
    from: &mut mpsc::Receiver<Vec<u8>>,
    runtime: &Handle,
) -> Result<Option<u8>, Gone> {
    if bytes.is_empty() {
        let Some(more) = wait_idly(&mut debugged.machine, from, runtime)? else { return Ok(None) };
        debugged.machine.used();
        bytes.extend(more);
    }
    Ok(bytes.pop_front())
}

/// Waits for gdb, or for the next one, while nothing is asked of the device; none: nobody comes any more.
pub(crate) fn wait_idly<T>(
    machine: &mut Machine,
    from: &mut mpsc::Receiver<T>,
    runtime: &Handle,
) -> Result<Option<T>, Gone> {
    loop {
        // The second of two stops is gdb's when it asks for it.
        let (next_tick, hears) = (machine.next_tick(), !machine.is_second_due());
        let event = runtime.block_on(async {
            tokio::select! {
                biased;
                come = from.recv() => Event::Came(come),
                answer = machine.answer(), if hears => Event::Answer(answer.map(Box::new)),
                () = until(next_tick) => Event::Tick,
            }
        });
        match event {
            Event::Came(come) => return Ok(come),
            Event::Answer(answer) => {
                machine.hear(*answer?)?;
                if machine.is_left() {
                    machine.let_go()?;
                }
            }
            Event::Tick => machine.tick()?,
        }
    }
}

enum Event<T> {
    Came(Option<T>),
    Answer(Result<Box<DebugAnswer>, Gone>),
    Tick,
}

async fn until(then: Option<Instant>) {
    match then {
        Some(then) => tokio::time::sleep_until(then.into()).await,
        None => std::future::pending().await,
    }
}

/// The next of what gdb sent or the device said.
fn next(
    debugged: &mut Debugged,
    bytes: &mut VecDeque<u8>,
    from: &mut mpsc::Receiver<Vec<u8>>,
    runtime: &Handle,
) -> Next {
    while bytes.is_empty() {
        let next_tick = debugged.machine.next_tick();
        let event = runtime.block_on(async {
            tokio::select! {
                biased;
                answer = debugged.machine.answer() => Event::Answer(answer.map(Box::new)),
                more = from.recv() => Event::Came(more),
                () = until(next_tick) => Event::Tick,
            }
        });
        match event {
            Event::Answer(answer) => return Next::Answer(answer),
            Event::Came(None) => return Next::Byte(None),
            Event::Came(Some(more)) => {
                debugged.machine.used();
                bytes.extend(more);
            }
            Event::Tick => match debugged.machine.tick() {
                Ok(()) => {}
                Err(gone) => return Next::Answer(Err(gone)),
            },
        }
    }
    Next::Byte(bytes.pop_front())
}

/// What gdb is to be told of what just happened, once its console was.
fn stopped(debugged: &mut Debugged, gdb: &mut ToGdb) -> Result<Option<SingleThreadStopReason<u32>>, Closed> {
    let mut reason = None;
    for news in debugged.machine.take_news() {
        match news {
            News::Stopped => {
                let Some(stop) = debugged.machine.stop() else { continue };
                if debugged.machine.is_watching() {
                    gdb.say(&monitor::watched_remark(stop))?;
                    reason = Some(monitor::watched_reason(stop));
                    continue;
                }
                if let Some(remark) = monitor::remark(stop) {
                    gdb.say(&remark)?;
                }
                reason = Some(monitor::stop_reason(&debugged.machine, stop));
            }
            News::NotDone(problem, at) => {
                gdb.say(&monitor::not_done(problem, at))?;
                reason = Some(SingleThreadStopReason::Signal(Signal::SIGZERO));
            }
            News::Waits(problem) => gdb.say(&monitor::waits(problem))?,
            News::Interrupted => {
                if debugged.machine.stop().is_none() {
                    gdb.say(monitor::RUNS)?;
                }
                reason = Some(SingleThreadStopReason::Signal(Signal::SIGINT));
            }
            News::Ended => gdb.say("the application has ended; the device starts it again\n")?,
            News::StartedAnew => gdb.say("the application was started anew\n")?,
            News::OtherVersion(version) => gdb.say(&monitor::other_version(&version))?,
        }
    }
    Ok(reason)
}

/// Tells a gdb that waits why nothing comes any more.
fn lost(debugged: &mut Debugged, stub: Stub<'_>, gone: Gone) -> Result<Left, StubError> {
    if let Stub::Running(mut inner) = stub {
        let told = inner.borrow_conn().say(&format!("{gone}\n"));
        if told.is_ok() {
            inner.report_stop(debugged, SingleThreadStopReason::Terminated(Signal::SIGLOST))?;
        }
    }
    debugged.lost = Some(gone);
    Ok(Left::Disconnected)
}
