//! A developer's end: it keeps what was not acknowledged, attaches again wherever it can, and says what it was told.

use crate::client::Client;
use anyhow::{Context, Result, bail};
use proto::debug::v1::attach_debug_session_request::Message as Say;
use proto::debug::v1::attach_debug_session_response::Message as Told;
use proto::debug::v1::debug_session_service_client::DebugSessionServiceClient;
use proto::debug::v1::{
    Attach, AttachDebugSessionRequest, AttachDebugSessionResponse, Close, DebugFrame, EndReason, Ended,
    Position, Progress,
};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use crate::board::PATIENCE;

pub type Api = DebugSessionServiceClient<Client>;

/// One call.
pub struct Stream {
    pub say: mpsc::Sender<AttachDebugSessionRequest>,
    pub told: Streaming<AttachDebugSessionResponse>,
}

/// One over all its calls.
#[derive(Default)]
pub struct Developer {
    /// All it wants to send.
    pub frames: Vec<Vec<u8>>,
    pub got: Vec<Vec<u8>>,
    pub sent: i64,
    pub delivered: i64,
    pub credit: i64,
}

impl Stream {
    pub async fn open(api: &Api, attach: Attach) -> Result<Stream, Status> {
        let (say, requests) = mpsc::channel(64);
        let first = AttachDebugSessionRequest { message: Some(Say::Attach(attach)) };
        say.try_send(first).expect("the channel is new");
        let call = api.clone().attach_debug_session(ReceiverStream::new(requests)).await;
        Ok(Stream { say, told: call?.into_inner() })
    }

    pub async fn say(&self, message: Say) {
        // A call that has ended hears nothing more; what it was told says why.
        let _ = self.say.send(AttachDebugSessionRequest { message: Some(message) }).await;
    }

    pub async fn next(&mut self) -> Result<Option<Told>> {
        let told = timeout(PATIENCE, self.told.message()).await.context("nothing was told")??;
        Ok(told.and_then(|told| told.message))
    }

    /// How it ends, whatever comes before.
    pub async fn ended(&mut self) -> Result<Ended> {
        loop {
            match self.next().await? {
                Some(Told::Ended(ended)) => return Ok(ended),
                Some(_) => {}
                None => bail!("the stream ended without a word"),
            }
        }
    }

    pub async fn reason(&mut self) -> Result<EndReason> {
        Ok(self.ended().await?.reason())
    }

    pub async fn close(&self) {
        self.say(Say::Close(Close {})).await;
    }
}

pub fn at(session: &str, position: Option<Position>) -> Attach {
    Attach { name: session.to_owned(), position }
}

impl Developer {
    pub fn position(&self) -> Position {
        Position { received_up_to: self.got.len() as i64, delivered_up_to: self.delivered }
    }

    /// Attaches where it was; tries again while a relay is missed and its lease runs out.
    pub async fn attach(&mut self, api: &Api, session: &str) -> Result<Stream> {
        let trying = async {
            loop {
                match Stream::open(api, at(session, Some(self.position()))).await {
                    Ok(stream) => return Ok(stream),
                    Err(status) if status.code() == tonic::Code::Unavailable => {
                        tokio::task::yield_now().await;
                    }
                    Err(status) => return Err(status),
                }
            }
        };
        Ok(timeout(PATIENCE, trying).await.context("nobody takes the session")??)
    }

    /// Sends what it has credit for, without waiting for a word.
    pub async fn credit_now(&mut self, stream: &Stream) {
        while self.sent < self.credit.min(self.frames.len() as i64) {
            let data = self.frames[self.sent as usize].clone().into();
            self.sent += 1;
            stream.say(Say::Frame(DebugFrame { number: self.sent, data })).await;
        }
    }

    /// Reads and writes until something is so, or the stream ends: then it says how.
    pub async fn run(
        &mut self,
        stream: &mut Stream,
        until: impl Fn(&Developer) -> bool,
    ) -> Result<Option<Ended>> {
        while !until(self) {
            match stream.next().await? {
                Some(Told::Attached(attached)) => {
                    assert_eq!(attached.up_after, self.got.len() as i64);
                    assert!(attached.down_received_up_to >= self.delivered);
                    self.sent = attached.down_received_up_to;
                }
                Some(Told::Frame(frame)) => {
                    assert_eq!(frame.number, self.got.len() as i64 + 1, "in order and once");
                    self.got.push(frame.data.to_vec());
                    let delivered_up_to = frame.number;
                    let credit_up_to = delivered_up_to + 32;
                    stream.say(Say::Progress(Progress { delivered_up_to, credit_up_to })).await;
                }
                Some(Told::Progress(progress)) => {
                    assert!(progress.delivered_up_to >= self.delivered);
                    (self.delivered, self.credit) = (progress.delivered_up_to, progress.credit_up_to);
                }
                Some(Told::Ended(ended)) => return Ok(Some(ended)),
                None => bail!("the stream ended without a word"),
            }
            self.credit_now(stream).await;
        }
        Ok(None)
    }
}
