//! An attachment that another replica serves: the same call is made there with the caller's own token, and both streams
//! are passed through. Who may attach is decided there.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use futures::stream::unfold;
use kit::places::Place;
use kit::tls::Tls;
use kit::{Shutdown, status};
use proto::debug::v1::attach_debug_session_request::Message;
use proto::debug::v1::debug_session_service_client::DebugSessionServiceClient;
use proto::debug::v1::{Attach, AttachDebugSessionRequest, AttachDebugSessionResponse};
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::Channel;
use tonic::{Code, Request, Status, Streaming};

use super::encode;
use super::stream::EndsTask;
use crate::model::EndReason;
use crate::model::session::Told;

/// Replicas a connection is kept to.
const PEERS_MAX: usize = 64;
/// Messages on the way from the caller to the other replica.
const ON_THE_WAY_MAX: usize = 8;
/// A call that was passed on once is not passed on again.
const FORWARDED: &str = "holdfast-forwarded";

/// Connections to other replicas, by their address.
#[derive(Debug)]
pub(super) struct Peers {
    tls: Tls,
    channels: Mutex<HashMap<String, Channel>>,
}

/// What of a call is passed on with it.
#[derive(Debug)]
pub(super) struct Onward {
    token: Option<MetadataValue<Ascii>>,
    was_forwarded: bool,
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
    pub(super) fn new(tls: Tls) -> Self {
        Self { tls, channels: Mutex::default() }
    }

    fn channel(&self, url: &str) -> Result<Channel, Status> {
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(channel) = channels.get(url) {
            return Ok(channel.clone());
        }
        let channel = self.tls.channel(url).map_err(|error| status::internal(&error))?;
        // Addresses change when replicas are replaced; those in use stay open by themselves.
        if channels.len() >= PEERS_MAX {
            channels.clear();
        }
        channels.insert(url.to_owned(), channel.clone());
        Ok(channel)
    }

    /// Makes the call there.
    pub(super) async fn forward(
        &self,
        url: &str,
        onward: Onward,
        attach: Attach,
        said: Streaming<AttachDebugSessionRequest>,
        place: Place,
        shutdown: Shutdown,
    ) -> Result<impl Stream<Item = Result<AttachDebugSessionResponse, Status>> + Send + use<>, Status> {
        if onward.was_forwarded {
            return Err(status::unavailable("the session moves to another relay: attach again"));
        }
        let (sender, receiver) = mpsc::channel(ON_THE_WAY_MAX);
        let first = AttachDebugSessionRequest { message: Some(Message::Attach(attach)) };
        sender.try_send(first).expect("the channel is new");
        let mut request = Request::new(ReceiverStream::new(receiver));
        if let Some(token) = onward.token {
            request.metadata_mut().insert("authorization", token);
        }
        request.metadata_mut().insert(FORWARDED, MetadataValue::from_static("1"));
        let mut peer = DebugSessionServiceClient::new(self.channel(url)?);
        let told = peer.attach_debug_session(request).await.map_err(passed_on)?.into_inner();
        let passing = EndsTask::new(tokio::spawn(pass(said, sender)).abort_handle());
        Ok(unfold(Some((told, passing, place, shutdown)), async |state| {
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
        }))
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

/// The other replica's own refusal, or that it does not answer.
fn passed_on(error: Status) -> Status {
    if is_transport(&error) {
        return status::unavailable("the relay that holds the session does not answer: attach again");
    }
    error
}

fn is_transport(error: &Status) -> bool {
    matches!(error.code(), Code::Unavailable | Code::Unknown | Code::Internal | Code::Cancelled)
        && status::reason(error).is_none()
}
