//! A watch that goes on: when its stream ends another goes on where it ended.

use anyhow::Result;
use proto::registry::v1::{WatchDevicesRequest, WatchDevicesResponse};
use tonic::Streaming;

use crate::args::Global;
use crate::command::again::{goes_on, opened};
use crate::failure::in_filter;
use crate::session::Session;

/// Devices as they change.
pub(super) struct Changes<'a> {
    global: &'a Global,
    filter: &'a str,
    resume_token: String,
    stream: Streaming<WatchDevicesResponse>,
}

impl<'a> Changes<'a> {
    /// From the beginning.
    pub(super) async fn open(global: &'a Global, session: &Session, filter: &'a str) -> Result<Self> {
        let stream = stream(session, filter, String::new()).await?;
        Ok(Self { global, filter, resume_token: String::new(), stream })
    }

    /// The next event, however long the servers are away; an error only when waiting does not help.
    pub(super) async fn next(&mut self) -> Result<WatchDevicesResponse> {
        loop {
            match self.stream.message().await {
                Ok(Some(event)) => {
                    self.resume_token.clone_from(&event.resume_token);
                    return Ok(event);
                }
                Err(status) if !goes_on(&status) => return Err(status.into()),
                Ok(None) | Err(_) => {
                    let (filter, token) = (self.filter, &self.resume_token);
                    self.stream = opened(self.global, async |session: &Session| {
                        stream(session, filter, token.clone()).await
                    })
                    .await?;
                }
            }
        }
    }
}

async fn stream(
    session: &Session,
    filter: &str,
    resume_token: String,
) -> Result<Streaming<WatchDevicesResponse>> {
    let request = WatchDevicesRequest { parent: session.tenant(), filter: filter.to_owned(), resume_token };
    let opened = session.devices().await?.watch_devices(request).await;
    Ok(opened.map_err(|status| in_filter(filter, status))?.into_inner())
}
