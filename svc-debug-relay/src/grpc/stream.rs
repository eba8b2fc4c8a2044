//! An attachment as a pair of streams: a task hears the caller, the answer asks the session for each next message. So the
//! answer is made as fast as the caller reads it, and nothing waits in between.

use std::sync::Arc;

use futures::stream::unfold;
use proto::debug::v1::{AttachDebugSessionRequest, AttachDebugSessionResponse};
use tokio::task::AbortHandle;
use tokio::time::timeout_at;
use tokio_stream::Stream;
use tonic::{Status, Streaming};

use super::{decode, encode};
use crate::app::attach::Attachment;
use crate::model::EndReason;

/// Ends a task when it is dropped.
pub(super) struct EndsTask(AbortHandle);

impl EndsTask {
    pub(super) fn new(task: AbortHandle) -> Self {
        Self(task)
    }
}

impl Drop for EndsTask {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The answer; when it is dropped, the caller is not heard any more either.
pub(super) fn serve(
    attachment: Attachment,
    said: Streaming<AttachDebugSessionRequest>,
) -> impl Stream<Item = Result<AttachDebugSessionResponse, Status>> + Send {
    let attachment = Arc::new(attachment);
    let news = attachment.news();
    let hearing = EndsTask::new(tokio::spawn(hear(attachment.clone(), said)).abort_handle());
    unfold((attachment, news, hearing), async |(attachment, mut news, hearing)| {
        let told = attachment.next(&mut news).await?;
        Some((Ok(encode::told(told)), (attachment, news, hearing)))
    })
}

/// Hears the caller until it has nothing more to say: then it leaves.
async fn hear(attachment: Arc<Attachment>, mut said: Streaming<AttachDebugSessionRequest>) {
    // The answer ends with the token; but one that nobody reads is never asked for its next message.
    let expires_at = attachment.expires_at();
    loop {
        let Ok(heard) = timeout_at(expires_at, said.message()).await else {
            return attachment.end(EndReason::TokenExpired);
        };
        match heard {
            Ok(Some(request)) => match decode::said(request) {
                Some(said) => attachment.say(said),
                None => return attachment.end(EndReason::CallerError),
            },
            Ok(None) | Err(_) => return attachment.end(EndReason::Left),
        }
    }
}
