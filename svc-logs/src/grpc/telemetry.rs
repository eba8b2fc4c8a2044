//! Telemetry: requests to ranges and tails, messages out.

use std::sync::Arc;

use kit::auth::Caller;
use kit::{Shutdown, page, status};
use proto::logs::v1::{
    ListTelemetryRequest, ListTelemetryResponse, TailTelemetryRequest, TailTelemetryResponse,
    TelemetryMessage,
};
use proto::name::DeviceName;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::encode::{self, signed};
use super::resume::RESUME_TOKEN_BYTES_MAX;
use super::{WAITING_MAX, parent};
use crate::app::App;
use crate::app::tail::LAST_MAX;
use crate::app::telemetry::{Begin, Tailed, TelemetryTail};
use crate::model::{StoredTelemetry, TelemetryRange};

type Reader = mpsc::Sender<Result<TailTelemetryResponse, Status>>;

pub(super) async fn list(
    app: &Arc<App>,
    caller: &Caller,
    request: ListTelemetryRequest,
) -> Result<ListTelemetryResponse, Status> {
    let name = parent(&request.parent)?;
    let tenant = caller.tenant(name.tenant)?;
    let limit = page::size(request.page_size)?;
    let bounds = [encode::time_text(&request.start_time), encode::time_text(&request.end_time)];
    let same = ["telemetry", &request.parent, &bounds[0], &bounds[1]];
    let range = TelemetryRange {
        device: name.id,
        after: page::cursor(&same, &request.page_token)?.unwrap_or(0),
        start: encode::time("start_time", request.start_time)?,
        end: encode::time("end_time", request.end_time)?,
    };
    let (messages, more) = app.list_telemetry(tenant, &range, limit).await?;
    let next = messages.last().filter(|_| more).map(|last| page::token(&same, &last.position));
    Ok(ListTelemetryResponse {
        messages: messages.into_iter().map(|stored| message(&name, stored)).collect(),
        next_page_token: next.unwrap_or_default(),
    })
}

pub(super) async fn tail(
    app: &Arc<App>,
    shutdown: &Shutdown,
    caller: &Caller,
    request: TailTelemetryRequest,
) -> Result<ReceiverStream<Result<TailTelemetryResponse, Status>>, Status> {
    let name = parent(&request.parent)?;
    let tenant = caller.tenant(name.tenant)?;
    let last = usize::try_from(request.last)
        .map_err(|_| status::invalid("last", "must not be negative"))?
        .min(LAST_MAX);
    let begin = match resumed(&name, &request.resume_token)? {
        None => Begin::Last(last),
        Some(position) => Begin::After(position),
    };
    let (tail, first) = app.tail_telemetry(tenant, name.id, begin).await?;
    let (reader, receiver) = mpsc::channel(WAITING_MAX);
    let (app, shutdown) = (app.clone(), shutdown.clone());
    let is_new = matches!(begin, Begin::Last(_));
    // Ends when the reader leaves (its channel closes) or the process stops.
    tokio::spawn(async move {
        let told = async {
            if is_new && first.is_empty() {
                let resume_token = token(&name, tail.position());
                let beginning = TailTelemetryResponse { message: None, missed: 0, resume_token };
                reader.send(Ok(beginning)).await.ok()?;
            }
            for tailed in first {
                reader.send(Ok(told(&name, tailed))).await.ok()?;
            }
            follow(&app, tail, &name, &reader).await
        };
        tokio::select! {
            _ = shutdown.or(told) => {}
            () = reader.closed() => {}
        }
    });
    Ok(ReceiverStream::new(receiver))
}

/// Sends what is stored until the reader has left.
async fn follow(app: &App, mut tail: TelemetryTail, name: &DeviceName, reader: &Reader) -> Option<()> {
    loop {
        match app.follow_telemetry(&mut tail).await {
            Ok(tailed) => {
                for tailed in tailed {
                    reader.send(Ok(told(name, tailed))).await.ok()?;
                }
            }
            // The reader is told and begins again; what it has seen is its own to know.
            Err(error) => return reader.send(Err(error.into())).await.ok(),
        }
    }
}

fn told(name: &DeviceName, tailed: Tailed) -> TailTelemetryResponse {
    TailTelemetryResponse {
        resume_token: token(name, tailed.stored.position),
        missed: signed(tailed.missed),
        message: Some(message(name, tailed.stored)),
    }
}

/// Goes on after a position; good for this device only, and carries no authority: every query is scoped to its tenant.
fn token(name: &DeviceName, position: u64) -> String {
    page::token(&["tail-telemetry", &name.to_string()], &position)
}

/// None: the empty token.
fn resumed(name: &DeviceName, token: &str) -> Result<Option<u64>, Status> {
    if token.is_empty() {
        return Ok(None);
    }
    page::read(&["tail-telemetry", &name.to_string()], token, RESUME_TOKEN_BYTES_MAX).map(Some).ok_or_else(
        || status::invalid("resume_token", "is not of a tail with this parent; start without one"),
    )
}

fn message(name: &DeviceName, stored: StoredTelemetry) -> TelemetryMessage {
    let StoredTelemetry { receive_time, message, .. } = stored;
    TelemetryMessage {
        device: name.to_string(),
        boot: message.boot.to_string(),
        boot_count: message.boot.counter.into(),
        sequence: signed(message.sequence),
        uptime_us: signed(message.uptime_us),
        receive_time: Some(receive_time.into()),
        content_type: message.content_type,
        data: message.data,
        dropped_before: signed(message.dropped),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_for_the_same_device_only() {
        let name = |digit: &str| -> DeviceName {
            format!("tenants/tn{}/devices/dv{}", "0".repeat(32), digit.repeat(32)).parse().unwrap()
        };
        let token = token(&name("1"), u64::MAX);
        assert_eq!(resumed(&name("1"), &token).unwrap(), Some(u64::MAX));
        assert_eq!(resumed(&name("1"), "").unwrap(), None);
        for refused in
            [resumed(&name("2"), &token), resumed(&name("1"), &token[1..]), resumed(&name("1"), "\u{1b}")]
        {
            assert!(refused.unwrap_err().message().starts_with("resume_token"));
        }
    }
}
