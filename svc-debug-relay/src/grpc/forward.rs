//! An attachment that another replica serves: the same call is made there with the caller's own token, and both streams
//! are passed through. Who may attach is decided there.

use std::time::Duration;

use futures::stream::unfold;
use kit::places::Place;
use kit::tls::Tls;
use kit::{Shutdown, status};
use proto::debug::v1::attach_debug_session_request::Message;
use proto::debug::v1::debug_session_service_client::DebugSessionServiceClient;
use proto::debug::v1::{Attach, AttachDebugSessionRequest, AttachDebugSessionResponse};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::{Code, Request, Status, Streaming};

use super::encode;
use super::stream::EndsTask;
use crate::model::EndReason;
use crate::model::session::Told;

/// Messages on the way from the caller to the other replica.
const ON_THE_WAY_MAX: usize = 8;
/// How long another replica may take to answer; one that stands still is not waited for longer.
const ANSWER_MAX: Duration = Duration::from_secs(2);
/// A call that was passed on once is not passed on again.
const FORWARDED: &str = "holdfast-forwarded";

/// How other replicas are reached: each call by a connection of its own, so that a caller that does not read holds up no other,
/// and no bound of a connection is anybody else's.
#[derive(Debug)]
pub(crate) struct Peers {
    tls: Tls,
    /// The name in their certificate, where it is not the host of their address.
    name: Option<String>,
}

/// What of a call is passed on with it.
#[derive(Debug)]
pub(super) struct Onward {
    token: Option<MetadataValue<Ascii>>,
    was_forwarded: bool,
}

/// A call that another replica has taken.
#[derive(Debug)]
pub(super) struct Call {
    said: mpsc::Sender<AttachDebugSessionRequest>,
    told: Streaming<AttachDebugSessionResponse>,
}

/// Why it has not.
#[derive(Debug)]
pub(super) enum Refused {
    /// It answered: this is for the caller.
    There(Status),
    /// It did not answer, or does not hold the session any more.
    Unanswered,
}

impl Onward {
    pub(super) fn of<T>(request: &Request<T>) -> Self {
        let metadata = request.metadata();
        Self {
            token: metadata.get("authorization").cloned(),
            was_forwarded: metadata.contains_key(FORWARDED),
        }
    }
}

impl Peers {
    pub(crate) fn new(tls: Tls, name: Option<String>) -> Self {
        Self { tls, name }
    }

    /// Makes the call there.
    pub(super) async fn call(&self, url: &str, onward: &Onward, attach: &Attach) -> Result<Call, Refused> {
        if onward.was_forwarded {
            return Err(Refused::Unanswered);
        }
        let (said, receiver) = mpsc::channel(ON_THE_WAY_MAX);
        let first = AttachDebugSessionRequest { message: Some(Message::Attach(attach.clone())) };
        said.try_send(first).expect("the channel is new");
        let mut request = Request::new(ReceiverStream::new(receiver));
        if let Some(token) = &onward.token {
            request.metadata_mut().insert("authorization", token.clone());
        }
        request.metadata_mut().insert(FORWARDED, MetadataValue::from_static("1"));
        let channel = self.tls.channel_as(url, self.name.as_deref());
        let channel = channel.map_err(|error| Refused::There(status::internal(&error)))?;
        let mut peer = DebugSessionServiceClient::new(channel);
        match timeout(ANSWER_MAX, peer.attach_debug_session(request)).await {
            Ok(Ok(response)) => Ok(Call { said, told: response.into_inner() }),
            Ok(Err(error)) if error.code() != Code::Unavailable && !is_transport(&error) => {
                Err(Refused::There(error))
            }
            Ok(Err(_)) | Err(_) => Err(Refused::Unanswered),
        }
    }
}

impl Call {
    /// Passes both streams on.
    pub(super) fn pass(
        self,
        said: Streaming<AttachDebugSessionRequest>,
        place: Place,
        shutdown: Shutdown,
    ) -> impl Stream<Item = Result<AttachDebugSessionResponse, Status>> + Send + use<> {
        let passing = EndsTask::new(tokio::spawn(pass(said, self.said)).abort_handle());
        unfold(Some((self.told, passing, place, shutdown)), async |state| {
            let (mut told, passing, place, shutdown) = state?;
            match shutdown.or(told.message()).await {
                None => Some((Ok(encode::told(Told::Ended(EndReason::Draining))), None)),
                Some(Ok(None)) => None,
                Some(Ok(Some(message))) => Some((Ok(message), Some((told, passing, place, shutdown)))),
                // The other replica is gone: another takes the session over.
                Some(Err(error)) if is_transport(&error) => {
                    Some((Ok(encode::told(Told::Ended(EndReason::RelayLost))), None))
                }
                Some(Err(error)) => Some((Err(error), None)),
            }
        })
    }
}

/// Passes on what the caller says until either leaves.
async fn pass(
    mut said: Streaming<AttachDebugSessionRequest>,
    onward: mpsc::Sender<AttachDebugSessionRequest>,
) {
    while let Ok(Some(request)) = said.message().await {
        if onward.send(request).await.is_err() {
            return;
        }
    }
}

impl From<Refused> for Status {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::There(status) => status,
            Refused::Unanswered => {
                status::unavailable("the relay that holds the session does not answer: attach again")
            }
        }
    }
}

fn is_transport(error: &Status) -> bool {
    matches!(error.code(), Code::Unavailable | Code::Unknown | Code::Internal | Code::Cancelled)
        && status::reason(error).is_none()
}
