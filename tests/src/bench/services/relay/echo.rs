//! The gRPC half alone: a server with the stack's certificate that answers each frame with itself.

use std::collections::BTreeMap;
use std::pin::Pin;

use anyhow::Result;
use dev::{Service, Stack};
use proto::debug::v1::attach_debug_session_request::Message as Said;
use proto::debug::v1::attach_debug_session_response::Message as Told;
use proto::debug::v1::debug_session_service_server::{DebugSessionService, DebugSessionServiceServer};
use proto::debug::v1::{
    AttachDebugSessionRequest, AttachDebugSessionResponse, Attached, CloseDebugSessionRequest,
    CreateDebugSessionRequest, DebugSession, GetDebugSessionRequest, ListDebugSessionEventsRequest,
    ListDebugSessionEventsResponse, ListDebugSessionsRequest, ListDebugSessionsResponse, Progress,
};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::Stream;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::transport::{Identity, ServerTlsConfig};
use tonic::{Request, Response, Status, Streaming};

/// Answers on the way.
const ON_THE_WAY_MAX: usize = 8;

/// Runs until it is dropped.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) url: String,
    task: JoinHandle<()>,
}

struct Echo;

impl Server {
    pub(super) async fn start(stack: &Stack) -> Result<Server> {
        let files: BTreeMap<_, _> = stack.environment(Service::DebugRelay).into_iter().collect();
        let read = |key: &str| std::fs::read(files.get(key).map_or("", String::as_str));
        let identity = Identity::from_pem(read("HOLDFAST_TLS_CERT")?, read("HOLDFAST_TLS_KEY")?);
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("https://{}", listener.local_addr()?);
        let mut server = tonic::transport::Server::builder()
            .tcp_nodelay(true)
            .tls_config(ServerTlsConfig::new().identity(identity))?;
        let router = server.add_service(DebugSessionServiceServer::new(Echo));
        let task = tokio::spawn(async move {
            let _ = router.serve_with_incoming(TcpListenerStream::new(listener)).await;
        });
        Ok(Server { url, task })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[tonic::async_trait]
impl DebugSessionService for Echo {
    type AttachDebugSessionStream =
        Pin<Box<dyn Stream<Item = Result<AttachDebugSessionResponse, Status>> + Send>>;

    async fn attach_debug_session(
        &self,
        request: Request<Streaming<AttachDebugSessionRequest>>,
    ) -> Result<Response<Self::AttachDebugSessionStream>, Status> {
        let mut said = request.into_inner();
        let (answer, answers) = mpsc::channel(ON_THE_WAY_MAX);
        tokio::spawn(async move {
            while let Ok(Some(said)) = said.message().await {
                let told = match said.message {
                    Some(Said::Attach(_)) => {
                        let credit = Progress { delivered_up_to: 0, credit_up_to: i64::MAX };
                        let _ = answer.send(Ok(tell(Told::Attached(Attached::default())))).await;
                        Told::Progress(credit)
                    }
                    Some(Said::Frame(frame)) => Told::Frame(frame),
                    Some(Said::Progress(_) | Said::Close(_)) | None => continue,
                };
                if answer.send(Ok(tell(told))).await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(answers))))
    }

    async fn create_debug_session(
        &self,
        _: Request<CreateDebugSessionRequest>,
    ) -> Result<Response<DebugSession>, Status> {
        Err(Status::unimplemented("an echo has no sessions"))
    }

    async fn get_debug_session(
        &self,
        _: Request<GetDebugSessionRequest>,
    ) -> Result<Response<DebugSession>, Status> {
        Err(Status::unimplemented("an echo has no sessions"))
    }

    async fn list_debug_sessions(
        &self,
        _: Request<ListDebugSessionsRequest>,
    ) -> Result<Response<ListDebugSessionsResponse>, Status> {
        Err(Status::unimplemented("an echo has no sessions"))
    }

    async fn close_debug_session(
        &self,
        _: Request<CloseDebugSessionRequest>,
    ) -> Result<Response<DebugSession>, Status> {
        Err(Status::unimplemented("an echo has no sessions"))
    }

    async fn list_debug_session_events(
        &self,
        _: Request<ListDebugSessionEventsRequest>,
    ) -> Result<Response<ListDebugSessionEventsResponse>, Status> {
        Err(Status::unimplemented("an echo has no sessions"))
    }
}

fn tell(message: Told) -> AttachDebugSessionResponse {
    AttachDebugSessionResponse { message: Some(message) }
}
