//! gdb's end: `gdbstub`'s state machine in a thread of its own, bytes from and to whatever gdb is connected by.
//!
//! The thread waits in two places only: here, for gdb or the device, and in [`Machine`], for the answer to what gdb asked. Whatever gdb
//! sends, it ends or goes on; a device that is gone ends it, and gdb is told.

use std::collections::VecDeque;

use gdbstub::common::Signal;
use gdbstub::conn::Connection;
use gdbstub::stub::state_machine::GdbStubStateMachine;
use gdbstub::stub::{DisconnectReason, GdbStub, GdbStubError, SingleThreadStopReason};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use crate::debug::link::Gone;
use crate::debug::machine::{News, Trouble};
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
    Bytes(Option<Vec<u8>>),
    Answer(Result<Box<proto::device::v1::DebugAnswer>, Gone>),
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
    match debugged.machine.halt() {
        Err(Trouble::Gone(gone)) => return Err(gone),
        Err(trouble @ Trouble::Problem(..)) => eprintln!("holdfast: {trouble}"),
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
            Stub::Idle(inner) => match next_byte(&mut bytes, from) {
                Some(byte) => inner.incoming_data(debugged, byte)?,
                None => return Ok(Left::Disconnected),
            },
            Stub::Running(mut inner) => {
                if let Some(byte) = bytes.pop_front() {
                    inner.incoming_data(debugged, byte)?
                } else {
                    match wait(debugged, from, runtime) {
                        Next::Bytes(None) => return Ok(Left::Disconnected),
                        Next::Bytes(Some(more)) => {
                            bytes.extend(more);
                            inner.into()
                        }
                        Next::Answer(Err(gone)) => return lost(debugged, inner.into(), gone),
                        Next::Answer(Ok(answer)) => match debugged.machine.hear(*answer) {
                            Err(gone) => return lost(debugged, inner.into(), gone),
                            Ok(_) => match stopped(debugged, inner.borrow_conn()) {
                                Ok(None) => inner.into(),
                                Ok(Some(reason)) => inner.report_stop(debugged, reason)?,
                                Err(Closed) => return Ok(Left::Disconnected),
                            },
                        },
                    }
                }
            }
        };
    }
}

/// The next of what gdb sent; none: it is gone.
fn next_byte(bytes: &mut VecDeque<u8>, from: &mut mpsc::Receiver<Vec<u8>>) -> Option<u8> {
    while bytes.is_empty() {
        bytes.extend(from.blocking_recv()?);
    }
    bytes.pop_front()
}

fn wait(debugged: &mut Debugged, from: &mut mpsc::Receiver<Vec<u8>>, runtime: &Handle) -> Next {
    runtime.block_on(async {
        tokio::select! {
            biased;
            answer = debugged.machine.answer() => Next::Answer(answer.map(Box::new)),
            bytes = from.recv() => Next::Bytes(bytes),
        }
    })
}

/// What gdb is to be told of what just happened, once its console was.
fn stopped(debugged: &mut Debugged, gdb: &mut ToGdb) -> Result<Option<SingleThreadStopReason<u32>>, Closed> {
    let mut reason = None;
    for news in debugged.machine.take_news() {
        match news {
            News::Stopped => {
                let Some(stop) = debugged.machine.stop() else { continue };
                if let Some(remark) = monitor::remark(stop) {
                    gdb.say(&remark)?;
                }
                reason = Some(monitor::stop_reason(stop));
            }
            News::NotDone(problem, at) => {
                gdb.say(&monitor::not_done(problem, at))?;
                reason = Some(SingleThreadStopReason::Signal(Signal::SIGZERO));
            }
            News::Ended => gdb.say("the application has ended; the device starts it again\n")?,
            News::StartedAnew => gdb.say("the application was started anew\n")?,
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
