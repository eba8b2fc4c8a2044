//! `LogService`: decode, ask `app`, encode. The only place that sees tonic.

mod crashes;
mod encode;
mod resume;
mod telemetry;

use std::pin::Pin;
use std::sync::Arc;

use kit::auth::caller;
use kit::{Shutdown, page, status};
use proto::logs::v1::log_service_server::LogService;
use proto::logs::v1::{
    Crash, CrashMemory, GetCrashMemoryRequest, GetCrashRequest, ListCrashesRequest, ListCrashesResponse,
    ListRecordsRequest, ListRecordsResponse, ListTelemetryRequest, ListTelemetryResponse, TailRecordsRequest,
    TailRecordsResponse, TailTelemetryRequest, TailTelemetryResponse,
};
use proto::name::DeviceName;
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use crate::app::App;
use crate::app::tail::{Begin, LAST_MAX, Tail, Tailed};
use crate::model::{Boot, Level, Range};

/// Records that may wait for a slow reader in this process; more wait in the database.
const WAITING_MAX: usize = 64;

/// Where a page ended: counter, random part, sequence.
type Cursor = (u32, u64, u64);

#[derive(Debug)]
pub(crate) struct Logs {
    app: Arc<App>,
    shutdown: Shutdown,
}

impl Logs {
    pub(crate) fn new(app: Arc<App>, shutdown: Shutdown) -> Self {
        Self { app, shutdown }
    }
}

#[tonic::async_trait]
impl LogService for Logs {
    async fn list_records(
        &self,
        request: Request<ListRecordsRequest>,
    ) -> Result<Response<ListRecordsResponse>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let name = parent(&request.parent)?;
        let tenant = caller.tenant(name.tenant)?;
        let limit = page::size(request.page_size)?;
        let bounds = [encode::time_text(&request.start_time), encode::time_text(&request.end_time)];
        let same = [request.parent.as_str(), &bounds[0], &bounds[1], &request.level];
        let cursor: Option<Cursor> = page::cursor(&same, &request.page_token)?;
        let range = Range {
            device: name.id,
            after: cursor.map(|(counter, random, sequence)| (Boot { counter, random }, sequence)),
            level: level(&request.level)?,
            start: encode::time("start_time", request.start_time)?,
            end: encode::time("end_time", request.end_time)?,
        };
        let (records, more) = self.app.list(tenant, &range, limit).await?;
        let next = records.last().filter(|_| more).map(|last| {
            let cursor: Cursor = (last.boot.counter, last.boot.random, last.record.sequence);
            page::token(&same, &cursor)
        });
        Ok(Response::new(ListRecordsResponse {
            records: records.into_iter().map(|record| encode::record(&name, record)).collect(),
            next_page_token: next.unwrap_or_default(),
        }))
    }

    type TailRecordsStream = Pin<Box<dyn Stream<Item = Result<TailRecordsResponse, Status>> + Send>>;

    async fn tail_records(
        &self,
        request: Request<TailRecordsRequest>,
    ) -> Result<Response<Self::TailRecordsStream>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let name = parent(&request.parent)?;
        let tenant = caller.tenant(name.tenant)?;
        let last = usize::try_from(request.last)
            .map_err(|_| status::invalid("last", "must not be negative"))?
            .min(LAST_MAX);
        let level_max = level(&request.level)?;
        let of = resume::Of { name, level: request.level };
        let begin = match of.read(&request.resume_token)? {
            None => Begin::Last(last),
            Some(progress) => Begin::From(progress),
        };
        let is_new = matches!(begin, Begin::Last(_));
        let (tail, first) = self.app.tail(tenant, name.id, level_max, begin).await?;
        let (sender, receiver) = mpsc::channel(WAITING_MAX);
        let (app, shutdown) = (self.app.clone(), self.shutdown.clone());
        // Ends when the reader leaves (its channel closes) or the process stops.
        tokio::spawn(async move {
            let told = async {
                if is_new && first.is_empty() {
                    let resume_token = of.token(&tail.progress());
                    let beginning = TailRecordsResponse { record: None, missed: 0, resume_token };
                    sender.send(Ok(beginning)).await.ok()?;
                }
                for tailed in first {
                    sender.send(Ok(told(&of, tailed))).await.ok()?;
                }
                follow(&app, tail, &of, &sender).await
            };
            tokio::select! {
                _ = shutdown.or(told) => {}
                () = sender.closed() => {}
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn list_crashes(
        &self,
        request: Request<ListCrashesRequest>,
    ) -> Result<Response<ListCrashesResponse>, Status> {
        let caller = caller(&request)?;
        Ok(Response::new(crashes::list(&self.app, &caller, request.into_inner()).await?))
    }

    async fn get_crash(&self, request: Request<GetCrashRequest>) -> Result<Response<Crash>, Status> {
        let caller = caller(&request)?;
        Ok(Response::new(crashes::get(&self.app, &caller, request.into_inner()).await?))
    }

    async fn get_crash_memory(
        &self,
        request: Request<GetCrashMemoryRequest>,
    ) -> Result<Response<CrashMemory>, Status> {
        let caller = caller(&request)?;
        Ok(Response::new(crashes::memory(&self.app, &caller, request.into_inner()).await?))
    }

    async fn list_telemetry(
        &self,
        request: Request<ListTelemetryRequest>,
    ) -> Result<Response<ListTelemetryResponse>, Status> {
        let caller = caller(&request)?;
        Ok(Response::new(telemetry::list(&self.app, &caller, request.into_inner()).await?))
    }

    type TailTelemetryStream = ReceiverStream<Result<TailTelemetryResponse, Status>>;

    async fn tail_telemetry(
        &self,
        request: Request<TailTelemetryRequest>,
    ) -> Result<Response<Self::TailTelemetryStream>, Status> {
        let caller = caller(&request)?;
        Ok(Response::new(telemetry::tail(&self.app, &self.shutdown, &caller, request.into_inner()).await?))
    }
}

/// Sends what is stored until the reader has left.
async fn follow(
    app: &App,
    mut tail: Tail,
    of: &resume::Of,
    reader: &mpsc::Sender<Result<TailRecordsResponse, Status>>,
) -> Option<()> {
    loop {
        match app.follow(&mut tail).await {
            Ok(tailed) => {
                for tailed in tailed {
                    reader.send(Ok(told(of, tailed))).await.ok()?;
                }
            }
            // The reader is told and begins again; what it has seen is its own to know.
            Err(error) => return reader.send(Err(error.into())).await.ok(),
        }
    }
}

fn told(of: &resume::Of, tailed: Tailed) -> TailRecordsResponse {
    TailRecordsResponse {
        resume_token: of.token(&tailed.progress),
        record: Some(encode::record(&of.name, tailed.record)),
        missed: i64::try_from(tailed.missed).unwrap_or(i64::MAX),
    }
}

fn parent(text: &str) -> Result<DeviceName, Status> {
    text.parse().map_err(|error| status::invalid("parent", format!("{error}")))
}

fn level(name: &str) -> Result<Level, Status> {
    match name {
        "" => Ok(Level::Debug),
        name => Level::from_name(name)
            .ok_or_else(|| status::invalid("level", "must be error, warn, info or debug")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_named_and_nothing_else_is_one() {
        assert_eq!(level("").unwrap(), Level::Debug);
        assert_eq!(level("warn").unwrap(), Level::Warn);
        assert_eq!(level("WARN").unwrap_err().code(), tonic::Code::InvalidArgument);
    }

    #[test]
    fn a_parent_is_a_device_name() {
        assert!(parent("tenants/x").unwrap_err().message().starts_with("parent is not of the form"));
    }
}
