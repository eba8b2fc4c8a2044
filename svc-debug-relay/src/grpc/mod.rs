//! `DebugSessionService`: decode, ask `app`, encode. The only place that sees tonic.

mod decode;
mod encode;
mod forward;
mod stream;

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use kit::auth::{Caller, caller};
use kit::once::Call;
use kit::{Shutdown, page, status};
use proto::debug::v1::debug_session_service_server::DebugSessionService;
use proto::debug::v1::{
    AttachDebugSessionRequest, AttachDebugSessionResponse, CloseDebugSessionRequest,
    CreateDebugSessionRequest, DebugSession, GetDebugSessionRequest, ListDebugSessionEventsRequest,
    ListDebugSessionEventsResponse, ListDebugSessionsRequest, ListDebugSessionsResponse,
};
use proto::name::{DebugSessionName, DeviceName, TenantName};
use tokio::time::{Instant, sleep};
use tokio_stream::Stream;
use tonic::{Request, Response, Status, Streaming};
use wire::DebugSessionId;

use crate::app::attach::{Attached, Wish};
use crate::app::sessions::{EventFilter, Filter, Wanted};
use crate::app::{App, LEASE};
use crate::error::Error;
use decode::name;
pub(crate) use forward::Peers;
use forward::Refused;

/// How long a call waits for a holder that does not answer to lose its lease.
const TAKEOVER_MAX: Duration = Duration::from_secs(2 * LEASE.as_secs());
/// How often it looks meanwhile.
const ASK_AGAIN: Duration = Duration::from_millis(250);

/// Where a page of events ended.
type EventCursor = u64;

#[derive(Debug)]
pub(crate) struct Relay {
    app: Arc<App>,
    peers: Peers,
    shutdown: Shutdown,
}

impl Relay {
    pub(crate) fn new(app: Arc<App>, peers: Peers, shutdown: Shutdown) -> Self {
        Self { app, peers, shutdown }
    }
}

/// The device a list is narrowed to; it must be of the same tenant.
fn device(caller: &Caller, field: &str, text: &str) -> Result<Option<wire::DeviceId>, Status> {
    if text.is_empty() {
        return Ok(None);
    }
    let device: DeviceName = name(field, text)?;
    caller.tenant(device.tenant)?;
    Ok(Some(device.id))
}

#[tonic::async_trait]
impl DebugSessionService for Relay {
    async fn create_debug_session(
        &self,
        request: Request<CreateDebugSessionRequest>,
    ) -> Result<Response<DebugSession>, Status> {
        let caller = caller(&request)?;
        let mut request = request.into_inner();
        let parent: TenantName = name("parent", &request.parent)?;
        let tenant = caller.tenant(parent.tenant)?;
        let call = Call::take(&mut request, tenant)?;
        let wanted = request.debug_session.ok_or_else(|| status::invalid("debug_session", "is missing"))?;
        let device: DeviceName = name("debug_session.device", &wanted.device)?;
        caller.tenant(device.tenant)?;
        let wanted = Wanted {
            tenant,
            device: device.id,
            role: decode::role(wanted.role)?,
            creator: &caller.person()?.subject,
            timeouts: decode::timeouts(&wanted)?,
        };
        let made = self.app.create(&call, &wanted).await?;
        let mut made = encode::session(tenant, made);
        if call.validates_only() {
            made.name.clear();
        }
        Ok(Response::new(made))
    }

    async fn get_debug_session(
        &self,
        request: Request<GetDebugSessionRequest>,
    ) -> Result<Response<DebugSession>, Status> {
        let caller = caller(&request)?;
        let session: DebugSessionName = name("name", &request.get_ref().name)?;
        let tenant = caller.tenant(session.tenant)?;
        let found = self.app.show(tenant, session.id).await?;
        Ok(Response::new(encode::session(tenant, found)))
    }

    async fn list_debug_sessions(
        &self,
        request: Request<ListDebugSessionsRequest>,
    ) -> Result<Response<ListDebugSessionsResponse>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let parent: TenantName = name("parent", &request.parent)?;
        let tenant = caller.tenant(parent.tenant)?;
        let limit = page::size(request.page_size)?;
        let state = request.state.to_string();
        let same = [request.parent.as_str(), &request.device, &state];
        let before: Option<DebugSessionId> = page::id_cursor(&same, &request.page_token)?;
        let filter = Filter {
            device: device(&caller, "device", &request.device)?,
            open: decode::state(request.state)?,
            before,
        };
        let (page, more) = self.app.list(tenant, filter, limit).await?;
        let next = page.last().filter(|_| more).map(|last| page::token(&same, &last.id.to_string()));
        Ok(Response::new(ListDebugSessionsResponse {
            debug_sessions: page.into_iter().map(|stored| encode::session(tenant, stored)).collect(),
            next_page_token: next.unwrap_or_default(),
        }))
    }

    async fn close_debug_session(
        &self,
        request: Request<CloseDebugSessionRequest>,
    ) -> Result<Response<DebugSession>, Status> {
        let caller = caller(&request)?;
        let session: DebugSessionName = name("name", &request.get_ref().name)?;
        let tenant = caller.tenant(session.tenant)?;
        let call = Call::take(&mut request.into_inner(), tenant)?;
        let ended = self.app.close(&call, tenant, session.id, &caller.person()?.subject).await?;
        Ok(Response::new(encode::session(tenant, ended)))
    }

    type AttachDebugSessionStream =
        Pin<Box<dyn Stream<Item = Result<AttachDebugSessionResponse, Status>> + Send>>;

    async fn attach_debug_session(
        &self,
        request: Request<Streaming<AttachDebugSessionRequest>>,
    ) -> Result<Response<Self::AttachDebugSessionStream>, Status> {
        let caller = caller(&request)?;
        let onward = forward::Onward::of(&request);
        let mut said = request.into_inner();
        let first =
            self.shutdown.or(decode::first(&mut said)).await.unwrap_or(Err(Error::Draining.into()))?;
        let session: DebugSessionName = name("attach.name", &first.name)?;
        let tenant = caller.tenant(session.tenant)?;
        let wish = Wish {
            tenant,
            session: session.id,
            person: caller.person()?.clone(),
            position: decode::position(first.position)?,
        };
        // A holder that does not answer is dead or stands still: its lease runs out, and then the session is taken here.
        let until = Instant::now() + TAKEOVER_MAX;
        let told: Self::AttachDebugSessionStream = loop {
            match self.app.attach(&wish).await? {
                Attached::Here(attachment) => break Box::pin(stream::serve(attachment, said)),
                Attached::Elsewhere { url, place } => match self.peers.call(&url, &onward, &first).await {
                    Ok(call) => break Box::pin(call.pass(said, place, self.shutdown.clone())),
                    Err(Refused::Unanswered) if Instant::now() < until => {}
                    Err(refused) => return Err(refused.into()),
                },
            }
            let asked_again = self.shutdown.or(sleep(ASK_AGAIN)).await;
            asked_again.ok_or(Error::Draining)?;
        };
        Ok(Response::new(told))
    }

    async fn list_debug_session_events(
        &self,
        request: Request<ListDebugSessionEventsRequest>,
    ) -> Result<Response<ListDebugSessionEventsResponse>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let parent: TenantName = name("parent", &request.parent)?;
        let tenant = caller.tenant(parent.tenant)?;
        let session = match request.debug_session.as_str() {
            "" => None,
            text => {
                let session: DebugSessionName = name("debug_session", text)?;
                caller.tenant(session.tenant)?;
                Some(session.id)
            }
        };
        let limit = page::size(request.page_size)?;
        let same = [request.parent.as_str(), &request.debug_session, &request.device];
        let before: Option<EventCursor> = page::cursor(&same, &request.page_token)?;
        let filter = EventFilter { session, device: device(&caller, "device", &request.device)?, before };
        let (page, more) = self.app.events(tenant, filter, limit).await?;
        let next = page.last().filter(|_| more).map(|last| page::token(&same, &last.id));
        Ok(Response::new(ListDebugSessionEventsResponse {
            events: page.into_iter().map(|event| encode::event(tenant, event)).collect(),
            next_page_token: next.unwrap_or_default(),
        }))
    }
}
